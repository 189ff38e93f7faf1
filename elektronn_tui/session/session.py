"""A run of whatever loop: the loop calls a safe point between two steps, clients do the rest.

The session knows nothing of trainers. A loop joins with::

    while session.safe_point(step):
        loss = make_a_step()
        step += 1
        session.publish(step, {"loss": loss})
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import msgspec

from elektronn_tui.errors import ElektronnError
from elektronn_tui.training.controls import Controls
from elektronn_tui.training.history import History

from .clock import Clock
from .commands import Commands
from .console import Console
from .edits import Edits
from .files import write_atomically
from .jobs import Jobs
from .journal import Journal
from .log import LOGGER, SessionLog
from .previews import Previews, Volumes
from .protocol import (
    LIVE_STATES,
    Answer,
    Mark,
    NodeInfo,
    PreviewInfo,
    Refused,
    Request,
    SetConsoleMode,
    State,
    Status,
    Stop,
)
from .records import Ring

__all__ = ["Client", "Session"]


@dataclass(frozen=True)
class Client:
    """Who asks for something."""

    number: int
    name: str


@dataclass
class _Order:
    """Something that a client asked for and that waits for a safe point."""

    request: Request
    client: Client
    reply: Callable[[Answer], None]
    parsed: Any = None


@dataclass
class Waiting:
    """Why the loop does not go on."""

    paused: bool = False
    halted: bool = False
    reason: str = ""
    holders: dict[int, str] = field(default_factory=dict)  # client number: name

    def __bool__(self) -> bool:
        return self.paused or self.halted or bool(self.holders)


class Session:
    """What a training loop and its clients share.

    Only the main thread calls the methods of a loop (`safe_point` to `finish`) and writes controls. Other threads
    call `submit`, `cancel`, `client_gone` and read.

    Parameters
    ----------
    run_dir
        Directory of the run; history, log and journal are kept there.
    name, session_id
        What it is called.
    controls
        Registry of controls; made empty when not given.
    foreground
        Whether it runs in somebody's terminal or batch job, where nobody mends what goes wrong.

    Attributes
    ----------
    namespace : dict
        The console's.
    jobs : Jobs
        What works on snapshots, in processes of its own; the loop says what it offers.
    on_save : callable or None
        Set by the loop: makes a checkpoint under a name (None: of its own choice) and returns what was written.
    on_preview : callable or None
        Set by the loop: predicts the preview region.
    on_change : callable or None
        Set by the server: called, on any thread, when clients should hear of something soon.
    on_state : callable or None
        Set by the worker: called on the main thread after the state changed.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        name: str,
        session_id: str,
        controls: Controls | None = None,
        foreground: bool = False,
    ) -> None:
        self.run_dir = run_dir
        self.foreground = foreground
        self.name = name
        self.id = session_id
        self.controls = Controls() if controls is None else controls
        self.logger = logging.getLogger(f"{LOGGER}.run")
        self.history = History(run_dir / "history.sqlite")
        self.journal = Journal(run_dir / "journal.jsonl")
        self.log = SessionLog(run_dir / "session.log", lambda: self.step)
        self.edits = Edits(self.controls)
        self.previews = Previews()
        self.marks: Ring[Mark] = Ring(1000)
        self.graph: tuple[NodeInfo, ...] = ()
        self.namespace: dict[str, Any] = {"__name__": "__console__", "session": self, "controls": self.controls}
        self.namespace["history"] = self.history
        self.console = Console(self.namespace, self.changed)
        self.on_save: Callable[[str | None], str] | None = None
        self.on_preview: Callable[[], object] | None = None
        self.on_change: Callable[[], None] | None = None
        self.on_state: Callable[[], None] | None = None
        self.step = 0
        self.state: State = "starting"
        self.reason = ""
        self.started = time.time()
        self.stopping = ""  # why the loop is to end, empty while it is not
        self.save_at_stop = True
        self._clock = Clock()
        self._attention = True  # the first safe point starts the session
        self._orders: SimpleQueue[_Order | Callable[[], object] | None] = SimpleQueue()
        self._waiting = Waiting()
        self._status: dict[str, Any] = {}
        self._commands = Commands(self)
        self.jobs = Jobs(self)
        self.namespace["jobs"] = self.jobs.all

    # --- for the loop -----------------------------------------------------------------------------

    @property
    def training_time(self) -> float:
        """Seconds since the first step, without what was paused, halted, held or spent on statements."""
        return self._clock.time()

    def safe_point(self, step: int) -> bool:
        """Let clients act between two steps; returns when the loop may go on.

        Parameters
        ----------
        step
            Steps done so far.

        Returns
        -------
        bool
            False: end the loop now.
        """
        self.step = step
        if not self._attention:
            return True
        return self._attend()

    def publish(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add values of metrics to the history.

        Parameters
        ----------
        step
            The step that they belong to; the first is 1.
        metrics
            NaN makes a gap.
        """
        self.history.append(step, self._clock.time(), metrics)
        self.step = step  # a loop that ends by itself comes to no safe point after its last step

    def set_status(self, **fields: Any) -> None:
        """Say how the loop stands: fields of `protocol.Status` that only it can know.

        Raises
        ------
        TypeError
            A field does not exist, or is the session's own.
        """
        if not _LOOP_FIELDS.issuperset(fields):
            raise TypeError(f"set_status takes {', '.join(sorted(_LOOP_FIELDS))}; got {', '.join(fields)}")
        self._status = {**self._status, **fields}

    def set_graph(self, nodes: Sequence[NodeInfo]) -> None:
        """Say what the network is made of; kept in ``graph.json``, so that it can be seen after the end, too."""
        self.graph = tuple(nodes)
        try:
            write_atomically(self.run_dir / "graph.json", msgspec.json.format(msgspec.json.encode(self.graph)))
        except OSError as error:
            self.logger.warning("graph.json can't be written: %s", error)
        self.changed()

    def add_preview(self, info: PreviewInfo, volumes: Volumes) -> None:
        """Show a prediction of the preview region.

        Parameters
        ----------
        info
            Its step and depth; the captions name the volumes.
        volumes
            Caption to array, shape (z, y, x), grey values: uint8, or floats from 0 to 1.
        """
        self.previews.add(info, volumes)
        self.changed()

    def mark(self, kind: str, text: str, step: int | None = None) -> None:
        """Mark a step on the curves."""
        self.marks.append(Mark(step=self.step if step is None else step, time=self.training_time, kind=kind, text=text))

    def record(self, kind: str, text: str, data: dict[str, Any] | None = None, *, client: str = "") -> None:
        """Write what changed the session into the journal, and mark it; for decisions of the loop's policies, too."""
        self.journal.append(kind, step=self.step + 1, client=client, text=text, data=data)
        self.mark(kind, text)
        self.changed()

    def pause(self, reason: str) -> None:
        """Let the next safe point wait until a client resumes."""
        if not self._waiting.paused:
            self.record("pause", reason, {"policy": True})
        self._waiting.paused = True
        self._waiting.reason = reason
        self._attention = True

    def halt(self, error: BaseException) -> bool:
        """Show an error of the loop and wait until a client resumes or stops; return whether to go on.

        The exception is ``error`` in the console, the names of its innermost frame are in ``frame``.
        """
        self.logger.error("the loop raised %s: %s", type(error).__name__, error, exc_info=error)
        self.console.show_failure(error)
        self.record("halt", f"{type(error).__name__}: {error}"[:500])
        self._waiting.halted = True
        self._waiting.reason = f"{type(error).__name__}: {error}"[:500]
        going_on = self._attend()
        for name in ("error", "frame"):  # they keep the failed step's arrays alive
            self.namespace.pop(name, None)
        return going_on

    def finish(self, state: State, reason: str = "") -> None:
        """End: tell clients, refuse what still waits. What comes after the first call is ignored."""
        if self.state not in LIVE_STATES:
            return
        self._clock.stop()
        self._set_state(state, reason)
        self._refuse_rest()

    # --- for every thread -------------------------------------------------------------------------

    def submit(self, request: Request, client: Client, reply: Callable[[Answer], None]) -> None:
        """Queue a request for the next safe point, or refuse it at once.

        Parameters
        ----------
        reply
            Called once, from any thread, with the answer.
        """
        try:
            order = _Order(request, client, reply, self._commands.prepare(request, client))
        except (ElektronnError, SyntaxError, ValueError, OverflowError) as error:
            reply(self._commands.refusal(request, error))
            return
        self._orders.put(order)
        self._attention = True
        if self.state not in LIVE_STATES:
            self._refuse_rest()  # it ended between the two lines
        elif isinstance(request, Stop) and request.now:
            self.console.interrupt()

    def interrupt(self, statement: int) -> bool:
        """Interrupt a console statement that runs, or one that waits to run; return whether there is one."""
        return self._commands.cancel(statement) or self.console.interrupt(statement)

    def client_gone(self, client: Client) -> None:
        """Let the loop go that a client held, and interrupt what it runs."""
        self._commands.abandon(client)
        if client.number in self._waiting.holders:
            self._orders.put(_Order(SetConsoleMode(mode="observe"), client, lambda answer: None))
            self._attention = True

    def stop(self, reason: str, *, save: bool = True) -> None:
        """End the loop at its next safe point. Safe to call from a signal handler."""
        self.stopping = self.stopping or reason
        self.save_at_stop = self.save_at_stop and save
        self._attention = True
        self._orders.put(None)  # SimpleQueue is re-entrant, which Event and Condition are not

    def at_safe_point(self, function: Callable[[], object]) -> None:
        """Let the main thread call a function at its next safe point; never called if none comes any more."""
        self._orders.put(function)
        self._attention = True

    def changed(self) -> None:
        """Let clients hear soon."""
        if self.on_change is not None:
            self.on_change()

    def status(self, clients: int = 0) -> Status:
        """Return where the session stands."""
        return Status(
            state=self.state,
            reason=self.reason,
            step=self.step,
            training_time=self.training_time,
            started=self.started,
            clients=clients,
            held_by=", ".join(list(self._waiting.holders.values())),
            running_statement=self.console.running,
            **self._status,
        )

    # --- the main thread, between two steps -------------------------------------------------------

    @property
    def waiting(self) -> Waiting:
        """Why the loop does not go on."""
        return self._waiting

    def _attend(self) -> bool:
        self._attention = False
        self._clock.stop()
        if self.state == "starting":
            self._set_state("running")
        self.update_state()
        while not self.stopping:
            try:
                order = self._orders.get() if self._waiting else self._orders.get_nowait()
            except Empty:
                break
            if isinstance(order, _Order):
                self._carry_out(order)
            elif order is not None:
                self._call(order)
        if self.stopping:
            return self._end_loop()
        self._clock.start()
        return True

    def _carry_out(self, order: _Order) -> None:
        try:
            answer = self._commands.carry_out(order.request, order.client, order.parsed)
        except ElektronnError as error:
            answer = self._commands.refusal(order.request, error)
        except Exception as error:
            self.logger.exception("%s failed", order.request.type_name)
            answer = Refused(reason=f"{order.request.type_name} failed: {type(error).__name__}: {error}")
        self.update_state()
        order.reply(answer)
        self.changed()

    def _call(self, function: Callable[[], object]) -> None:
        try:
            function()
        except Exception:
            self.logger.exception("what a thread left for a step boundary failed")

    def _end_loop(self) -> bool:
        self._attention = True  # whoever asks again is told again
        if self.save_at_stop and self.on_save is not None:
            self.save_at_stop = False
            try:
                self.on_save(None)
            except Exception:
                self.logger.exception("saving at the end failed")
        return False

    def update_state(self) -> None:
        """Make the state say what the loop waits for."""
        waiting = self._waiting
        if self.state not in LIVE_STATES or self.state == "starting":
            return
        if waiting.halted:
            self._set_state("halted", waiting.reason)
        elif waiting.paused:
            self._set_state("paused", waiting.reason)
        elif waiting.holders:
            self._set_state("paused", f"held by the console of {', '.join(waiting.holders.values())}")
        else:
            self._set_state("running")

    def _set_state(self, state: State, reason: str = "") -> None:
        if (state, reason) == (self.state, self.reason):
            return
        before, self.state, self.reason = self.state, state, reason
        if before != state:
            self.logger.info("%s%s", state, f": {reason}" if reason else "")
        if self.on_state is not None:
            self.on_state()
        self.changed()

    def _refuse_rest(self) -> None:
        with contextlib.suppress(Empty):
            while True:
                order = self._orders.get_nowait()
                if isinstance(order, _Order):
                    order.reply(Refused(reason=f"the session has {_ENDED.get(self.state, 'ended')}"))

    def close(self) -> None:
        """Write and close the files."""
        self.history.close()
        self.journal.close()
        self.log.remove()


_ENDED = {"finished": "finished", "stopped": "stopped", "failed": "failed"}
_LOOP_FIELDS = frozenset({"steps", "rate", "voxel_rate", "data_wait", "eta", "phase", "no_preview"})
