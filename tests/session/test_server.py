"""One session, real sockets, clients of all kinds."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from fake_loop import FakeLoop, wait_until

from elektronn_tui.errors import SessionError
from elektronn_tui.session.blocking import BlockingClient, ask
from elektronn_tui.session.connection import FULL
from elektronn_tui.session.errors import ConnectError, ConnectionLost, RequestRefused, RequestUnsupported
from elektronn_tui.session.feed import Cursor, Feed
from elektronn_tui.session.protocol import (
    HEADER_SIZE,
    CurveQuery,
    Delta,
    Ended,
    Gap,
    GetControls,
    GetCurves,
    GetJournal,
    GetLog,
    GetPreview,
    GetStatus,
    Hello,
    Message,
    NodeInfo,
    Pause,
    Ping,
    PreviewInfo,
    Redo,
    Rejected,
    Request,
    Resume,
    Save,
    SetControls,
    Snapshot,
    Stop,
    Subscribe,
    Undo,
    Unpin,
    decode,
    encode,
)
from elektronn_tui.session.server import Server


class Raw:
    """A client that says whatever it likes."""

    def __init__(self, path: Any) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(str(path))

    def send(self, content: bytes) -> None:
        self.socket.sendall(content)

    def receive(self) -> Message | None:
        """Return the next message; None when the other side closed."""
        header = self._exactly(HEADER_SIZE)
        return decode(self._exactly(int.from_bytes(header, "big")))[2] if header else None

    def _exactly(self, count: int) -> bytes:
        content = b""
        while len(content) < count:
            part = self.socket.recv(count - len(content))
            if not part:
                return b""
            content += part
        return content

    def hello(self, version: str = "1.0", **more: Any) -> Message | None:
        self.send(encode(Hello(protocol=version, package="0", client="raw", **more)))
        return self.receive()


def replay(snapshot: Snapshot, events: list[Any]) -> dict[str, Any]:
    """Return what a client knows after a snapshot and deltas, and check their order."""
    known: dict[str, Any] = {
        "sequence": snapshot.sequence,
        "controls": {info.name: info for info in snapshot.controls},
        "log": [line.index for line in snapshot.log_tail],
        "journal": [entry.id for entry in snapshot.journal_tail],
        "status": snapshot.status,
    }
    for event in events:
        assert isinstance(event, Delta)
        assert event.sequence == known["sequence"] + 1
        known["sequence"] = event.sequence
        known["controls"] |= {info.name: info for info in event.controls or ()}
        known["log"] += [line.index for line in event.log_tail or ()]
        known["journal"] += [entry.id for entry in event.journal_tail or ()]
        known["status"] = event.status or known["status"]
    return known


def until(client: BlockingClient, enough: Callable[[list[Any]], bool]) -> list[Any]:
    """Return events up to when there are enough."""
    events: list[Any] = []
    for event in client.events(timeout=10):
        events.append(event)
        if enough(events):
            return events
    raise AssertionError(f"the events ended after {events[-3:]}")


def test_the_socket_is_for_its_owner_alone(loop: FakeLoop) -> None:
    assert stat.S_IMODE(os.stat(loop.socket).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(loop.socket.parent).st_mode) == 0o700


def test_a_directory_that_is_open_to_others_is_refused(make_loop: Callable[..., FakeLoop]) -> None:
    runtime = os.environ["ELEKTRONN_RUNTIME"]
    os.chmod(runtime, 0o755)
    with pytest.raises(SessionError, match="chmod 700"):
        make_loop()


def test_welcome_says_who_the_session_is(loop: FakeLoop) -> None:
    with loop.client() as client:
        welcome = client.welcome
    assert (welcome.session_id, welcome.name, welcome.protocol) == ("cafe0001", "fake-run", "1.1")
    assert welcome.python == sys.executable
    assert "console" in welcome.capabilities


def test_an_edit_is_answered_with_its_receipt_and_takes_effect_at_that_step(loop: FakeLoop) -> None:
    with loop.client(name="me") as client:
        receipts = client.request(SetControls(values={"lr": "0.5", "momentum": 0.25})).receipts
        assert [(r.control, r.old, r.new) for r in receipts] == [("lr", 0.1, 0.5), ("momentum", 0.9, 0.25)]
        entry = client.request(GetJournal()).entries[-1]
        assert (entry.kind, entry.step, entry.id) == ("set", receipts[0].step, receipts[0].entry)
        assert entry.client.startswith("me:")
        assert entry.data["values"] == {"lr": 0.5, "momentum": 0.25}
    assert (loop.values.lr, loop.values.momentum) == (0.5, 0.25)


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (SetControls(values={"lr": "fast"}), "lr: fast"),
        (SetControls(values={"lr": 11}), "≤ 10"),
        (SetControls(values={"momentum": 0.5, "lr": -1}), "lr: -1"),
        (SetControls(values={"lrr": 1}), "Did you mean 'lr'"),
        (SetControls(values={}), "no control"),
        (SetControls(values={"decay": 1.0}), "schedule"),
        (Undo(), "nothing to undo"),
        (Redo(), "nothing to redo"),
        (Undo(count=0), "count=0"),
        (Unpin(control="lr"), "not pinned"),
        (GetControls(names=("nope",)), "nope"),
        (GetCurves(queries=(CurveQuery(metric="los"),)), "los"),
        (GetPreview(), "no preview"),
        (Save(name="../evil"), "evil"),
        (Save(), "not said how"),
        (Subscribe(rate=-1.0), "rate"),
        (Hello(protocol="1.0", package="", client=""), "already"),
    ],
)
def test_what_can_not_be_done_is_refused_with_its_reason(loop: FakeLoop, request_: Request, reason: str) -> None:
    with loop.client() as client:
        wait_until(lambda: loop.session.history.metrics())
        with pytest.raises(RequestRefused, match=reason):
            client.request(request_)
        assert client.request(Ping()).step >= 0
    assert (loop.values.lr, loop.values.momentum) == (0.1, 0.9)


def test_a_scheduled_control_is_pinned_or_its_schedule_goes_on(loop: FakeLoop) -> None:
    with loop.client() as client:
        (receipt,) = client.request(SetControls(values={"decay": 0.5}, schedule="pin")).receipts
        assert receipt.schedule == "pinned"
        (info,) = client.request(GetControls(names=("decay",))).controls
        assert (info.pinned, info.value) == (True, 0.5)
        client.request(Undo())
        (info,) = client.request(GetControls(names=("decay",))).controls
        assert (info.pinned, info.value) == (False, 1.0)
        client.request(Redo())
        client.request(Unpin(control="decay"))
        (info,) = client.request(GetControls(names=("decay",))).controls
        assert not info.pinned
        (receipt,) = client.request(SetControls(values={"decay": 0.125}, schedule="continue")).receipts
        assert receipt.schedule == "continues"
        wait_until(lambda: loop.session.step > receipt.step + 3)
        assert loop.values.decay == 0.125


def test_paused_it_makes_no_step_and_no_training_time_and_answers_at_once(loop: FakeLoop) -> None:
    with loop.client() as client:
        client.request(Pause())
        before = client.request(GetStatus()).status
        assert before.state == "paused"
        client.request(SetControls(values={"lr": 0.3}))
        after = client.request(GetStatus()).status
        assert (after.step, after.training_time) == (before.step, before.training_time)
        assert client.request(Resume()).text == "resumed"
        assert client.request(Resume()).text == "it runs already"
        wait_until(lambda: client.request(GetStatus()).status.step > before.step)
    assert loop.values.lr == 0.3


def test_snapshot_and_deltas_follow_without_gap_or_repetition(loop: FakeLoop) -> None:
    with loop.client() as watcher, loop.client() as other, loop.client() as editor:
        first = watcher.request(Subscribe(rate=20.0))
        for number in range(20):
            loop.session.logger.info("line %d", number)
            editor.request(SetControls(values={"lr": number / 100}))
            if number == 10:  # joins the same group in the middle of it
                second = other.request(Subscribe(rate=20.0))
        loop.session.set_graph([NodeInfo(name="conv1", kind="Conv")])

        def complete(events: list[Any]) -> bool:
            seen = [entry.text for event in events for entry in event.journal_tail or ()]
            lines = [line.text for event in events for line in event.log_tail or ()]
            return any("0.19" in text for text in seen) and "line 19" in lines

        for client, snapshot in ((watcher, first), (other, second)):
            known = replay(snapshot, until(client, complete))
            assert known["controls"]["lr"].value == 0.19
            assert known["log"] == list(range(known["log"][0], known["log"][0] + len(known["log"])))
            assert known["journal"] == list(range(1, 21))


def test_a_snapshot_is_of_its_cursors_moment_whatever_came_since(loop: FakeLoop) -> None:
    session, cursor = loop.session, Cursor()
    feed = Feed(session)
    session.logger.info("before")
    feed.delta(cursor)
    session.logger.info("since")
    session.mark("edit", "since")
    session.console.note("since")
    session.console.gather()
    session.record("policy", "since")
    snapshot = feed.snapshot(cursor)
    assert snapshot.log_tail[-1].text == "before"
    assert snapshot.log_total == snapshot.log_tail[-1].index + 1
    assert (snapshot.marks, snapshot.console, snapshot.journal_tail) == ((), (), ())
    delta = feed.delta(cursor)
    assert delta is not None
    assert delta.sequence == snapshot.sequence + 1
    assert delta.log_tail is not None
    assert [line.text for line in delta.log_tail] == ["since"]
    assert len(delta.marks or ()) == 2
    assert [len(part or ()) for part in (delta.console, delta.journal_tail)] == [1, 1]
    assert feed.delta(Cursor(sequence=5), urgent=True) is not None


def test_what_is_urgent_does_not_wait_for_the_rate(loop: FakeLoop) -> None:
    with loop.client() as watcher, loop.client() as editor:
        watcher.request(Subscribe(rate=0.05))
        editor.request(SetControls(values={"lr": 0.2}))
        events = until(watcher, lambda events: any(event.controls for event in events))
        assert events[-1].undo == "lr 0.1 → 0.2"


def test_a_frozen_client_costs_nothing_is_told_of_its_gap_and_catches_up(make_loop: Callable[..., FakeLoop]) -> None:
    loop = make_loop(stalled=60.0)
    frozen = Raw(loop.socket)
    frozen.hello()
    frozen.send(encode(Subscribe(rate=20.0), 1))
    assert isinstance(frozen.receive(), Snapshot)

    def skipped() -> int:
        loop.session.logger.info("x" * 20_000)
        return max((connection.skipped for connection in loop.server._connections), default=0)

    wait_until(lambda: skipped() > 3)
    (connection,) = loop.server._connections
    assert connection.waiting_bytes < 4 * FULL
    before = loop.session.step
    with loop.client() as client:  # the others notice nothing
        assert client.request(Ping()).step >= before
        wait_until(lambda: client.request(GetStatus()).status.step > before + 20)
    message = frozen.receive()
    while not isinstance(message, Gap):
        assert isinstance(message, Delta)
        message = frozen.receive()
    assert message.skipped > 3
    snapshot = frozen.receive()
    assert isinstance(snapshot, Snapshot)
    following = frozen.receive()
    assert isinstance(following, Delta)
    assert following.sequence == snapshot.sequence + 1


def test_a_client_that_never_reads_is_cut_off(make_loop: Callable[..., FakeLoop]) -> None:
    loop = make_loop(stalled=0.3)
    frozen = Raw(loop.socket)
    frozen.hello()
    frozen.send(encode(Subscribe(rate=20.0), 1))

    def flood() -> bool:
        loop.session.logger.info("x" * 20_000)
        return not loop.server._connections

    wait_until(flood)


def test_a_stopped_process_does_not_stop_the_session(loop: FakeLoop) -> None:
    script = (
        "import sys, os, signal; from elektronn_tui.session.blocking import BlockingClient;"
        "from elektronn_tui.session.protocol import Subscribe;"
        "c = BlockingClient(sys.argv[1]); c.request(Subscribe(rate=20.0)); print('up', flush=True);"
        "os.kill(os.getpid(), signal.SIGSTOP)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(loop.socket)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
            before = loop.session.step
            with loop.client() as client:
                for number in range(50):
                    loop.session.logger.info("y" * 10_000)
                    client.request(SetControls(values={"lr": number / 50}))
            wait_until(lambda: loop.session.step > before + 50)
        finally:
            process.kill()


def test_a_client_that_asks_and_never_reads_fills_no_memory(loop: FakeLoop) -> None:
    for _ in range(200):
        loop.session.logger.info("z" * 1000)
    greedy = Raw(loop.socket)
    greedy.hello()
    greedy.socket.settimeout(0.5)
    try:
        for number in range(20_000):
            greedy.send(encode(GetLog(), number))
    except TimeoutError:
        pass  # it is not read from any more
    (connection,) = loop.server._connections
    assert connection.waiting_bytes < 1 << 20
    with loop.client() as client:
        assert client.request(Ping()).step >= 0


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\0\0\0",
        b"\0\0\0\5\xff\xff\xff\xff\xff",
        (2**31).to_bytes(4, "big") + b"x",
        encode(Ping())[:HEADER_SIZE] + b"\xc1" * (len(encode(Ping())) - HEADER_SIZE),
    ],
)
@pytest.mark.parametrize("after_hello", [True, False])
def test_garbage_closes_its_sender_alone(loop: FakeLoop, garbage: bytes, after_hello: bool) -> None:
    with loop.client() as bystander:
        bad = Raw(loop.socket)
        if after_hello:
            bad.hello()
        bad.send(garbage)
        rejected = bad.receive()
        assert isinstance(rejected, Rejected)
        assert rejected.cause == "garbage"
        assert bad.receive() is None
        step = bystander.request(Ping()).step
        wait_until(lambda: bystander.request(Ping()).step > step)


def test_a_frame_that_is_cut_off_is_no_matter(loop: FakeLoop) -> None:
    half = Raw(loop.socket)
    half.hello()
    half.send(encode(SetControls(values={"lr": 1.0}), 1)[:-3])
    half.socket.close()
    wait_until(lambda: not loop.server._connections)
    assert loop.values.lr == 0.1


def test_a_client_that_says_nothing_is_sent_away(make_loop: Callable[..., FakeLoop]) -> None:
    silent = Raw(make_loop(hello=0.1).socket)
    rejected = silent.receive()
    assert isinstance(rejected, Rejected)
    assert rejected.cause == "silence"
    assert silent.receive() is None


def test_the_first_message_must_be_a_hello(loop: FakeLoop) -> None:
    rude = Raw(loop.socket)
    rude.send(encode(Ping(), 1))
    rejected = rude.receive()
    assert isinstance(rejected, Rejected)
    assert "hello" in rejected.reason


def test_another_major_version_is_named_with_what_fits(loop: FakeLoop) -> None:
    rejected = Raw(loop.socket).hello("2.3")
    assert isinstance(rejected, Rejected)
    assert rejected.cause == "version"
    assert "1.0" in rejected.reason
    assert "2.3" in rejected.reason
    assert sys.executable in rejected.reason


def test_another_minor_version_is_welcome(loop: FakeLoop) -> None:
    assert not isinstance(Raw(loop.socket).hello("1.9"), Rejected)


def test_an_unknown_request_is_unsupported(loop: FakeLoop) -> None:
    with loop.client() as client:

        class Sing(Request, frozen=True):
            pass

        with pytest.raises(RequestUnsupported, match="sing"):
            client.request(Sing())
        assert client.request(Ping()).step >= 0


def test_read_only_clients_look_and_change_nothing(loop: FakeLoop) -> None:
    with loop.client(read_only=True) as client:
        assert client.welcome.read_only
        assert client.request(GetControls()).controls
        for request in (SetControls(values={"lr": 1.0}), Pause(), Stop(), Undo(), Save()):
            with pytest.raises(RequestRefused, match="read-only"):
                client.request(request)
    assert loop.values.lr == 0.1
    assert not loop.session.stopping


def test_a_deleted_socket_is_bound_again_and_open_connections_stay(loop: FakeLoop) -> None:
    with loop.client() as client:
        loop.socket.unlink()
        wait_until(loop.socket.exists)
        with loop.client() as second:
            assert second.welcome.session_id == client.welcome.session_id
        assert client.request(Ping()).step >= 0


def test_a_deleted_directory_is_made_again(loop: FakeLoop) -> None:
    loop.socket.unlink()
    loop.socket.parent.rmdir()
    wait_until(loop.socket.exists)
    assert stat.S_IMODE(os.stat(loop.socket.parent).st_mode) == 0o700
    with loop.client() as client:
        assert client.request(Ping()).step >= 0


def test_the_socket_of_another_is_not_removed(loop: FakeLoop) -> None:
    loop.session.stop("over")
    loop.thread.join(10)
    other = socket.socket(socket.AF_UNIX)
    loop.socket.unlink()
    other.bind(str(loop.socket))
    other.listen()
    loop.server.close("stopped")
    assert loop.socket.exists()
    other.close()


def test_a_second_server_on_the_socket_is_refused(loop: FakeLoop) -> None:
    second = Server(loop.session, loop.entry)
    with pytest.raises(SessionError, match="can't be bound"):
        second.start()


def test_a_stale_socket_is_told_from_a_missing_one(home: Any) -> None:
    runtime = os.environ["ELEKTRONN_RUNTIME"]
    path = f"{runtime}/dead.sock"
    with pytest.raises(ConnectError) as caught:
        ask(path, Ping())
    assert caught.value.cause == "missing"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(path)
    dead.close()
    with pytest.raises(ConnectError) as caught:
        ask(path, Ping())
    assert caught.value.cause == "stale socket"


def test_the_end_is_told_and_what_waits_is_refused(loop: FakeLoop) -> None:
    with loop.client() as client:
        client.request(Subscribe(rate=1.0))
        loop.session.stop("enough")
        loop.thread.join(10)
        with pytest.raises(RequestRefused, match="stopped"):
            client.request(SetControls(values={"lr": 1.0}))
        loop.server.close("stopped", "enough")
        events = list(client.events(timeout=5))
        assert isinstance(events[-1], Ended)
        assert (events[-1].state, events[-1].reason) == ("stopped", "enough")
        with pytest.raises(ConnectionLost):
            client.request(Ping())
    assert not loop.socket.exists()


def test_stop_ends_the_loop_between_two_steps(loop: FakeLoop) -> None:
    with loop.client() as client:
        assert client.request(Stop()).text.startswith("stopped")
    loop.thread.join(10)
    assert loop.session.state == "stopped"


def test_clients_are_counted(loop: FakeLoop) -> None:
    with loop.client() as first, loop.client():
        assert first.request(GetStatus()).status.clients == 2
    wait_until(lambda: not loop.server._connections)


def test_log_and_journal_are_paged_from_both_ends(loop: FakeLoop) -> None:
    for number in range(50):
        loop.session.logger.info("line %d\nof two", number)
    with loop.client() as client:
        page = client.request(GetLog(first=-3, count=2))
        assert [line.text for line in page.lines] == ["line 47\nof two", "line 48\nof two"]
        first = page.total - 50
        page = client.request(GetLog(first=first, count=2))
        assert [(line.index, line.text) for line in page.lines] == [
            (first, "line 0\nof two"),
            (first + 1, "line 1\nof two"),
        ]
        assert client.request(GetLog(first=10_000, count=5)).lines == ()
        assert client.request(GetLog(first=0, count=-5)).lines == ()


def test_previews_come_reduced_to_the_size_that_is_asked_for(loop: FakeLoop) -> None:
    ramp = np.arange(4 * 40 * 60, dtype=np.uint8).reshape(4, 40, 60)
    info = PreviewInfo(count=0, step=7, depth=4)
    loop.session.add_preview(info, {"raw": ramp, "prediction": np.full((4, 40, 60), 0.5, np.float32)})
    with loop.client() as client:
        preview = client.request(GetPreview(z=3, height=20, width=20))
        assert (preview.step, preview.z, preview.depth) == (7, 3, 4)
        raw, prediction = preview.images
        assert (raw.caption, raw.height, raw.width) == ("raw", 13, 20)
        picture = np.frombuffer(raw.pixels, np.uint8).reshape(13, 20)
        assert picture[0, 0] == round(float(ramp[3, :3, :3].astype(float).mean()))
        assert set(prediction.pixels) == {128}
        full = client.request(GetPreview(z=0)).images[0]
        assert full.pixels == ramp[0].tobytes()
        with pytest.raises(RequestRefused, match="preview 5"):
            client.request(GetPreview(index=5))


def test_the_network_is_kept_for_when_the_session_is_over(loop: FakeLoop) -> None:
    nodes = [NodeInfo(name="raw", kind="Input", shape=(1, None, 3), role="input"), NodeInfo(name="out", kind="Conv")]
    loop.session.set_graph(nodes)
    kept = (loop.session.run_dir / "graph.json").read_bytes()
    assert msgspec.json.decode(kept, type=list[NodeInfo]) == nodes


def test_a_part_of_a_preview_comes_as_numpy_would_cut_it(loop: FakeLoop) -> None:
    slices = np.random.default_rng(1).integers(0, 256, (3, 64, 96), dtype=np.uint8)
    loop.session.add_preview(PreviewInfo(count=0, step=7, depth=3), {"raw": slices})
    with loop.client() as client:
        # 64 × 96 in 32 × 48 pixels: 2 voxels a pixel, at zoom 2 one.
        crop = client.request(GetPreview(z=1, height=32, width=48, zoom=2, centre_y=0.5, centre_x=0.5))
        assert crop.window == (16, 24, 32, 48)
        assert crop.images[0].pixels == slices[1, 16:48, 24:72].tobytes()
        corner = client.request(GetPreview(z=1, height=16, width=24, zoom=2, centre_y=1, centre_x=0))
        assert corner.window == (32, 0, 32, 48)
        means = slices[1, 32:, :48].reshape(16, 2, 24, 2).sum((1, 3), dtype=np.uint32)
        assert corner.images[0].pixels == ((means + 2) // 4).astype(np.uint8).tobytes()
        # Room that the shape of the slice would leave empty shows more of it.
        tall = client.request(GetPreview(height=64, width=48, zoom=2))
        assert tall.window == (0, 24, 64, 48)
        assert client.request(GetPreview(height=32, width=48)).window == (0, 0, 64, 96)


@pytest.mark.parametrize(
    "wrong", [{"zoom": 0.5}, {"zoom": float("nan")}, {"zoom": 1e9}, {"centre_y": -0.1}, {"centre_x": 2.0}]
)
def test_a_part_that_lies_nowhere_is_refused(loop: FakeLoop, wrong: dict[str, float]) -> None:
    loop.session.add_preview(PreviewInfo(count=0, step=7, depth=3), {"raw": np.zeros((3, 8, 8), np.uint8)})
    with loop.client() as client, pytest.raises(RequestRefused, match=f"{next(iter(wrong))}="):
        client.request(GetPreview(**wrong))


def test_curves_come_reduced_to_the_width_that_is_asked_for(loop: FakeLoop) -> None:
    wait_until(lambda: loop.session.step > 300)
    assert loop.session.history.flush()
    with loop.client() as client:
        query = CurveQuery(metric="loss", first=11, last=210, width=20)
        (curve,) = client.request(GetCurves(queries=(query,))).curves
    steps = np.frombuffer(curve.step, "<i8")
    assert curve.count == 200
    assert 10 <= len(steps) <= 20
    assert steps[-1] == 210
    lowest, highest = np.frombuffer(curve.minimum, "<f4"), np.frombuffer(curve.maximum, "<f4")
    assert lowest.min() == np.float32(1 / 210)
    assert highest.max() == np.float32(1 / 11)
    assert (np.diff(np.frombuffer(curve.time, "<f8")) > 0).all()


def test_many_requests_at_once_are_all_answered_in_their_turn(loop: FakeLoop) -> None:
    raw = Raw(loop.socket)
    raw.hello()
    raw.send(b"".join(encode(SetControls(values={"lr": n / 1000}), n) for n in range(1, 301)))
    answers = [raw.receive() for _ in range(300)]
    assert [answer.receipts[0].new for answer in answers] == [n / 1000 for n in range(1, 301)]  # type: ignore[union-attr]


def test_two_clients_edit_at_once_and_the_journal_has_all(loop: FakeLoop) -> None:
    def edit(control: str) -> None:
        with loop.client(name=control) as client:
            for number in range(100):
                client.request(SetControls(values={control: number / 100}))

    threads = [threading.Thread(target=edit, args=(control,)) for control in ("lr", "momentum")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    with loop.client() as client:
        page = client.request(GetJournal(first=0, count=1000))
    assert page.total == 200
    assert [entry.id for entry in page.entries] == list(range(1, 201))
    for control in ("lr", "momentum"):
        texts = [e.data["values"][control] for e in page.entries if e.client.startswith(control)]
        assert texts == [number / 100 for number in range(100)]


def test_the_journal_is_on_disk_before_the_receipt(loop: FakeLoop) -> None:
    with loop.client() as client:
        client.request(SetControls(values={"lr": 0.7}))
        lines = (loop.session.run_dir / "journal.jsonl").read_text().splitlines()
    assert msgspec.json.decode(lines[-1])["data"]["values"] == {"lr": 0.7}


def test_an_edit_that_can_not_be_journalled_is_taken_back(loop: FakeLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **more: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(loop.session.journal, "append", full)
    with loop.client() as client, pytest.raises(RequestRefused, match="No space left"):
        client.request(SetControls(values={"lr": 0.7, "momentum": 0.1}))
    assert (loop.values.lr, loop.values.momentum) == (0.1, 0.9)
