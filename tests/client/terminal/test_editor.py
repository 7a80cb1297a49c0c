"""chatproto.client.terminal.editor."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatproto.client.terminal.cells import cells
from chatproto.client.terminal.editor import Editor, History

FAMILY = "👩‍👩‍👧"


def editing(marked: str) -> Editor:
    """An editor with the cursor where the bar is."""
    editor = Editor()
    before, _, after = marked.partition("|")
    editor.set(before + after, len(before))
    return editor


def marked(editor: Editor) -> str:
    return f"{editor.text[: editor.cursor]}|{editor.text[editor.cursor :]}"


@pytest.mark.parametrize(
    ("before", "does", "after"),
    [
        ("ab|c", Editor.left, "a|bc"),
        ("|abc", Editor.left, "|abc"),
        ("ab|c", Editor.right, "abc|"),
        ("abc|", Editor.right, "abc|"),
        (f"a{FAMILY}|", Editor.left, f"a|{FAMILY}"),
        (f"|{FAMILY}a", Editor.right, f"{FAMILY}|a"),
        ("e\u0301|", Editor.backspace, "|"),
        (f"a{FAMILY}|b", Editor.backspace, "a|b"),
        (f"a|{FAMILY}b", Editor.delete, "a|b"),
        ("|", Editor.backspace, "|"),
        ("abc|", Editor.delete, "abc|"),
        ("one two|", Editor.word_left, "one |two"),
        ("one two |", Editor.word_left, "one |two "),
        ("|one two", Editor.word_right, "one| two"),
        ("one| two", Editor.word_right, "one two|"),
        ("one\ntwo|", Editor.home, "one\n|two"),
        ("|one\ntwo", Editor.end, "one|\ntwo"),
        ("on|e", Editor.cut_to_end, "on|"),
        ("on|\ntwo", Editor.cut_to_end, "on|two"),
        ("on|e", Editor.cut_to_start, "|e"),
        ("one two|", Editor.cut_word, "one |"),
        ("|one two", Editor.cut_word_right, "| two"),
        ("one\ntw|o", Editor.up, "on|e\ntwo"),
        ("on|e\ntwo", Editor.down, "one\ntw|o"),
        ("lo|ng\n\nx", Editor.down, "long\n|\nx"),
    ],
)
def test_a_key(before: str, does: Callable[[Editor], None], after: str) -> None:
    editor = editing(before)
    does(editor)
    assert marked(editor) == after


def test_what_was_cut_comes_back() -> None:
    editor = editing("one |two")
    editor.cut_to_end()
    editor.home()
    editor.paste_cut()
    assert marked(editor) == "two|one "


def test_a_paste_keeps_its_lines_and_nothing_that_acts() -> None:
    editor = editing("a|z")
    editor.insert("1\r\n2\r3\n\t4\x1b[31m\x07\x9b")
    assert marked(editor) == "a1\n2\n3\n\t4[31m|z"


def test_what_was_sent_is_recalled_and_what_was_begun_is_not_lost() -> None:
    history = History()
    editor = Editor(history)
    for text in ("one", "two", "two"):
        editor.insert(text)
        assert editor.take() == text
        assert editor.text == ""
    editor.insert("begun")
    shown = []
    for move in (editor.up, editor.up, editor.up, editor.down, editor.down, editor.down):
        move()
        shown.append(editor.text)
    assert shown == ["two", "one", "one", "two", "begun", "begun"]


def test_what_was_recalled_and_changed_is_a_new_text() -> None:
    editor = Editor()
    for text in ("one", "two"):
        editor.insert(text)
        editor.take()
    editor.up()
    editor.insert("!")
    editor.up()
    assert editor.text == "two"
    editor.down()
    assert editor.text == "two!"


def test_the_history_is_shared() -> None:
    history = History()
    Editor(history).set("x")
    first = Editor(history)
    first.insert("said elsewhere")
    first.take()
    second = Editor(history)
    second.up()
    assert second.text == "said elsewhere"


@pytest.mark.parametrize(
    ("before", "width", "rows", "cursor"),
    [
        ("|", 10, [""], (0, 0)),
        ("abc|", 10, ["abc"], (3, 0)),
        ("a|bc", 10, ["abc"], (1, 0)),
        ("abcd|", 4, ["abcd", ""], (0, 1)),
        ("abcd|ef", 4, ["abcd", "ef"], (0, 1)),
        ("ab\nc|", 4, ["ab", "c"], (1, 1)),
        ("ab|\nc", 4, ["ab", "c"], (2, 0)),
        ("漢字|", 10, ["漢字"], (4, 0)),
        ("a漢|字", 4, ["a漢", "字"], (0, 1)),
        ("\t|", 10, ["  "], (2, 0)),
        ("\u200b|x", 10, ["\ufffdx"], (1, 0)),
    ],
)
def test_the_rows_and_the_cursor(before: str, width: int, rows: list[str], cursor: tuple[int, int]) -> None:
    assert editing(before).rows(width) == (rows, cursor)


@given(st.text(), st.integers(2, 30), st.data())
def test_the_rows_fit_and_the_cursor_is_within(text: str, width: int, data: st.DataObject) -> None:
    editor = Editor()
    editor.insert(text)
    for _ in range(data.draw(st.integers(0, 5))):
        editor.left()
    rows, (column, row) = editor.rows(width)
    assert all(cells(shown) <= width for shown in rows)
    assert 0 <= row < len(rows)
    assert 0 <= column < width or (column == width and rows[row])


@given(st.text(alphabet="ab \n漢\u0301👩\u200d", max_size=20))
def test_every_step_is_a_step(text: str) -> None:
    """From the start to the end and back, without standing still or within what shares one place."""
    editor = Editor()
    editor.insert(text)
    stops = [editor.cursor]
    while editor.cursor:
        editor.left()
        assert editor.cursor < stops[-1]
        stops.append(editor.cursor)
    back = [editor.cursor]
    while editor.cursor < len(editor.text):
        editor.right()
        back.append(editor.cursor)
    assert back == stops[::-1]
