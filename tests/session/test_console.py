"""Statements run between two steps, whatever they do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fake_loop import FakeLoop, wait_until

from elektronn_tui.session.blocking import BlockingClient
from elektronn_tui.session.console import LONGEST_ANSWER, LONGEST_VALUE, Console
from elektronn_tui.session.errors import RequestRefused
from elektronn_tui.session.protocol import (
    Execute,
    Executed,
    GetJournal,
    GetStatus,
    Pause,
    Resume,
    SetConsoleMode,
    Snapshot,
    Subscribe,
)


def run(loop: FakeLoop, code: str, **more: Any) -> Executed:
    with loop.client() as client:
        answer: Executed = client.request(Execute(code=code, **more))
    return answer


@pytest.mark.parametrize(
    ("code", "output"),
    [
        ("1 + 1", "2\n"),
        ("x = 3", ""),
        ("None", ""),
        ("print('a'); 'b'", "a\n'b'\n"),
        ("def f(x):\n    return 2 * x\n\nf(21)", "42\n"),
        ("for i in range(3):\n    print(i)", "0\n1\n2\n"),
        ("import sys\nprint('e', file=sys.stderr)", "e\n"),
        ("[y for y in range(3) if y < session.step + 3]", "[0, 1, 2]\n"),
        ("", ""),
        ("# nothing", ""),
        ("class A:\n    b: int = 3\nA.b", "3\n"),
        ("import sys\nsys.stdin.read()", "''\n"),
        ("'ä' * 3", "'äää'\n"),
        ("session.state", "'running'\n"),
    ],
)
def test_a_statement_is_answered_with_what_it_printed_and_its_value(loop: FakeLoop, code: str, output: str) -> None:
    # The fake loop runs in a thread, where the worker would have replaced the standard streams.
    with loop.session.console.captured_output():
        executed = run(loop, code)
    assert (executed.ok, executed.output, executed.error) == (True, output, "")


def test_names_and_the_last_value_stay(loop: FakeLoop) -> None:
    run(loop, "x = [1]")
    assert run(loop, "x.append(2); x").output == "[1, 2]\n"
    assert run(loop, "_ + _").output == "[1, 2, 1, 2]\n"
    run(loop, "None")
    assert run(loop, "_").output == "[1, 2, 1, 2]\n"


def test_a_batch_does_not_fill_screens() -> None:
    console = Console({"np": np}, notify=lambda: None)

    def shown(code: str) -> str:
        return console.run(console.statement(code, "me"), 1).output

    with console.captured_output():
        assert len(shown("np.zeros((2, 1, 16, 96, 96), np.float32)").splitlines()) < 60
        assert "..." not in shown("np.set_printoptions(threshold=1000); np.zeros(900)"), "a person's own wish counts"


def test_the_loop_is_reached_and_changed(loop: FakeLoop) -> None:
    loop.session.namespace["values"] = loop.values
    with loop.client() as client:
        client.request(Subscribe(rate=20.0))
        assert client.request(Execute(code="values.lr = 0.625")).ok
        for event in client.events(timeout=10):
            if getattr(event, "controls", None):
                assert event.controls[0].value == 0.625  # type: ignore[union-attr]
                break
        else:
            pytest.fail("clients were not told of the control's new value")


def test_what_a_statement_raises_is_its_answer_and_no_frame_of_ours(loop: FakeLoop) -> None:
    executed = run(loop, "def f():\n    raise ValueError('no')\nf()")
    assert not executed.ok
    assert executed.error.splitlines() == [
        "Traceback (most recent call last):",
        '  File "<console 1>", line 3, in <module>',
        "    f()",
        '  File "<console 1>", line 2, in f',
        "    raise ValueError('no')",
        "ValueError: no",
    ]
    assert run(loop, "1").ok


def test_what_this_package_refuses_is_said_in_a_line(loop: FakeLoop) -> None:
    refused = "ControlError: lr: -1 is not allowed; it must be a number ≥ 0 and ≤ 10"
    assert run(loop, "session.controls.set('lr', -1)").error.splitlines() == [refused]
    lines = run(loop, "def f():\n    session.controls.set('lr', -1)\nf()").error.splitlines()
    assert [line.strip() for line in lines if "File" not in line] == ["f()", "session.controls.set('lr', -1)", refused]
    assert lines[0] == '  File "<console 2>", line 3, in <module>'


@pytest.mark.parametrize("code", ["exit()", "quit(1)", "raise SystemExit", "import sys; sys.exit(3)"])
def test_nothing_written_here_ends_the_session(loop: FakeLoop, code: str) -> None:
    executed = run(loop, code)
    assert executed.ok
    assert "stop" in executed.output
    step = loop.session.step
    wait_until(lambda: loop.session.step > step)


@pytest.mark.parametrize(
    "code",
    [
        "class E(Exception):\n    def __str__(self): raise ValueError\nraise E",
        "class R:\n    def __repr__(self): raise KeyError('x')\nR()",
        "raise BaseException('odd')",
        "def f(): f()\nf()",
        "eval('1 +')",
        "raise KeyboardInterrupt",
        "assert False",
        "del __builtins__\nprint(1)\nundefined",
    ],
)
def test_odd_errors_are_answers_too(loop: FakeLoop, code: str) -> None:
    executed = run(loop, code)
    assert executed.error or "repr-error" in executed.output
    step = loop.session.step
    wait_until(lambda: loop.session.step > step)


@pytest.mark.parametrize("code", ["x =", "def f(:", "  x", "x\x00y", "return 1", "'" * 5])
def test_what_is_no_python_is_refused_before_it_runs(loop: FakeLoop, code: str) -> None:
    with loop.client() as client:
        with pytest.raises(RequestRefused) as caught:
            client.request(Execute(code=code))
        assert caught.value.field == "code"
        assert client.request(GetJournal()).total == 0


def test_long_output_is_cut_and_says_so(loop: FakeLoop) -> None:
    with loop.session.console.captured_output():
        printed = run(loop, "for _ in range(100): print('x' * 50_000)")
    assert len(printed.output) < LONGEST_ANSWER + 100
    assert "characters more" in printed.output
    assert len(run(loop, "'y' * 10_000_000").output) < LONGEST_VALUE + 100
    assert len(run(loop, "list(range(10**6))").output) < 2000
    with loop.client() as client:
        snapshot: Snapshot = client.request(Subscribe())
        assert sum(len(piece.text) for piece in snapshot.console) < 200_000


def test_every_client_sees_the_transcript(loop: FakeLoop) -> None:
    with loop.client() as watcher:
        watcher.request(Subscribe(rate=0.05))
        with loop.session.console.captured_output(), loop.client(name="author") as author:
            author.request(Execute(code="print('one')\nprint('two')\n3"))
        pieces = []
        for event in watcher.events(timeout=10):
            pieces += list(getattr(event, "console", None) or ())
            if any(piece.stream == "result" for piece in pieces):
                break
        assert [(piece.stream, piece.text) for piece in pieces] == [
            ("code", "print('one')\nprint('two')\n3"),
            ("stdout", "one\ntwo\n"),
            ("result", "3\n"),
        ]
        assert pieces[0].client.startswith("author")
    with loop.client() as late:
        assert [piece.stream for piece in late.request(Subscribe()).console] == ["code", "stdout", "result"]


def test_statements_are_in_the_journal(loop: FakeLoop) -> None:
    run(loop, "x = 1")
    with loop.client() as client:
        entry = client.request(GetJournal()).entries[-1]
    assert (entry.kind, entry.text) == ("statement", "x = 1")


def held(client: BlockingClient) -> str:
    return str(client.request(GetStatus()).status.held_by)


def test_hold_keeps_the_loop_until_it_is_released(loop: FakeLoop) -> None:
    with loop.client(name="holder") as holder, loop.client() as other:
        step = holder.request(SetConsoleMode(mode="hold")).step
        assert holder.request(Execute(code="a = session.step", mode="hold")).step == step
        status = other.request(GetStatus()).status
        assert (status.state, status.step) == ("paused", step)
        assert status.held_by.startswith("holder")
        assert other.request(Execute(code="a")).output == f"{step}\n"
        holder.request(SetConsoleMode(mode="observe"))
        wait_until(lambda: other.request(GetStatus()).status.step > step)
        assert held(other) == ""


def test_a_hold_ends_with_its_client_and_a_pause_does_not(loop: FakeLoop) -> None:
    with loop.client() as other:
        with loop.client() as holder:
            step = holder.request(Execute(code="1", mode="hold")).step
        wait_until(lambda: other.request(GetStatus()).status.step > step)
        with loop.client() as holder:
            holder.request(Execute(code="1", mode="hold"))
            holder.request(Pause())
        wait_until(lambda: held(other) == "")
        assert other.request(GetStatus()).status.state == "paused"
        other.request(Resume())
        wait_until(lambda: other.request(GetStatus()).status.state == "running")


def test_two_hold_until_both_let_go(loop: FakeLoop) -> None:
    with loop.client() as first:
        with loop.client() as second:
            for client in (first, second):
                client.request(SetConsoleMode(mode="hold"))
            first.request(SetConsoleMode(mode="observe"))
            step = first.request(GetStatus()).status.step
            assert first.request(GetStatus()).status.state == "paused"
        wait_until(lambda: first.request(GetStatus()).status.step > step)


def test_statements_take_no_training_time(loop: FakeLoop) -> None:
    run(loop, "import time\nbefore = session.training_time\ntime.sleep(0.2)\nafter = session.training_time")
    assert run(loop, "after == before").output == "True\n"


def test_an_error_of_the_loop_is_in_reach_until_it_goes_on(make_loop: Callable[..., FakeLoop]) -> None:
    loop = make_loop()
    going_on: list[bool] = []

    def fail() -> None:
        culprit = 42
        raise RuntimeError(f"step {culprit}")

    def broken(step: int) -> bool:
        try:
            fail()
        except RuntimeError as error:
            loop.session.safe_point = original  # type: ignore[method-assign]
            going_on.append(loop.session.halt(error))
        return original(step)

    original = loop.session.safe_point
    loop.session.safe_point = broken  # type: ignore[method-assign]
    with loop.client() as client:
        wait_until(lambda: client.request(GetStatus()).status.state == "halted")
        assert "step 42" in client.request(GetStatus()).status.reason
        assert client.request(Execute(code="frame.culprit, type(error).__name__")).output == "(42, 'RuntimeError')\n"
        transcript = client.request(Subscribe()).console
        assert any("RuntimeError: step 42" in piece.text for piece in transcript)
        client.request(Resume())
        wait_until(lambda: going_on)
        assert going_on == [True]
        assert not client.request(Execute(code="frame")).ok
    assert threading.active_count() < 50
