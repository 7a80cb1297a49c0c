"""The screen itself, by way of urwid: the one module that knows there is a terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, Any

import urwid
from twisted.internet.interfaces import IDelayedCall
from urwid.display.raw import Screen

from chatproto.client.terminal.cells import PROBES, TERMINAL, Row, cells, is_disputed
from chatproto.client.terminal.colours import palette
from chatproto.client.terminal.picture import Picture

__all__ = ["Display", "canvas_of"]

MIN_FRAME_S = 0.03
"""From one drawing to the next, however much goes on."""
MIN_BELL_S = 1.0

_WRAP_OFF, _WRAP_ON = "\x1b[?7l", "\x1b[?7h"
_ERASE = b"\x1b[K"
_ASK = "".join(f"\x1b[2;1H{probe}\x1b[6n" for probe in PROBES)
"""Shows each probe at the left edge, and asks where the cursor is then.

In the second row: an answer about the first would pass for F3 with a modifier."""


def canvas_of(picture: Picture, columns: int) -> urwid.TextCanvas:
    """*picture* for urwid.

    What stands beside something that terminals count differently is put into its column by number, so that
    nothing is out of line; what was there before is erased. Beside the last row, where one types, is nothing.
    """
    texts: list[bytes] = []
    attributes: list[list[tuple[Any, int]]] = []
    charsets: list[list[tuple[Any, int]]] = []
    for number, row in enumerate(picture.rows, start=1):
        text, attribute, charset = _row(row, is_last=number == len(picture.rows))
        texts.append(text)
        attributes.append(attribute)
        charsets.append(charset)
    return urwid.TextCanvas(
        texts, attributes, charsets, cursor=picture.cursor, maxcol=columns, check_width=False
    )


def _row(row: Row, *, is_last: bool) -> tuple[bytes, list[tuple[Any, int]], list[tuple[Any, int]]]:
    parts: list[bytes] = []
    attribute: list[tuple[Any, int]] = []
    charset: list[tuple[Any, int]] = []
    column = 0
    in_doubt = is_erased = False

    def put(style: str, part: bytes, kind: str | None) -> None:
        if part:
            parts.append(part)
            attribute.append((style, len(part)))
            charset.append((kind, len(part)))

    for style, text in row:
        if in_doubt and not is_erased:
            put("", _ERASE, "U")
            is_erased = True
        if not is_erased or text.strip(" "):
            if is_erased:
                put("", b"\x1b[%dG" % (column + 1), "U")
            put(style, text.encode(), None)
        column += cells(text)
        in_doubt = in_doubt or (is_disputed(text) and not is_last)
    return b"".join(parts), attribute, charset


class _Screen(Screen):
    """urwid's, but for the end of the terminal, which it leaves to be read again and again."""

    def __init__(self, source: IO[str], target: IO[str], gone: Callable[[], None]) -> None:
        # Not asked for: terminals that know these modes are more than those that answer whether they do.
        super().__init__(source, target, bracketed_paste_mode=True, focus_reporting=True)
        self._gone = gone

    def _start(self, *args: Any, **kwargs: Any) -> None:
        super()._start(*args, **kwargs)  # also when one comes back after Ctrl-Z
        self.write(_WRAP_OFF)

    def _stop(self) -> None:
        self.write(_WRAP_ON)
        super()._stop()

    def get_available_raw_input(self) -> list[int]:
        try:
            return super().get_available_raw_input()
        except (OSError, RuntimeError):
            self._gone()
            return []


class Display:
    """Shows the pictures that *draw* makes, gives keys to *press*, and calls *gone* when the terminal is."""

    def __init__(
        self,
        reactor: Any,
        source: IO[str],
        target: IO[str],
        draw: Callable[[int, int], Picture],
        press: Callable[[list[str]], None],
        gone: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._draw = draw
        self._press = press
        self._gone = gone
        self._screen = _Screen(source, target, self._lost)
        self._loop = urwid.TwistedEventLoop(reactor, manage_reactor=False)
        self._pending: IDelayedCall | None = None
        self._drawn_s = 0.0
        self._rings = False
        self._rang_s = -MIN_BELL_S
        self._answers: list[int] = []  # the cells of the probes
        self._is_up = False
        self._signal_keys: Any = None  # as they were

    def start(self) -> None:
        """Take the terminal."""
        self._signal_keys = self._screen.tty_signal_keys(intr="undefined", quit="undefined")
        self._screen.register_palette(palette())
        self._screen.start()
        self._is_up = True
        self._screen.write(_ASK)
        self._screen.hook_event_loop(self._loop, self._took)
        self._paint()

    def stop(self) -> None:
        """Give it back as it was. May be called when it is gone, and more than once."""
        if not self._is_up:
            return
        self._is_up = False
        if self._pending is not None and self._pending.active():
            self._pending.cancel()
        self._screen.unhook_event_loop(self._loop)
        try:
            self._screen.stop()
            if self._signal_keys is not None:
                self._screen.tty_signal_keys(*self._signal_keys)
        except OSError:
            pass  # there is nobody to show it to

    def changed(self) -> None:
        """Draw soon."""
        if self._is_up and (self._pending is None or not self._pending.active()):
            due_s = self._drawn_s + MIN_FRAME_S - self._reactor.seconds()
            self._pending = self._reactor.callLater(max(due_s, 0.0), self._paint)

    def ring(self) -> None:
        """Ring the bell with the next drawing, once."""
        self._rings = True

    def redraw(self) -> None:
        """Draw everything, whatever is there."""
        if self._is_up:
            self._screen.clear()

    def _took(self, keys: list[Any], raw: list[int]) -> None:
        names = [key for key in keys if isinstance(key, str) and key != "window resize"]
        self._answers += [key[1] for key in keys if isinstance(key, tuple) and key[0] == "cursor position"]
        if len(self._answers) == len(PROBES):
            TERMINAL.learn(self._answers)
            self._answers = []
            self._screen.clear()
        if "window resize" in keys:
            self._screen.clear()
        if names:
            self._press(names)
        self.changed()

    def _paint(self) -> None:
        if not self._is_up:
            return
        self._drawn_s = self._reactor.seconds()
        columns, rows = self._screen.get_cols_rows()
        if columns < 1 or rows < 1:
            return
        try:
            self._screen.draw_screen((columns, rows), canvas_of(self._draw(columns, rows), columns))
            self._ring_now()
        except OSError:
            self._lost()

    def _ring_now(self) -> None:
        if self._rings and self._drawn_s - self._rang_s >= MIN_BELL_S:
            self._rang_s = self._drawn_s
            self._screen.write("\a")
            self._screen.flush()
        self._rings = False

    def _lost(self) -> None:
        if self._is_up:
            self._screen.unhook_event_loop(self._loop)
            self._gone()
