"""The keys and the commands, for /help."""

from __future__ import annotations

from chatproto.client.terminal.panel import Item, Panel
from chatproto.client.typed import help_lines

__all__ = ["KEYS", "guide"]

KEYS = (
    ("Tab", "complete a name, a room or a command; again for the next"),
    ("PgUp PgDn", "scroll, and back into the history of the server"),
    ("Esc or End", "back to the end (End: with nothing typed)"),
    ("Alt-Left Alt-Right", "the place before, the place after; also Ctrl-P, Ctrl-N"),
    ("Alt-1 … Alt-9", "a place by its number"),
    ("Alt-A", "where something is unread, your name first"),
    ("Up Down", "what you typed before"),
    ("Alt-Enter", "a new line in what you type; pasted lines stay one message"),
    ("Ctrl-A -E -W -U -K -Y", "to the start, to the end, cut, put back"),
    ("F2", "show who is here beside the talk, or not"),
    ("Ctrl-L", "draw the screen anew"),
    ("Ctrl-C", "clear what is typed; with nothing typed, end"),
    ("Ctrl-D", "end, with nothing typed"),
)


def guide() -> Panel:
    """Both as a list that scrolls."""
    items = [Item((("nick3", f"{key:<28}"), ("text", f" {does}"))) for key, does in KEYS]
    items.append(Item((("text", ""),)))
    items += [Item((("nick0", line[:28]), ("text", line[28:]))) for line in help_lines(full_screen=True)]
    items.append(Item((("text", ""),)))
    items.append(Item((("note", "// at the beginning of a line says one slash."),)))
    return Panel("help", items)
