"""Every message survives its way; nothing else gets through."""

from __future__ import annotations

import typing
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elektronn_tui.errors import ProtocolError
from elektronn_tui.session import protocol
from elektronn_tui.session.protocol import (
    HEADER_SIZE,
    MAX_REQUEST,
    MESSAGES,
    GetLog,
    LogLine,
    Message,
    Request,
    SetControls,
    Status,
    decode,
    encode,
    frame_length,
)

texts = st.text(max_size=30)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


def of_type(kind: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for a field's type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return values
    if kind in (type(None), None):
        return st.none()
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple and arguments[-1] is not Ellipsis:
        return st.tuples(*[of_type(argument) for argument in arguments])
    if origin is tuple:
        return st.lists(of_type(arguments[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(of_type(arguments[0]), of_type(arguments[1]), max_size=3)
    if arguments:
        return st.one_of([of_type(argument) for argument in arguments])
    if isinstance(kind, type) and issubclass(kind, Message):
        return messages(kind)
    simple: dict[Any, st.SearchStrategy[Any]] = {
        int: st.integers(-(2**63), 2**63 - 1),
        float: st.floats(allow_nan=False),
        str: texts,
        bool: st.booleans(),
        bytes: st.binary(max_size=20),
    }
    return simple[kind]


def messages(cls: type[Message]) -> st.SearchStrategy[Message]:
    """Return a strategy for messages of a class."""
    hints = typing.get_type_hints(cls, vars(protocol))
    return st.builds(cls, **{name: of_type(hints[name]) for name in cls.__struct_fields__})


@pytest.mark.parametrize("name", sorted(MESSAGES))
@given(data=st.data(), request_id=st.integers(0, 2**31))
@settings(max_examples=25, suppress_health_check=list(HealthCheck), deadline=None)
def test_every_message_survives_its_way(name: str, data: st.DataObject, request_id: int) -> None:
    message = data.draw(messages(MESSAGES[name]))
    frame = encode(message, request_id)
    assert frame_length(frame[:HEADER_SIZE], len(frame)) == len(frame) - HEADER_SIZE
    assert decode(frame[HEADER_SIZE:]) == (name, request_id, message)


@given(st.binary(max_size=200))
@settings(max_examples=500)
def test_random_bytes_are_refused_or_unknown(body: bytes) -> None:
    try:
        name, _, message = decode(body)
    except ProtocolError:
        return
    assert message is None or MESSAGES[name] is type(message)


@given(st.data())
@settings(max_examples=200)
def test_a_body_that_was_cut_is_refused(data: st.DataObject) -> None:
    body = encode(SetControls(values={"lr": 0.1, "momentum": [1, 2]}), 7)[HEADER_SIZE:]
    with pytest.raises(ProtocolError):
        decode(body[: data.draw(st.integers(0, len(body) - 1))])


def test_fields_and_messages_of_later_versions_are_ignored() -> None:
    body = msgspec.msgpack.encode(("status", 3, {"step": 5, "mood": "fine"}))
    assert decode(body) == ("status", 3, Status(step=5))
    assert decode(msgspec.msgpack.encode(("sing", 3, {"song": "x"}))) == ("sing", 3, None)


def test_a_field_of_the_wrong_type_is_refused_by_name() -> None:
    with pytest.raises(ProtocolError, match=r"get_log.*first"):
        decode(msgspec.msgpack.encode(("get_log", 1, {"first": "soon"})))


@pytest.mark.parametrize("length", [0, MAX_REQUEST + 1, 2**32 - 1])
def test_empty_and_long_frames_are_refused(length: int) -> None:
    with pytest.raises(ProtocolError, match=str(length)):
        frame_length(length.to_bytes(4, "big"), MAX_REQUEST)


def test_requests_say_what_answers_them_and_whether_they_write() -> None:
    requests = [cls for cls in MESSAGES.values() if issubclass(cls, Request)]
    assert len(requests) > 20
    assert {cls.answer.type_name for cls in requests} <= set(MESSAGES)
    assert not GetLog.writes
    assert SetControls.writes


def test_defaults_take_no_room() -> None:
    assert len(encode(LogLine(index=0, time=0.0, level="INFO", step=1, text="x"))) < 80
    assert len(encode(Status())) < 20
