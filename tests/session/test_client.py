"""The asyncio client."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import pytest
from fake_loop import FakeLoop

from elektronn_tui.session.client import (
    ConnectError,
    ConnectionLost,
    RequestRefused,
    RequestUnsupported,
    SessionClient,
)
from elektronn_tui.session.protocol import (
    Answer,
    Delta,
    Ended,
    Event,
    GetStatus,
    Ping,
    Request,
    SetControls,
    Snapshot,
    Welcome,
    encode,
)


async def test_requests_are_answered_each_with_its_own(loop: FakeLoop) -> None:
    client = await SessionClient.connect(loop.socket, name="me")
    answers = await asyncio.gather(
        client.request(SetControls(values={"lr": 0.5})), client.request(GetStatus()), client.request(Ping())
    )
    assert [answer.type_name for answer in answers] == ["receipts", "current_status", "done"]
    with pytest.raises(RequestRefused) as caught:
        await client.request(SetControls(values={"lr": -5}))
    assert "lr" in caught.value.reason
    await client.close()
    with pytest.raises(ConnectionLost):
        await client.request(Ping())


async def test_what_the_session_does_not_know_is_said(loop: FakeLoop) -> None:
    class Dance(Request, frozen=True):
        pass

    client = await SessionClient.connect(loop.socket)
    with pytest.raises(RequestUnsupported, match="dance"):
        await client.request(Dance())
    await client.close()


async def test_events_flow_until_the_session_ends(loop: FakeLoop) -> None:
    client = await SessionClient.connect(loop.socket)
    snapshot = await client.subscribe(rate=20.0)
    sequence = snapshot.sequence
    count = 0
    async for event in client.events():
        if isinstance(event, Delta):
            assert event.sequence == sequence + 1
            sequence = event.sequence
            count += 1
        if count == 3:
            loop.session.stop("enough")
            await asyncio.to_thread(loop.thread.join, 10)
            await asyncio.to_thread(loop.server.close, "stopped", "enough")
    assert client.ended == Ended(state="stopped", reason="enough")
    assert not client.connected
    await client.close()


async def test_a_listener_gets_the_events(loop: FakeLoop) -> None:
    client = await SessionClient.connect(loop.socket)
    heard = asyncio.Event()

    def listen(event: Event | Snapshot) -> None:
        if isinstance(event, Delta):
            heard.set()

    client.on_event(listen)
    await client.subscribe(rate=20.0)
    await asyncio.wait_for(heard.wait(), 10)
    await client.close()
    assert await client.wait_closed() == ""


async def test_missing_stale_and_foreign_sockets_are_told_apart(home: Path) -> None:
    runtime = os.environ["ELEKTRONN_RUNTIME"]
    with pytest.raises(ConnectError) as caught:
        await SessionClient.connect(f"{runtime}/none.sock")
    assert caught.value.cause == "missing"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(content)
        if content:
            writer.close()

    for content, cause in (
        (encode(Welcome(**(identity | {"protocol": "7.0"}))), "version"),  # type: ignore[arg-type]
        (b"SSH-2.0-OpenSSH_9.6\r\n" * 10, "refused"),
        (encode(Answer()), "refused"),
        (b"", "time-out"),
    ):
        path = f"{runtime}/{cause}{len(content)}.sock"
        server = await asyncio.start_unix_server(answer, path)
        with pytest.raises(ConnectError) as caught:
            await SessionClient.connect(path, timeout=0.5)
        assert caught.value.cause == cause
        server.close()
    with pytest.raises(ConnectError) as caught:
        await SessionClient.connect(f"{runtime}/version{len(encode(Welcome(**(identity | {'protocol': '7.0'}))))}.sock")  # type: ignore[arg-type]
    assert caught.value.cause in ("stale socket", "missing")


identity = {
    "protocol": "1.0",
    "package": "0",
    "python": "python",
    "session_id": "x",
    "name": "x",
    "run_dir": "/",
    "host": "x",
    "pid": 1,
    "started": 0.0,
}


async def test_a_connection_that_breaks_is_told_to_all_who_wait(home: Path) -> None:
    path = f"{os.environ['ELEKTRONN_RUNTIME']}/breaks.sock"
    connected: list[asyncio.StreamWriter] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(encode(Welcome(**identity)))  # type: ignore[arg-type]
        connected.append(writer)

    server = await asyncio.start_unix_server(answer, path)
    client = await SessionClient.connect(path)
    waiting = asyncio.create_task(client.request(Ping(), timeout=None))
    await asyncio.sleep(0)
    connected[0].transport.abort()
    with pytest.raises(ConnectionLost):
        await waiting
    with pytest.raises(ConnectionLost):
        async for _ in client.events():
            pass
    assert "lost" in await client.wait_closed()
    await client.close()
    server.close()


async def test_an_answer_that_does_not_come_is_given_up(home: Path) -> None:
    path = f"{os.environ['ELEKTRONN_RUNTIME']}/mute.sock"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(encode(Welcome(**identity)))  # type: ignore[arg-type]

    server = await asyncio.start_unix_server(answer, path)
    client = await SessionClient.connect(path)
    with pytest.raises(ConnectionLost, match=r"no answer to ping within 0\.05 s"):
        await client.request(Ping(), timeout=0.05)
    with contextlib.suppress(OSError):
        await client.close()
    server.close()
