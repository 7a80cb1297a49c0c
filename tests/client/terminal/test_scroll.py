"""chatproto.client.terminal.scroll: what one reads does not move, whatever comes in."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from chatproto.client.terminal.cells import Row
from chatproto.client.terminal.layout import Reel
from chatproto.client.terminal.scroll import View
from chatproto.client.terminal.transcript import Entry, Transcript

HEIGHT = 5


class Page:
    """A room, and the part of it that is in view. A message is its number, on as many lines as told."""

    def __init__(self, count: int = 20, first: int = 1, rows_each: int = 1) -> None:
        self.transcript = Transcript()
        self.view = View()
        self.width = 40
        for seq in range(first, first + count):
            self.add(seq, rows_each)

    @property
    def reel(self) -> Reel:
        return Reel(self.transcript, self.width)

    def add(self, seq: int, rows: int = 1) -> None:
        self.transcript.add(said(seq, rows))

    def shown(self, height: int = HEIGHT) -> list[str]:
        rows = self.view.rows(self.reel, height)
        return ["".join(text for _, text in row).split(": ")[-1].strip() for row in rows]

    def up(self, count: int) -> bool:
        return self.view.up(self.reel, count, HEIGHT)

    def down(self, count: int) -> None:
        self.view.down(self.reel, count)


def said(seq: int, rows: int = 1) -> Entry:
    return Entry(seq * 1_000, "bob", "\n".join(f"{seq}.{row}" for row in range(rows)), seq)


def lines(first: int, last: int) -> list[str]:
    return [f"{seq}.0" for seq in range(first, last + 1)]


def test_the_end_is_in_view_and_stays_there() -> None:
    page = Page()
    assert page.shown() == lines(16, 20)
    page.add(21)
    assert page.shown() == lines(17, 21)


def test_what_comes_in_below_does_not_move_the_view() -> None:
    page = Page()
    page.up(3)
    before = page.shown()
    assert before == lines(13, 17)
    for seq in range(21, 60):
        page.add(seq)
        assert page.shown() == before
    assert page.view.new_below(page.reel) == 39


def test_what_comes_in_above_does_not_move_the_view() -> None:
    page = Page(first=100)
    assert not page.up(1_000)
    before = page.shown()
    assert before[-1] == "103.0"  # the line of the day is the first row
    page.transcript.add_older([said(seq) for seq in range(50, 100)])
    assert page.shown()[1:] == before[1:]
    assert page.up(10)
    assert page.shown()[-1] == "93.0"


def test_the_top_is_the_end_of_scrolling_up() -> None:
    page = Page()
    assert page.up(14)
    assert not page.up(14)
    top = page.shown()
    assert top[1:] == lines(1, 4)
    assert not page.up(1)
    assert page.shown() == top


def test_scrolling_down_comes_back_to_the_end() -> None:
    page = Page()
    page.up(7)
    page.down(3)
    assert page.shown() == lines(12, 16)
    page.down(4)
    assert page.view.follows
    assert page.shown() == lines(16, 20)


def test_a_long_message_is_scrolled_through_row_by_row() -> None:
    page = Page(count=3, rows_each=10)
    assert page.shown() == ["│ 3.5", "│ 3.6", "│ 3.7", "│ 3.8", "│ 3.9"]
    page.up(2)
    assert page.shown()[-1] == "│ 3.7"
    page.up(9)
    assert page.shown()[-1] == "│ 2.8"


def test_less_than_a_screen_cannot_be_scrolled() -> None:
    page = Page(count=2)
    assert not page.up(3)
    assert page.view.follows
    assert not Page(count=0).up(1)


def test_new_below_counts_what_one_has_not_reached() -> None:
    page = Page()
    page.up(3)
    for seq in (21, 22, 23):
        page.add(seq)
    page.transcript.note("a note is not new", 0)
    assert page.view.new_below(page.reel) == 3
    page.down(4)
    assert page.view.new_below(page.reel) == 2
    page.down(100)
    assert page.view.new_below(page.reel) == 0


def test_what_is_gone_to_is_in_view() -> None:
    page = Page(count=100)
    for seq in (1, 2, 50, 99, 100):
        page.view.show(page.reel, page.transcript.entries[seq - 1], HEIGHT)
        assert f"{seq}.0" in page.shown()
        assert len(page.shown()) == HEIGHT


def test_an_entry_that_is_forgotten_lets_the_end_be_followed() -> None:
    page = Page()
    page.up(5)
    del page.transcript.entries[:18]
    assert page.shown()[-1] == "20.0"
    assert page.view.follows


@given(
    st.lists(st.integers(1, 7), min_size=1, max_size=30),
    st.lists(st.tuples(st.sampled_from(["up", "down", "add", "older"]), st.integers(1, 12)), max_size=30),
    st.integers(1, 12),
)
def test_the_view_is_full_and_moves_by_as_much_as_asked(
    rows: list[int], steps: list[tuple[str, int]], height: int
) -> None:
    page = Page(count=0)
    for number, count in enumerate(rows):
        page.add(1_000 + number, count)
    newest, oldest = 1_000 + len(rows), 1_000
    for what, count in steps:
        reel = page.reel
        everything = [row for index in range(len(reel.entries)) for row in reel.rows(index)]
        before = page.view.rows(reel, height)
        if what == "up":
            page.view.up(reel, count, height)
        elif what == "down":
            page.view.down(reel, count)
        elif what == "add":
            page.add(newest, count)
            newest += 1
        else:
            oldest -= 1
            page.transcript.add_older([said(oldest, count)])
        reel = page.reel
        after = page.view.rows(reel, height)
        everything_now = [row for index in range(len(reel.entries)) for row in reel.rows(index)]
        assert len(after) == min(height, len(everything_now))
        if what in ("add", "older") and not page.view.follows:
            # The line of the day goes to what is the oldest now, so the first row may be another.
            assert after[-len(before) + 1 :] == before[1:] or len(before) == 1
        if what == "up" and len(everything) > height:
            at, was = _end_of(after, everything), _end_of(before, everything)
            assert at == max(was - count, height)


def _end_of(shown: Sequence[Row], everything: Sequence[Row]) -> int:
    """How many rows there are up to the lower edge of what is shown."""
    return next(
        end
        for end in range(len(everything), 0, -1)
        if all(row is other for row, other in zip(shown, everything[end - len(shown) : end], strict=True))
    )
