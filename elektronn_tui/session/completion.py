"""Completion for consoles: from live objects at once, from jedi in a process beside the worker when asked."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import logging
import socket
import subprocess
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from .completer import Question, Reply
from .console import Console
from .live import complete_live
from .protocol import HEADER_SIZE, MAX_FRAME, Answer, Complete, Completions, frame_length

__all__ = ["Completer", "prelude"]

PATIENCE = 10.0
"""Seconds for an answer; a cold torch takes 3."""
MAX_STARTS = 3
logger = logging.getLogger(__name__)
_Asked = tuple[Complete, Callable[[Answer], None]]


class Completer:
    """Answers `Complete` requests; used in the server's event loop.

    Each client has at most one question open: a newer one makes the older stale, which is then answered with nothing.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._waiting: dict[object, _Asked] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None
        self._warm: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._number = 0
        self._starts = 0
        self._decoder = msgspec.msgpack.Decoder(Reply)

    def complete(self, request: Complete, asker: object, reply: Callable[[Answer], None]) -> None:
        """Answer a request, now or later."""
        self.warm_up()
        if request.fast:
            reply(self._live(request))
            return
        stale = self._waiting.pop(asker, None)
        if stale is not None:
            stale[1](Completions(start=stale[0].column))
        self._waiting[asker] = (request, reply)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._answer_waiting())

    def forget(self, asker: object) -> None:
        """Drop what a client that went asked."""
        self._waiting.pop(asker, None)

    def warm_up(self) -> None:
        """Start the process and let it read what the console's modules are, which takes seconds the first time."""
        if self._warm is None:
            self._warm = asyncio.get_running_loop().create_task(self._warm_up())

    def close(self) -> None:
        """End the process."""
        for task in (self._task, self._warm):
            if task is not None:
                task.cancel()
        self._end_process()

    async def _warm_up(self) -> None:
        with contextlib.suppress(OSError, EOFError, TimeoutError, RuntimeError):
            for name, value in list(self._console.namespace.items()):
                if isinstance(value, types.ModuleType):
                    code = f"import {value.__name__} as {name}\n{name}."
                    await self._ask(Question(0, "", code, 1, len(name) + 1, sys.path), patience=60.0)

    async def _answer_waiting(self) -> None:
        while self._waiting:
            asker = next(iter(self._waiting))
            request, reply = self._waiting.pop(asker)
            live = self._live(request)
            try:
                source = prelude(self._console.namespace, list(self._console.source))
                question = Question(0, source, request.code, request.line, request.column, sys.path)
                reply(merged(live, await self._ask(question, patience=PATIENCE)))
            except (OSError, EOFError, TimeoutError, RuntimeError, msgspec.DecodeError) as error:
                logger.debug("no answer of the completer: %s", error)
                self._end_process()
                reply(live)

    async def _ask(self, question: Question, patience: float) -> Completions:
        async with self._lock:  # outside of the time-out: to wait for the warm-up is no reason to end the process
            async with asyncio.timeout(patience):
                return await self._exchange(question)

    async def _exchange(self, question: Question) -> Completions:
        reader, writer = await self._connected()
        self._number += 1
        body = msgspec.msgpack.encode(msgspec.structs.replace(question, number=self._number))
        writer.write(len(body).to_bytes(HEADER_SIZE, "big") + body)
        while True:
            length = frame_length(await reader.readexactly(HEADER_SIZE), MAX_FRAME)
            reply = self._decoder.decode(await reader.readexactly(length))
            if reply.number == self._number:  # others are late answers to what was given up
                return reply.completions

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is None or self._writer is None or self._process is None or self._process.poll() is not None:
            self._end_process()
            if self._starts >= MAX_STARTS:
                raise RuntimeError("the completer died too often")
            self._starts += 1
            ours, its = socket.socketpair()
            with its:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "elektronn_tui.session.completer"],
                    stdin=its.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    close_fds=True,
                    process_group=0,
                )
            self._reader, self._writer = await asyncio.open_connection(sock=ours, limit=1 << 20)
        return self._reader, self._writer

    def _end_process(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = self._reader = self._writer = None

    def _live(self, request: Complete) -> Completions:
        try:
            return complete_live(request.code, request.line, request.column, self._console.namespace)
        except RuntimeError:  # a dictionary changed while it was read
            return Completions(start=request.column)


def merged(live: Completions, static: Completions) -> Completions:
    """Return jedi's answer with the live names that it does not know, those that begin with _ last."""
    if not static.items:
        return msgspec.structs.replace(live, signature=static.signature, documentation=static.documentation)
    if live.start != static.start or not live.items:
        return static
    details = {item.name: item.detail for item in live.items}
    items = {item.name: msgspec.structs.replace(item, detail=details.get(item.name, "")) for item in static.items}
    for item in live.items:
        items.setdefault(item.name, item)
    ordered = sorted(items.values(), key=lambda item: (item.name.startswith("_"), item.name))
    return msgspec.structs.replace(static, items=tuple(ordered))


def prelude(namespace: Mapping[str, Any], source: list[str]) -> str:
    """Return source that tells a static analyser what the names of a console are.

    Parameters
    ----------
    namespace
        The console's names: only their types and import paths are read.
    source
        Statements that ran, oldest first.
    """
    imports, types_ = [], []
    for name, value in list(namespace.items()):
        if not name.isidentifier() or name.startswith("__"):
            continue
        if isinstance(value, types.ModuleType):
            imports.append(f"import {value.__name__} as {name}")
            continue
        if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
            module, qualified = value.__module__, value.__qualname__
            if _importable(module, qualified) and "." not in qualified:
                imports.append(f"from {module} import {qualified} as {name}")
            continue
        module, qualified = type(value).__module__, type(value).__qualname__
        if module == "builtins":
            if hasattr(builtins, qualified):  # not NoneType, function, ...
                types_.append(f"{name}: {qualified}")
        elif _importable(module, qualified):
            types_.append(f"import {module} as _type_of_{name}\n{name}: _type_of_{name}.{qualified}")
    return "\n".join([*imports, *source, *types_]) + "\n"


def _importable(module: object, qualified: str) -> bool:
    parts = f"{module}.{qualified}".split(".")
    return isinstance(module, str) and module in sys.modules and all(part.isidentifier() for part in parts)
