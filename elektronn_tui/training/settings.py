"""Settings that are documented, typed and limited where they are declared.

A class decorated with `settings` is a frozen dataclass whose fields come from `setting`: unknown names, missing ones
and values outside their limits are refused when it is made, with the name, the value and what is allowed.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from elektronn_tui.errors import ElektronnError, ExperimentError, did_you_mean

from .control import TYPES, Control

__all__ = ["from_text", "live_control", "plain", "replaced", "setting", "settings"]

C = TypeVar("C", bound=type)
_SPEC = "elektronn"


@dataclasses.dataclass(frozen=True)
class _Spec:
    type: str
    help: str
    limits: Mapping[str, Any]
    check: Callable[[Any], str | None] | None = None


def setting(
    *,
    default: Any = dataclasses.MISSING,
    default_factory: Any = dataclasses.MISSING,
    type: str,
    help: str,
    check: Callable[[Any], str | None] | None = None,
    **limits: Any,
) -> Any:
    """Declare a setting.

    Parameters
    ----------
    default, default_factory : object, optional
        Its value, or what makes it; without one the setting has to be given.
    type : str
        One of a control's types, or ``"path"`` (a file, ``~`` allowed, or a URL), ``"ints"`` (whole numbers),
        ``"object"``.
    help : str
        What it is, for people, with the unit where it has one.
    check : callable, optional
        Further test of a typed value: returns what must hold where it does not, else None.
    **limits
        Of a `Control`: ``minimum``, ``maximum``, ``exclusive_minimum``, ``choices``, ``optional``, ``length``, `unit`.
    """
    source = {"default": default, "default_factory": default_factory}
    given = {key: value for key, value in source.items() if value is not dataclasses.MISSING}
    return dataclasses.field(**given, metadata={_SPEC: _Spec(type, help, limits, check)})


@typing.dataclass_transform(frozen_default=True, field_specifiers=(setting,))
def settings(prefix: str = "", *, kw_only: bool = False) -> Callable[[C], C]:
    """Make a class of settings; `prefix` is what messages and ``--set`` put before its names."""

    def decorate(cls: C) -> C:
        made: Any = dataclasses.dataclass(frozen=True, kw_only=kw_only)(cls)
        made._prefix = prefix
        generated = made.__init__

        @functools.wraps(generated)
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            _check_names(cls, args, kwargs, kw_only)
            generated(self, *args, **kwargs)
            for field in dataclasses.fields(self):
                spec = field.metadata.get(_SPEC)
                if spec is not None:
                    value = _typed(prefix + field.name, spec, getattr(self, field.name))
                    object.__setattr__(self, field.name, value)
            check = getattr(self, "check_together", None)
            if check is not None:
                check()

        made.__init__ = __init__
        return made

    return decorate


def _check_names(cls: type, args: tuple[Any, ...], kwargs: Mapping[str, Any], kw_only: bool) -> None:
    fields = [field for field in dataclasses.fields(cls) if field.init]
    names = [field.name for field in fields]
    for name in kwargs:
        if name not in names:
            known = did_you_mean(name, names) or f" Known: {', '.join(names)}."
            raise ExperimentError(f"{cls.__name__} has no setting {name!r}.{known}")
    if args and kw_only:
        raise ExperimentError(f"{cls.__name__} takes settings by name alone, such as {names[0]}=...")
    given = {*names[: len(args)], *kwargs}
    for field in fields:
        optional = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if not optional and field.name not in given:
            raise ExperimentError(f"{cls.__name__} needs {field.name}=...: {field.metadata[_SPEC].help}")


def _typed(name: str, spec: _Spec, value: Any, *, text: bool = False) -> Any:
    """Return `value` as its setting's type; numbers may be texts only where `text` says so."""
    if spec.type in TYPES:
        if isinstance(value, str) and not text and spec.type not in ("text", "choice"):
            raise ExperimentError(
                f"{name}: the text {value!r} is not allowed; it must be {_control(name, spec).limits()}"
            )
        try:
            return _control(name, spec).parse(value)
        except ElektronnError as error:
            raise ExperimentError(str(error)) from None
    if spec.limits.get("optional") and (value is None or (text and str(value).lower() == "none")):
        return None
    if spec.type == "path":
        if not isinstance(value, (str, Path)) or not str(value):
            raise ExperimentError(f"{name}: {value!r} is not allowed; it must be the path of a file")
        value = str(value) if "://" in str(value) else str(Path(value).expanduser())
    elif spec.type == "ints":
        value = _ints(name, spec, value, text)
    elif text:
        try:
            value = ast.literal_eval(value)
        except (SyntaxError, ValueError, TypeError):
            raise ExperimentError(
                f"{name}: {value} is not allowed; as text it must be plain Python values; the experiment file can say "
                f"more: {spec.help}"
            ) from None
    reason = spec.check(value) if spec.check is not None else None
    if reason:
        raise ExperimentError(f"{name}: {value!r} is not allowed; it must be {reason}")
    return value


def _ints(name: str, spec: _Spec, value: Any, text: bool) -> tuple[int, ...]:
    length, minimum = spec.limits.get("length"), spec.limits.get("minimum", 0)
    try:
        if isinstance(value, str):
            if not text:
                raise ValueError
            value = [int(part) for part in value.strip("()[] ").replace("x", ",").split(",")]
        found = (value,) if isinstance(value, int) else tuple(value)
        if not all(isinstance(part, int) or getattr(part, "dtype", None) is not None for part in found):
            raise ValueError
        numbers = tuple(int(part) for part in found)
        if (length is not None and len(numbers) != length) or any(number < minimum for number in numbers):
            raise ValueError
    except (TypeError, ValueError):
        raise ExperimentError(
            f"{name}: {value!r} is not allowed; it must be {length or 'some'} whole numbers ≥ {minimum}"
        ) from None
    return numbers


def _control(name: str, spec: _Spec) -> Control:
    limits = {key: value for key, value in spec.limits.items() if key != "unit"}
    return Control(name=name, type=spec.type, get=lambda: None, set=lambda _: None, check=spec.check, **limits)


def live_control(
    owner: type, field: str, get: Callable[[], Any], set: Callable[[Any], None], *, name: str = ""
) -> Control:
    """Return a control with the type, limits and help of a setting, called as it is unless a `name` is given."""
    spec = next(one.metadata[_SPEC] for one in dataclasses.fields(owner) if one.name == field)
    return Control(
        name=name or field, type=spec.type, get=get, set=set, help=spec.help, check=spec.check, **spec.limits
    )


def from_text(owner: Any, name: str, text: str) -> Any:
    """Return what `text` means for the setting `name` of `owner`.

    Raises
    ------
    ExperimentError
        No such setting, or not allowed for it.
    """
    fields = {field.name: field for field in dataclasses.fields(owner)}
    spec = fields[name].metadata.get(_SPEC) if name in fields else None
    prefix = getattr(owner, "_prefix", "")
    if spec is None and prefix == "" and name in fields:  # a plain dataclass, such as the arguments of a warp
        try:
            return ast.literal_eval(text)
        except (SyntaxError, ValueError):
            raise ExperimentError(f"{name}: {text} is not allowed; it must be a Python value such as 0.5") from None
    if spec is None:
        known = did_you_mean(name, fields) or f" Known: {', '.join(sorted(fields))}."
        raise ExperimentError(f"{prefix}{name}: {type(owner).__name__} has no such setting.{known}")
    return _typed(prefix + name, spec, text, text=True)


def replaced(owner: Any, name: str, value: Any) -> Any:
    """Return a copy with one setting changed, checked anew."""
    try:
        return dataclasses.replace(owner, **{name: value})
    except ExperimentError:
        raise
    except (ElektronnError, TypeError, ValueError) as error:
        raise ExperimentError(f"{name}: {error}") from error


def plain(value: Any) -> Any:
    """Return settings as values that JSON carries; functions and classes by their name."""
    to_dict = getattr(value, "to_dict", None)
    if to_dict is not None and not isinstance(value, type):
        return plain(to_dict())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **fields}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Path):
        return str(value)
    return getattr(value, "__qualname__", None) or repr(value)
