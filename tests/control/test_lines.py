"""The lines of the control socket: bounded, in any cut, and harmless."""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatproto.control.lines import Lines, NotALine, address_of, line_of, object_of

LINE = st.binary(max_size=20).filter(lambda line: b"\n" not in line)


@given(lines=st.lists(LINE), rest=LINE, cuts=st.lists(st.integers(0, 400)))
def test_same_bytes_same_lines_in_any_cut(lines: list[bytes], rest: bytes, cuts: list[int]) -> None:
    whole = b"".join(line + b"\n" for line in lines) + rest
    places = sorted({0, len(whole), *(min(cut, len(whole)) for cut in cuts)})
    decoder = Lines(20)
    found: list[bytes] = []
    for begin, end in pairwise(places):
        found += decoder.receive(whole[begin:end])
    assert found == lines


@pytest.mark.parametrize("data", [b"12345678901", b"ok\n12345678901", b"12345678901\nok\n"])
def test_a_line_that_is_too_long_is_refused_before_it_is_whole(data: bytes) -> None:
    with pytest.raises(NotALine, match=r"^a line has at most 10 bytes$"):
        Lines(10).receive(data)
    assert Lines(11).receive(b"12345678901\n") == [b"12345678901"]


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.booleans() | st.none()))
def test_what_is_written_is_read_and_is_one_line_of_ascii(found: dict[str, object]) -> None:
    line = line_of(found)
    assert line.isascii()
    assert line.index(b"\n") == len(line) - 1
    assert object_of(line) == found


@given(st.binary(max_size=200))
def test_whatever_comes_is_an_object_or_refused(line: bytes) -> None:
    with suppress(NotALine):
        assert isinstance(object_of(line), dict)


def test_a_long_path_has_a_short_address(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        assert address_of("/run/chat.ctl", folder) == "/run/chat.ctl"
        assert address_of(f"/{'x' * 106}", folder) == f"/{'x' * 106}"
        assert address_of(f"/{'x' * 200}/chat.ctl", folder) == f"/proc/self/fd/{folder}/chat.ctl"
    finally:
        os.close(folder)
