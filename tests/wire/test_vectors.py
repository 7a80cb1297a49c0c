"""The frames that every encoder and decoder of the project agrees on: tests/data/vectors.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from wire.streams import decoded, in_two, one_by_one

from chatproto.wire.chat import encode_frame
from chatproto.wire.errors import ProtocolError
from chatproto.wire.jsonform import from_json, from_object, to_json, to_object
from chatproto.wire.messages import MESSAGES, Message, Side

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "vectors.json").read_text("utf-8"))
CLASSES_BY_TYPE = {cls.type: cls for cls in MESSAGES.values()}


class Valid:
    """A frame and the message in it."""

    def __init__(self, vector: dict[str, Any]) -> None:
        self.frame = bytes.fromhex(vector["hex"])
        self.shown: dict[str, Any] = vector["message"]
        cls = CLASSES_BY_TYPE[self.shown["type"]]
        fields = {name: value for name, value in self.shown.items() if name != "type"}
        if "nicks" in fields:
            fields["nicks"] = tuple(fields["nicks"])
        self.message: Message = cls(**fields)
        self.side = Side.SERVER if cls.kind < 0x80 else Side.CLIENT


VALID = [
    pytest.param(Valid(vector), id=f"{i}-{vector['message']['type']}")
    for i, vector in enumerate(VECTORS["valid"])
]
INVALID = [pytest.param(vector, id=vector["why"]) for vector in VECTORS["invalid_from_client"]]


def test_the_vectors_are_of_version_1() -> None:
    assert VECTORS["version"] == 1


def test_every_message_of_the_table_has_a_vector() -> None:
    assert {vector["message"]["type"] for vector in VECTORS["valid"]} == set(CLASSES_BY_TYPE)


@pytest.mark.parametrize("vector", VALID)
class TestValid:
    def test_the_frame_decodes_to_the_message(self, vector: Valid) -> None:
        assert decoded(vector.side, [vector.frame]) == ([vector.message], None)

    def test_the_message_encodes_to_the_frame(self, vector: Valid) -> None:
        assert encode_frame(vector.message) == vector.frame

    def test_the_frame_in_any_two_pieces_decodes_to_the_message(self, vector: Valid) -> None:
        for pieces in in_two(vector.frame):
            assert decoded(vector.side, pieces) == ([vector.message], None)

    def test_the_frame_byte_by_byte_decodes_to_the_message(self, vector: Valid) -> None:
        assert decoded(vector.side, one_by_one(vector.frame)) == ([vector.message], None)

    def test_the_object_becomes_the_message(self, vector: Valid) -> None:
        assert from_object(vector.shown, vector.side) == vector.message
        assert from_json(json.dumps(vector.shown), vector.side) == vector.message

    def test_the_message_becomes_the_object(self, vector: Valid) -> None:
        assert to_object(vector.message) == vector.shown
        assert json.loads(to_json(vector.message)) == vector.shown

    def test_the_object_has_the_fields_in_the_order_of_the_table(self, vector: Valid) -> None:
        assert list(to_object(vector.message)) == list(vector.shown)


@pytest.mark.parametrize("vector", INVALID)
class TestInvalid:
    def test_a_server_finds_exactly_this_error(self, vector: dict[str, str]) -> None:
        messages, fault = decoded(Side.SERVER, [bytes.fromhex(vector["hex"])])
        assert messages == []
        assert isinstance(fault, ProtocolError)
        assert fault.code.label == vector["error"]

    def test_the_error_is_the_same_in_any_cut(self, vector: dict[str, str]) -> None:
        data = bytes.fromhex(vector["hex"])
        whole = decoded(Side.SERVER, [data])
        assert decoded(Side.SERVER, one_by_one(data)) == whole
        for pieces in in_two(data):
            assert decoded(Side.SERVER, pieces) == whole

    def test_a_good_frame_before_it_still_counts(self, vector: dict[str, str]) -> None:
        good = VALID[0].values[0]
        assert isinstance(good, Valid)
        messages, fault = decoded(Side.SERVER, [good.frame + bytes.fromhex(vector["hex"])])
        assert messages == [good.message]
        assert fault is not None
        assert fault.code.label == vector["error"]
