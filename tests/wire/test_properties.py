"""What always holds, whatever the messages, the bytes and the cut."""

from __future__ import annotations

import json

import pytest
from fuzz.fuzz_frames import read_plainly
from hypothesis import given
from hypothesis import strategies as st
from wire.streams import (
    CLASSES,
    CLIENT_CLASSES,
    SERVER_CLASSES,
    cuts,
    decoded,
    decoding_side,
    framed,
    messages,
    of_class,
    one_by_one,
)

from chatproto.wire.chat import FrameDecoder, encode_frame
from chatproto.wire.errors import ErrorCode, ProtocolError
from chatproto.wire.jsonform import from_json, from_object, to_json, to_object
from chatproto.wire.messages import MESSAGES, FieldType, Message, Side

SIDES = st.sampled_from(Side)
LIMITS = st.sampled_from([1, 8, 40, 200, 65_536, 2**24 - 1])
KINDS = st.sampled_from(sorted(MESSAGES)) | st.integers(0, 255)
BODIES = st.builds(lambda kind, payload: bytes([kind]) + payload, KINDS, st.binary(max_size=40))
FRAMES = st.one_of(
    messages().map(encode_frame),
    BODIES.map(framed),
    st.builds(
        lambda cls_frame, surplus: framed(cls_frame[4:] + surplus),
        messages().map(encode_frame),
        st.binary(max_size=3),
    ),
    st.binary(max_size=12),
)
STREAMS = st.lists(FRAMES, max_size=8).map(b"".join)
"""Bytes of which a good part are frames."""


def mangled(data: bytes, place: int, byte: int) -> bytes:
    """*data* with one byte changed."""
    if not data:
        return data
    changed = bytearray(data)
    changed[place % len(data)] = byte
    return bytes(changed)


ANYTHING = (
    st.builds(mangled, STREAMS, st.integers(0, 200), st.integers(0, 255)) | STREAMS | st.binary(max_size=60)
)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.type)
class TestEveryMessage:
    @given(st.data())
    def test_decodes_to_itself(self, cls: type[Message], data: st.DataObject) -> None:
        message = data.draw(of_class(cls))
        assert decoded(decoding_side(cls), [encode_frame(message)], 2**24 - 1) == ([message], None)

    @given(st.data())
    def test_comes_back_from_json(self, cls: type[Message], data: st.DataObject) -> None:
        message = data.draw(of_class(cls))
        side = decoding_side(cls)
        assert from_json(to_json(message), side) == message
        assert from_object(to_object(message), side) == message
        assert from_json(json.dumps(to_object(message)), side) == message  # with everything escaped

    @given(st.data())
    def test_is_the_same_by_frame_and_by_json(self, cls: type[Message], data: st.DataObject) -> None:
        message = data.draw(of_class(cls))
        side = decoding_side(cls)
        [by_frame], _ = decoded(side, [encode_frame(message)], 2**24 - 1)
        by_json = from_json(to_json(message), side)
        assert isinstance(by_json, Message)
        assert (by_frame, encode_frame(by_frame)) == (by_json, encode_frame(by_json))
        assert to_json(by_frame) == to_json(by_json)


class TestStreams:
    @given(
        st.data(),
        st.lists(messages(CLIENT_CLASSES), max_size=6),
        st.lists(messages(SERVER_CLASSES), max_size=6),
    )
    def test_messages_come_out_in_order_however_they_are_cut(
        self, data: st.DataObject, from_client: list[Message], from_server: list[Message]
    ) -> None:
        for side, sent in ((Side.SERVER, from_client), (Side.CLIENT, from_server)):
            stream = b"".join(map(encode_frame, sent))
            assert decoded(side, data.draw(cuts(stream)), 2**24 - 1) == (sent, None)

    @given(st.data(), SIDES, LIMITS, ANYTHING)
    def test_the_same_bytes_give_the_same_messages_and_fault_in_any_cut(
        self, data: st.DataObject, side: Side, limit: int, stream: bytes
    ) -> None:
        whole = decoded(side, [stream], limit)
        assert decoded(side, data.draw(cuts(stream)), limit) == whole
        assert decoded(side, one_by_one(stream), limit) == whole

    @given(st.data(), SIDES, LIMITS, ANYTHING)
    def test_any_bytes_give_only_messages_of_the_other_side_or_a_fault(
        self, data: st.DataObject, side: Side, limit: int, stream: bytes
    ) -> None:
        found, fault = decoded(side, data.draw(cuts(stream)), limit)
        senders = CLIENT_CLASSES if side is Side.SERVER else SERVER_CLASSES
        assert {type(message) for message in found} <= set(senders)
        if fault is not None:
            assert isinstance(fault, ProtocolError)
            assert fault.code in {ErrorCode.MALFORMED, ErrorCode.TOO_BIG}

    @given(st.data(), SIDES, LIMITS, ANYTHING)
    def test_what_is_kept_is_what_is_not_yet_a_frame(
        self, data: st.DataObject, side: Side, limit: int, stream: bytes
    ) -> None:
        decoder = FrameDecoder(side, limit)
        received = b""
        for piece in data.draw(cuts(stream)):
            decoder.receive(piece)
            received += piece
            expected = 0 if decoder.fault else len(unfinished(received))
            assert decoder.buffered_bytes == expected <= limit + 3

    @given(SIDES, LIMITS, ANYTHING)
    def test_any_bytes_give_what_a_plain_reading_of_the_protocol_gives(
        self, side: Side, limit: int, stream: bytes
    ) -> None:
        decoder = FrameDecoder(side, limit)
        found = decoder.receive(stream)
        code = decoder.fault.code if decoder.fault else None
        assert (found, code, decoder.buffered_bytes) == read_plainly(side, limit, stream)

    @given(LIMITS, ANYTHING)
    def test_what_a_server_decodes_is_what_it_would_encode(self, limit: int, stream: bytes) -> None:
        found, fault = decoded(Side.SERVER, [stream], limit)
        consumed = b"".join(map(encode_frame, found))
        assert stream.startswith(consumed)
        if fault is None:
            assert consumed + unfinished(stream) == stream

    @given(ANYTHING)
    def test_what_a_client_decodes_encodes_and_decodes_to_itself(self, stream: bytes) -> None:
        found, _ = decoded(Side.CLIENT, [stream])
        assert decoded(Side.CLIENT, map(encode_frame, found)) == (found, None)


def unfinished(stream: bytes) -> bytes:
    """What is left of *stream* behind its last whole frame."""
    while len(stream) >= 4 and len(stream) >= (end := 4 + int.from_bytes(stream[:4], "big")):
        stream = stream[end:]
    return stream


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = sorted({field.name for cls in CLASSES for field in cls.fields})
OBJECTS = st.builds(
    lambda name, fields: {"type": name, **fields},
    st.sampled_from([cls.type for cls in CLASSES]),
    st.dictionaries(st.sampled_from(NAMES), JSON | st.integers(0, 300) | st.text(max_size=5), max_size=5),
)


class TestJson:
    @given(SIDES, JSON | OBJECTS)
    def test_any_value_gives_only_a_message_of_the_other_side_or_a_fault(
        self, side: Side, shown: object
    ) -> None:
        found = from_object(shown, side)
        if isinstance(found, Message):
            assert decoding_side(type(found)) is side
            assert from_object(to_object(found), side) == found
            assert decoded(side, [encode_frame(found)], 2**24 - 1) == ([found], None)
        elif found is None:
            assert side is Side.CLIENT
        else:
            assert found.code is ErrorCode.MALFORMED

    @given(SIDES, st.text(max_size=40) | OBJECTS.map(json.dumps), st.integers(0, 60))
    def test_any_text_gives_only_a_message_or_a_fault(self, side: Side, text: str, end: int) -> None:
        for given_text in (text, text[:end]):
            found = from_json(given_text, side)
            assert found is None or isinstance(found, Message | ProtocolError)

    @given(st.data(), st.sampled_from(CLASSES))
    def test_what_cannot_be_a_frame_cannot_be_json(self, data: st.DataObject, cls: type[Message]) -> None:
        values = st.sampled_from(
            [0, -1, 2**16, 2**32, 2**53, True, None, 1.0, "", "\ud800", "x" * 65_536, b"", ("a",), ("", 1)]
        )
        message = cls(*(data.draw(values) for _ in cls.fields))
        try:
            encode_frame(message)
        except (TypeError, ValueError):
            with pytest.raises(ValueError, match=f"^{cls.type}: "):
                to_json(message)
        else:
            assert from_json(to_json(message), decoding_side(cls)) == message

    def test_every_type_of_field_is_met(self) -> None:
        assert {field.type for cls in CLASSES for field in cls.fields} == set(FieldType)
