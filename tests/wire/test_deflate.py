"""chatproto.wire.deflate: what is agreed on (RFC 7692, section 7.1)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from wire.deflation import BITS_C, BITS_S, NCT_C, NCT_S, PLAIN, WINDOWS, accepted, agreed, spelled

from chatproto.wire.deflate import Deflate, agree, check_answer, make_offer
from chatproto.wire.headers import format_extension, parse_extensions

ALL_WANTS = [
    Deflate(
        server_no_context_takeover=no_takeover_s,
        client_no_context_takeover=no_takeover_c,
        server_max_window_bits=bits_s,
        client_max_window_bits=bits_c,
    )
    for no_takeover_s, no_takeover_c in product((False, True), repeat=2)
    for bits_s, bits_c in product((8, 9, 12, 15), repeat=2)
]


def answered(offers: str, want: Deflate = PLAIN) -> str | None:
    """What a server answers to a header with *offers*."""
    agreement = agree(parse_extensions([offers]), want)
    return None if agreement is None else format_extension(agreement[1])


def every(*, bits_c_alone: bool) -> Iterator[dict[str, str | None]]:
    """Every combination of parameters that is well-formed."""
    bits: list[str | None] = [str(bits) for bits in WINDOWS]
    for no_takeover_s, no_takeover_c in product((False, True), repeat=2):
        for bits_s, bits_c in product(["", *bits], ["", *bits, *([None] if bits_c_alone else [])]):
            given: dict[str, str | None] = {}
            given |= {NCT_S: None} if no_takeover_s else {}
            given |= {NCT_C: None} if no_takeover_c else {}
            given |= {BITS_S: bits_s} if bits_s else {}
            given |= {BITS_C: bits_c} if bits_c != "" else {}
            yield given


class TestServer:
    """RFC 7692, sections 5 and 7.1: a server accepts an offer, or declines it."""

    @pytest.mark.parametrize(
        ("offers", "answer"),
        [
            ("permessage-deflate", "permessage-deflate"),
            # The examples of section 7.1.3.
            (
                "permessage-deflate; client_max_window_bits; server_max_window_bits=10",
                "permessage-deflate; server_max_window_bits=10",
            ),
            (
                "permessage-deflate; client_max_window_bits; server_max_window_bits=10, "
                "permessage-deflate; client_max_window_bits",
                "permessage-deflate; server_max_window_bits=10",
            ),
            # As browsers offer it.
            ("permessage-deflate; client_max_window_bits", "permessage-deflate"),
            # A value may be quoted (RFC 6455, section 9.1).
            (
                'permessage-deflate; server_max_window_bits="10"',
                "permessage-deflate; server_max_window_bits=10",
            ),
            ("x-webkit-deflate-frame", None),
            (
                "x-webkit-deflate-frame, permessage-deflate; server_no_context_takeover",
                "permessage-deflate; server_no_context_takeover",
            ),
            ("permessage-bzip2, permessage-deflate", "permessage-deflate"),
            ("Permessage-Deflate", None),
            ("", None),
        ],
    )
    def test_answers_offers_in_their_order(self, offers: str, answer: str | None) -> None:
        assert answered(offers) == answer

    def test_answers_every_offer_as_section_7_1_has_it(self) -> None:
        for given_, want in product(every(bits_c_alone=True), ALL_WANTS):
            agreement = agree(parse_extensions([spelled(given_)]), want)
            assert agreement is not None
            deflate, (name, parameters) = agreement
            answer = dict(parameters)
            assert name == "permessage-deflate"
            assert len(answer) == len(parameters)
            # 7.1.1.1: accepted by saying it, and said unasked where the server wants it
            assert (NCT_S in answer) is (NCT_S in given_ or want.server_no_context_takeover)
            # 7.1.1.2: the server may say it, and then keeps no window for that client
            assert (NCT_C in answer) is (NCT_C in given_ or want.client_no_context_takeover)
            # 7.1.2.1: accepted with the same window or a smaller one
            server_bits = int(answer.get(BITS_S) or 15)
            assert BITS_S in answer or BITS_S not in given_
            assert server_bits == min(int(given_.get(BITS_S) or 15), want.server_max_window_bits)
            # 7.1.2.2: only said to a client that knows it, with its window or a smaller one
            client_bits = int(answer.get(BITS_C) or 15)
            if BITS_C in given_:
                assert client_bits == min(int(given_[BITS_C] or 15), want.client_max_window_bits)
            else:
                assert BITS_C not in answer
            assert None not in (answer.get(BITS_S, ""), answer.get(BITS_C, ""))
            assert agreed(deflate) == (NCT_S in answer, NCT_C in answer, server_bits, client_bits)

    @pytest.mark.parametrize(
        "parameter",
        [
            "server_no_context_takeover=1",
            "server_no_context_takeover=true",
            "client_no_context_takeover=0",
            "server_max_window_bits",
            *(
                f"{key}={value}"
                for key in (BITS_S, BITS_C)
                for value in ("7", "16", "0", "08", "010", "-9", "+9", "9.0", "0x9", "1e1", "x", "150", "1_0")
            ),
            "server_no_context_takeover; server_no_context_takeover",
            "client_no_context_takeover; client_no_context_takeover",
            "server_max_window_bits=10; server_max_window_bits=10",
            "client_max_window_bits; client_max_window_bits=10",
            "unknown",
            "Server_no_context_takeover",
            "server_max_window_bits=10; mem_level=1",
        ],
    )
    def test_declines_an_offer_that_section_7_1_does_not_know(self, parameter: str) -> None:
        assert answered(f"permessage-deflate; {parameter}") is None
        assert answered(f"permessage-deflate; {parameter}, permessage-deflate") == "permessage-deflate"

    def test_keeps_its_other_settings(self) -> None:
        want = Deflate(min_message_bytes=7, level=3, memory_level=4)
        agreement = agree([("permessage-deflate", ())], want)
        assert agreement is not None
        assert (agreement[0].min_message_bytes, agreement[0].level, agreement[0].memory_level) == (7, 3, 4)


class TestClient:
    """RFC 7692, sections 5 and 7.1: a client offers, and judges the answer."""

    @pytest.mark.parametrize(
        ("want", "offer"),
        [
            (PLAIN, "permessage-deflate; client_max_window_bits"),
            # Some servers agree and do not heed that the client asks them to forget, so it does only if told.
            (Deflate(), "permessage-deflate; client_max_window_bits"),
            (
                Deflate(server_no_context_takeover=True),
                "permessage-deflate; server_no_context_takeover; client_max_window_bits",
            ),
            (
                Deflate(
                    server_no_context_takeover=True,
                    client_no_context_takeover=True,
                    server_max_window_bits=8,
                    client_max_window_bits=9,
                ),
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; "
                "server_max_window_bits=8; client_max_window_bits=9",
            ),
        ],
    )
    def test_offers_what_it_wants(self, want: Deflate, offer: str) -> None:
        assert format_extension(make_offer(want)) == offer

    def test_judges_every_answer_as_section_7_1_has_it(self) -> None:
        for answer, want in product(every(bits_c_alone=False), ALL_WANTS):
            server_bits = int(answer.get(BITS_S) or 15)
            client_bits = int(answer.get(BITS_C) or want.client_max_window_bits)
            fits = (
                (NCT_S in answer or not want.server_no_context_takeover)
                and server_bits <= want.server_max_window_bits
                and client_bits <= want.client_max_window_bits
            )
            try:
                found = accepted(spelled(answer), want)
            except ValueError:
                assert not fits
            else:
                assert fits
                # Nothing keeps a client from not taking over what it may (7.1.1.2).
                no_takeover = NCT_C in answer or want.client_no_context_takeover
                assert agreed(found) == (NCT_S in answer, no_takeover, server_bits, client_bits)

    @pytest.mark.parametrize(
        "answer",
        [
            "permessage-bzip2",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover=1",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; client_max_window_bits=08",
            "permessage-deflate; unknown=1",
        ],
    )
    def test_fails_on_an_answer_that_cannot_be(self, answer: str) -> None:
        with pytest.raises(ValueError, match=r"."):
            accepted(answer)

    def test_and_server_agree_on_the_same_whatever_they_want(self) -> None:
        for client, server in product(ALL_WANTS, ALL_WANTS):
            agreement = agree([make_offer(client)], server)
            assert agreement is not None
            assert agreed(check_answer(agreement[1], client)) == agreed(agreement[0])


@pytest.mark.parametrize(
    "parameters",
    [
        {"level": 0},
        {"level": 10},
        {"memory_level": 0},
        {"memory_level": 10},
        {"min_message_bytes": -1},
        {"server_max_window_bits": 7},
        {"client_max_window_bits": 16},
    ],
)
def test_settings_that_cannot_be_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(parameters))):
        Deflate(**parameters)
