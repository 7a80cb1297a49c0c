"""The JSON form of the messages (docs/protocol.md, section 4)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from wire.streams import CLIENT_CLASSES, NUMBERS, STRINGS, decoding_side, plain

from chatproto.wire import jsonform
from chatproto.wire.errors import ErrorCode, ProtocolError
from chatproto.wire.jsonform import from_json, from_object, to_json, to_object
from chatproto.wire.messages import (
    FieldType,
    Join,
    Joined,
    Leave,
    Message,
    Moderate,
    Notice,
    Ping,
    Pong,
    Roster,
    Say,
    Search,
    Side,
    Who,
)

BOTH = pytest.mark.parametrize("side", Side)


def reason_of(found: object) -> str:
    """Why *found* is malformed."""
    assert isinstance(found, ProtocolError), found
    assert found.code is ErrorCode.MALFORMED
    return found.reason


def with_field(cls: type[Message], name: str, value: object) -> Message | ProtocolError | None:
    """What a message of *cls* is taken for that has *value* in one field."""
    return from_object(to_object(plain(cls)) | {name: value}, decoding_side(cls))


class TestFields:
    @pytest.mark.parametrize("cls", CLIENT_CLASSES, ids=lambda cls: cls.type)
    def test_what_a_client_leaves_out_is_0_or_empty(self, cls: type[Message]) -> None:
        empty = cls(*("" if field.type is FieldType.STR else 0 for field in cls.fields))
        assert from_json(json.dumps({"type": cls.type}), Side.SERVER) == empty

    def test_what_a_server_leaves_out_is_0_or_empty_too(self) -> None:
        assert from_json('{"type":"roster"}', Side.CLIENT) == Roster("", 0, 0, ())

    def test_null_is_not_the_same_as_left_out(self) -> None:
        assert reason_of(from_json('{"type":"ping","token":null}', Side.SERVER)) == (
            "ping: token is not a whole number from 0 to 9007199254740991"
        )
        assert reason_of(from_json('{"type":"who","room":null}', Side.SERVER)) == "who: room is not a string"
        assert reason_of(from_json('{"type":"roster","nicks":null}', Side.CLIENT)) == (
            "roster: nicks is not an array of strings"
        )

    @BOTH
    def test_names_that_the_table_does_not_have_are_ignored(self, side: Side) -> None:
        cls: type[Message] = Ping if side is Side.SERVER else Pong
        shown = {"type": cls.type, "token": 7, "colour": "red", "": [], "kind": 3, "fields": None}
        assert from_object(shown, side) == plain(cls, token=7)

    def test_the_last_of_two_equal_names_counts(self) -> None:
        text = '{"type":"ping","token":1,"type":"who","room":"a","room":"b"}'
        assert from_json(text, Side.SERVER) == Who("b")

    def test_the_order_of_the_names_does_not_matter(self) -> None:
        text = '{"text":"hi","room":"lobby","id":7,"type":"say"}'
        assert from_json(text, Side.SERVER) == Say(7, "lobby", "hi")


class TestNumbers:
    @pytest.mark.parametrize(("cls", "name", "most"), NUMBERS)
    def test_each_width_holds_its_largest_number_and_0_and_no_more(
        self, cls: type[Message], name: str, most: int
    ) -> None:
        assert with_field(cls, name, most) == plain(cls, **{name: most})
        assert with_field(cls, name, 0) == plain(cls, **{name: 0})
        why = f"{cls.type}: {name} is not a whole number from 0 to {most}"
        wrong: Any
        for wrong in (-1, most + 1, 2**64, 10**400, True, False, 1.0, 0.5, "1", [], {}, None):
            assert reason_of(with_field(cls, name, wrong)) == why

    @pytest.mark.parametrize("number", ["1.0", "1e3", "1E0", "0.1", "-1", "9007199254740992", "true", '"1"'])
    def test_what_is_written_like_no_whole_number_is_none(self, number: str) -> None:
        assert "whole number" in reason_of(from_json(f'{{"type":"ping","token":{number}}}', Side.SERVER))

    def test_a_number_of_thousands_of_digits_is_a_fault_and_no_work(self) -> None:
        for digits in (400, 4_000, 400_000):
            reason_of(from_json(f'{{"type":"ping","token":{"9" * digits}}}', Side.SERVER))

    @pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
    def test_constants_that_only_javascript_knows_are_not_json(self, constant: str) -> None:
        for text in (
            f'{{"type":"ping","token":{constant}}}',
            f'{{"type":"ping","other":[{constant}]}}',
            constant,
        ):
            assert reason_of(from_json(text, Side.SERVER)) == "this is not JSON"


class TestStrings:
    @pytest.mark.parametrize(("cls", "name"), STRINGS)
    def test_65535_bytes_fit_and_65536_do_not(self, cls: type[Message], name: str) -> None:
        for longest in ("x" * 65_535, "é" * 32_767 + "x", "\U0001f600" * 16_383 + "xyz"):
            assert with_field(cls, name, longest) == plain(cls, **{name: longest})
            assert reason_of(with_field(cls, name, longest + "x")) == (
                f"{cls.type}: {name} has more than 65535 bytes"
            )

    @pytest.mark.parametrize(("cls", "name"), STRINGS)
    def test_only_a_string_is_a_string(self, cls: type[Message], name: str) -> None:
        wrong: Any
        for wrong in (0, 1.5, True, None, [], ["a"], {}, b"a"):
            assert reason_of(with_field(cls, name, wrong)) == f"{cls.type}: {name} is not a string"

    @pytest.mark.parametrize("half", [r"\ud800", r"\udfff", r"a\ud83d", r"\udc00\ud800"])
    def test_half_a_surrogate_pair_is_a_fault(self, half: str) -> None:
        found = from_json(f'{{"type":"leave","room":"{half}"}}', Side.SERVER)
        assert reason_of(found) == "leave: room has half a surrogate pair"
        found = from_json(f'{{"type":"roster","nicks":["ann","{half}"]}}', Side.CLIENT)
        assert reason_of(found) == "roster: nicks has half a surrogate pair"

    def test_an_escaped_surrogate_pair_is_one_character(self) -> None:
        assert from_json(r'{"type":"leave","room":"\ud83d\ude00"}', Side.SERVER) == Leave("\U0001f600")

    def test_a_control_character_must_be_escaped(self) -> None:
        assert from_json(r'{"type":"leave","room":"\u0000\n"}', Side.SERVER) == Leave("\0\n")
        assert reason_of(from_json('{"type":"leave","room":"\n"}', Side.SERVER)) == "this is not JSON"


class TestArrays:
    @pytest.mark.parametrize("wrong", ["ann", 0, {}, {"ann": 1}, True, None])
    def test_only_an_array_is_an_array(self, wrong: object) -> None:
        found = from_object({"type": "roster", "nicks": wrong}, Side.CLIENT)
        assert reason_of(found) == "roster: nicks is not an array of strings"

    @pytest.mark.parametrize("wrong", [1, None, True, ["ann"], {}])
    def test_an_array_holds_only_strings(self, wrong: object) -> None:
        found = from_object({"type": "roster", "nicks": ["ann", wrong]}, Side.CLIENT)
        assert reason_of(found) == "roster: nicks is not a string"

    def test_an_array_has_at_most_as_many_strings_as_a_frame_can_count(self) -> None:
        most = [""] * 65_535
        assert from_object({"type": "roster", "nicks": most}, Side.CLIENT) == Roster("", 0, 0, tuple(most))
        found = from_object({"type": "roster", "nicks": [*most, ""]}, Side.CLIENT)
        assert reason_of(found) == "roster: nicks is not an array of strings"


class TestTypes:
    def test_a_server_refuses_a_type_that_it_does_not_know(self) -> None:
        for name in ("", "shout", "Say", "say ", "\ud800", "roster", "welcome"):
            found = from_object({"type": name, "nick": "ann"}, Side.SERVER)
            assert reason_of(found) == "the type of the message is unknown"

    def test_a_client_skips_a_type_that_it_does_not_know(self) -> None:
        for name in ("", "shout", "Chat", "say", "join"):
            assert from_object({"type": name, "nick": "ann"}, Side.CLIENT) is None

    @BOTH
    @pytest.mark.parametrize("shown", [{}, {"type": None}, {"type": 2}, {"type": ["say"]}, {"type": True}])
    def test_both_refuse_a_message_without_a_type(self, side: Side, shown: dict[str, Any]) -> None:
        assert reason_of(from_object(shown, side)) == "the type of the message is unknown"

    @BOTH
    @pytest.mark.parametrize(
        "text", ["[]", '["say"]', '"say"', "7", "null", "true", "1.5", '[{"type":"say"}]']
    )
    def test_both_refuse_what_is_not_an_object(self, side: Side, text: str) -> None:
        assert reason_of(from_json(text, side)) == "a message is a JSON object"

    @BOTH
    @pytest.mark.parametrize(
        "text", ["", " ", "{", "}", '{"type"', "{'type':'say'}", '{"type":"say",}', "{} {}", "\ufeff{}", "\0"]
    )
    def test_both_refuse_what_is_not_json(self, side: Side, text: str) -> None:
        assert reason_of(from_json(text, side)) == "this is not JSON"

    @BOTH
    @pytest.mark.parametrize("opening", ["[", '{"a":', '{"type":"say","text":[', "[{}, ["])
    def test_both_refuse_nesting_without_end(self, side: Side, opening: str) -> None:
        assert reason_of(from_json(opening * 100_000, side)) == "this is not JSON"

    def test_white_space_around_the_object_is_allowed(self) -> None:
        assert from_json(' \r\n{ "type" : "ping" }\t', Side.SERVER) == Ping(0)

    def test_no_reason_repeats_what_the_peer_sent(self) -> None:
        for text in (
            '{"type":"SECRET"}',
            '{"type":"login","user":["SECRET"]}',
            '{"type":"ping","token":"SECRET"}',
            '"SECRET',
        ):
            assert "SECRET" not in reason_of(from_json(text, Side.SERVER))


class TestWriting:
    def test_the_type_comes_first_and_no_white_space_is_spent(self) -> None:
        assert (
            to_json(Say(7, "lobby", "hi there")) == '{"type":"say","id":7,"room":"lobby","text":"hi there"}'
        )

    def test_text_is_written_as_itself_and_not_escaped(self) -> None:
        assert to_json(Notice("日本語 ✓")) == '{"type":"notice","text":"日本語 ✓"}'

    def test_a_roster_is_an_array(self) -> None:
        assert to_object(Roster("a", 1, 2, ("b", "c")))["nicks"] == ["b", "c"]
        assert to_json(Roster("a", 1, 2, ())) == '{"type":"roster","room":"a","last":1,"total":2,"nicks":[]}'

    @pytest.mark.parametrize(
        ("message", "why"),
        [
            (Ping(-1), "ping: token is not a whole number from 0 to 9007199254740991"),
            (Ping(2**53), "ping: token is not a whole number from 0 to 9007199254740991"),
            (Ping(True), "ping: token is not a whole number from 0 to 9007199254740991"),
            (Ping(1.5), "ping: token is not a whole number from 0 to 9007199254740991"),  # type: ignore[arg-type]
            (Search("a", "b", 65_536), "search: limit is not a whole number from 0 to 65535"),
            (Moderate(256, "", "", 0, ""), "moderate: action is not a whole number from 0 to 255"),
            (Joined("a", "\ud800"), "joined: nick has half a surrogate pair"),
            (Notice("x" * 65_536), "notice: text has more than 65535 bytes"),
            (Join(None), "join: nick is not a string"),  # type: ignore[arg-type]
        ],
    )
    def test_what_a_peer_would_refuse_is_refused_here(self, message: Message, why: str) -> None:
        for write in (to_object, to_json):
            with pytest.raises(ValueError, match="^" + why + "$"):
                write(message)

    @pytest.mark.parametrize("other", [None, "say", {"type": "say"}, Message(), Say])
    def test_only_messages_can_be_written(self, other: Any) -> None:
        for write in (to_object, to_json):
            with pytest.raises(TypeError, match=r"^only a message can be encoded, not \w+$"):
                write(other)


def test_the_public_names() -> None:
    assert jsonform.__all__ == ["from_json", "from_object", "to_json", "to_object"]
