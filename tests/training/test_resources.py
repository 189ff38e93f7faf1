import pytest
import torch

from elektronn_tui.models import precision
from elektronn_tui.training import resources


@pytest.fixture
def machine(monkeypatch):
    def make(cores=8, flags=()):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
        monkeypatch.setattr(resources.os, "sched_getaffinity", lambda pid: set(range(cores)))
        monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset(flags))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    return make


@pytest.mark.parametrize(
    ("flags", "chosen"), [(("avx2",), "fp32"), (("avx512_bf16",), "bf16"), (("amx_bf16",), "bf16")]
)
def test_precision_follows_the_hardware(machine, make_experiment, flags, chosen):
    machine(flags=flags)
    assert resources.choose(make_experiment(precision="auto")).precision == chosen
    assert resources.choose(make_experiment(precision="fp32")).precision == "fp32"


@pytest.mark.parametrize(("data_threads", "torch_threads"), [(0, 8), (1, 8), (3, 5), (20, 1)])
def test_torch_gets_the_cores_that_data_do_not_need(machine, make_experiment, data_threads, torch_threads):
    machine(cores=8)
    chosen = resources.choose(make_experiment(data_threads=data_threads, torch_threads=None))
    assert (chosen.torch_threads, chosen.data_threads) == (torch_threads, data_threads)
    assert resources.choose(make_experiment(torch_threads=2)).torch_threads == 2


@pytest.mark.parametrize("variable", ["OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"])
def test_a_share_of_the_machine_is_honoured(machine, make_experiment, monkeypatch, variable):
    machine(cores=8)
    monkeypatch.setenv(variable, "3")
    chosen = resources.choose(make_experiment(torch_threads=None))
    assert chosen.torch_threads == 3
    assert chosen.reasons["torch_threads"] == f"all cores that {variable}=3 allows"


def test_what_decides_over_bits_is_named():
    found = resources.environment()
    assert found["packages"]["numpy"]
    assert found["cpu_capability"]
