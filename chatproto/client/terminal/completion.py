"""Completing what is being typed: nicknames, rooms and commands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chatproto.client.terminal.editor import Editor

__all__ = ["Completion", "complete"]

_TAKES_NICK = frozenset({"/msg", "/kick", "/ban", "/unban", "/mute", "/unmute", "/query"})
_TAKES_ROOM = frozenset({"/join", "/leave", "/who"})


class Completion:
    """One word and what it may become; each `next` tries another."""

    def __init__(self, editor: Editor, start: int, candidates: Sequence[str]) -> None:
        self.candidates = candidates
        self.index = -1
        self._editor = editor
        self._start = start
        self._rest = editor.text[editor.cursor :]
        self._before = editor.text[:start]

    def next(self, step: int = 1) -> None:
        """Have the next candidate in the editor, or with -1 the one before."""
        if self.index < 0 and step < 0:
            self.index = 0
        self.index = (self.index + step) % len(self.candidates)
        word = self.candidates[self.index]
        rest = self._rest
        if word.endswith(" ") and rest.startswith(" "):
            rest = rest[1:]
        self._editor.set(self._before + word + rest, self._start + len(word))

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to choose."""
        return len(self.candidates) < 2


def complete(
    editor: Editor, nicks: Iterable[str], rooms: Iterable[str], commands: Iterable[str]
) -> Completion | None:
    """The completion of the word before the cursor of *editor*; None where nothing fits.

    *nicks* come in the order in which they are to be offered. A nickname that begins a text is addressed,
    with a colon.
    """
    before = editor.text[: editor.cursor]
    start = max(before.rfind(" "), before.rfind("\n")) + 1
    word = before[start:]
    first = before.split(" ", 1)[0]
    if word.startswith("/") and start == 0:
        candidates = [f"/{command} " for command in sorted(commands) if command.startswith(word[1:])]
    elif first in _TAKES_ROOM and start == len(first) + 1:
        candidates = [f"{room} " for room in _fitting(word, sorted(rooms))]
    elif first in _TAKES_NICK and start == len(first) + 1:
        candidates = [f"{nick} " for nick in _fitting(word, nicks)]
    elif word:
        end = ": " if start == 0 else " "
        candidates = [f"{nick}{end}" for nick in _fitting(word.removeprefix("@"), nicks)]
    else:
        return None
    return Completion(editor, start, candidates) if candidates else None


def _fitting(begun: str, words: Iterable[str]) -> list[str]:
    return [word for word in words if word.casefold().startswith(begun.casefold())]
