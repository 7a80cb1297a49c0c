"""What is sent to many is encoded once for each form."""

from __future__ import annotations

import gc
import sys
from typing import Any

import pytest

from chatproto.wire.chat import encode_frame
from chatproto.wire.jsonform import to_json
from chatproto.wire.messages import Chat, Message
from chatproto.wire.prepared import Prepared

MESSAGE = Chat("lobby", 1, 0, "ann", "hi")


class Form:
    """A form that counts how often it is called."""

    def __init__(self, prefix: bytes = b"") -> None:
        self.prefix = prefix
        self.calls: list[object] = []

    def __call__(self, source: Message) -> bytes:
        self.calls.append(source)
        return self.prefix + to_json(source).encode()

    def encode(self, source: Message) -> bytes:
        return self(source)


def test_it_shows_what_it_was_made_of() -> None:
    prepared = Prepared(MESSAGE, "lobby", 2**53 - 1)
    assert (prepared.source, prepared.topic, prepared.position) == (MESSAGE, "lobby", 2**53 - 1)


def test_without_a_topic_it_has_no_place_to_be_replayed_from() -> None:
    prepared = Prepared(MESSAGE)
    assert (prepared.topic, prepared.position) == (None, 0)


@pytest.mark.parametrize("name", ["source", "topic", "position"])
def test_it_cannot_be_changed(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(Prepared(MESSAGE), name, 1)


def test_encode_frame_is_a_form() -> None:
    assert Prepared(MESSAGE).encoded(encode_frame) == encode_frame(MESSAGE)


def test_everyone_gets_the_same_bytes_object() -> None:
    prepared = Prepared(MESSAGE)
    assert prepared.encoded(encode_frame) is prepared.encoded(encode_frame)


def test_each_form_is_called_once_with_the_source() -> None:
    prepared = Prepared(MESSAGE)
    forms = [Form(), Form(b"1"), Form(b"2"), Form(b"3")]
    for _ in range(3):
        for form in forms:
            assert prepared.encoded(form) == form.prefix + to_json(MESSAGE).encode()
    for form in forms:
        assert [source is MESSAGE for source in form.calls] == [True]


def test_a_bound_method_is_one_form_however_often_it_is_looked_up() -> None:
    prepared = Prepared(MESSAGE)
    first, second = Form(b"1"), Form(b"2")
    for _ in range(3):
        assert prepared.encoded(first.encode)[:1] == b"1"
        assert prepared.encoded(second.encode)[:1] == b"2"
    assert (len(first.calls), len(second.calls)) == (1, 1)


def test_empty_bytes_are_an_encoding_too() -> None:
    calls = []

    def nothing(source: object) -> bytes:
        calls.append(source)
        return b""

    prepared = Prepared(MESSAGE)
    for form in (nothing, encode_frame, nothing):
        prepared.encoded(form)
    assert prepared.encoded(nothing) == b""
    assert len(calls) == 1


@pytest.mark.parametrize("made", ["text", bytearray(b"x"), memoryview(b"x"), None, [b"x"]])
def test_a_form_that_does_not_make_bytes_is_a_local_error(made: Any) -> None:
    prepared = Prepared(MESSAGE)
    for _ in range(2):
        with pytest.raises(TypeError, match=f"^a form makes bytes, not {type(made).__name__}$"):
            prepared.encoded(lambda source: made)
    assert prepared.encoded(encode_frame) == encode_frame(MESSAGE)


@pytest.mark.parametrize("form", [None, b"x", 3])
def test_what_cannot_be_called_is_no_form(form: Any) -> None:
    with pytest.raises(TypeError, match="not callable"):
        Prepared(MESSAGE).encoded(form)
    prepared = Prepared(MESSAGE)
    prepared.encoded(encode_frame)
    with pytest.raises(TypeError, match="not callable"):
        prepared.encoded(form)


def test_a_form_that_fails_leaves_nothing_behind() -> None:
    prepared = Prepared(MESSAGE)
    attempts = []

    def sometimes(source: object) -> bytes:
        attempts.append(source)
        if len(attempts) == 1:
            raise LookupError("not yet")
        return b"made"

    with pytest.raises(LookupError, match="not yet"):
        prepared.encoded(sometimes)
    assert prepared.encoded(sometimes) == b"made"
    assert prepared.encoded(sometimes) == b"made"
    assert len(attempts) == 2


def test_a_form_may_build_on_another() -> None:
    prepared = Prepared(MESSAGE)
    inner = Form()

    def wrapped(source: object) -> bytes:
        return b"<" + prepared.encoded(inner) + b">"

    for _ in range(2):
        assert prepared.encoded(wrapped) == b"<" + prepared.encoded(inner) + b">"
    assert len(inner.calls) == 1


def test_a_position_beyond_64_bits_is_a_local_error() -> None:
    with pytest.raises(OverflowError):
        Prepared(MESSAGE, "lobby", 2**63)


def test_it_lets_go_of_what_it_was_given() -> None:
    source, topic, form = Chat("lobby", 1, 0, "ann", "hi"), object(), Form()
    before = [sys.getrefcount(held) for held in (source, topic, form)]
    prepared = Prepared(source, topic, 1)
    prepared.encoded(encode_frame)
    prepared.encoded(form)
    form.calls.clear()
    del prepared
    gc.collect()
    assert [sys.getrefcount(held) for held in (source, topic, form)] == before


def test_a_cycle_through_it_is_collected() -> None:
    class Source:
        pass

    source: Any = Source()
    source.prepared = Prepared(source, source)
    source.prepared.encoded(lambda source: b"x")
    del source
    gc.collect()
    assert not [found for found in gc.get_objects() if type(found) is Source]
