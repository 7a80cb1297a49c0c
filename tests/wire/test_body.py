"""chatproto.wire.body: the bodies of responses, as far as they are wanted (RFC 9112, sections 6 and 7)."""

from __future__ import annotations

import http.client
import io
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire.streams import cuts, one_by_one

from chatproto.wire.body import BodyReader
from chatproto.wire.headers import Headers

CHUNKED = Headers([("Transfer-Encoding", "chunked")])
MOST_BYTES = 1_000


def read(
    pieces: Iterable[bytes], headers: Headers, status: int = 403, max_bytes: int = MOST_BYTES
) -> tuple[bytes, bool]:
    """What is read of *pieces*, and whether that is known to be all."""
    reader = BodyReader(status, headers, max_bytes)
    for piece in pieces:
        reader.receive(piece)
    return reader.body, reader.is_over


def chunk(data: bytes, more: bytes = b"") -> bytes:
    return b"%x%s\r\n%s\r\n" % (len(data), more, data)


class TestLengths:
    def test_a_body_has_the_length_that_was_said(self) -> None:
        headers = Headers([("Content-Length", "5")])
        assert read([b"hell"], headers) == (b"hell", False)
        assert read([b"hell", b"o"], headers) == (b"hello", True)
        assert read([b"hello, and more"], headers) == (b"hello", True)

    def test_without_one_it_ends_with_the_connection(self) -> None:
        assert read([b"hello", b" again"], Headers()) == (b"hello again", False)

    def test_an_empty_one_is_over_at_once(self) -> None:
        assert read([], Headers([("Content-Length", "0")])) == (b"", True)

    @pytest.mark.parametrize("status", [0, 101, 204, 304])
    def test_some_responses_have_none(self, status: int) -> None:
        for headers in (Headers(), Headers([("Content-Length", "5")]), CHUNKED):
            assert read([b"5\r\nhello\r\n"], headers, status) == (b"", True)

    @pytest.mark.parametrize("length", ["", "five", "-5", "+5", "5, 5", "²", "٣", "0x5", "5 5", "9" * 19])
    def test_one_that_is_none_says_nothing(self, length: str) -> None:
        assert read([b"hello"], Headers([("Content-Length", length)])) == (b"hello", False)

    def test_no_more_is_read_than_is_wanted(self) -> None:
        for headers in (Headers(), Headers([("Content-Length", "1000000")])):
            assert read([b"x" * 600] * 3, headers) == (b"x" * MOST_BYTES, True)
        assert read([chunk(b"x" * 600)] * 3, CHUNKED) == (b"x" * MOST_BYTES, True)


class TestChunks:
    def test_a_body_is_what_its_chunks_have(self) -> None:
        stream = chunk(b"hello, ") + chunk(b"0\r\n\r\n") + chunk(b"A" * 26) + b"0\r\n\r\n"
        for pieces in ([stream], list(one_by_one(stream))):
            assert read(pieces, CHUNKED) == (b"hello, 0\r\n\r\n" + b"A" * 26, True)

    def test_extensions_and_trailers_are_passed_over(self) -> None:
        stream = chunk(b"hello", b' ; name="value"') + b"0;last\r\nX-Trailer: yes\r\nX-Other: 5\r\n\r\n"
        for pieces in ([stream], list(one_by_one(stream))):
            assert read(pieces, CHUNKED) == (b"hello", True)
        assert read([stream[:-2]], CHUNKED) == (b"hello", False)

    def test_the_encoding_goes_before_a_length(self) -> None:
        headers = Headers([("Content-Length", "3"), ("Transfer-Encoding", "Chunked")])
        assert read([chunk(b"hello") + b"0\r\n\r\n"], headers) == (b"hello", True)

    def test_another_encoding_ends_with_the_connection(self) -> None:
        headers = Headers([("Transfer-Encoding", "gzip"), ("Content-Length", "3")])
        assert read([b"hello"], headers) == (b"hello", False)

    @pytest.mark.parametrize(
        "wrong", [b"x\r\n", b"\r\n", b"-5\r\n", b"5 5\r\n", b"f" * 16 + b"\r\n", b"1" * 1_025]
    )
    def test_what_is_none_ends_it(self, wrong: bytes) -> None:
        for pieces in ([chunk(b"hello") + wrong], list(one_by_one(chunk(b"hello") + wrong))):
            assert read(pieces, CHUNKED) == (b"hello", True)

    def test_trailers_without_end_come_to_an_end(self) -> None:
        assert read([b"0\r\n" + b"x" * 1_025], CHUNKED) == (b"", True)

    @given(st.data(), st.lists(st.binary(min_size=1, max_size=40), max_size=6))
    def test_it_is_the_same_in_any_cut_and_as_the_standard_library_has_it(
        self, data: st.DataObject, contents: list[bytes]
    ) -> None:
        stream = b"".join(map(chunk, contents)) + b"0\r\n\r\n"
        assert read(data.draw(cuts(stream)), CHUNKED) == (b"".join(contents), True)
        response = http.client.HTTPResponse(
            _Received(b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n" + stream)  # type: ignore[arg-type]
        )
        response.begin()
        assert response.read() == b"".join(contents)

    @given(st.data(), st.binary(max_size=60) | st.text("0123456789abcdef;\r\n", max_size=40).map(str.encode))
    def test_whatever_comes_comes_to_the_same_in_any_cut(self, data: st.DataObject, stream: bytes) -> None:
        for headers in (CHUNKED, Headers(), Headers([("Content-Length", "20")])):
            assert read(data.draw(cuts(stream)), headers) == read([stream], headers)


class _Received:
    """What `HTTPResponse` takes for a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)
