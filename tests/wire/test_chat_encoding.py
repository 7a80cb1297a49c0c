"""The encoder of frames: every message can be encoded, and misuse is a local error."""

from __future__ import annotations

import sys
from enum import IntEnum
from typing import Any

import pytest
from wire.streams import CLASSES, MOST, NUMBERS, STRINGS, decoded, decoding_side, plain

from chatproto.wire.chat import encode_frame
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import Chat, Join, Message, Roster, Say, Side, Welcome


def test_a_frame_is_length_kind_and_fields_in_order() -> None:
    assert encode_frame(Welcome(7, "ann", 2**32, "é")) == bytes.fromhex(
        "0000001a 81 0000000000000007 0003616e6e 0000000100000000 0002c3a9"
    )


def test_the_defaults_of_join_are_encoded_like_any_value() -> None:
    assert encode_frame(Join("a")) == encode_frame(Join("a", "", 0, 0, 0))


@pytest.mark.parametrize(("cls", "name", "most"), NUMBERS)
def test_each_width_holds_0_and_its_largest_number(cls: type[Message], name: str, most: int) -> None:
    for value in (0, 1, most // 2, most - 1, most):
        message = plain(cls, **{name: value})
        assert decoded(decoding_side(cls), [encode_frame(message)]) == ([message], None)


@pytest.mark.parametrize(("cls", "name", "most"), NUMBERS)
def test_a_number_that_does_not_fit_is_a_local_error(cls: type[Message], name: str, most: int) -> None:
    for value in (-1, -(2**63), most + 1, 2**53, 2**63, 2**64, 2**64 + 1, -(2**64), 10**400, 10**5_000):
        with pytest.raises(ValueError, match=f"^{name} is from 0 to {most}"):
            encode_frame(plain(cls, **{name: value}))


@pytest.mark.parametrize(("cls", "name", "most"), NUMBERS)
def test_only_an_int_is_a_number(cls: type[Message], name: str, most: int) -> None:
    for value in (1.0, 0.5, "1", b"1", None, True, False, [1]):
        with pytest.raises(TypeError, match=f"^{name} is an int, not {type(value).__name__}$"):
            encode_frame(plain(cls, **{name: value}))


@pytest.mark.parametrize(("cls", "name"), STRINGS)
def test_a_string_holds_65535_bytes(cls: type[Message], name: str) -> None:
    for value in ("", "x" * 65_535, "é" * 32_767 + "x", "日" * 21_845, "\U0001f600" * 16_383):
        message = plain(cls, **{name: value})
        assert decoded(decoding_side(cls), [encode_frame(message)], MOST) == ([message], None)


@pytest.mark.parametrize(("cls", "name"), STRINGS)
def test_a_longer_string_is_a_local_error(cls: type[Message], name: str) -> None:
    for value in ("x" * 65_536, "é" * 32_768, "\U0001f600" * 16_384):
        with pytest.raises(ValueError, match=f"^{name} has 65536 bytes of UTF-8, and 65535 is the most$"):
            encode_frame(plain(cls, **{name: value}))


@pytest.mark.parametrize(("cls", "name"), STRINGS)
def test_only_a_str_is_a_string(cls: type[Message], name: str) -> None:
    for value in (b"x", bytearray(b"x"), 1, None, ("x",)):
        with pytest.raises(TypeError, match=f"^{name} is a str, not {type(value).__name__}$"):
            encode_frame(plain(cls, **{name: value}))


@pytest.mark.parametrize(("cls", "name"), STRINGS)
def test_half_a_surrogate_pair_is_a_local_error(cls: type[Message], name: str) -> None:
    for value in ("\ud800", "ok\udfff", "\udc00\ud800"):
        with pytest.raises(ValueError, match="surrogates not allowed"):
            encode_frame(plain(cls, **{name: value}))


def test_an_array_holds_65535_strings() -> None:
    message = Roster("", 0, 0, ("",) * 65_535)
    assert decoded(Side.CLIENT, [encode_frame(message)], MOST) == ([message], None)


def test_a_longer_array_is_a_local_error() -> None:
    with pytest.raises(ValueError, match=r"^nicks has 65536 strings, and 65535 is the most$"):
        encode_frame(Roster("", 0, 0, ("",) * 65_536))


@pytest.mark.parametrize("nicks", [["a"], "ab", None, {"a"}, 1])
def test_only_a_tuple_is_an_array(nicks: Any) -> None:
    with pytest.raises(TypeError, match=f"^nicks is a tuple of str, not {type(nicks).__name__}$"):
        encode_frame(Roster("", 0, 0, nicks))


def test_the_strings_of_an_array_are_judged_like_others() -> None:
    with pytest.raises(TypeError, match=r"^nicks is a str, not int$"):
        encode_frame(Roster("", 0, 0, ("a", 1)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^nicks has 65536 bytes of UTF-8"):
        encode_frame(Roster("", 0, 0, ("a", "x" * 65_536)))
    with pytest.raises(ValueError, match="surrogates not allowed"):
        encode_frame(Roster("", 0, 0, ("a", "\udfff")))


def test_a_frame_holds_2_to_the_24_less_1_bytes() -> None:
    # kind, two lengths, last, total, and 255 names of 65,537 bytes with their lengths
    left = MOST - (1 + 2 + 8 + 4 + 2) - 255 * 65_537
    full = Roster("", 0, 0, ("x" * 65_535,) * 255 + ("y" * (left - 2),))
    frame = encode_frame(full)
    assert len(frame) == 4 + MOST
    assert decoded(Side.CLIENT, [frame], MOST) == ([full], None)
    with pytest.raises(ValueError, match=r"^a frame of 16777216 bytes, and 16777215 is the most$"):
        encode_frame(Roster("z", 0, 0, full.nicks))


@pytest.mark.parametrize("other", [None, b"", "say", 7, Say, {"type": "ping"}, ErrorCode.MALFORMED])
def test_only_messages_can_be_encoded(other: Any) -> None:
    with pytest.raises(TypeError, match=f"^only a message can be encoded, not {type(other).__name__}$"):
        encode_frame(other)


@pytest.mark.parametrize("kind", [None, "x", -1, 0, 0x02, 0x55, 255, 256, 2**31, 2**64])
def test_a_class_that_is_not_in_the_table_cannot_be_encoded(kind: Any) -> None:
    class Own(Message):
        __slots__ = ("id", "room", "text")

    if kind is not None:
        Own.kind = kind
    with pytest.raises(TypeError, match=r"^only a message can be encoded, not Own$"):
        encode_frame(Own())


def test_the_base_class_cannot_be_encoded() -> None:
    with pytest.raises(TypeError, match=r"^only a message can be encoded, not Message$"):
        encode_frame(Message())


@pytest.mark.parametrize("text", ["", "lobby", "é", "日本"])
def test_of_a_subclass_the_value_is_encoded(text: str) -> None:
    class Name(str):
        def __len__(self) -> int:
            return 70_000

        def encode(self, *_: object) -> bytes:
            return b"other"

    class Number(IntEnum):
        SEVEN = 7

        def __index__(self) -> int:
            return 8

    name = Name(text)
    assert encode_frame(Welcome(Number.SEVEN, name, 0, name)) == encode_frame(Welcome(7, text, 0, text))
    assert encode_frame(Roster(name, 1, 2, (name,))) == encode_frame(Roster(text, 1, 2, (text,)))


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.type)
def test_no_reference_to_a_field_is_kept_or_given_away(cls: type[Message]) -> None:
    message = plain(cls)
    values = [getattr(message, field.name) for field in cls.fields]
    before = [sys.getrefcount(value) for value in values]
    for _ in range(100):
        encode_frame(message)
    # What others do with small numbers meanwhile is a few; a hundred would be this.
    assert all(abs(sys.getrefcount(value) - was) < 50 for value, was in zip(values, before, strict=True))


def test_the_message_is_not_changed() -> None:
    message = Chat("lobby", 1, 2, "ann", "日本")
    encode_frame(message)
    assert message == Chat("lobby", 1, 2, "ann", "日本")
