"""What a search finds: a message with all the words that are searched for.

A word is a run of letters and digits, in any case and without its accents; `Größe` and `GROSSE` are one
word. Scripts that put no blanks between words are cut into characters and pairs of neighbours: a search for
several characters looks for their pairs.

The durable index keeps what `indexed_text` made, so what these functions answer may only change together with
the schema of the file.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import pairwise

__all__ = ["indexed_text", "searched_words", "words_of"]

_ASCII_WORDS = re.compile(r"[0-9a-z]+")

_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Myanmar, Khmer
    r"\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff"  # Hangul
    r"\u3040-\u312f\u31a0-\u31bf\u31f0-\u31ff\U0001b000-\U0001b16f"  # Kana, Bopomofo
    r"\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"  # Han
)

# Most accents there are. All of these have one of the classes below.
_ACCENTS = re.compile(r"[\u0300-\u0333\u0339-\u034e\u0350-\u036f]")

# The canonical combining classes from here on are accents and vowel points. Below are marks that make another
# letter (the nukta of the Indic scripts, the voicing of kana) or join letters (virama).
_FIRST_ACCENT_CLASS = 10


def words_of(text: str) -> list[str]:
    """The words of *text* as they are indexed, in their order and each as often as it is there."""
    found: list[str] = []
    for run, is_unspaced in _runs(text):
        if is_unspaced:
            found += run
            found += _pairs(run)
        else:
            found.append(run)
    return found


def indexed_text(text: str) -> str:
    """The words of *text* for an index that parts at what is neither a letter nor a digit of ASCII.

    It takes everything outside ASCII for letters, and folds the case of ASCII itself.
    """
    return text if text.isascii() else " ".join(words_of(text))


def searched_words(query: str) -> list[str]:
    """The words that a message must have to be found, each once; empty where there is none in *query*."""
    found: dict[str, None] = {}
    for run, is_unspaced in _runs(query):
        if is_unspaced and len(run) > 1:
            found.update(dict.fromkeys(_pairs(run)))
        else:
            found[run] = None
    return list(found)


def _pairs(run: str) -> list[str]:
    return [first + second for first, second in pairwise(run)]


def _runs(text: str) -> list[tuple[str, bool]]:
    """Runs of letters and digits of one kind, and whether they are of a script without blanks."""
    if not text.isascii():
        # Folding makes new accents, and new letters to fold.
        text = _ACCENTS.sub("", _decomposed(_decomposed(text).casefold()))
    if text.isascii():
        return [(word, False) for word in _ASCII_WORDS.findall(text.lower())]
    plain = unicodedata.normalize("NFC", "".join(filter(_is_no_accent, text)))
    runs: list[tuple[str, bool]] = []
    begin, kind = 0, _BLANK
    for index, sign in enumerate(plain):
        its_kind = _kind(sign)
        if its_kind != kind:
            if kind != _BLANK:
                runs.append((plain[begin:index], kind == _UNSPACED_LETTER))
            begin, kind = index, its_kind
    if kind != _BLANK:
        runs.append((plain[begin:], kind == _UNSPACED_LETTER))
    return runs


_BLANK, _LETTER, _UNSPACED_LETTER = range(3)


def _decomposed(text: str) -> str:
    return unicodedata.normalize("NFKD", text)


def _is_no_accent(sign: str) -> bool:
    return unicodedata.combining(sign) < _FIRST_ACCENT_CLASS


@lru_cache(4_096)
def _kind(sign: str) -> int:
    if sign.isalnum() or unicodedata.category(sign)[0] == "M":
        return _UNSPACED_LETTER if _UNSPACED.match(sign) else _LETTER
    return _BLANK
