"""What keys do."""

from __future__ import annotations

from collections.abc import Callable

from chatproto.client.terminal.completion import complete
from chatproto.client.terminal.desk import Desk
from chatproto.client.terminal.doing import Doing
from chatproto.client.terminal.editor import Editor

__all__ = ["Keys"]

CTRL_C_EXIT = 130
"""As the shell has it: 128 and the number of SIGINT."""

_EDITING: dict[str, Callable[[Editor], None]] = {
    "left": Editor.left,
    "right": Editor.right,
    "ctrl b": Editor.left,
    "ctrl f": Editor.right,
    "home": Editor.home,
    "ctrl a": Editor.home,
    "end": Editor.end,
    "ctrl e": Editor.end,
    "ctrl left": Editor.word_left,
    "ctrl right": Editor.word_right,
    "meta b": Editor.word_left,
    "meta f": Editor.word_right,
    "up": Editor.up,
    "down": Editor.down,
    "backspace": Editor.backspace,
    "ctrl h": Editor.backspace,
    "delete": Editor.delete,
    "ctrl k": Editor.cut_to_end,
    "ctrl u": Editor.cut_to_start,
    "ctrl w": Editor.cut_word,
    "meta backspace": Editor.cut_word,
    "meta d": Editor.cut_word_right,
    "ctrl y": Editor.paste_cut,
}


class Keys:
    """Turns keys, by urwid's names, into changes of *desk*; `redraw` draws the screen from nothing."""

    def __init__(self, desk: Desk, doing: Doing) -> None:
        self.redraw: Callable[[], None] = lambda: None
        self._desk = desk
        self._doing = doing
        self._pasted: list[str] | None = None
        places = desk.places
        self._going: dict[str, Callable[[], object]] = {
            "meta left": lambda: places.step(-1),
            "meta right": lambda: places.step(1),
            "meta up": lambda: places.step(-1),
            "meta down": lambda: places.step(1),
            "ctrl p": lambda: places.step(-1),
            "ctrl n": lambda: places.step(1),
            "meta a": self._to_unread,
            "page up": lambda: doing.finding.up(self._page()),
            "page down": lambda: doing.finding.down(self._page()),
            "shift up": lambda: doing.finding.up(1),
            "shift down": lambda: doing.finding.down(1),
            "esc": doing.finding.to_end,
            "ctrl end": doing.finding.to_end,
            "f1": lambda: doing.take("/help"),
            "f2": self._people,
            "ctrl l": lambda: self.redraw(),
            "meta enter": lambda: desk.editor.insert("\n"),
            "ctrl c": self._clear_or_end,
            "ctrl d": self._delete_or_end,
            "enter": self._enter,
        }

    def press(self, keys: list[str]) -> None:
        """Take *keys*, in their order."""
        for key in keys:
            if self._pasted is not None:
                self._paste(key)
            else:
                self._press(key)
        self._desk.changed()

    def _press(self, key: str) -> None:
        desk = self._desk
        if key == "begin paste":
            self._pasted = []
            return
        if key in ("focus in", "focus out"):
            (desk.look_back if key == "focus in" else desk.look_away)()
            return
        desk.hint = ""
        if key in ("tab", "shift tab"):
            self._complete(1 if key == "tab" else -1)
            return
        desk.completion = None
        if desk.panel is not None and self._in_panel(key):
            return
        if key in self._going and not (key == "end" and desk.editor.text):
            self._going[key]()
        elif key == "end" and not desk.editor.text:
            self._doing.finding.to_end()
        elif key in _EDITING:
            _EDITING[key](desk.editor)
        elif len(key) == 6 and key.startswith("meta ") and key[5].isdigit():
            desk.places.to_number(int(key[5]) or 10)
        elif len(key) == 1 or (len(key) > 1 and not key.isascii()):
            desk.editor.insert(key)

    def _in_panel(self, key: str) -> bool:
        """Whether the panel took *key*. What is typed puts it away."""
        panel = self._desk.panel
        assert panel is not None
        match key:
            case "up" | "shift up":
                panel.move(-1)
            case "down" | "shift down":
                panel.move(1)
            case "page up":
                panel.page(-1)
            case "page down" | " ":
                panel.page(1)
            case "esc" | "ctrl c" | "f1":
                self._desk.panel = None
            case "enter":
                if panel.choose is not None and panel.items:
                    panel.choose(panel.items[panel.selected])
                else:
                    self._desk.panel = None
            case _:
                self._desk.panel = None
                return False
        return True

    def _paste(self, key: str) -> None:
        assert self._pasted is not None
        if key == "end paste":
            text, self._pasted = "".join(self._pasted), None
            # Who copies whole lines copies the last line's end too.
            self._desk.panel = None
            self._desk.completion = None
            self._desk.editor.insert(text.removesuffix("\n"))
        elif key in ("enter", "ctrl j", "ctrl m"):
            self._pasted.append("\n")
        elif key == "tab":
            self._pasted.append("\t")
        elif len(key) == 1 or not key.isascii():
            self._pasted.append(key)

    def _enter(self) -> None:
        desk = self._desk
        question = desk.question
        if question is not None:
            answer = question.editor.text.strip() or question.suggestion
            desk.question = None
            question.answer(answer)
            return
        editor = desk.editor
        text = editor.take()
        if not self._doing.take(text):
            editor.set(text)

    def _complete(self, step: int) -> None:
        desk = self._desk
        if desk.question is not None:
            return
        if desk.completion is None:
            place = desk.current
            nicks = [nick for nick in place.members if nick != desk.nick]
            people = [other.person for other in desk.places.all if other.is_private]
            rooms = [other.name for other in desk.places.all if not other.is_private]
            offered = list(dict.fromkeys([*nicks, *people]))
            desk.completion = complete(desk.editor, offered, rooms, self._doing.command_names)
        if desk.completion is None:
            desk.hint = "nothing begins like that"
        else:
            desk.completion.next(step)

    def _to_unread(self) -> None:
        if not self._desk.places.to_unread():
            self._desk.hint = "nothing is unread"

    def _people(self) -> None:
        self._desk.shows_people = not self._desk.shows_people

    def _page(self) -> int:
        return max(self._desk.body_rows - 2, 1)

    def _clear_or_end(self) -> None:
        editor = self._desk.editor
        if editor.text:
            editor.take()  # it can be recalled
        else:
            self._doing.quit(CTRL_C_EXIT)

    def _delete_or_end(self) -> None:
        if self._desk.editor.text:
            self._desk.editor.delete()
        else:
            self._doing.quit(0)
