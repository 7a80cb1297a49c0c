"""chatproto.client.terminal.colours: readable whatever the theme of the terminal."""

from __future__ import annotations

import pytest
import urwid

from chatproto.client.terminal.colours import NICK_COLOURS, palette
from chatproto.client.terminal.layout import NICK_STYLES, nick_style

WHITE, BLACK = (255, 255, 255), (0, 0, 0)
LEAST_CONTRAST = 4.0


def luminance(rgb: tuple[int, ...]) -> float:
    """Relative luminance (WCAG 2)."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in rgb)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def shown(colour: str) -> tuple[int, ...]:
    """What a terminal of 256 colours makes of it."""
    rgb = urwid.AttrSpec(colour, "default", 256).get_rgb_values()[:3]
    return tuple(value or 0 for value in rgb)


@pytest.mark.parametrize("colour", NICK_COLOURS)
def test_a_nickname_is_readable_on_light_and_on_dark(colour: str) -> None:
    assert contrast(shown(colour), WHITE) >= LEAST_CONTRAST
    assert contrast(shown(colour), BLACK) >= LEAST_CONTRAST


def test_no_two_nicknames_share_a_colour_that_is_the_same() -> None:
    assert len({shown(colour) for colour in NICK_COLOURS}) == NICK_STYLES == len(NICK_COLOURS)


def test_every_style_is_there_and_understood() -> None:
    names = set()
    for style in palette():
        names.add(style.name)
        for colours, spec in ((256, style.foreground_high), (16, style.foreground), (1, style.mono)):
            urwid.AttrSpec(spec, "default", colours)  # type: ignore[arg-type]
        urwid.AttrSpec("default", style.background_high, 256)
    assert {nick_style(f"nick {number}") for number in range(1_000)} <= names


def test_a_nickname_keeps_its_colour() -> None:
    assert nick_style("Ann") == nick_style("ann") != "own"
    assert nick_style("ann", own=True) == "own"
