"""Every message between a session and its clients, their version, and the framing.

A frame is a big-endian ``uint32`` length followed by that many bytes of MessagePack: the array
``[type, id, payload]``. `type` names a message class below in snake case, `id` is chosen by the client for a
request and repeated in its answer (0 for events), `payload` is the message as a map. Fields and messages may be
added within one major version: unknown fields and unknown events are ignored, an unknown request is answered
with `Unsupported`.

Arrays travel as raw little-endian bytes whose dtype the field's comment gives.
"""

from __future__ import annotations

import re
import struct
from typing import Any, ClassVar, Literal

import msgspec

from elektronn_tui.errors import ProtocolError

PROTOCOL = (1, 1)
"""Major and minor version. Clients and sessions of one major version understand each other."""

MAX_FRAME = 64 * 1024 * 1024
"""Longest frame in bytes that is accepted from a session."""
MAX_REQUEST = 4 * 1024 * 1024
"""Longest frame in bytes that is accepted from a client."""

State = Literal["starting", "running", "paused", "halted", "finished", "stopped", "failed", "lost"]
LIVE_STATES: frozenset[str] = frozenset({"starting", "running", "paused", "halted"})
ConsoleMode = Literal["observe", "hold"]
JobState = Literal["starting", "queued", "running", "finished", "failed", "cancelled", "lost"]
ACTIVE_JOBS: frozenset[str] = frozenset({"starting", "queued", "running"})


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of all messages."""

    type_name: ClassVar[str]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.type_name = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


# --- what a session is made of --------------------------------------------------------------------


class Status(Message, frozen=True, kw_only=True):
    """Where a session stands."""

    state: State = "starting"
    reason: str = ""
    step: int = 0
    steps: int | None = None
    rate: float = 0.0  # steps per second, smoothed
    voxel_rate: float = 0.0  # input voxels per second, smoothed
    data_wait: float = 0.0  # fraction of the time that the loop waited for data, smoothed
    eta: float | None = None  # seconds of training time to the last step
    training_time: float = 0.0  # seconds; paused and halted time excluded
    started: float = 0.0  # Unix time
    clients: int = 0
    held_by: str = ""  # client whose console holds the loop, if any
    running_statement: int = 0  # console statement that runs now, 0 for none
    phase: str = ""  # what the training thread does beside steps: "validating", "saving", "preview", ...
    no_preview: str = ""  # why this session makes no previews; empty where it may


class ControlInfo(Message, frozen=True, kw_only=True):
    """A control as clients see it."""

    name: str
    type: Literal["float", "int", "bool", "choice", "floats", "text"]
    value: Any
    default: Any = None
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: bool = False
    exclusive_maximum: bool = False
    choices: tuple[str, ...] = ()
    optional: bool = False
    unit: str = ""
    help: str = ""
    schedule: str = ""  # description of the schedule that drives it, empty for none
    pinned: bool = False
    edits: int = 0  # how often it was edited by hand


class MetricInfo(Message, frozen=True, kw_only=True):
    """A series of the history."""

    name: str
    count: int
    step: int
    value: float | None
    help: str = ""
    unit: str = ""


class Mark(Message, frozen=True, kw_only=True):
    """Something that happened at a step and is drawn on the curves."""

    step: int
    time: float  # training time in seconds
    kind: str  # "edit", "undo", "redo", "pause", "save", "statement", "nan"
    text: str


class NodeInfo(Message, frozen=True, kw_only=True):
    """A node of the network graph."""

    name: str
    kind: str
    parents: tuple[str, ...] = ()
    shape: tuple[int | None, ...] = ()
    tags: str = ""
    fov: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    offsets: tuple[int, ...] = ()
    params: int = 0
    cost: float = 0.0
    detail: str = ""
    role: str = ""  # "input", "target", "loss", "prediction" or empty


class LogLine(Message, frozen=True, kw_only=True):
    """A line of a session's log."""

    index: int
    time: float  # Unix time
    level: str
    step: int
    text: str


class JournalEntry(Message, frozen=True, kw_only=True):
    """Something that came from outside and changed the session."""

    id: int
    time: float  # Unix time
    step: int  # the first step that runs with it
    kind: (
        str  # "set", "undo", "redo", "pause", "resume", "hold", "release", "save", "stop", "statement", "job", "policy"
    )
    client: str
    text: str
    data: dict[str, Any] = {}


class PreviewInfo(Message, frozen=True, kw_only=True):
    """Which preview is the newest."""

    count: int
    step: int
    depth: int  # slices
    along: str = "z"  # what the slices lie along: "z", or "image" where each is an image of its own
    height: int = 0  # of a slice, voxels; 0: not known
    width: int = 0
    captions: tuple[str, ...] = ()
    slices: tuple[int, ...] = ()  # z of those that were kept; empty: all


class JobInfo(Message, frozen=True, kw_only=True):
    """A job: a process of its own that works on a snapshot of the session."""

    number: int
    kind: str  # "predict"
    text: str = ""  # what it makes of what, for people
    state: JobState = "starting"  # writing its snapshot; waiting for the jobs before it; ...
    reason: str = ""  # why it failed or is lost
    progress: float = 0.0  # 0 to 1
    detail: str = ""  # where it stands, in its own words
    step: int = 0  # steps that its snapshot had
    started: float = 0.0  # Unix time when it was asked for
    ended: float = 0.0  # Unix time, 0 while it has not
    pid: int = 0  # also its process group; 0 before there is a process
    directory: str = ""  # its record, its snapshot, its log
    client: str = ""  # who asked for it


class JobOption(Message, frozen=True, kw_only=True):
    """One of the arguments of a kind of job."""

    name: str  # for people
    type: Literal["text", "bool", "choice"]
    flag: str = ""  # "--flips"; empty: given by its place
    default: Any = ""
    choices: tuple[str, ...] = ()
    help: str = ""

    def arguments(self, value: Any) -> tuple[str, ...]:
        """Return what a value adds to a job's arguments."""
        if not self.flag:
            return (str(value),)
        if self.type == "bool":
            return (self.flag,) if value else ()
        return (self.flag, str(value)) if value not in ("", None) else ()


class JobOffer(Message, frozen=True, kw_only=True):
    """A kind of job that a session can start now."""

    kind: str
    help: str = ""
    options: tuple[JobOption, ...] = ()  # with the defaults of now


class Receipt(Message, frozen=True, kw_only=True):
    """An edit that was applied."""

    control: str
    old: Any
    new: Any
    step: int  # the first step that runs with the new value
    schedule: str = ""  # "pinned", "continues" or empty
    entry: int = 0  # journal entry


# --- requests and their answers -------------------------------------------------------------------


class Answer(Message, frozen=True, kw_only=True):
    """Base of what a request is answered with."""


class Refused(Answer, frozen=True, kw_only=True):
    """The request was understood and not carried out."""

    reason: str
    field: str = ""


class Unsupported(Answer, frozen=True, kw_only=True):
    """This session does not know the request."""

    request: str
    protocol: str


class Done(Answer, frozen=True, kw_only=True):
    """The request was carried out."""

    step: int = 0
    text: str = ""


class Welcome(Answer, frozen=True, kw_only=True):
    """Who the session is."""

    protocol: str
    package: str
    python: str
    session_id: str
    name: str
    run_dir: str
    host: str
    pid: int
    started: float
    capabilities: tuple[str, ...] = ()
    read_only: bool = False


class Snapshot(Answer, frozen=True, kw_only=True):
    """The whole state of a session; also sent as an event after a gap."""

    sequence: int
    status: Status
    controls: tuple[ControlInfo, ...] = ()
    metrics: tuple[MetricInfo, ...] = ()
    marks: tuple[Mark, ...] = ()  # the newest 1000
    log_total: int = 0
    log_tail: tuple[LogLine, ...] = ()  # the newest 200
    journal_total: int = 0
    journal_tail: tuple[JournalEntry, ...] = ()  # the newest 100
    graph: tuple[NodeInfo, ...] = ()
    preview: PreviewInfo | None = None
    console: tuple[ConsoleOutput, ...] = ()  # the newest 200 pieces of the transcript
    undo: str = ""  # what the next undo takes back, empty for nothing
    redo: str = ""
    jobs: tuple[JobInfo, ...] = ()  # the newest 100


class CurrentStatus(Answer, frozen=True, kw_only=True):
    """Where the session stands and the newest value of each metric."""

    status: Status
    metrics: tuple[MetricInfo, ...] = ()


class ControlList(Answer, frozen=True, kw_only=True):
    """Controls, in order."""

    controls: tuple[ControlInfo, ...]


class Receipts(Answer, frozen=True, kw_only=True):
    """What a set, undo or redo did."""

    receipts: tuple[Receipt, ...]


class Curve(Message, frozen=True, kw_only=True):
    """A reduced series: one entry a bucket, empty buckets left out."""

    metric: str
    count: int  # points that were reduced
    step: bytes = b""  # int64, last step of each bucket
    time: bytes = b""  # float64, training time of that step in seconds
    minimum: bytes = b""  # float32
    mean: bytes = b""  # float32
    maximum: bytes = b""  # float32


class Curves(Answer, frozen=True, kw_only=True):
    """Answer to `GetCurves`, in the order of its queries."""

    curves: tuple[Curve, ...]


class LogLines(Answer, frozen=True, kw_only=True):
    """A page of the log."""

    total: int
    lines: tuple[LogLine, ...]


class JournalEntries(Answer, frozen=True, kw_only=True):
    """A page of the journal."""

    total: int
    entries: tuple[JournalEntry, ...]


class Executed(Answer, frozen=True, kw_only=True):
    """How a console statement ended."""

    statement: int
    ok: bool
    interrupted: bool = False
    output: str = ""  # what it printed and the last value's text, in order, cut to a sensible length
    error: str = ""  # traceback
    step: int = 0
    seconds: float = 0.0


class Completion(Message, frozen=True, kw_only=True):
    """One proposal."""

    name: str
    kind: str = ""  # "function", "module", "instance", "class", "keyword", ...
    detail: str = ""


class Completions(Answer, frozen=True, kw_only=True):
    """Proposals that replace the text from `start` to the cursor."""

    start: int  # column
    items: tuple[Completion, ...] = ()
    signature: str = ""
    documentation: str = ""


class Image(Message, frozen=True, kw_only=True):
    """A grey picture."""

    caption: str
    height: int
    width: int
    pixels: bytes = b""  # uint8, C order


class Preview(Answer, frozen=True, kw_only=True):
    """One slice of a preview."""

    count: int
    index: int
    step: int
    z: int
    depth: int
    window: tuple[int, int, int, int] | None = None  # what is shown of the slice: top, left, height, width in voxels
    images: tuple[Image, ...] = ()


class JobStarted(Answer, frozen=True, kw_only=True):
    """The job that was started."""

    job: JobInfo


class JobList(Answer, frozen=True, kw_only=True):
    """Jobs, oldest first, and what can be started."""

    jobs: tuple[JobInfo, ...] = ()
    offers: tuple[JobOffer, ...] = ()


class Request(Message, frozen=True, kw_only=True):
    """Base of what clients ask. `writes` requests are refused to read-only clients."""

    writes: ClassVar[bool] = False
    answer: ClassVar[type[Answer]] = Done


class Hello(Request, frozen=True, kw_only=True):
    """First message of a client."""

    answer = Welcome
    protocol: str
    package: str
    client: str
    read_only: bool = False


class Subscribe(Request, frozen=True, kw_only=True):
    """Send a snapshot now and deltas from here on, at most `rate` a second."""

    answer = Snapshot
    rate: float = 1.0


class Unsubscribe(Request, frozen=True, kw_only=True):
    """Send no more deltas."""


class Ping(Request, frozen=True, kw_only=True):
    """Ask for a sign of life of the server thread."""


class GetStatus(Request, frozen=True, kw_only=True):
    """Ask where the session stands, without a subscription."""

    answer = CurrentStatus


class GetControls(Request, frozen=True, kw_only=True):
    """Ask for controls by name; all when `names` is empty."""

    answer = ControlList
    names: tuple[str, ...] = ()


class CurveQuery(Message, frozen=True, kw_only=True):
    """Which part of a series, reduced to at most `width` buckets."""

    metric: str
    first: int = 0  # step
    last: int | None = None  # step, None for the newest
    width: int = 400


class GetCurves(Request, frozen=True, kw_only=True):
    """Ask for reduced series."""

    answer = Curves
    queries: tuple[CurveQuery, ...]


class GetLog(Request, frozen=True, kw_only=True):
    """Ask for `count` lines from line `first` on; a negative `first` counts from the end."""

    answer = LogLines
    first: int = -200
    count: int = 200


class GetJournal(Request, frozen=True, kw_only=True):
    """Ask for `count` journal entries from entry `first` on; a negative `first` counts from the end."""

    answer = JournalEntries
    first: int = -100
    count: int = 100


class GetPreview(Request, frozen=True, kw_only=True):
    """Ask for slice `z` of preview `index` (-1 the newest), no larger than `height` × `width` pixels an image.

    At `zoom` 1 that is the whole slice; above it is a part around the centre, enlarged that many times.
    """

    answer = Preview
    index: int = -1
    z: int | None = None  # None: the middle slice
    height: int = 256
    width: int = 256
    zoom: float = 1.0  # at least 1
    centre_y: float = 0.5  # 0 to 1 from the slice's first voxel to its last
    centre_x: float = 0.5


class SetControls(Request, frozen=True, kw_only=True):
    """Set controls together: all of them, or none when one is refused."""

    writes = True
    answer = Receipts
    values: dict[str, Any]
    schedule: Literal["", "pin", "continue"] = ""  # for controls that a schedule drives; "" refuses with the question


class Undo(Request, frozen=True, kw_only=True):
    """Take the last edits back, newest first."""

    writes = True
    answer = Receipts
    count: int = 1


class Redo(Request, frozen=True, kw_only=True):
    """Bring back what was undone."""

    writes = True
    answer = Receipts
    count: int = 1


class Unpin(Request, frozen=True, kw_only=True):
    """Give a pinned control back to its schedule."""

    writes = True
    answer = Receipts
    control: str


class Pause(Request, frozen=True, kw_only=True):
    """Wait at the next step boundary."""

    writes = True


class Resume(Request, frozen=True, kw_only=True):
    """Go on."""

    writes = True


class Save(Request, frozen=True, kw_only=True):
    """Write a checkpoint, under a name if one is given."""

    writes = True
    name: str = ""


class MakePreview(Request, frozen=True, kw_only=True):
    """Predict the preview region now."""

    writes = True


class Stop(Request, frozen=True, kw_only=True):
    """End the session at the next step boundary, with a checkpoint unless `now`."""

    writes = True
    now: bool = False


class Execute(Request, frozen=True, kw_only=True):
    """Run a statement on the training thread at a safe point."""

    writes = True
    answer = Executed
    code: str
    mode: ConsoleMode = "observe"


class Interrupt(Request, frozen=True, kw_only=True):
    """Raise KeyboardInterrupt in the running statement (0: whichever runs)."""

    writes = True
    statement: int = 0


class SetConsoleMode(Request, frozen=True, kw_only=True):
    """Hold the loop at the next step boundary for this client's console, or let it go. A hold ends with its client."""

    writes = True
    mode: ConsoleMode


class Complete(Request, frozen=True, kw_only=True):
    """Ask for completions of `code` at a cursor. `fast` proposes from live objects only."""

    answer = Completions
    code: str
    line: int  # 0-based
    column: int  # 0-based
    fast: bool = False


class StartJob(Request, frozen=True, kw_only=True):
    """Start a job on a snapshot of the session as it is at the next step boundary.

    The arguments are those of the command; `cwd` is where its relative paths begin (empty: the session's own).
    """

    writes = True
    answer = JobStarted
    kind: str
    arguments: tuple[str, ...] = ()
    cwd: str = ""


class CancelJob(Request, frozen=True, kw_only=True):
    """End a job that waits or runs."""

    writes = True
    number: int


class GetJobs(Request, frozen=True, kw_only=True):
    """Ask for the jobs, and for what can be started."""

    answer = JobList


# --- events ---------------------------------------------------------------------------------------


class Event(Message, frozen=True, kw_only=True):
    """Base of what a session sends unasked."""


class ConsoleOutput(Event, frozen=True, kw_only=True):
    """A piece of the console's transcript."""

    statement: int
    stream: Literal["code", "stdout", "stderr", "result", "error", "note"]
    text: str
    client: str = ""


class Delta(Event, frozen=True, kw_only=True):
    """What changed since the event before; fields that are None did not."""

    sequence: int
    status: Status | None = None
    controls: tuple[ControlInfo, ...] | None = None  # only those that changed
    metrics: tuple[MetricInfo, ...] | None = None  # only those that changed
    marks: tuple[Mark, ...] | None = None  # new ones
    log_total: int | None = None
    log_tail: tuple[LogLine, ...] | None = None  # new ones, at most the newest 200
    journal_total: int | None = None
    journal_tail: tuple[JournalEntry, ...] | None = None  # new ones
    graph: tuple[NodeInfo, ...] | None = None  # whole
    preview: PreviewInfo | None = None
    console: tuple[ConsoleOutput, ...] | None = None  # new ones
    undo: str | None = None
    redo: str | None = None
    jobs: tuple[JobInfo, ...] | None = None  # only those that changed


class Gap(Event, frozen=True, kw_only=True):
    """Deltas were skipped because this client did not read; a snapshot follows when it does."""

    skipped: int


class Ended(Event, frozen=True, kw_only=True):
    """The session is over and the connection will close."""

    state: State
    reason: str = ""
    never_ran: bool = False  # it failed while it started; the run directory is taken away
    refused: bool = False  # what it was asked to do can't be done, and the reason says why
    traceback: str = ""  # of what failed while it started, unless it was refused


class Rejected(Event, frozen=True, kw_only=True):
    """The connection is closed because of what the client sent or did not do; `cause` is one of a few words."""

    reason: str
    cause: str = ""  # "version", "access", "garbage", "silence", "slow"


# --- framing --------------------------------------------------------------------------------------


def _concrete(base: type[Message]) -> dict[str, type[Message]]:
    found: dict[str, type[Message]] = {}
    for cls in base.__subclasses__():
        found[cls.type_name] = cls
        found.update(_concrete(cls))
    return found


MESSAGES: dict[str, type[Message]] = _concrete(Message)
"""Message classes by type name."""

_HEADER = struct.Struct(">I")
HEADER_SIZE = _HEADER.size
_encoder = msgspec.msgpack.Encoder()
_envelope_decoder = msgspec.msgpack.Decoder(tuple[str, int, msgspec.Raw])
_payload_decoders = {name: msgspec.msgpack.Decoder(cls) for name, cls in MESSAGES.items()}


def encode(message: Message, request_id: int = 0) -> bytes:
    """Return the frame of a message, header included."""
    body = _encoder.encode((message.type_name, request_id, message))
    return _HEADER.pack(len(body)) + body


def frame_length(header: bytes, limit: int) -> int:
    """Return the body length that a frame header announces.

    Raises
    ------
    ProtocolError
        The frame is empty or longer than `limit` bytes.
    """
    (length,) = _HEADER.unpack(header)
    if not 0 < length <= limit:
        raise ProtocolError(f"a frame of {length} bytes was announced, allowed are 1 to {limit}")
    return int(length)


def decode(body: bytes) -> tuple[str, int, Message | None]:
    """Return type name, request id and message of a frame's body; the message is None for an unknown type.

    Raises
    ------
    ProtocolError
        The body is not an envelope, or its payload does not fit its type.
    """
    try:
        name, request_id, payload = _envelope_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"not a message of this protocol: {error}") from error
    decoder = _payload_decoders.get(name)
    if decoder is None:
        return name, request_id, None
    try:
        return name, request_id, decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"malformed {name}: {error}") from error
