"""Other models out of a model: another patch size, fragments, folded normalisation, frozen weights."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from elektronn_tui.errors import ModelError

from .declared import checked
from .freezing import freeze
from .graph import Graph, NodeRecord, graph_of, references, tensors_of
from .inputs import Input
from .layer import Layer
from .model_from_graph import make_model
from .node import Node
from .normalisation import replace_normalisation
from .patch_size import fitting_patch_size, is_pooled
from .plan import walk
from .surgery import foreign_of, free_name, geometry_arguments, like, redirected

if TYPE_CHECKING:
    from .model import Model

__all__ = ["rebuild_model"]

logger = logging.getLogger(__name__)


@checked
def rebuild_model(
    model: Model,
    *,
    name: str | None = None,
    imposed_patch_size: Sequence[int] | None = None,
    exact: bool = False,
    imposed_batch_size: int | None = None,
    override_mfp_to_active: bool = False,
    replace_bn: Literal[False, "remove", "predict", "const", "fold"] = False,
    make_weights_constant: bool = False,
    lock_trainable_params: int | Sequence[str] = (),
    unlock_all_params: bool = False,
) -> Model:
    """Return another model of the same weights, with some things changed. The model itself stays as it is.

    Parameters
    ----------
    model : Model
    name : str, optional
        Name of the new model; nodes keep theirs.
    imposed_patch_size : sequence of int, optional
        Input size, one entry for each spatial axis. A size that doesn't fit is moved to the nearest one that does,
        which is logged. Targets and other inputs that were as large as some node follow it.
    exact : bool
        Refuse a patch size that doesn't fit instead of moving it.
    imposed_batch_size : int, optional
    override_mfp_to_active : bool
        Max-fragment pooling in all poolings that the prediction needs, and a `FragmentsToDense` before the
        prediction if it is a `Softmax`, behind it otherwise: one output for each voxel in one run. The patch size is
        moved to one that fits.
    replace_bn : {False, 'remove', 'predict', 'const', 'fold'}
        What to do with batch normalisation: take it out (which changes the output); normalise by the stored
        statistics always; the same, written as constants; or fold it into weights and bias, so that the output of
        evaluation stays the same without it.
    make_weights_constant : bool
        Train no parameter. Running statistics would still change: needs `replace_bn` if there are some.
    lock_trainable_params : int or sequence of str
        Train none of the parameters of the first so many nodes that have parameters, or of these nodes.
    unlock_all_params : bool
        Train all weights and biases again, constant ones too. Not together with the locks.

    Returns
    -------
    Model
        On the same device, in the same mode.

    Raises
    ------
    ShapeError
        If no patch size fits, or with `exact` this one doesn't.
    ModelError
        If options contradict each other, or something else can't be done.
    """
    if unlock_all_params and (make_weights_constant or lock_trainable_params):
        raise ModelError("unlock_all_params can't be together with make_weights_constant or lock_trainable_params.")
    if imposed_batch_size is not None and (
        isinstance(imposed_batch_size, bool) or not isinstance(imposed_batch_size, int) or imposed_batch_size < 1
    ):
        raise ModelError(f"imposed_batch_size must be a whole number from 1 on, not {imposed_batch_size!r}.")
    graph, tensors = graph_of(model), tensors_of(model)
    if name is not None:
        graph.name = name
    if replace_bn:
        tensors = replace_normalisation(model, graph, tensors, replace_bn)
    following = _following(model)
    resized = override_mfp_to_active or imposed_patch_size is not None or imposed_batch_size is not None
    if resized:
        raw = model.input_node.shape
        wanted = raw.spatial_shape if imposed_patch_size is None else imposed_patch_size
        if override_mfp_to_active or imposed_patch_size is not None:
            if imposed_patch_size is None and None in wanted:
                raise ModelError(f"{model.input_node.title} has no fixed size {raw.text}: give imposed_patch_size.")
            wanted = _patch_size(model, wanted, override_mfp_to_active, exact)  # type: ignore[arg-type]
        _resize(graph, model, wanted, imposed_batch_size)
    if override_mfp_to_active:
        renamed = _activate_fragments(graph, model)
        following = {source: renamed.get(followed, followed) for source, followed in following.items()}
    if unlock_all_params:
        _unlock(graph)

    def follow(record: NodeRecord, nodes: Mapping[str, Node]) -> None:
        if resized and record.name in following:
            old = _old_node(model, following[record.name], graph)
            _fit_source(record, model[record.name], old, nodes[following[record.name]], imposed_batch_size)

    after = {source: [followed] for source, followed in following.items()} if resized else {}
    result = make_model(
        graph, tensors, foreign_of(model), scaling=model.scaling, allow_nan=True, before=follow, after=after
    )
    if make_weights_constant:
        if active := [n.name for n in result.nodes.values() if isinstance(n, Layer) and n.measures_statistics]:
            raise ModelError(
                f"make_weights_constant needs replace_bn, because {', '.join(active)} "
                "still measure statistics: replace_bn='const' or 'fold'."
            )
        freeze(result, [n.name for n in result.nodes.values() if n.params])
    if lock_trainable_params:
        freeze(result, lock_trainable_params)
    return like(model, result)


def _following(model: Model) -> dict[str, str]:
    """Return, for each source but the input, the node whose spatial size it has; names."""
    nodes = list(model.nodes.values())
    result = {}
    for source in nodes:
        if not isinstance(source, Input) or source is model.input_node or not source.shape.ndim:
            continue
        beside = [parent for node in nodes if source in node.parents for parent in node.parents]
        for node in [*beside, model.prediction_node, model.input_node, *nodes]:
            if isinstance(node, Input) and node is not model.input_node:
                continue
            same = (node.shape.spatial_tags, node.shape.spatial_shape)
            if same == (source.shape.spatial_tags, source.shape.spatial_shape) and source not in walk([node]):
                result[source.name] = node.name
                break
    return result


def _patch_size(model: Model, wanted: Sequence[int], mfp: bool, exact: bool) -> tuple[int, ...]:
    size, reasons = fitting_patch_size(model, wanted, mfp=mfp, exact=exact)
    for tag, old, new in zip(model.input_node.shape.spatial_tags, wanted, size, strict=True):
        if old != new:
            logger.info("patch size on axis %s (%s) changed to %s: %s", tag, old, new, reasons[tag])
    return size


def _resize(graph: Graph, model: Model, size: Sequence[int | None], batch: int | None) -> None:
    """Give the sizes to the input and to all sources that are as large as it; the batch size to all."""
    raw = model.input_node.shape
    for record in graph.nodes:
        node = model[record.name]
        if not isinstance(node, Input):
            continue
        shape = node.shape
        if node is model.input_node:
            for tag, n in zip(raw.spatial_tags, size, strict=True):
                shape = shape.updateshape(tag, n)
        if batch is not None and shape.hastag("b"):
            shape = shape.updateshape("b", batch)
        record.arguments["shape"] = list(shape.shape)
        record.arguments["tags"] = list(shape.tags)


def _old_node(model: Model, name: str, graph: Graph) -> Node:
    """Return the node of the old model that had the place of the one that is called so in the new graph."""
    if name in model:
        return model[name]
    return model[next(references(graph.record(name).arguments))]


def _fit_source(record: NodeRecord, source: Node, old: Node, new: Node, batch: int | None) -> None:
    """Write into a source's record the size, and the geometry if it had it, of the node that it follows."""
    shape = source.shape
    for tag, n in zip(new.shape.spatial_tags, new.shape.spatial_shape, strict=True):
        shape = shape.updateshape(tag, n)
    if batch is not None and shape.hastag("b"):
        shape = shape.updateshape("b", batch)
    if source.shape.strides == old.shape.strides and record.arguments.get("strides") is not None:
        record.arguments |= geometry_arguments(new.shape)
    record.arguments["shape"] = list(shape.shape)
    record.arguments["tags"] = list(shape.tags)


def _activate_fragments(graph: Graph, model: Model) -> dict[str, str]:
    """Switch fragments on and insert the node that joins them; return which node took the place of which."""
    pooled = [node.name for node in walk([model.prediction_node]) if is_pooled(node)]
    if not pooled:
        logger.info("model %r has no pooling: there is nothing for max-fragment pooling to do", model.name)
        return {}
    for name in pooled:
        graph.record(name).arguments["mfp"] = True
        graph.record(name).arguments.pop("stride", None)
    prediction = graph.record(graph.roles["prediction_node"])
    before = prediction.kind == "Softmax"
    place = next(references(prediction.arguments)) if before else prediction.name
    dense = free_name(graph, "to_dense")
    for record in graph.nodes:
        # Layers go on with fragments; whatever judges or shows the output gets the dense one.
        if not before or record.kind not in ("Conv", "UpConv", "Pool", "Perceptron"):
            record.arguments = redirected(record.arguments, place, dense)
    graph.nodes.append(NodeRecord("FragmentsToDense", dense, {"parent": {"$node": place}}, {}))
    if not before:
        graph.roles = {role: dense if name == place else name for role, name in graph.roles.items()}
        graph.role_lists = {
            role: [dense if name == place else name for name in names] for role, names in graph.role_lists.items()
        }
    return {place: dense}


def _unlock(graph: Graph) -> None:
    for record in graph.nodes:
        record.frozen = []
        for key, value in record.arguments.items():
            if isinstance(value, dict) and value.get("$given") == "const" and key not in ("mean", "std"):
                value["$given"] = "trainable"
