"""How each style looks with 256 colours, with 16, and with none."""

from __future__ import annotations

from typing import NamedTuple

from chatproto.client.terminal.layout import NICK_STYLES

__all__ = ["NICK_COLOURS", "Style", "palette"]

# Colours of the 6 by 6 by 6 cube whose contrast is at least 4 to 1 on white and on black (WCAG 2): whoever
# drew the terminal's theme, names can be read. tests/client/terminal/test_colours.py computes it.
NICK_COLOURS = (
    "#d06",
    "#a60",
    "#680",
    "#080",
    "#086",
    "#08a",
    "#06f",
    "#86f",
    "#a0f",
    "#d0d",
    "#a66",
    "#868",
)
_FEW_COLOURS = ("dark red", "dark green", "dark magenta", "dark cyan")


class Style(NamedTuple):
    """An entry of urwid's palette."""

    name: str | None
    foreground: str
    background: str
    mono: str
    foreground_high: str
    background_high: str


def _style(name: str | None, few: str, mono: str, high: str, ground: str = "default") -> Style:
    return Style(name, few, "default" if ground == "default" else "dark blue", mono, high, ground)


def palette() -> list[Style]:
    """All styles. Without colours what matters stands out by weight, underlining and reversal."""
    styles = [
        _style("", "default", "default", "default"),
        _style("text", "default", "default", "default"),
        _style("time", "dark gray", "default", "h243"),
        _style("rule", "dark gray", "default", "h243"),
        _style("note", "dark cyan", "default", "h243,italics"),
        _style("own", "default,bold", "bold", "default,bold"),
        _style("mention", "dark red,bold", "bold,underline", "#d06,bold"),
        _style("waiting", "dark gray", "default", "h243,italics"),
        _style("failed", "dark red", "underline", "#d06"),
        _style("mark", "dark magenta", "bold", "#d0a"),
        _style("prompt", "default,bold", "bold", "default,bold"),
        _style("selected", "default,bold", "standout", "default,bold"),
        _style("bar", "light gray", "standout", "#fff", "#068"),
        _style("here", "white,bold", "bold", "#fff,bold", "#068"),
        _style("unread", "yellow", "standout,bold", "#fd6", "#068"),
        _style("called", "yellow,bold", "standout,underline,bold", "#fff,bold", "#a00"),
        _style("hint", "light gray,bold", "standout,bold", "#fff", "#068"),
        _style("lost", "yellow,bold", "standout,bold", "#fff,bold", "#a00"),
    ]
    for number in range(NICK_STYLES):
        few = _FEW_COLOURS[number % len(_FEW_COLOURS)]
        styles.append(_style(f"nick{number}", few, "default", NICK_COLOURS[number]))
    return styles
