"""What always holds of WebSocket frames, whatever the messages, the bytes and the cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from wire.streams import cuts, one_by_one
from wire.websocket_model import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MIB,
    PING,
    PONG,
    TEXT,
    Model,
    close_payload,
    decoded,
    frame,
)

from chatproto.wire.encoding import encode_close, encode_frame, encode_masked
from chatproto.wire.messages import Side
from chatproto.wire.websocket import Event, WebSocketDecoder

SIDES = st.sampled_from(Side)
LIMITS = st.sampled_from([1, 5, 20, 130, MIB])
OPCODES = st.sampled_from([CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG])
CODES = st.sampled_from([1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999])
REASONS = st.text(max_size=123).filter(lambda reason: len(reason.encode()) <= 123)
LENGTHS = st.sampled_from([0, 1, 125, 126, 65_535, 65_536, 2**63 - 1, 2**63])
KEYS = st.binary(min_size=4, max_size=4)

MESSAGES = st.one_of(
    st.builds(Event, st.just(TEXT), st.text(max_size=80)),
    st.builds(Event, st.just(TEXT), st.text(st.characters(max_codepoint=127), max_size=300)),
    st.builds(Event, st.just(BINARY), st.binary(max_size=300)),
)
PINGS = st.builds(Event, st.sampled_from([PING, PONG]), st.binary(max_size=125))
CLOSES = st.builds(Event, st.just(CLOSE), REASONS, CODES)

# mostly UTF-8, or nearly
TEXTS = st.one_of(
    st.text(max_size=20).map(str.encode),
    st.binary(max_size=6),
    st.lists(
        st.sampled_from(
            [b"a" * 9, "é".encode(), "日".encode(), "👋".encode(), b"\xed", b"\xa0", b"\xf4\x8f", b"\xe0"]
        ),
        max_size=6,
    ).map(b"".join),
)


@st.composite
def frames(draw: st.DrawFn, side: Side) -> bytes:
    """A frame to *side*, now and then with something wrong."""
    opcode = draw(OPCODES)
    payload = draw(
        st.builds(close_payload, CODES | st.integers(0, 65_535), TEXTS) if opcode == CLOSE else TEXTS
    )
    wrong = draw(st.integers(0, 11))
    return frame(
        draw(st.integers(0, 15)) if wrong == 0 else opcode,
        payload * draw(st.sampled_from([1, 1, 1, 30])),
        to=side,
        fin=draw(st.booleans()) if opcode < CLOSE or wrong == 1 else True,
        rsv=draw(st.integers(0, 7)) if wrong == 2 else 0,
        is_masked=side is not Side.SERVER if wrong == 3 else None,
        length=draw(LENGTHS) if wrong == 4 else None,
        width=draw(st.sampled_from([2, 8])) if wrong == 5 else None,
        key=draw(KEYS),
    )  # fmt: skip


@st.composite
def streams(draw: st.DrawFn, side: Side) -> bytes:
    """Bytes of which a good part are frames to *side*."""
    data = b"".join(draw(st.lists(frames(side) | st.binary(max_size=5), max_size=8)))
    if draw(st.integers(0, 4)) == 0 and data:
        changed = bytearray(data)
        changed[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
        data = bytes(changed)
    return data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data


def encoded(event: Event, to: Side) -> bytes:
    """*event* as one frame, by the encoder of the side that sends it."""
    payload = encode_close(event.code, str(event.data)) if event.opcode == CLOSE else event.data
    if isinstance(payload, str):
        payload = payload.encode()
    return (encode_masked if to is Side.SERVER else encode_frame)(event.opcode, payload)


class TestStreams:
    @given(st.data(), SIDES, st.lists(MESSAGES | PINGS, max_size=8), st.none() | CLOSES)
    def test_what_is_encoded_comes_out_however_it_is_cut(
        self, data: st.DataObject, side: Side, sent: list[Event], close: Event | None
    ) -> None:
        sent = sent if close is None else [*sent, close]
        stream = b"".join(encoded(event, side) for event in sent)
        assert decoded(side, data.draw(cuts(stream))) == (sent, None)
        assert decoded(side, one_by_one(stream)) == (sent, None)

    @given(st.data(), SIDES, st.lists(MESSAGES, max_size=4), st.lists(PINGS, min_size=1, max_size=3))
    def test_fragments_are_put_together_and_control_frames_go_between(
        self, data: st.DataObject, side: Side, sent: list[Event], pings: list[Event]
    ) -> None:
        stream = b""
        expected: list[Event] = []
        for event in sent:
            whole = event.data.encode() if isinstance(event.data, str) else event.data
            fragments = data.draw(cuts(whole))
            for i, fragment in enumerate(fragments):
                fin = i == len(fragments) - 1
                stream += frame(
                    CONTINUATION if i else event.opcode, fragment, to=side, fin=fin, key=data.draw(KEYS)
                )
                if not fin and data.draw(st.booleans()):
                    expected.append(data.draw(st.sampled_from(pings)))
                    stream += encoded(expected[-1], side)
            expected.append(event)
        assert decoded(side, data.draw(cuts(stream))) == (expected, None)

    @given(st.data(), SIDES, LIMITS, LIMITS)
    def test_the_same_bytes_give_the_same_in_any_cut(
        self, data: st.DataObject, side: Side, message_limit: int, frame_limit: int
    ) -> None:
        stream = data.draw(streams(side))
        whole = decoded(side, [stream], message_limit, frame_limit)
        assert decoded(side, data.draw(cuts(stream)), message_limit, frame_limit) == whole
        assert decoded(side, one_by_one(stream), message_limit, frame_limit) == whole

    @given(st.data(), SIDES, LIMITS, LIMITS)
    def test_any_bytes_give_what_the_rfc_says(
        self, data: st.DataObject, side: Side, message_limit: int, frame_limit: int
    ) -> None:
        stream = data.draw(streams(side) | st.binary(max_size=60))
        expected = Model(side, message_limit, frame_limit).decode(stream)
        events, fault = decoded(side, [stream], message_limit, frame_limit)
        assert (events, fault and fault.code) == (expected.events, expected.fault)

    @given(st.data(), SIDES, LIMITS)
    def test_what_is_kept_is_what_is_not_yet_an_event(
        self, data: st.DataObject, side: Side, limit: int
    ) -> None:
        stream = data.draw(streams(side))
        decoder = WebSocketDecoder(side, limit)
        received = b""
        for piece in data.draw(cuts(stream)):
            decoder.receive(piece)
            received += piece
            assert decoder.buffered_bytes == Model(side, limit, limit).decode(received).kept_bytes


class TestUtf8:
    @given(st.data(), SIDES, TEXTS | st.binary(max_size=40))
    def test_text_is_what_python_takes_for_utf_8(
        self, data: st.DataObject, side: Side, payload: bytes
    ) -> None:
        try:
            expected = [Event(TEXT, payload.decode())]
        except UnicodeDecodeError:
            expected = []
        for stream in (
            frame(TEXT, payload, to=side),
            frame(TEXT, payload[:7], to=side, fin=False) + frame(CONTINUATION, payload[7:], to=side),
        ):
            for pieces in (data.draw(cuts(stream)), one_by_one(stream), [stream]):
                got, fault = decoded(side, pieces)
                assert got == expected
                assert (fault and fault.code) == (None if expected else 1007)

    @given(SIDES, TEXTS, st.binary(max_size=4), TEXTS)
    def test_a_fault_is_found_in_the_fragment_that_has_it(
        self, side: Side, before: bytes, odd: bytes, behind: bytes
    ) -> None:
        stream = frame(TEXT, before, to=side, fin=False)
        for i, fragment in enumerate((odd, behind)):
            expected = Model(side).decode(stream)
            events, fault = decoded(side, [stream])
            assert (events, fault and fault.code) == (expected.events, expected.fault)
            stream += frame(CONTINUATION, fragment, to=side, fin=i == 1)
