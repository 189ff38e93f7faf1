import logging
import time
from dataclasses import dataclass, field

import numpy as np
import pytest

from elektronn_tui.session.jobs import Jobs
from elektronn_tui.training.controls import Controls
from elektronn_tui.training.datasets import Volumes


class MemorySession:
    """The interface that a training loop has to its session, kept in memory."""

    def __init__(self, run_dir, at=None):
        self.run_dir = run_dir
        self.foreground = False
        self.controls = Controls()
        self.namespace = {"session": self, "controls": self.controls}
        self.logger = logging.getLogger("tests.session")
        self.on_save = None
        self.on_preview = None
        self.jobs = Jobs(self)
        self.metrics = {}
        self.status = {}
        self.graph = []
        self.previews = []
        self.marks = []
        self.records = []
        self.pauses = []
        self.halts = []
        self.stopped = ""
        self.safe_points = []
        self.at = at or {}  # steps done: what a client asks for there
        self._begin = time.monotonic()

    @property
    def training_time(self):
        return time.monotonic() - self._begin

    def safe_point(self, step):
        self.safe_points.append(step)
        ask = self.at.pop(step, None)
        if ask is not None:
            ask(self)
        return not self.stopped

    def publish(self, step, metrics):
        for name, value in metrics.items():
            assert step not in self.metrics.setdefault(name, {}), f"{name} was published twice for step {step}"
            self.metrics[name][step] = value

    def set_status(self, **fields):
        self.status.update(fields)

    def set_graph(self, nodes):
        self.graph = list(nodes)

    def add_preview(self, info, volumes):
        self.previews.append((info, volumes))

    def mark(self, kind, text, step=None):
        self.marks.append((kind, text, step))

    def record(self, kind, text, data=None):
        self.records.append((kind, text, data))

    def pause(self, reason):
        self.pauses.append(reason)

    def halt(self, error):
        self.halts.append(error)
        return not self.stopped

    def stop(self, reason, *, save=True):
        self.stopped = reason


@dataclass(frozen=True)
class TinyData:
    """Bright and dark stripes with noise, and which are bright."""

    shape: tuple = (8, 40, 40)
    valid: bool = True
    calls: list = field(default_factory=list)

    def open(self):
        from elektronn_tui.data import ArraySource, Pair

        generator = np.random.default_rng(3)

        def pair(name):
            labels = np.zeros(self.shape, np.uint8)
            labels[:, (np.arange(self.shape[1]) // 4) % 2 == 0] = 1
            raw = np.clip(labels * 90 + generator.normal(80, 30, self.shape), 0, 255).astype(np.uint8)
            return Pair(ArraySource(raw, name=f"{name}:raw"), ArraySource(labels, name=f"{name}:labels"), name=name)

        return Volumes([pair("train")], [pair("valid")] if self.valid else [])


def tiny_model(dropout=0.0):
    from elektronn_tui.models import AggregateLoss, Conv, Input, Input_like, Model, MultinoulliNLL, Softmax

    raw = Input((1, 1, 3, 15, 15), "b,f,z,y,x", name="raw")
    out = Conv(raw, 4, (1, 4, 4), (1, 2, 2), dropout_rate=dropout, name="conv")
    out = Conv(out, 4, (3, 3, 3), (1, 1, 1), name="conv1")
    probs = Softmax(Conv(out, 2, (1, 1, 1), (1, 1, 1), activation_func="lin", name="conv2"), name="probs")
    target = Input_like(probs, override_f=1, dtype="int64", name="target")
    nll = MultinoulliNLL(probs, target, target_is_sparse=True, name="nll")
    loss = AggregateLoss([nll], name="loss")
    return Model(input_node=raw, target_node=target, loss_node=loss, prediction_node=probs)


@pytest.fixture
def make_session(tmp_path):
    def make(name="run", at=None):
        directory = tmp_path / name
        directory.mkdir()
        return MemorySession(directory, at)

    return make


@pytest.fixture
def make_experiment():
    from elektronn_tui.training.experiment import Experiment, Optimiser

    def make(**more):
        defaults = {
            "model": tiny_model,
            "data": TinyData(),
            "optimiser": Optimiser("Adam", lr=1e-2),
            "steps": 6,
            "validate_every": 0,
            "checkpoint_every": 0,
            "preview_every": 0,
            "precision": "fp32",
            "torch_threads": 1,
            "seed": 1,
        }
        return Experiment(**(defaults | more))

    return make


@pytest.fixture
def tiny():
    return tiny_model


@pytest.fixture
def weights():
    def read(model):
        return {key: value.detach().clone().numpy() for key, value in model.module.state_dict().items()}

    return read
