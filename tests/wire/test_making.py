"""Messages as they are made in Python: the compiled way takes what a dataclass takes, and nothing else."""

from __future__ import annotations

import copy
import dataclasses
import gc
import inspect
import sys
from typing import Any

import pytest
from wire.allocated import kept_bytes
from wire.streams import CLASSES, plain

from chatproto.wire import chat  # which compiles the way
from chatproto.wire.messages import Join, Message, Ping, Roster, Say

every_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.type)


def values_of(message: Message) -> list[Any]:
    return [getattr(message, field.name) for field in message.fields]


def told(make: Any, *args: Any, **kwargs: Any) -> str:
    """What is raised for these arguments."""
    with pytest.raises(TypeError) as caught:
        make(*args, **kwargs)
    return str(caught.value)


def by_init(cls: type[Message]) -> Any:
    """A message made by the dataclass's own `__init__`."""

    def make(*args: Any, **kwargs: Any) -> Message:
        message = object.__new__(cls)
        cls.__init__(message, *args, **kwargs)
        return message

    return make


@every_class
class TestEveryMessage:
    def test_its_fields_are_the_arguments_however_they_are_given(self, cls: type[Message]) -> None:
        values = values_of(plain(cls))
        names = [field.name for field in cls.fields]
        for given in range(len(values) + 1):
            named = dict(zip(names[given:], values[given:], strict=True))
            made = cls(*values[:given], **named)
            assert type(made) is cls
            assert values_of(made) == values
            assert made == by_init(cls)(*values)

    def test_it_keeps_the_very_objects(self, cls: type[Message]) -> None:
        values: list[Any] = [object() for _ in cls.fields]
        assert all(has is value for has, value in zip(values_of(cls(*values)), values, strict=True))

    def test_wrong_arguments_are_told_as_the_dataclass_tells_them(self, cls: type[Message]) -> None:
        values = values_of(plain(cls))
        first = cls.fields[0].name
        calls: list[tuple[list[Any], dict[str, Any]]] = [
            ([], {}),
            ([*values, 1], {}),
            (values, {first: 1}),
            (values, {"other": 1}),
            ([], {"other": 1}),
        ]
        for args, kwargs in calls:
            assert told(cls, *args, **kwargs) == told(by_init(cls), *args, **kwargs)

    def test_its_signature_is_its_fields(self, cls: type[Message]) -> None:
        assert list(inspect.signature(cls).parameters) == [field.name for field in cls.fields]

    def test_it_can_be_replaced_and_copied(self, cls: type[Message]) -> None:
        message = plain(cls)
        name = cls.fields[0].name
        changed: Any = dataclasses.replace(message, **{name: "other"})  # type: ignore[type-var]
        assert getattr(changed, name) == "other"
        assert values_of(changed)[1:] == values_of(message)[1:]
        assert copy.copy(message) == message

    def test_nothing_is_kept_of_those_that_are_gone(self, cls: type[Message]) -> None:
        values: list[Any] = [object() for _ in cls.fields]
        before = [sys.getrefcount(value) for value in values]
        named = dict(zip([field.name for field in cls.fields], values, strict=True))
        for _ in range(10):
            cls(*values)
            cls(**named)
            told(cls, *values, 1)
        del named
        gc.collect()  # what was raised holds its frame
        assert [sys.getrefcount(value) for value in values] == before

        def make(rounds: int) -> None:
            for _ in range(100 * rounds):
                cls(*values)

        assert kept_bytes(make) < 1_000


def test_defaults_are_filled_in() -> None:
    assert values_of(Join("ann")) == ["ann", "", 0, 0, 0]
    assert values_of(Join("ann", limit=7)) == ["ann", "", 0, 0, 7]


def test_a_subclass_has_its_own_way() -> None:
    class Louder(Ping):
        __slots__ = ("noise",)

        def __init__(self, token: int) -> None:
            super().__init__(token)
            object.__setattr__(self, "noise", "!" * token)

    assert (Louder(3).token, Louder(3).noise) == (3, "!!!")  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="only a message can be encoded, not Louder"):
        chat.encode_frame(Louder(3))


def test_a_message_in_a_cycle_is_collected() -> None:
    class Seen:
        count = 0

        def __del__(self) -> None:
            Seen.count += 1

    holder: list[Any] = [Seen()]
    holder.append(Roster("lobby", 1, 1, holder))  # type: ignore[arg-type]
    del holder
    gc.collect()
    assert Seen.count == 1


def test_the_value_of_a_field_that_was_never_set_is_an_error_of_the_caller() -> None:
    with pytest.raises(AttributeError, match=r"^say: id was never set$"):
        chat.encode_frame(object.__new__(Say))
