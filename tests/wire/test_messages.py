"""The one table of messages: what stands in it, and what every message can do."""

from __future__ import annotations

import copy
import pickle
import re
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from wire.streams import CLASSES, plain

from chatproto.wire import messages
from chatproto.wire.messages import (
    MAX_U64,
    MESSAGES,
    FieldType,
    Join,
    Leave,
    Message,
    Ping,
    Roster,
    Say,
    Who,
)

PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"

# Version 1 of the protocol. A row that changes here breaks every client that is out there.
ROWS = [
    "0x01 join nick:str room:str epoch:u64 after:u64 limit:u16",
    "0x02 say id:u64 room:str text:str",
    "0x03 leave room:str",
    "0x04 nick nick:str",
    "0x05 who room:str",
    "0x06 history room:str before:u64 limit:u16",
    "0x07 tell id:u64 nick:str text:str",
    "0x08 ping token:u64",
    "0x09 login user:str secret:str",
    "0x0A search room:str query:str limit:u16",
    "0x0B moderate action:u8 room:str nick:str seconds:u32 reason:str",
    "0x81 welcome id:u64 nick:str epoch:u64 server:str",
    "0x82 joined room:str nick:str",
    "0x83 left room:str nick:str reason:str",
    "0x84 chat room:str seq:u64 time:u64 nick:str text:str",
    "0x85 renamed old:str new:str",
    "0x86 roster room:str last:u64 total:u32 nicks:u16 x str",
    "0x87 end room:str first:u64 last:u64 status:u8",
    "0x88 told time:u64 nick:str text:str",
    "0x89 pong token:u64",
    "0x8A ack id:u64 seq:u64 time:u64",
    "0x8B error code:u16 id:u64 text:str",
    "0x8C notice text:str",
    "0x8D lagged room:str first:u64 last:u64",
    "0x8E goodbye retry_ms:u32 text:str",
]

every_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.type)


def fields_of(cls: type[Message]) -> str:
    return " ".join(f"{field.name}:{field.type.value}" for field in cls.fields)


class TestTable:
    def test_the_rows_are_those_of_version_1(self) -> None:
        assert [f"0x{cls.kind:02X} {cls.type} {fields_of(cls)}" for cls in MESSAGES.values()] == ROWS

    def test_the_rows_are_those_of_the_documentation(self) -> None:
        documented = re.findall(
            r"^\| `(0x..)` \| `(\w+)` \| ([^|]+) \| ([^|]+) \|$", PAGE.read_text("utf-8"), re.MULTILINE
        )
        assert documented == [
            (f"0x{cls.kind:02X}", cls.type, fields_of(cls), cls.meaning) for cls in MESSAGES.values()
        ]

    def test_each_class_is_found_under_its_own_kind(self) -> None:
        assert {kind: cls.kind for kind, cls in MESSAGES.items()} == {kind: kind for kind in MESSAGES}

    def test_no_class_took_the_kind_of_another(self) -> None:
        declared = {
            value
            for value in vars(messages).values()
            if isinstance(value, type) and issubclass(value, Message) and value is not Message
        }
        assert declared == set(MESSAGES.values())

    def test_types_are_unique(self) -> None:
        assert len({cls.type for cls in MESSAGES.values()}) == len(MESSAGES)

    def test_no_field_is_called_type_because_the_json_form_needs_that_name(self) -> None:
        assert not [cls for cls in CLASSES if "type" in [field.name for field in cls.fields]]

    def test_the_public_names_are_the_table_and_every_message_in_it(self) -> None:
        others = {"MAX_U64", "MESSAGES", "Field", "FieldType", "Message", "Side"}
        assert sorted(messages.__all__) == sorted(others | {cls.__name__ for cls in CLASSES})

    def test_the_largest_u64_is_what_json_and_javascript_hold_exactly(self) -> None:
        assert MAX_U64 == 2**53 - 1 == int(float(MAX_U64))


@every_class
class TestEveryMessage:
    def test_is_a_value(self, cls: type[Message]) -> None:
        assert plain(cls) == plain(cls)
        assert hash(plain(cls)) == hash(plain(cls))

    def test_differs_from_one_with_another_value_in_any_field(self, cls: type[Message]) -> None:
        for field in cls.fields:
            other = plain(cls, **{field.name: ("x",) if field.type is FieldType.STRS else 99})
            assert other != plain(cls)

    def test_cannot_be_changed(self, cls: type[Message]) -> None:
        with pytest.raises(FrozenInstanceError):
            setattr(plain(cls), cls.fields[0].name, "other")

    def test_takes_no_room_for_anything_but_its_fields(self, cls: type[Message]) -> None:
        assert not hasattr(plain(cls), "__dict__")
        assert [field.name for field in cls.fields] == list(cls.__slots__)

    def test_survives_pickling_and_copying(self, cls: type[Message]) -> None:
        message = plain(cls)
        assert pickle.loads(pickle.dumps(message)) == message
        assert copy.deepcopy(message) == message

    def test_names_its_type_its_kind_and_its_meaning_in_its_documentation(self, cls: type[Message]) -> None:
        assert cls.__doc__ == f"`{cls.type}` (0x{cls.kind:02X}): {cls.meaning}."


def test_messages_of_two_classes_differ_even_with_equal_fields() -> None:
    who: Message = Who("lobby")
    assert who != Leave("lobby")


def test_the_nickname_alone_is_enough_for_a_join() -> None:
    assert Join("ann") == Join(nick="ann", room="", epoch=0, after=0, limit=0)


def test_a_message_shows_its_fields() -> None:
    assert repr(Ping(7)) == "Ping(token=7)"


def test_a_missing_field_is_a_local_error() -> None:
    with pytest.raises(TypeError):
        Say(1, "lobby")  # type: ignore[call-arg]


def test_the_base_class_has_no_row() -> None:
    assert Message not in MESSAGES.values()
    assert Roster in MESSAGES.values()
