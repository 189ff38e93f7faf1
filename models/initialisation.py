"""First values of parameters, and the forms in which a user may give them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from elektronn_tui.errors import ModelError, ShapeError

__all__ = ["ParameterLike", "initbias", "initweights", "make_parameter", "register_tensor"]

ParameterLike = Any
"""None (default values), an array, another node's parameter (shared), or ``[array, 'const' or 'trainable']``."""


def initweights(
    shape: Sequence[int],
    scale: float | Literal["glorot"] = "glorot",
    mode: Literal["normal", "uni", "ortho", "const", "fix-uni", "prelu"] = "normal",
    pool: Sequence[int] | None = None,
    spatial_axes: Sequence[int] | None = None,
) -> torch.Tensor:
    """Draw first values of weights from torch's default generator.

    Parameters
    ----------
    shape : sequence of int
        ``(n_in, n_out)`` or ``(n_out, n_in, *filter)``.
    scale : float or 'glorot'
        Standard deviation, half width or value; ``'glorot'`` is ``sqrt(2 / S)`` with ``S = n_in + n_out`` for
        matrices and ``(n_in + n_out / prod(pool)) * prod(filter)`` for convolutions (Glorot and Bengio, 2010).
    mode : str
        ``normal``; ``uni`` (within ± scale); ``ortho`` (for each output feature a row of standard deviation scale,
        the rows orthogonal to each other where there are no more than entries in one); ``const``; ``fix-uni`` (as
        ``uni``, scale given); ``prelu`` (of shape (n, 2): column 0 is scale, column 1 is 1).
    pool : sequence of int, optional
        Pooling that follows.
    spatial_axes : sequence of int, optional
        Axes of a filter, if they aren't all behind the second; the other two are n_out, n_in.

    Returns
    -------
    Tensor of float32

    Raises
    ------
    ModelError
        If mode or scale are unknown, or don't go with the shape.

    Examples
    --------
    >>> from elektronn_tui.models import Input, Perceptron
    >>> raw = Input((None, 64), "b,f", name="raw")
    >>> layer = Perceptron(raw, 32, w=initweights((64, 32), mode="ortho"))
    """
    try:
        sizes = tuple(int(n) for n in shape)
    except (TypeError, ValueError):
        sizes = ()
    if min(sizes, default=0) < 1:
        raise ModelError(f"The shape of weights must be a list of whole numbers from 1 on, not {shape!r}.")
    shape = sizes
    if spatial_axes is not None and len(shape) > 2:
        spatial = [a % len(shape) for a in spatial_axes]
        rest = [a for a in range(len(shape)) if a not in spatial]
        if len(rest) != 2:
            raise ModelError(f"Of weights {shape} two axes must be n_out and n_in, not {len(rest)} of them.")
        order = [*rest, *sorted(spatial)]
        w = initweights([shape[a] for a in order], scale, mode, pool)
        return w.permute([order.index(a) for a in range(len(shape))]).contiguous()
    if mode == "prelu" and (len(shape) != 2 or shape[1] != 2):
        raise ModelError(f"mode 'prelu' needs the shape (n, 2) of biases and slopes, not {shape}.")
    if mode == "ortho" and len(shape) < 2:
        raise ModelError(f"mode 'ortho' needs weights of two axes or more, not the shape {shape}.")
    if scale == "glorot":
        if len(shape) < 2:
            raise ModelError(f"'glorot' needs weights of two axes or more, not the shape {shape}.")
        if len(shape) == 2:
            total = float(shape[0] + shape[1])
        else:
            total = (shape[1] + shape[0] / math.prod(pool or (1,))) * math.prod(shape[2:])
        size = math.sqrt(2.0 / total)
    elif isinstance(scale, int | float) and not isinstance(scale, bool):
        size = float(scale)
    else:
        raise ModelError(f"scale must be a number or 'glorot', not {scale!r}.")
    if mode == "normal":
        return torch.randn(shape) * size
    if mode in ("uni", "fix-uni"):
        return torch.empty(shape).uniform_(-size, size)
    if mode == "const":
        return torch.full(shape, size)
    if mode == "prelu":
        return torch.stack([torch.full(shape[:1], size), torch.ones(shape[:1])], 1)
    if mode == "ortho":
        return _orthogonal(shape) * size
    raise ModelError(f"{mode!r} is no mode; there are normal, uni, ortho, const, fix-uni, prelu.")


def _orthogonal(shape: tuple[int, ...]) -> torch.Tensor:
    """Orthogonal rows of standard deviation 1: one for each output feature."""
    matrix_first = len(shape) == 2
    n_out, rest = (shape[1], shape[0]) if matrix_first else (shape[0], math.prod(shape[1:]))
    # Of more rows than columns it is the columns that are orthogonal.
    q, r = torch.linalg.qr(torch.randn(max(n_out, rest), min(n_out, rest)))
    q = q * torch.where(r.diagonal() < 0, -1.0, 1.0)  # by itself QR prefers some directions (Mezzadri, 2007)
    rows = q if n_out > rest else q.T
    rows = rows / rows.std(1, correction=0, keepdim=True).clamp_min(1e-12)
    return rows.T.contiguous() if matrix_first else rows.reshape(shape)


def initbias(n_f: int, activation_func: str, filter_size: int) -> torch.Tensor:
    """Return first values of a bias.

    Parameters
    ----------
    n_f : int
    activation_func : str
        ``relu``, ``maxout`` and ``prelu`` start on the positive side, at ``1 / filter_size``; ``sigmoid``
        at 0.5; all others within ± 1e-6. ``prelu`` has a second column: the slopes, 1 at the start.
    filter_size : int
        Number of voxels of the filter; 1 for a `Perceptron`.
    """
    if activation_func == "prelu":
        return initweights((n_f, 2), 1.0 / filter_size, "prelu")
    if activation_func == "relu" or activation_func.startswith("maxout"):
        return initweights((n_f,), 1.0 / filter_size, "const")
    if activation_func == "sigmoid":
        return initweights((n_f,), 0.5, "const")
    return initweights((n_f,), 1e-6, "fix-uni")


def make_parameter(
    title: str,
    name: str,
    given: ParameterLike,
    shape: Sequence[int],
    default: Callable[[], torch.Tensor],
    *,
    trainable: bool = True,
) -> torch.Tensor:
    """Return a parameter from what the user gave.

    Parameters
    ----------
    title : str
        The node, for messages.
    name : str
    given : ParameterLike
    shape : sequence of int
    default : callable
        Makes the first values when nothing is given.
    trainable : bool
        Whether an array or nothing makes a trainable parameter.

    Returns
    -------
    Tensor
        An `torch.nn.Parameter` if trainable, else a plain tensor, to be registered as a buffer.

    Raises
    ------
    ShapeError
        If the shape differs.
    ModelError
        If it is none of the forms.
    """
    shape = tuple(shape)
    if isinstance(given, nn.Parameter):
        if tuple(given.shape) != shape:
            raise ShapeError(f"{title}: the shared {name} has the shape {tuple(given.shape)}, but needs {shape}.")
        return given
    if isinstance(given, list | tuple) and len(given) == 2 and isinstance(given[1], str):
        given, flag = given
        if flag not in ("const", "trainable"):
            raise ModelError(f"{title}: {name} may be [array, 'const'] or [array, 'trainable'], not {flag!r}.")
        trainable = flag == "trainable"
    if given is None:
        try:
            value = default()
        except RuntimeError as error:
            if "memory" not in str(error):
                raise
            raise ModelError(f"{title}: {name} of the shape {shape} needs more memory than there is.") from error
    else:
        try:
            value = torch.as_tensor(np.array(given, dtype=np.float32) if not isinstance(given, torch.Tensor) else given)
        except (TypeError, ValueError) as error:
            raise ModelError(f"{title}: {name} must be an array, not {given!r} ({error}).") from None
        value = value.detach().to(torch.float32, copy=True)
        if value.ndim == 0 and shape == (1,):
            value = value.reshape(1)
        if tuple(value.shape) != shape:
            raise ShapeError(f"{title}: {name} was given with the shape {tuple(value.shape)}, but needs {shape}.")
        if bad := int((~torch.isfinite(value)).sum()):
            raise ModelError(f"{title}: {bad} of the {value.numel()} values given for {name} are not finite.")
    return nn.Parameter(value) if trainable else value


def register_tensor(module: nn.Module, name: str, tensor: torch.Tensor) -> None:
    """Register a result of `make_parameter`: what is trained as a parameter, a constant as a buffer."""
    if isinstance(tensor, nn.Parameter):
        module.register_parameter(name, tensor)
    else:
        module.register_buffer(name, tensor)
