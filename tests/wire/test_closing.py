"""The close codes, and what may travel (RFC 6455, sections 7.4.1 and 7.4.2)."""

from __future__ import annotations

import dataclasses

import pytest

from chatproto.wire.closing import CloseCode, CloseFault, is_valid_close_code

VALID = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}


def test_the_codes_that_may_travel_are_those_of_the_rfc_and_the_registry() -> None:
    assert {code for code in range(-2, 70_000) if is_valid_close_code(code)} == VALID


def test_the_table_says_of_each_code_whether_it_travels() -> None:
    assert {code for code in CloseCode if code.travels} == VALID & set(CloseCode)
    assert {int(code) for code in CloseCode if not code.travels} == {1004, 1005, 1006, 1015}
    assert all(code.when for code in CloseCode)


def test_codes_are_numbers_in_order() -> None:
    assert [int(code) for code in CloseCode] == list(range(1000, 1016))


def test_a_fault_is_data_that_does_not_change() -> None:
    fault = CloseFault(1002, "half a code")
    assert (fault.code, fault.reason) == (1002, "half a code")
    assert fault == CloseFault(CloseCode.PROTOCOL_ERROR, "half a code")
    with pytest.raises(dataclasses.FrozenInstanceError):
        fault.code = 1000  # type: ignore[misc]
