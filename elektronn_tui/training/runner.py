"""Run an experiment in a session: what the worker calls once it has both."""

from __future__ import annotations

import contextlib
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elektronn_tui.errors import ElektronnError, ExperimentError
from elektronn_tui.session.protocol import NodeInfo

from .augmentations import AUGMENTATIONS
from .experiment import build_model
from .settings import plain

if TYPE_CHECKING:
    from elektronn_tui.models import Model

    from .experiment import Experiment
    from .trainer import Trainer

__all__ = ["build", "named", "run"]


def run(experiment: Experiment, session: Any) -> None:
    """Train `experiment` in `session`, on the calling thread, until it is done or told to stop.

    Parameters
    ----------
    experiment : Experiment
    session : Session
        Gets its graph, its controls and the names of its console; ends with a checkpoint of the last step.

    Raises
    ------
    ElektronnError
        Model, data and settings don't go together.
    """
    with named(experiment):
        trainer = build(experiment, session)
    trainer.run()


@contextlib.contextmanager
def named(experiment: Experiment) -> Iterator[None]:
    """Say of which experiment file an error is, and make it an `ExperimentError`."""
    try:
        yield
    except ExperimentError as error:
        if experiment.file is None or str(error).startswith(experiment.file):
            raise
        raise ExperimentError(f"{Path(experiment.file).name}: {error}") from error
    except ElektronnError as error:
        raise ExperimentError(f"{Path(experiment.file or 'experiment').name}: {error}") from error


def build(experiment: Experiment, session: Any) -> Trainer:
    """Build model, data and trainer of an experiment, and tell the session what they are made of."""
    import numpy as np
    import torch

    from .prediction_jobs import KIND, prediction_offer
    from .resources import choose, environment
    from .shortcuts import console_namespace
    from .trainer import Trainer

    resources = choose(experiment)
    torch.set_num_threads(resources.torch_threads)
    torch.manual_seed(experiment.seed)
    np.random.seed(experiment.seed % 2**32)
    random.seed(experiment.seed)
    for name, reason in resources.reasons.items():
        session.logger.info("%s: %s (%s)", name, getattr(resources, name), reason)
    session.set_status(phase="building the network", steps=experiment.steps)
    model = build_model(experiment)
    session.set_graph(graph_of(model))
    _draw(model, experiment.name, session)
    session.set_status(phase="opening the data")
    trainer = Trainer(experiment, model, experiment.data.open(), session, resources)
    session.namespace.update(console_namespace(trainer))
    session.jobs.offer(KIND, prediction_offer(trainer))
    augmentation = trainer.augmentation
    config = {
        "experiment": experiment.to_dict()
        | {f"{name}_args": plain(getattr(augmentation, f"{name}_args")) for name in AUGMENTATIONS},
        "scaling": model.scaling,
        "controls": trainer.controls.state(),
        "resources": resources.to_dict(),
        "environment": environment(),
    }
    _write_json(Path(session.run_dir) / "config.json", config)
    return trainer


def graph_of(model: Model) -> list[NodeInfo]:
    """Return the nodes of a model as clients see them."""
    roles = {
        model.input_node.name: "input",
        model.prediction_node.name: "prediction",
    }
    if model.target_node is not None:
        roles[model.target_node.name] = "target"
    if model.loss_node is not None:
        roles[model.loss_node.name] = "loss"
    return [
        NodeInfo(
            name=node.name,
            kind=node.kind,
            parents=tuple(node.parents),
            shape=tuple(node.shape),
            tags=node.tags,
            fov=tuple(int(size) for size in node.fov),
            strides=tuple(int(stride) for stride in node.strides),
            offsets=tuple(int(offset) for offset in node.offsets),
            params=node.params,
            cost=float(node.cost),
            detail=node.detail,
            role=roles.get(node.name, ""),
        )
        for node in model.describe()
    ]


def _draw(model: Model, name: str, session: Any) -> None:
    """Draw the network into the run directory; a drawing is not worth a run."""
    from elektronn_tui.models import draw_graph

    try:
        draw_graph(model, Path(session.run_dir) / "model-graph.svg", name=name)
    except Exception:
        session.logger.warning("the network can't be drawn", exc_info=True)


def _write_json(path: Path, document: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)
