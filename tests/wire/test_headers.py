"""chatproto.wire.headers: fields, and the grammar of those that handshakes use."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatproto.wire.headers import (
    Extension,
    HeaderFault,
    Headers,
    format_extension,
    parse_cookies,
    parse_extensions,
    parse_protocols,
    parse_tokens,
)

TOKEN_CHARS = "abcXYZ019!#$%&'*+.^_`|~-"

tokens = st.text(TOKEN_CHARS, min_size=1, max_size=8)
extensions = st.tuples(tokens, st.lists(st.tuples(tokens, st.none() | tokens), max_size=4).map(tuple))
blanks = st.text(" \t", max_size=2)


class TestHeaders:
    FIELDS = (("Host", "example.com"), ("Cookie", "a=1"), ("COOKIE", "b=2"))

    def test_are_found_whatever_the_case_of_their_names(self) -> None:
        headers = Headers(self.FIELDS)
        assert headers["hOST"] == "example.com"
        assert "HOST" in headers
        assert "Origin" not in headers
        assert headers.get("origin") is None

    def test_of_one_name_are_joined_or_kept_apart(self) -> None:
        headers = Headers(self.FIELDS)
        assert headers["cookie"] == "a=1, b=2"
        assert headers.all("Cookie") == ["a=1", "b=2"]
        assert headers.all("origin") == []

    def test_are_a_mapping_with_names_in_lower_case(self) -> None:
        headers = Headers(self.FIELDS)
        assert dict(headers) == {"host": "example.com", "cookie": "a=1, b=2"}
        assert headers == {"host": "example.com", "cookie": "a=1, b=2"}
        assert len(headers) == 2

    def test_that_may_come_once_are_a_fault_when_they_come_twice(self) -> None:
        headers = Headers(self.FIELDS)
        assert headers.one("Host") == "example.com"
        assert headers.one("Origin") is None
        with pytest.raises(HeaderFault, match="cookie comes more than once"):
            headers.one("cookie")

    def test_cannot_be_changed_through_what_they_give(self) -> None:
        headers = Headers(self.FIELDS)
        headers.all("cookie").append("c=3")
        assert headers.all("cookie") == ["a=1", "b=2"]

    def test_can_be_read_in_a_log(self) -> None:
        assert repr(Headers([("A", "1"), ("a", "2")])) == "Headers([('a', '1'), ('a', '2')])"


class TestTokens:
    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([], []),
            ([""], []),
            (["Upgrade"], ["Upgrade"]),
            (["keep-alive, Upgrade"], ["keep-alive", "Upgrade"]),
            (["keep-alive,Upgrade"], ["keep-alive", "Upgrade"]),
            (["\tkeep-alive \t,\t Upgrade "], ["keep-alive", "Upgrade"]),
            ([",, keep-alive ,, Upgrade,"], ["keep-alive", "Upgrade"]),
            (["keep-alive", "Upgrade"], ["keep-alive", "Upgrade"]),
            ([TOKEN_CHARS], [TOKEN_CHARS]),
        ],
    )
    def test_are_the_words_of_a_list(self, values: list[str], expected: list[str]) -> None:
        assert parse_tokens(values) == expected

    @pytest.mark.parametrize(
        "value", ["a b", 'a, "b"', "a;b", "a/b", "a=b", "(a)", "é", "a\x00", "\x0ba", "a\xa0"]
    )
    def test_are_nothing_else(self, value: str) -> None:
        with pytest.raises(HeaderFault):
            parse_tokens([value])

    def test_of_upgrade_may_have_a_version(self) -> None:
        assert parse_protocols(["h2c, HTTP/2.0", "websocket"]) == ["h2c", "HTTP/2.0", "websocket"]

    @pytest.mark.parametrize("value", ["websocket/", "/13", "a/b/c", "a b", "websocket; q=1"])
    def test_of_upgrade_are_nothing_else(self, value: str) -> None:
        with pytest.raises(HeaderFault):
            parse_protocols([value])


class TestExtensions:
    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([], []),
            ([""], []),
            ([" , ,"], []),
            (["a"], [("a", ())]),
            (["a;b"], [("a", (("b", None),))]),
            (["a;b=c"], [("a", (("b", "c"),))]),
            (["a; b = c ; d"], [("a", (("b", "c"), ("d", None)))]),
            (['a; b="c"'], [("a", (("b", "c"),))]),
            (['a; b="\\c\\d"'], [("a", (("b", "cd"),))]),
            (["a; b=1, c", "d"], [("a", (("b", "1"),)), ("c", ()), ("d", ())]),
            ([",a,,b,"], [("a", ()), ("b", ())]),
            (["a;b;b"], [("a", (("b", None), ("b", None)))]),  # what that means is for the extension to say
        ],
    )
    def test_are_read_with_their_parameters(self, values: list[str], expected: list[Extension]) -> None:
        assert parse_extensions(values) == expected

    @pytest.mark.parametrize(
        "value",
        [
            "a b",
            "a;",
            "a;;b",
            ";b",
            "a;=b",
            "a;b=",
            "a;b=,c",
            "a=b",
            "a;b=c=d",
            "a;b c",
            'a;"b"',
            'a;b="',
            'a;b="c',
            'a;b=""',
            'a;b="c d"',
            'a;b="c"d',
            'a;b="c\\',
            'a;b="c\\"',
            "a;b='c d'",
            "a, ;b",
            "a\x00",
            "a;b=é",
            "a;b\x0b",
        ],
    )
    def test_are_nothing_else(self, value: str) -> None:
        with pytest.raises(HeaderFault):
            parse_extensions([value])

    @given(st.lists(extensions, max_size=4))
    def test_are_formatted_as_they_are_read(self, found: list[Extension]) -> None:
        formatted = list(map(format_extension, found))
        assert parse_extensions(formatted) == found
        assert parse_extensions([", ".join(formatted)]) == found

    @given(st.text(TOKEN_CHARS + ' \t",;=\\', max_size=40))
    def test_any_text_is_a_list_or_a_fault(self, value: str) -> None:
        try:
            found = parse_extensions([value])
        except HeaderFault:
            return
        assert parse_extensions(map(format_extension, found)) == found

    def test_cost_no_more_than_their_length(self) -> None:
        # A search that went back and forth would take minutes for these, so this fails whatever the machine.
        started_s = time.process_time()
        for piece in (" ", "\t;", "a;", ",", '"', "\\\\", 'a;b="\\a', "a;b = ", "; a", "a ; b = c ;"):
            for value in (piece * 50_000, "a;b" + piece * 50_000, 'a;b="' + piece * 50_000 + "\x00"):
                with contextlib.suppress(HeaderFault):
                    parse_extensions([value])
        assert time.process_time() - started_s < 30


class TestCookies:
    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([], {}),
            ([""], {}),
            (["a=1"], {"a": "1"}),
            (["a=1; b=2;c=3 ;"], {"a": "1", "b": "2", "c": "3"}),
            (["a=1", "b=2"], {"a": "1", "b": "2"}),
            (["a=1; a=2"], {"a": "1"}),
            (['a="1"; b="; c="'], {"a": "1", "b": '"', "c": '"'}),
            (["a=b=c=="], {"a": "b=c=="}),
            (["a="], {"a": ""}),
            (["a; =1; ;; b=2"], {"b": "2"}),
            (["näme=välue; {x}=[y]; b=2"], {"näme": "välue", "{x}": "[y]", "b": "2"}),
        ],
    )
    def test_are_taken_as_far_as_they_make_sense(self, values: list[str], expected: dict[str, str]) -> None:
        assert parse_cookies(values) == expected
