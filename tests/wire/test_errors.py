"""The table of errors, and what a decoder keeps of a fault."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from chatproto.wire import errors
from chatproto.wire.chat import encode_frame
from chatproto.wire.errors import ErrorCode, ProtocolError
from chatproto.wire.jsonform import to_json
from chatproto.wire.messages import Error

PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"

# Version 1 of the protocol: clients act on these numbers.
LABELS = {
    1: "malformed",
    2: "too-big",
    3: "join-first",
    4: "nick-taken",
    5: "bad-nick",
    6: "bad-room",
    7: "not-in-room",
    8: "no-such-nick",
    9: "bad-text",
    10: "login-required",
    11: "login-failed",
    12: "not-allowed",
    13: "not-stored",
    14: "too-many-rooms",
    15: "too-slow",
    16: "timeout",
    17: "rate-limited",
    18: "not-supported",
}


def test_codes_and_names_are_those_of_version_1() -> None:
    assert {code.value: code.label for code in ErrorCode} == LABELS


def test_exactly_these_are_fatal() -> None:
    assert {code.value for code in ErrorCode if code.fatal} == {1, 2, 3, 15, 16}


def test_a_failed_login_says_that_the_third_is_fatal() -> None:
    assert "the third time is fatal" in ErrorCode.LOGIN_FAILED.when


def test_each_says_when_it_happens() -> None:
    assert [code for code in ErrorCode if not code.when] == []


def test_the_rows_are_those_of_the_documentation() -> None:
    documented = re.findall(
        r"^\| (\d+) \| ([\w-]+) \| (yes|no) \| ([^|]+) \|$", PAGE.read_text("utf-8"), re.MULTILINE
    )
    assert documented == [
        (str(code.value), code.label, "yes" if code.fatal else "no", code.when) for code in ErrorCode
    ]


def test_a_code_is_found_by_its_number() -> None:
    assert ErrorCode(9) is ErrorCode.BAD_TEXT  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="19"):
        ErrorCode(19)  # type: ignore[call-arg]


def test_a_code_travels_as_its_number() -> None:
    by_code, by_number = Error(ErrorCode.BAD_NICK, 0, "no"), Error(5, 0, "no")
    assert by_code == by_number
    assert encode_frame(by_code) == encode_frame(by_number)
    assert to_json(by_code) == to_json(by_number)


def test_a_fault_is_a_value_that_cannot_be_changed() -> None:
    fault = ProtocolError(ErrorCode.MALFORMED, "why")
    assert fault == ProtocolError(ErrorCode.MALFORMED, "why")
    assert fault != ProtocolError(ErrorCode.TOO_BIG, "why")
    assert hash(fault) == hash(ProtocolError(ErrorCode.MALFORMED, "why"))
    with pytest.raises(FrozenInstanceError):
        fault.reason = "other"  # type: ignore[misc]


def test_a_fault_is_data_and_cannot_be_raised() -> None:
    assert not issubclass(ProtocolError, BaseException)


def test_the_public_names() -> None:
    assert errors.__all__ == ["ErrorCode", "ProtocolError"]
