"""Completion looks and never runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from fake_loop import FakeLoop, wait_until

from elektronn_tui.session.completer import Question, answered
from elektronn_tui.session.completion import prelude
from elektronn_tui.session.live import complete_live
from elektronn_tui.session.protocol import Complete, Execute


class Touchy:
    """Whatever is run here fails the test."""

    shared = 1

    def __init__(self) -> None:
        self.plain = [1, 2]
        self.inner = types.SimpleNamespace(deep=3)

    @property
    def prop(self) -> Any:
        raise AssertionError("a property was run")

    def method(self) -> None:
        """Do nothing."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"__getattr__({name!r}) was run")

    def __dir__(self) -> Any:
        raise AssertionError("__dir__ was run")

    def __getitem__(self, key: Any) -> Any:
        raise AssertionError("__getitem__ was run")

    def __repr__(self) -> str:
        raise AssertionError("__repr__ was run")


class Net:
    """Keeps its parts as torch's modules do."""

    def __init__(self) -> None:
        self._modules = {"conv1": types.SimpleNamespace(stride=2), "0": types.SimpleNamespace(first=1)}
        self._parameters = {"weight": 1.0}


class Model:
    """Keeps nodes by name."""

    def __init__(self) -> None:
        self.nodes = {"conv1": types.SimpleNamespace(fov=3), "concat": None}

    def __getitem__(self, name: str) -> Any:
        raise AssertionError("__getitem__ was run")


NAMES: dict[str, Any] = {
    "touchy": Touchy(),
    "net": Net(),
    "model": Model(),
    "os": os,
    "numbers": {"one": Touchy(), "two": 2},
    "items": [types.SimpleNamespace(inside=1)],
    "_hidden": 1,
}


def names(code: str) -> list[str]:
    lines = code.split("\n")
    return [item.name for item in complete_live(code, len(lines) - 1, len(lines[-1]), NAMES).items]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("to", ["touchy"]),
        ("print(tou", ["touchy"]),
        ("touchy.pl", ["plain"]),
        ("touchy.pr", ["prop"]),
        ("touchy.me", ["method"]),
        ("touchy.sh", ["shared"]),
        ("touchy.inner.de", ["deep"]),
        ("touchy.prop.", []),
        ("x = 1\ntouchy.inner.", ["deep"]),
        ("net.co", ["conv1"]),
        ("net.conv1.str", ["stride"]),
        ("net.wei", ["weight"]),
        ("net[0].fi", ["first"]),
        ('model["con', ["conv1", "concat"]),
        ('model["conv1"].fo', ["fov"]),
        ("numbers['", ["one", "two"]),
        ("numbers['one'].pl", ["plain"]),
        ("items[0].ins", ["inside"]),
        ("items[7].ins", []),
        ("os.path.joi", ["join"]),
        ("touchy.unknown.", []),
        ("nothing.", []),
        ("touchy[0].", []),
        ("f().", []),
        ("(1).re", []),
        ("'text'.", []),
        ("impor", ["import"]),
    ],
)
def test_names_attributes_and_keys_are_found_without_running_anything(code: str, expected: list[str]) -> None:
    found = names(code)
    if expected and not expected[0].startswith("_"):
        found = [name for name in found if not name.startswith("_")]
    assert found == expected


def test_hidden_names_come_last_and_first_when_asked_for() -> None:
    assert names("touchy._")[0].startswith("_")
    found = names("touchy.")
    assert found.index("shared") < found.index("__class__")


def test_the_start_is_where_the_word_begins() -> None:
    assert complete_live("a = touchy.pl", 0, 13, NAMES).start == 11
    assert complete_live("tou", 5, 3, NAMES).items == ()


def test_a_property_is_marked_as_one() -> None:
    (item,) = complete_live("touchy.prop", 0, 11, NAMES).items
    assert item.kind == "property"


def test_jedi_knows_what_types_and_source_tell() -> None:
    import numpy as np

    namespace = {"np": np, "array": np.zeros(3), "text": "x", "made": types.SimpleNamespace}
    source = prelude(namespace, ["def twice(x):\n    '''Double it.'''\n    return [x, x]"])
    assert "import numpy as np" in source
    for code, name in (
        ("array.resha", "reshape"),
        ("text.upp", "upper"),
        ("twice(1).app", "append"),
        ("np.zer", "zeros"),
    ):
        found = answered(Question(0, source, code, 0, len(code)))
        assert name in [item.name for item in found.items], code
        assert code[found.start :] == code.rpartition(".")[2]
    found = answered(Question(0, source, "twice(", 0, 6))
    assert found.signature.startswith("twice(x)")
    assert "Double it." in found.documentation


def test_a_damaged_cache_of_jedi_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jedi import settings
    from parso.cache import parser_cache

    monkeypatch.setattr(settings, "cache_directory", str(tmp_path))
    question = Question(0, "import shlex\n", "shlex.quo", 0, 9)
    assert "quote" in [item.name for item in answered(question).items]
    cached = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert cached
    for path in cached:
        path.write_bytes(b"")
    parser_cache.clear()
    assert "quote" in [item.name for item in answered(question).items]


def test_names_that_can_not_be_written_as_source_are_left_out() -> None:
    class Local:
        """Known to nobody else."""

    source = prelude({"local": Local(), "function": lambda: 0, "not a name": 1, "__x": 1, "none": None}, [])
    assert source.strip() == ""
    compile(prelude(dict(NAMES), ["x = 1"]), "prelude", "exec")


def test_over_the_socket_both_tiers_answer_and_stale_questions_with_nothing(loop: FakeLoop) -> None:
    with loop.client() as client:
        client.request(Execute(code="import os\nwords = ['a']"))
        fast = client.request(Complete(code="os.getp", line=0, column=7, fast=True))
        assert "getpid" in [item.name for item in fast.items]
        slow = client.request(Complete(code="words[0].spl", line=0, column=12))
        assert slow.start == 9
        assert "getpid" in [item.name for item in client.request(Complete(code="os.getp", line=0, column=7)).items]


def test_jedi_runs_beside_the_worker_and_comes_back_when_it_was_killed(loop: FakeLoop) -> None:
    with loop.client() as client:
        client.request(Complete(code="import os; os.getp", line=0, column=18))
        completer = loop.server._completer
        process = completer._process
        assert process is not None
        assert process.pid != os.getpid()
        assert os.getpgid(process.pid) == process.pid
        assert os.getpriority(os.PRIO_PROCESS, process.pid) - os.getpriority(os.PRIO_PROCESS, 0) == 10
        os.kill(process.pid, signal.SIGKILL)
        client.request(Complete(code="import os; os.getp", line=0, column=18))
        found = client.request(Complete(code="import os; os.getp", line=0, column=18))
        assert "getpid" in [item.name for item in found.items]


def test_the_completer_ends_with_its_worker() -> None:
    code = (
        "import socket, subprocess, sys, time\n"
        "ours, its = socket.socketpair()\n"
        "p = subprocess.Popen([sys.executable, '-m', 'elektronn_tui.session.completer'], stdin=its.fileno())\n"
        "print(p.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        pid = int(worker.stdout.readline())
        worker.kill()

    def gone() -> bool:
        try:
            with open(f"/proc/{pid}/stat") as file:
                return file.read().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    wait_until(gone)
