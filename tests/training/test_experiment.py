import json
import math
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from elektronn_tui.errors import ExperimentError
from elektronn_tui.training.experiment import DemoData, Experiment, Optimiser, VolumeData, load_experiment
from elektronn_tui.training.schedules import Linear, StepDecay


def factory():
    raise AssertionError("a model is built in the worker alone")


def experiment(**more):
    return Experiment(model=factory, data=DemoData(), **more)


@pytest.fixture
def write(tmp_path):
    def write(text, name="mine.py"):
        path = tmp_path / name
        path.write_text(textwrap.dedent(text))
        return path

    return write


GOOD = """
from elektronn_tui.training.experiment import Experiment, DemoData, Optimiser
from elektronn_tui.training.schedules import StepDecay

def model():
    raise AssertionError("a model is built in the worker alone")

experiment = Experiment(model=model, data=DemoData(), optimiser=Optimiser("adamw", lr=5e-4),
                        schedules={"lr": StepDecay(0.995)})
"""


def test_defaults_fill_what_is_not_given():
    made = experiment(optimiser=Optimiser("sgd"))
    assert made.optimiser.name == "SGD"
    assert (made.batch_size, made.on_nan, made.validate_every) == (1, "auto", 500)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: experiment(stepz=3), "Experiment has no setting 'stepz'. Did you mean 'steps'?"),
        (lambda: Experiment(data=DemoData()), "Experiment needs model=...: a function () -> Model"),
        (lambda: Experiment(factory, DemoData()), "Experiment takes settings by name alone"),
        (lambda: experiment(steps=0), "steps: 0 is not allowed; it must be a whole number ≥ 1"),
        (lambda: experiment(steps=2.5), "steps: 2.5 is not allowed; it must be a whole number ≥ 1"),
        (lambda: experiment(steps="many"), "steps: the text 'many' is not allowed; it must be a whole number ≥ 1"),
        (lambda: experiment(batch_size=None), "batch_size: None is not allowed; it must be a whole number ≥ 1"),
        (lambda: experiment(warp=1.5), "warp: 1.5 is not allowed; it must be a number ≥ 0 and ≤ 1"),
        (lambda: experiment(on_nan="puase"), "Did you mean 'pause'?"),
        (lambda: experiment(max_runtime=math.inf), "max_runtime: inf is not allowed; it must be finite"),
        (lambda: experiment(schedules=[0.5]), "it must be a dictionary such as {'lr': StepDecay(0.995)}"),
        (lambda: experiment(schedules={"lr": 0.5}), "schedules: lr: 0.5 is not allowed; it must be a schedule such as"),
        (lambda: experiment(optimiser="Adam"), "optimiser: 'Adam' is not allowed; it must be Optimiser(...)"),
        (
            lambda: experiment(preview_shape=(1, 2)),
            "preview_shape: (1, 2) is not allowed; it must be 3 whole",
        ),
        (lambda: experiment(warp_args=3), "warp_args: 3 is not allowed; it must be Warp(...)"),
        (lambda: Experiment(model=3, data=DemoData()), "model: 3 is not allowed; it must be a function () -> Model"),
        (lambda: Experiment(model=factory, data=DemoData), "it must be DemoData(...) or VolumeData(...)"),
        (lambda: Optimiser("Adan"), "Did you mean 'Adam'?"),
        (lambda: Optimiser(lr=-1), "optimiser.lr: -1 is not allowed; it must be a number > 0"),
        (lambda: Optimiser(betas=(0.9,)), "optimiser.betas: (0.9,) is not allowed; it must be 2 numbers"),
        (lambda: Optimiser(learning_rate=1), "Optimiser has no setting 'learning_rate'"),
        (lambda: DemoData(shape=(64, 64)), "data.shape: (64, 64) is not allowed; it must be 3 whole numbers ≥ 16"),
        (lambda: VolumeData(path="a.h5", volumes=[("a", "b")]), "path and volumes are both given"),
        (lambda: VolumeData(volumes=["a.h5:raw"]), "it must be a list of pairs such as"),
        (lambda: VolumeData(target="boundary"), "Did you mean 'boundaries'?"),
    ],
)
def test_wrong_settings_name_field_value_and_what_is_allowed(make, message):
    with pytest.raises(ExperimentError) as caught:
        make()
    assert message in str(caught.value)


def test_settings_are_fixed():
    with pytest.raises(AttributeError):
        experiment().steps = 3


def test_a_file_is_read(write):
    path = write(GOOD)
    made = load_experiment(path)
    assert (made.name, made.file, made.optimiser.name) == ("mine", str(path), "AdamW")


def test_overrides_are_typed_and_checked(write):
    path = write(GOOD)
    made = load_experiment(
        path,
        [
            "steps=1e3",
            "lr=1e-4",
            "optimiser.weight_decay=0.01",
            "betas=0.8, 0.99",
            "data.shape=32x64x64",
            "data.anisotropic=yes",
            "max_runtime=none",
            "conv1.dropout_rate=0.2",
            "warp_args.rotation=(-10, 10)",
            "name=other",
            'lr_scales={"conv*": 0.1}',
            "lr_scale.conv1=2",
            'schedules={"lr": {"dec": 0.995}}',
            "data.target=affinities",
            "data.offsets=[(1, 0, 0), (0, 9, 0)]",
        ],
    )
    assert (made.steps, made.optimiser.lr, made.optimiser.weight_decay) == (1000, 1e-4, 0.01)
    assert made.optimiser.betas == (0.8, 0.99)
    assert made.data.shape == (32, 64, 64)
    assert made.data.anisotropic is True
    assert made.max_runtime is None
    assert made.control_values == {"conv1.dropout_rate": "0.2"}
    assert made.warp_args.rotation == (-10, 10)
    assert made.name == "other"
    assert made.lr_scales == {"conv*": 0.1, "conv1": 2.0}
    assert isinstance(made.schedules["lr"], StepDecay)
    assert made.data.offsets == [(1, 0, 0), (0, 9, 0)]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stepz=3", "mine.py, with stepz=3: stepz: there is no such setting. Did you mean 'steps'?"),
        ("steps=-3", "steps: -3 is not allowed; it must be a whole number ≥ 1"),
        ("optimiser.lr=nan", "optimiser.lr: nan is not allowed; it must be finite"),
        ("optimiser.lrr=1", "optimiser.lrr: Optimiser has no such setting. Did you mean 'lr'?"),
        ("data.path=x.h5", "data.path: DemoData has no such setting."),
        (
            "model=x",
            "model: x is not allowed; as text it must be plain Python values; the experiment file can say more",
        ),
        ("model=3", "model: 3 is not allowed; it must be"),
        ("optimiser=3", "optimiser: 3 is not allowed; it must be"),
        ("data=3", "data: 3 is not allowed; it must be"),
        ("schedules=3", "schedules: 3 is not allowed; it must be"),
        ("warp_args=3", "warp_args: 3 is not allowed; it must be"),
        ("lr_scales=3", "lr_scales: 3 is not allowed; it must be"),
        ("lr_scales={'conv': -1}", "lr_scales: {'conv': -1} is not allowed; it must be"),
        ("model.x=1", "model has no settings that can be given as text"),
        ("steps", "'steps' is not allowed; it must be NAME=VALUE"),
        ("warp_args.rotation=[", "it must be a Python value"),
        ("warp_args.perspective=7", "warp_args.perspective=7: perspective:"),
    ],
)
def test_wrong_overrides_name_file_field_and_value(write, override, message):
    with pytest.raises(ExperimentError) as caught:
        load_experiment(write(GOOD), [override])
    assert message in str(caught.value)
    assert "mine.py" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\ny = = 2\n", "line 2: invalid syntax"),
        ("x = 1\n\ny = [unknown for _ in range(2)]\n", "line 3: NameError: name 'unknown' is not defined"),
        ("x = 1\n", "it defines no 'experiment'; it must say experiment = Experiment(...)"),
        ("experimnt = 1\n", "Did you mean 'experimnt'?"),
        ("experiment = 3\n", "'experiment' is of type int; it must be an Experiment(...)"),
        ("raise SystemExit(3)\n", "line 1: SystemExit: 3"),
        (
            "from elektronn_tui.training.experiment import Experiment, DemoData\n"
            "experiment = Experiment(\n    model=print, data=DemoData(),\n    bach_size=3)\n",
            "Experiment has no setting 'bach_size'. Did you mean 'batch_size'?",
        ),
        (
            "from elektronn_tui.training.experiment import Optimiser\n\nOptimiser(lr=0)\n",
            "mine.py, line 3: optimiser.lr: 0 is not allowed; it must be a number > 0",
        ),
        (
            "from elektronn_tui.training.experiment import Experiment, VolumeData\n"
            "experiment = Experiment(model=print, data=VolumeData(path='/nowhere/volume.h5'))",
            "mine.py: data.path: there is no file /nowhere/volume.h5",
        ),
        (
            "from elektronn_tui.training.experiment import Experiment, VolumeData\n"
            "experiment = Experiment(model=print, data=VolumeData())",
            "data.path: no volume is given; use --set data.path=FILE",
        ),
        (
            "from elektronn_tui.training.experiment import Experiment, VolumeData\n"
            "experiment = Experiment(model=print, data=VolumeData(volumes=[('no.h5:a', 'no.h5:b')]))",
            "data.volumes: there is no file {here}/no.h5",
        ),
    ],
)
def test_broken_files_name_file_line_and_reason(write, text, message):
    with pytest.raises(ExperimentError) as caught:
        load_experiment(write(text))
    assert message.replace("{here}", str(Path.cwd())) in str(caught.value)
    assert "mine.py" in str(caught.value)


def test_missing_files_and_unknown_names(tmp_path):
    with pytest.raises(ExperimentError, match="there is no experiment file"):
        load_experiment(tmp_path / "gone.py")
    with pytest.raises(ExperimentError, match="is a folder"):
        load_experiment(tmp_path)


def test_the_zoo_goes_by_name():
    assert load_experiment("membranes", ["steps=3"]).steps == 3
    with pytest.raises(ExperimentError, match="Did you mean 'membranes'"):
        load_experiment("membrane")


def test_comprehensions_helpers_and_dataclasses_see_the_file_s_variables(write):
    made = load_experiment(
        write(
            """
            from __future__ import annotations
            from dataclasses import dataclass
            from elektronn_tui.training.experiment import Experiment, DemoData

            base = 8
            here = __file__

            @dataclass
            class Width:
                features: int

            def width(i):
                return Width(base * 2**i)

            widths = [width(i).features + base for i in range(3)]

            def model():
                return widths

            experiment = Experiment(model=model, data=DemoData(), steps=sum(base for _ in range(3)))
            """
        )
    )
    assert made.steps == 24
    assert made.model() == [16, 24, 40]


def test_modules_beside_the_file_can_be_imported(write):
    write("width = 7\n", "beside_the_experiment.py")
    path = write("from beside_the_experiment import width\n" + GOOD + "\nassert width == 7\n")
    assert load_experiment(path).name == "mine"


def test_resolved_settings_are_json_with_every_default():
    made = experiment(schedules={"lr": StepDecay(0.5), "warp": Linear(0, 1, 10)})
    resolved = json.loads(json.dumps(made.to_dict()))
    assert resolved["model"] == "factory"
    assert resolved["optimiser"]["lr"] == 1e-3
    assert resolved["data"]["kind"] == "DemoData"
    assert resolved["schedules"]["lr"] == {"kind": "StepDecay", "factor": 0.5, "every": 1000}
    assert resolved["max_runtime"] is None


def test_importing_it_imports_no_torch():
    script = (
        "import sys; from elektronn_tui.training import controls, experiment, history;"
        "print([m for m in ('torch', 'numba', 'h5py', 'skimage') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
