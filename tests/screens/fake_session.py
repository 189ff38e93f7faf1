"""A session that trains nothing: a real socket that speaks the protocol, with an invented state that tests move.

Run it as a script to look at the screens: ``python tests/screens/fake_session.py [--steps-per-second 8]``.
"""

# ruff: noqa: E501
from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import struct
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from elektronn_tui.session.previews import reduced
from elektronn_tui.session.protocol import (
    HEADER_SIZE,
    MAX_REQUEST,
    Answer,
    CancelJob,
    Complete,
    Completion,
    Completions,
    ConsoleOutput,
    ControlInfo,
    Curve,
    Curves,
    Delta,
    Done,
    Ended,
    Event,
    Execute,
    Executed,
    Gap,
    GetCurves,
    GetJobs,
    GetLog,
    GetPreview,
    Hello,
    Image,
    Interrupt,
    JobInfo,
    JobList,
    JobOffer,
    JobOption,
    JobStarted,
    LogLine,
    LogLines,
    MakePreview,
    Mark,
    Message,
    MetricInfo,
    NodeInfo,
    Pause,
    Ping,
    Preview,
    PreviewInfo,
    Receipt,
    Receipts,
    Redo,
    Refused,
    Request,
    Resume,
    Save,
    SetConsoleMode,
    SetControls,
    Snapshot,
    StartJob,
    Status,
    Stop,
    Subscribe,
    Undo,
    Unpin,
    Unsupported,
    Welcome,
    decode,
    encode,
    frame_length,
)
from elektronn_tui.session.registry import SessionInfo
from elektronn_tui.session.window import window

START = 1_800_000_000.0
SLICE = 128

GRAPH = (
    NodeInfo(name="raw", kind="Input", shape=(1, 1, 23, 185, 185), tags="b,f,z,y,x", fov=(1, 1, 1), role="input"),
    NodeInfo(name="conv1", kind="Conv", parents=("raw",), shape=(1, 20, 23, 90, 90), tags="b,f,z,y,x", fov=(1, 6, 6), strides=(1, 2, 2), offsets=(0, 3, 3), params=740, cost=6e6, detail="relu"),
    NodeInfo(name="conv2", kind="Conv", parents=("conv1",), shape=(1, 30, 23, 43, 43), tags="b,f,z,y,x", fov=(1, 14, 14), strides=(1, 4, 4), offsets=(0, 7, 7), params=15030, cost=45e6, detail="relu"),
    NodeInfo(name="conv3", kind="Conv", parents=("conv2",), shape=(1, 40, 20, 39, 39), tags="b,f,z,y,x", fov=(4, 30, 30), strides=(1, 4, 4), offsets=(1, 15, 15), params=120_040, cost=140e6, detail="relu, dropout"),
    NodeInfo(name="conv4", kind="Conv", parents=("conv3",), shape=(1, 80, 17, 36, 36), tags="b,f,z,y,x", fov=(7, 42, 42), strides=(1, 4, 4), offsets=(3, 21, 21), params=204_880, cost=230e6, detail="relu"),
    NodeInfo(name="barrier", kind="Conv", parents=("conv4",), shape=(1, 2, 17, 36, 36), tags="b,f,z,y,x", fov=(7, 42, 42), strides=(1, 4, 4), offsets=(3, 21, 21), params=162, cost=2e6, detail="lin"),
    NodeInfo(name="probs", kind="Softmax", parents=("barrier",), shape=(1, 2, 17, 36, 36), tags="b,f,z,y,x", fov=(7, 42, 42), strides=(1, 4, 4), offsets=(3, 21, 21), role="prediction"),
    NodeInfo(name="target", kind="Input", shape=(1, 1, 17, 36, 36), tags="b,f,z,y,x", fov=(1, 1, 1), role="target"),
    NodeInfo(name="nll", kind="MultinoulliNLL", parents=("target", "probs"), shape=(1, 1, 17, 36, 36), tags="b,f,z,y,x"),
    NodeInfo(name="loss", kind="AggregateLoss", parents=("nll",), shape=(1,), tags="f", role="loss"),
    NodeInfo(name="errors", kind="Errors", parents=("target", "probs"), shape=(1,), tags="f"),
)  # fmt: skip

CONTROLS = (
    ControlInfo(name="lr", type="float", value=5e-4, default=1e-3, minimum=0.0, exclusive_minimum=True, help="learning rate", schedule="× 0.995 / 1000 steps"),
    ControlInfo(name="momentum", type="float", value=0.9, default=0.9, minimum=0.0, maximum=1.0, help="momentum of the optimiser"),
    ControlInfo(name="weight_decay", type="float", value=5e-5, default=5e-5, minimum=0.0, help="decoupled weight decay"),
    ControlInfo(name="conv3.dropout_rate", type="float", value=0.2, default=0.5, minimum=0.0, maximum=1.0, help="part of the activations that is dropped", edits=1),
    ControlInfo(name="loss.mixing", type="floats", value=[0.5, 0.5], default=[0.5, 0.5], minimum=0.0, help="weights of the losses"),
    ControlInfo(name="batch_size", type="int", value=1, default=1, minimum=1, maximum=64, unit="patches", help="patches a step"),
    ControlInfo(name="warp", type="float", value=0.8, default=0.8, minimum=0.0, maximum=1.0, help="part of the patches that is warped"),
    ControlInfo(name="grey", type="bool", value=True, default=True, help="augment grey values"),
    ControlInfo(name="on_nan", type="choice", value="pause", default="pause", choices=("pause", "rollback", "stop"), help="what a NaN does"),
    ControlInfo(name="validate_every", type="int", value=500, default=500, minimum=1, unit="steps", help="steps between validations"),
)  # fmt: skip


def series(name: str, step: np.ndarray) -> np.ndarray:
    """The invented value of a metric at each step."""
    noise = np.sin(step * 12.9898 + len(name)) * 43758.5453
    noise = (noise - np.floor(noise) - 0.5).astype(np.float64)
    decay = np.exp(-step / 2500)
    return {
        "loss": 0.18 + 0.55 * decay + 0.16 * noise * (0.4 + decay),
        "valid_loss": 0.21 + 0.5 * decay + 0.02 * noise,
        "error": 6 + 20 * decay + 4 * noise,
        "valid_error": 7 + 18 * decay + noise,
        "valid_balanced_error": 14 + 34 * decay + 1.5 * noise,
        "grad_norm": 0.4 + 3 * decay + np.abs(noise),
    }[name]


EVERY = {"loss": 1, "error": 1, "grad_norm": 1, "valid_loss": 500, "valid_error": 500, "valid_balanced_error": 500}


OFFERS = (
    JobOffer(
        kind="predict",
        help="predict a volume with a snapshot of the weights",
        options=(
            JobOption(name="input", type="text", default="/data/fib25.h5:raw", help="volume, FILE:KEY"),
            JobOption(name="output", type="text", default="", help="file to make, FILE:KEY"),
            JobOption(name="weights", type="choice", flag="--weights", choices=("averaged", "current"), default="averaged", help="the average of the weights, or the weights as they are"),
            JobOption(name="bytes", type="bool", flag="--uint8", default=True, help="values times 255, a byte each"),
        ),
    ),
)  # fmt: skip


class FakeSession:
    """The session; use ``async with``."""

    def __init__(self, directory: Path, *, step: int = 12_430, clock: float | None = START) -> None:
        self.directory = directory
        self.socket = directory / "fake.sock"
        self._clock = clock
        self.status = Status(
            state="running", step=step, steps=100_000, rate=7.6, voxel_rate=12.4e6, data_wait=0.02, eta=11_520.0,
            training_time=step / 7.6, started=START - 1700, clients=1,
        )  # fmt: skip
        self.controls = {info.name: info for info in CONTROLS}
        self.graph = GRAPH
        self.marks = [
            Mark(step=4_000, time=526.0, kind="edit", text="conv3.dropout_rate 0.5 → 0.2"),
            Mark(step=9_200, time=1210.0, kind="save", text="checkpoint best"),
        ]
        self.log: list[LogLine] = []
        for i in range(0, step, 310):
            self.add_log(
                f"loss {series('loss', np.array([i]))[0]:.4f}   error {series('error', np.array([i]))[0]:.2f} %", step=i
            )
        self.add_log("checkpoint latest saved", step=step - 30)
        self.add_log(
            "lr was edited by nobody at all, which makes this line rather longer than the pane is wide",
            level="WARNING",
            step=step - 20,
        )
        self.console: list[ConsoleOutput] = []
        self.preview = PreviewInfo(
            count=3, step=12_400, depth=23, height=SLICE, width=SLICE, captions=("raw", "prediction", "target")
        )
        self.undo_stack: list[tuple[str, Any, Any]] = []
        self.redo_stack: list[tuple[str, Any, Any]] = []
        self.requests: list[Request] = []
        self.jobs: dict[int, JobInfo] = {}
        self.offers = OFFERS
        self.refuse: str = ""
        self.mode = "observe"
        self.deaf = False
        self.sequence = 0
        self._writers: dict[asyncio.StreamWriter, bool] = {}
        self._read_only: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._running: asyncio.Future[bool] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # --- life

    async def __aenter__(self) -> FakeSession:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.vanish()

    async def listen(self) -> None:
        """Bind the socket."""
        self._server = await asyncio.start_unix_server(self._serve, str(self.socket))

    async def vanish(self) -> None:
        """Close the socket and every connection without a word."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.close()
        self._writers.clear()
        for task in list(self._tasks):
            task.cancel()
        with contextlib.suppress(FileNotFoundError):
            self.socket.unlink()

    @property
    def info(self) -> SessionInfo:
        return SessionInfo(
            name="fib25-membranes", id="f00dfeed", state=self.status.state, reason="", step=self.status.step,
            steps=self.status.steps, run_dir=str(self.directory), pid=os.getpid(), host="here", started=START - 1700,
            updated=START, training_time=self.status.training_time, experiment="fib25", socket=str(self.socket),
            liveness="alive",
        )  # fmt: skip

    @property
    def subscribed(self) -> int:
        return sum(self._writers.values())

    def seen(self, kind: type[Request]) -> list[Any]:
        """Requests of one kind, in order."""
        return [request for request in self.requests if type(request) is kind]

    # --- what tests do to it

    def _now(self) -> float:
        return time.time() if self._clock is None else self._clock

    def add_log(self, text: str, *, level: str = "INFO", step: int | None = None) -> LogLine:
        line = LogLine(
            index=len(self.log),
            time=self._now() - 1700 + len(self.log) * 40,
            level=level,
            step=self.status.step if step is None else step,
            text=text,
        )
        self.log.append(line)
        return line

    def send(self, event: Event | Snapshot) -> None:
        """Send an event to all who subscribed."""
        frame = encode(event)
        for writer, subscribed in self._writers.items():
            if subscribed:
                writer.write(frame)

    def delta(self, **fields: Any) -> None:
        self.sequence += 1
        self.send(Delta(sequence=self.sequence, **fields))

    def set_status(self, **fields: Any) -> None:
        self.status = msgspec.structs.replace(self.status, **fields)
        self.delta(status=self.status)

    def train(self, steps: int = 10) -> None:
        """Make some steps."""
        step = self.status.step + steps
        self.status = msgspec.structs.replace(
            self.status, step=step, training_time=step / 7.6, eta=(100_000 - step) / 7.6
        )
        line = self.add_log(
            f"loss {series('loss', np.array([step]))[0]:.4f}   error {series('error', np.array([step]))[0]:.2f} %"
        )
        self.delta(status=self.status, metrics=self.metrics(), log_total=len(self.log), log_tail=(line,))

    def gap(self, skipped: int) -> None:
        self.send(Gap(skipped=skipped))

    def end(self, state: str = "finished", reason: str = "", **more: Any) -> None:
        self.status = msgspec.structs.replace(self.status, state=state, reason=reason)
        self.send(Ended(state=state, reason=reason, **more))

    def say(self, statement: int, stream: str, text: str) -> None:
        output = ConsoleOutput(statement=statement, stream=stream, text=text, client="tui")
        self.console.append(output)
        self.delta(console=(output,))

    # --- state

    def metrics(self) -> tuple[MetricInfo, ...]:
        step = self.status.step
        found = []
        for name, every in EVERY.items():
            last = step // every * every
            found.append(
                MetricInfo(
                    name=name,
                    count=step // every,
                    step=last,
                    value=float(series(name, np.array([last]))[0]),
                    unit="%" if "error" in name else "",
                )
            )
        return tuple(found)

    def set_job(self, number: int, **changes: Any) -> JobInfo:
        """Change a job, and tell."""
        known = self.jobs.get(number) or JobInfo(
            number=number, kind="predict", state="running", started=START, directory=f"{self.directory}/jobs/{number:02d}"
        )  # fmt: skip
        self.jobs[number] = msgspec.structs.replace(known, **changes)
        self.delta(jobs=(self.jobs[number],))
        return self.jobs[number]

    def snapshot(self) -> Snapshot:
        return Snapshot(
            sequence=self.sequence, status=self.status, controls=tuple(self.controls.values()), metrics=self.metrics(),
            marks=tuple(self.marks), log_total=len(self.log), log_tail=tuple(self.log[-200:]), graph=self.graph,
            preview=self.preview, console=tuple(self.console[-200:]), undo=self._label(self.undo_stack),
            redo=self._label(self.redo_stack), jobs=tuple(self.jobs.values()),
        )  # fmt: skip

    @staticmethod
    def _label(stack: list[tuple[str, Any, Any]]) -> str:
        return f"{stack[-1][0]} {stack[-1][1]} → {stack[-1][2]}" if stack else ""

    # --- the socket

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers[writer] = False
        try:
            while True:
                length = frame_length(await reader.readexactly(HEADER_SIZE), MAX_REQUEST)
                name, request_id, message = decode(await reader.readexactly(length))
                if not isinstance(message, Request):
                    writer.write(encode(Unsupported(request=name, protocol="1.0"), request_id))
                    continue
                self.requests.append(message)
                if self.deaf:
                    continue
                if isinstance(message, Execute) and not self.refuse:
                    task = asyncio.create_task(self._execute(writer, message, request_id))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                    continue
                writer.write(encode(self._answer(writer, message), request_id))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._writers.pop(writer, None)
            writer.close()

    async def _execute(self, writer: asyncio.StreamWriter, message: Execute, request_id: int) -> None:
        number = len(self.seen(Execute))
        self.say(number, "code", message.code)
        self.set_status(running_statement=number)
        interrupted = False
        output, error = "", ""
        if "while True" in message.code:
            self._running = asyncio.get_running_loop().create_future()
            interrupted = await self._running
            self.say(number, "error", "KeyboardInterrupt")
        elif "1/0" in message.code:
            error = (
                'Traceback (most recent call last):\n  File "<console>", line 1\nZeroDivisionError: division by zero'
            )
            self.say(number, "error", error)
        else:
            output = "0.0412"
            self.say(number, "result", output)
        self.set_status(running_statement=0)
        writer.write(
            encode(
                Executed(
                    statement=number,
                    ok=not error and not interrupted,
                    interrupted=interrupted,
                    output=output,
                    error=error,
                    step=self.status.step,
                ),
                request_id,
            )
        )

    def _answer(self, writer: asyncio.StreamWriter, message: Message) -> Answer:
        if isinstance(message, Hello):
            if message.read_only:
                self._read_only.add(writer)
            return Welcome(
                protocol="1.0", package="0", python="3", session_id="f00dfeed", name="fib25-membranes",
                run_dir=str(self.directory), host="here", pid=os.getpid(), started=START, read_only=message.read_only,
            )  # fmt: skip
        if isinstance(message, Request) and message.writes and writer in self._read_only:
            return Refused(reason="this client is read-only")
        if self.refuse and isinstance(message, Request) and message.writes:
            return Refused(reason=self.refuse)
        if isinstance(message, Subscribe):
            self._writers[writer] = True
            return self.snapshot()
        if isinstance(message, GetCurves):
            return Curves(curves=tuple(self._curve(q.metric, q.first, q.last, q.width) for q in message.queries))
        if isinstance(message, GetLog):
            first = message.first if message.first >= 0 else max(0, len(self.log) + message.first)
            return LogLines(total=len(self.log), lines=tuple(self.log[first : first + message.count]))
        if isinstance(message, GetPreview):
            return self._preview(message)
        if isinstance(message, SetControls):
            return self._set(message)
        if isinstance(message, Undo | Redo):
            return self._undo(message)
        if isinstance(message, Unpin):
            info = msgspec.structs.replace(self.controls[message.control], pinned=False)
            self.controls[info.name] = info
            self.delta(controls=(info,))
            return Receipts(
                receipts=(Receipt(control=info.name, old=info.value, new=info.value, step=self.status.step + 1),)
            )
        if isinstance(message, GetJobs):
            return JobList(jobs=tuple(self.jobs.values()), offers=self.offers)
        if isinstance(message, StartJob):
            return JobStarted(job=self.set_job(len(self.jobs) + 1, text=" → ".join(message.arguments[:2])))
        if isinstance(message, CancelJob):
            self.set_job(message.number, state="cancelled", ended=START + 60)
            return Done(text=f"job {message.number} is cancelled")
        if isinstance(message, Pause):
            self.set_status(state="paused", reason="")
        elif isinstance(message, Resume):
            self.set_status(state="running", reason="")
        elif isinstance(message, Save):
            return Done(text="checkpoint latest saved")
        elif isinstance(message, MakePreview):
            self.preview = msgspec.structs.replace(self.preview, count=self.preview.count + 1, step=self.status.step)
            self.delta(preview=self.preview)
        elif isinstance(message, Stop):
            asyncio.get_running_loop().call_soon(self.end, "stopped", "asked to")
        elif isinstance(message, Interrupt):
            if self._running is not None and not self._running.done():
                self._running.set_result(True)
        elif isinstance(message, SetConsoleMode):
            self.mode = message.mode
            self.set_status(held_by="tui" if message.mode == "hold" else "")
        elif isinstance(message, Complete):
            return self._complete(message)
        elif not isinstance(message, Ping):
            return Unsupported(request=message.type_name, protocol="1.0")
        return Done(step=self.status.step)

    def _set(self, message: SetControls) -> Answer:
        receipts = []
        for name, value in message.values.items():
            info = self.controls[name]
            if info.schedule and not info.pinned and not message.schedule:
                return Refused(reason=f"{name} is driven by a schedule: pin or continue?", field=name)
            new = msgspec.structs.replace(info, value=value, edits=info.edits + 1, pinned=message.schedule == "pin")
            self.controls[name] = new
            self.undo_stack.append((name, info.value, value))
            self.redo_stack.clear()
            mark = Mark(
                step=self.status.step + 1,
                time=self.status.training_time,
                kind="edit",
                text=f"{name} {info.value} → {value}",
            )
            self.marks.append(mark)
            self.delta(controls=(new,), marks=(mark,), undo=self._label(self.undo_stack), redo="")
            words = {"pin": "pinned", "continue": "continues", "": ""}[message.schedule]
            receipts.append(Receipt(control=name, old=info.value, new=value, step=self.status.step + 1, schedule=words))
        return Receipts(receipts=tuple(receipts))

    def _undo(self, message: Message) -> Answer:
        undo = isinstance(message, Undo)
        source, target = (self.undo_stack, self.redo_stack) if undo else (self.redo_stack, self.undo_stack)
        if not source:
            return Refused(reason=f"there is nothing to {'undo' if undo else 'redo'}")
        name, old, new = source.pop()
        target.append((name, old, new))
        was, becomes = (new, old) if undo else (old, new)
        info = msgspec.structs.replace(self.controls[name], value=becomes)
        self.controls[name] = info
        self.delta(controls=(info,), undo=self._label(self.undo_stack), redo=self._label(self.redo_stack))
        return Receipts(receipts=(Receipt(control=name, old=was, new=becomes, step=self.status.step + 1),))

    def _curve(self, metric: str, first: int, last: int | None, width: int) -> Curve:
        every = EVERY[metric]
        end = self.status.step if last is None else last
        steps = np.arange(max(first, every) // every * every, end + 1, every)
        if not len(steps):
            return Curve(metric=metric, count=0)
        values = series(metric, steps)
        edges = np.unique(np.linspace(0, len(steps), min(width, len(steps)) + 1).astype(int))[:-1]
        ends = np.append(edges[1:], len(steps)) - 1
        sums = np.add.reduceat(values, edges) / np.diff(np.append(edges, len(steps)))
        return Curve(
            metric=metric, count=len(steps),
            step=steps[ends].astype("<i8").tobytes(), time=(steps[ends] / 7.6).astype("<f8").tobytes(),
            minimum=np.minimum.reduceat(values, edges).astype("<f4").tobytes(),
            mean=sums.astype("<f4").tobytes(),
            maximum=np.maximum.reduceat(values, edges).astype("<f4").tobytes(),
        )  # fmt: skip

    def _preview(self, message: GetPreview) -> Preview:
        z = self.preview.depth // 2 if message.z is None else min(max(message.z, 0), self.preview.depth - 1)
        n = SLICE
        y, x = np.mgrid[0:n, 0:n]
        cells = np.sin(x / 9 + z / 3) + np.sin(y / 11 + np.sin(x / 17) * 2) + np.sin((x + y) / 23)
        membrane = np.exp(-((cells / 0.35) ** 2))
        grain = np.sin(x * 12.9 + y * 78.2) * 437.5
        grain = grain - np.floor(grain)
        raw = 205 - 150 * membrane + 25 * (grain - 0.5)
        pictures = {"raw": raw, "prediction": 255 * membrane**1.5, "target": 255.0 * (membrane > 0.5)}
        room = (message.height, message.width)
        part = window((n, n), room, message.zoom, (message.centre_y, message.centre_x))
        images = []
        for name, picture in pictures.items():
            small = reduced(np.clip(picture, 0, 255).astype(np.uint8)[part.slices], *room)
            images.append(Image(caption=name, height=small.shape[0], width=small.shape[1], pixels=small.tobytes()))
        return Preview(
            count=self.preview.count,
            index=self.preview.count - 1,
            step=self.preview.step,
            z=z,
            depth=self.preview.depth,
            window=(part.top, part.left, part.height, part.width),
            images=tuple(images),
        )

    def _complete(self, message: Complete) -> Completions:
        line = message.code.split("\n")[message.line][: message.column]
        stem = line.rsplit(".", 1)[-1].rsplit(" ", 1)[-1]
        names = [("weight", "instance"), ("while_", "keyword"), ("widen", "function"), ("std", "function")]
        items = [Completion(name=name, kind=kind) for name, kind in names if name.startswith(stem)]
        if not message.fast:
            items = [
                *items,
                *(Completion(name=f"{stem}_jedi", kind="function", detail="() -> Tensor") for _ in range(1) if stem),
            ]
        return Completions(
            start=message.column - len(stem), items=tuple(items), signature="" if message.fast else "std(dim=None)"
        )


def garbage() -> bytes:
    """A frame that is no message."""
    return struct.pack(">I", 4) + b"\xff\xff\xff\xff"


async def _run(speed: float) -> None:
    from elektronn_tui.session import registry

    directory = Path(tempfile.mkdtemp(prefix="fake-"))
    fake = FakeSession(directory, clock=None)
    entry = registry.own_entry(session_id="f00dfeed", run_dir=registry.create_run("fib25-membranes"))
    fake.socket = Path(entry.socket)
    registry.register(entry)
    try:
        async with fake:
            while True:
                await asyncio.sleep(1)
                if fake.status.state == "running" and not fake.status.held_by:
                    fake.train(int(speed))
    finally:
        registry.unregister(entry)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps-per-second", type=float, default=8)
    asyncio.run(_run(parser.parse_args().steps_per_second))
