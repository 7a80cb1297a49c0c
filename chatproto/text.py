"""What people say: what a message may contain, and how it is made safe for terminals and log lines.

Both functions stand in the way of every message, so the first thing each does is to ask `str.isprintable`:
it is false for every character that either would object to, and true for nearly all that people write.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["TextRefused", "TextTooLong", "character_name", "check_text", "tame"]

_REFUSED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

# Scripts that put no blanks between words, and mark with a zero width space where a line may be broken: Thai,
# Lao, Tibetan; Myanmar; Khmer; Tai Le, New Tai Lue, Tai Tham; Javanese, Myanmar's extensions, Tai Viet.
_UNSPACED = r"\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\ua980-\uaadf"

_UNTAMED = re.compile(
    r"[\x00-\x1f\x7f-\x9f"  # C0, DEL, C1
    r"\xad"  # the soft hyphen: some terminals give it a cell, others none
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidi controls
    r"\u2028\u2029"  # line and paragraph separator
    r"\u206a-\u206f"  # deprecated format characters
    r"\u180e\u2060-\u2065"  # invisible: vowel separator, word joiner, operators of formulas
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"  # invisible: shorthand and music
    r"\ufeff\ufff9-\ufffb"  # byte order mark, interlinear annotation
    r"\ud800-\udfff"
    r"\U000e0000-\U000e007f]"  # tags
    # Persian, the Indic scripts and emoji need the joiners, each behind a sign of theirs and not in a row.
    r"|(?<![^\x00-\x7f\u200b-\u200d])[\u200c\u200d]"
    rf"|(?<![{_UNSPACED}])\u200b"
)

_UNNAMED = {
    "Cc": "CONTROL CHARACTER",
    "Cn": "UNASSIGNED",
    "Co": "PRIVATE USE",
    "Cs": "SURROGATE",
}


class TextRefused(ValueError):
    """A message that may not be said; `str()` is one sentence in ASCII for the person who wrote it."""


class TextTooLong(TextRefused):
    """It has more bytes than it may have."""


def character_name(character: str) -> str:
    """How to speak of one character without showing it: its number and its Unicode name, in ASCII.

    At most 70 characters long, whatever the character.
    """
    name = unicodedata.name(character, "") or _UNNAMED.get(unicodedata.category(character), "UNNAMED")
    return f"U+{ord(character):04X} {name[:60]}"


def check_text(text: str, max_bytes: int) -> None:
    """Refuse a text that may not be said: the protocol's error 9.

    MUST be called before a text is kept or sent on. `max_bytes` is the limit in bytes of UTF-8.

    Raises:
        TextRefused: empty; too long; a control character (C0 but newline and tab, DEL, C1); a lone
            surrogate, which UTF-8 cannot carry.
    """
    if text.isprintable() and 0 < len(text) <= (max_bytes if text.isascii() else max_bytes // 4):
        return
    if not text:
        raise TextRefused("The message is empty; write something.")
    # A character has at least one byte: this comes first so that a huge text is not searched and encoded.
    if len(text) > max_bytes:
        raise TextTooLong(f"The message is longer than {max_bytes} bytes; send it in parts.")
    refused = _REFUSED.search(text)
    if refused is not None:
        raise TextRefused(f"The message contains {character_name(refused[0])}; leave that character out.")
    size = len(text.encode())
    if size > max_bytes:
        raise TextTooLong(f"The message has {size} bytes and {max_bytes} are allowed; send it in parts.")


def tame(text: str) -> str:
    """The text with everything that acts on a terminal or hides in a log replaced by U+FFFD, one for one.

    Replaced are control characters (newline and tab too: who wants to keep those splits first), lone
    surrogates, bidi controls, line and paragraph separators, the soft hyphen, the byte order mark,
    interlinear annotation, deprecated and invisible format characters and tags; joiners and the zero width
    space only where no script has a use for them, as between ASCII letters. The result has as many characters
    as `text`; taming it again changes nothing.
    """
    return text if text.isprintable() else _UNTAMED.sub("\ufffd", text)
