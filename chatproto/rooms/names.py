"""Nicknames and rooms: which names are allowed, when two are the same, and who holds which.

A nickname is the enforced form of RFC 8266 (PRECIS), narrowed for chat: one word, letters, marks, digits, a
few signs and emoji. Two nicknames are the same if RFC 8266 says so, and too alike if the skeletons of UTS #39
say so, in any case (`chatproto.rooms.looks`). PRECIS is loaded when the first nickname outside ASCII arrives.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Generic, TypeVar

from chatproto.rooms.looks import ascii_looks, looks_of, script_of, shape_of
from chatproto.text import character_name

if TYPE_CHECKING:
    from precis_i18n.profile import Profile

__all__ = ["NameRefused", "Nick", "Nicknames", "check_room", "parse_nick"]

Owner = TypeVar("Owner")

_ZWNJ, _ZWJ = "\u200c", "\u200d"

# After the four of ASCII those that PRECIS allows only where an orthography has them (RFC 5892, appendix A):
# the middle dot of Catalan, the Hebrew geresh, the Japanese middle dot, and the two joiners.
_SIGNS = frozenset("-_.'" + "\u00b7\u05f3\u30fb" + _ZWNJ + _ZWJ)

# What a line such as `<bob> hi` could be forged with. Modifier letters go with every script and may not look
# like these. `''` is how UTS #39 writes a quotation mark.
_FORGING = frozenset(':<>[]*#@/\\,"`') | {"''"}

_ASCII_NICK = re.compile(r"(?=[-_.']*[A-Za-z0-9])[-\w.']+", re.ASCII)
_ASCII_ROOM = re.compile(r"[!-.0-~][!-~]*")

# Default_Ignorable_Code_Point, and the two characters that are drawn as a blank without being spaces.
_INVISIBLE = re.compile(
    r"[\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    r"\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a"
    r"\U000e0000-\U000e0fff]"
)

# Category So alone would let in frames, quotation marks and asterisks of the dingbats.
_EMOJI = re.compile(
    r"[\u2600-\u26ff\u2728\u2764\U0001f300-\U0001f64f\U0001f680-\U0001f6ff\U0001f900-\U0001f9ff"
    r"\U0001fa70-\U0001faff]"
)

_MAX_MARKS = 3

# For a name that is like one that is taken.
_ENDINGS = (*"23456789", "_", *map(str, range(10, 30)))

# UTS #39, section 5.2, "highly restrictive"; one script alone is always fine.
_MIXTURES = (
    frozenset({"LATIN", "HAN", "HIRAGANA", "KATAKANA"}),
    frozenset({"LATIN", "HAN", "BOPOMOFO"}),
    frozenset({"LATIN", "HAN", "HANGUL"}),
)


class NameRefused(ValueError):
    """A name that is not allowed; `str()` is one sentence in ASCII for the person who chose it."""


@dataclass(frozen=True, slots=True)
class Nick:
    """A nickname that is allowed."""

    text: str
    """What everybody sees: the enforced form (RFC 8266, section 2.3)."""
    key: str
    """Equal for the same name in another case or Unicode form (RFC 8266, section 2.4: comparison)."""
    looks: tuple[str, ...]
    """Names that share one of these look alike (UTS #39, section 4); sorted, each once. Not for display."""


def parse_nick(text: str, max_chars: int = 32) -> Nick:
    """The nickname that `text` stands for.

    `max_chars` is the limit in characters (code points) of the enforced form. Blanks around the name are
    dropped and compatibility characters replaced, as RFC 8266 demands; parsing the result again gives an
    equal `Nick`.

    Raises:
        NameRefused: empty or too long; not allowed by RFC 8266; more than one word; invisible characters,
            symbols but emoji, punctuation but `- _ . '` and what an orthography needs inside a word; neither
            letter nor digit; marks first, in heaps or twice; digits of several kinds; scripts mixed other
            than UTS #39, section 5.2, "highly restrictive"; left and right mixed against RFC 5893, section 2.
    """
    if text.isascii():
        # The enforced form, since what RFC 8266 refuses of ASCII is refused here anyhow.
        name = text.strip(" ")
        if len(name) <= max_chars and _ASCII_NICK.fullmatch(name):
            return Nick(name, name.lower(), tuple(sorted(ascii_looks(name))))
    else:
        # PRECIS is slow. Decomposed names shrink, seldom to less than a quarter.
        _check_length(text, 4 * max_chars, "nickname", shown_limit=max_chars)
        name = _enforce(_profiles()[0], text)
    _check_length(name, max_chars, "nickname")
    _check_signs(name)
    _check_marks(name)
    _check_scripts(name)
    _check_direction(name)
    return Nick(name, _enforce(_profiles()[1], name), tuple(sorted(looks_of(name))))


class Nicknames(Generic[Owner]):
    """Who holds which nickname: no two owners the same one, nor two that look alike.

    Owners are told apart with `==`. `max_chars` is the longest nickname to expect, in characters.
    """

    __slots__ = ("_held", "_keys", "_looks", "_max_chars")

    def __init__(self, max_chars: int = 32) -> None:
        self._held: dict[Nick, Owner] = {}
        self._keys: dict[str, _Share[Owner]] = {}
        self._looks: dict[str, _Share[Owner]] = {}
        self._max_chars = max_chars

    def __len__(self) -> int:
        """How many nicknames are held; an owner may hold several."""
        return len(self._held)

    def __iter__(self) -> Iterator[Nick]:
        """All nicknames that are held."""
        return iter(self._held)

    def claim(self, nick: Nick, owner: Owner) -> Owner | None:
        """Give `nick` to `owner`: None if it is now theirs, else who holds the name that stands in the way.

        Names of the owner's own never stand in the way, so that one may rename from `bob` to `Bob`: claim the
        new name, then release the old one. Claiming a name again that one holds changes nothing.
        """
        other = self._in_the_way(nick, owner)
        if other is None and nick not in self._held:
            self._held[nick] = owner
            _take(self._keys, nick.key, owner)
            for look in nick.looks:
                _take(self._looks, look, owner)
        return other

    def free_like(
        self, nick: Nick, owner: Owner, may_have: Callable[[Nick], bool] = lambda nick: True
    ) -> str | None:
        """A nickname that `owner` could claim now, made from one that they cannot; None if there is none.

        Only one that they also `may_have`, and none that they have already.
        """
        for ending in _ENDINGS:
            try:
                free = parse_nick(nick.text[: self._max_chars - len(ending)] + ending, self._max_chars)
            except NameRefused:
                continue  # some scripts take no digits of ASCII at their end
            is_theirs = free.key in self._keys
            if not is_theirs and self._in_the_way(free, owner) is None and may_have(free):
                return free.text
        return None

    def in_the_way(self, nick: Nick) -> Owner | None:
        """Who holds the same name as `nick`, or one that looks like it."""
        return self._in_the_way(nick, None)

    def _in_the_way(self, nick: Nick, owner: Owner | None) -> Owner | None:
        """Who holds the same name as `nick`, or one that looks like it, and is not `owner`."""
        share = self._keys.get(nick.key)
        if share is not None and share.owner != owner:
            return share.owner
        for look in nick.looks:
            share = self._looks.get(look)
            if share is not None and share.owner != owner:
                return share.owner
        return None

    def release(self, nick: Nick, owner: Owner) -> None:
        """Let go of `nick`; nothing happens unless `owner` holds it. Their other names stay theirs."""
        if nick in self._held and self._held[nick] == owner:
            del self._held[nick]
            _give_back(self._keys, nick.key)
            for look in nick.looks:
                _give_back(self._looks, look)

    def find(self, text: str) -> Owner | None:
        """Who holds the name `text` by the comparison of RFC 8266, section 2.4; never by its looks.

        Never raises: what is no nickname is held by nobody.
        """
        key = self.key_of(text)
        share = None if key is None else self._keys.get(key)
        return None if share is None else share.owner

    def key_of(self, text: str) -> str | None:
        """The comparison form of `text`, RFC 8266, section 2.4; None for what nobody can hold."""
        if len(text) > 4 * self._max_chars:
            return None
        if text.isascii():
            return text.strip(" ").lower()
        try:
            key: str = _profiles()[1].enforce(text)
        except UnicodeEncodeError:
            return None
        return key


def check_room(text: str, max_chars: int = 64) -> None:
    """Refuse what cannot be the name of a room. `max_chars` is the limit in characters (code points).

    Clients compare rooms exactly, so a name is never changed here: it is allowed as it stands or not at all.

    Raises:
        NameRefused: empty or too long; blanks, control, format or invisible characters, surrogates, private
            use, unassigned; not in NFC; begins with `/`, which marks a command in the line form.
    """
    if len(text) <= max_chars and _ASCII_ROOM.fullmatch(text):
        return
    _check_length(text, max_chars, "room")
    if text.startswith("/"):
        raise NameRefused("The name of a room cannot begin with a slash, that marks a command; leave it out.")
    for character in text:
        if fault := _unfit(character, unicodedata.category(character)):
            raise NameRefused(f"The name of a room cannot contain {fault}; leave it out.")
    if not unicodedata.is_normalized("NFC", text):
        raise NameRefused("The name of a room must be in Unicode form NFC; ask for it in that form.")


@dataclass(slots=True)
class _Share(Generic[Owner]):
    """A key or look that is taken, and how many of its owner's names need it."""

    owner: Owner
    names: int


def _take(shares: dict[str, _Share[Owner]], what: str, owner: Owner) -> None:
    share = shares.setdefault(what, _Share(owner, 0))
    share.names += 1


def _give_back(shares: dict[str, _Share[Owner]], what: str) -> None:
    share = shares[what]
    share.names -= 1
    if not share.names:
        del shares[what]


def _check_length(text: str, limit: int, kind: str, *, shown_limit: int | None = None) -> None:
    if not text:
        raise NameRefused(f"The {kind} is empty; give it a name.")
    if len(text) > limit:
        shown = limit if shown_limit is None else shown_limit
        raise NameRefused(f"The {kind} has {len(text)} characters; use at most {shown}.")


def _unfit(character: str, category: str) -> str:
    """What is wrong with a character in a name of any kind, or the empty string."""
    if category[0] == "Z" or character in "\t\n\v\f\r\x85":
        return f"a blank ({character_name(character)})"
    if category == "Cc":
        return character_name(character)
    if category[0] == "C" and category != "Cf":
        return f"{character_name(character)}, which this server does not know"
    if category == "Cf" or _INVISIBLE.match(character):
        return f"the invisible character {character_name(character)}"
    return ""


def _check_signs(name: str) -> None:
    """Refuse a nickname with a character that no nickname has, or without any letter or digit."""
    bare = True
    zeros = set()
    for character in name:
        category = unicodedata.category(character)
        if not _fits(character, category):
            fault = _unfit(character, category)
            raise NameRefused(
                f"A nickname cannot contain {fault}; leave it out."
                if fault
                else f"A nickname cannot contain {character_name(character)}; "
                "use letters, digits and - _ . ' instead."
            )
        if category == "Nd":
            zeros.add(ord(character) - unicodedata.decimal(character))
        if category[0] in "LN":
            bare = False
    if bare:
        raise NameRefused("A nickname needs a letter or a digit; add one.")
    if len(zeros) > 1:  # UTS #39, section 5.3
        raise NameRefused("A nickname cannot mix the digits of several scripts; use one kind.")


def _fits(character: str, category: str) -> bool:
    """Whether a nickname may have this character somewhere."""
    if character in _SIGNS:
        return True
    if _INVISIBLE.match(character):
        return False
    if category == "Lm":
        shape = shape_of(character)
        return _FORGING.isdisjoint((shape, *shape))
    if category in ("So", "Sk"):
        return _EMOJI.match(character) is not None
    # Not among them: enclosing marks, which draw a symbol around a letter, and letters that are numbers.
    return category in ("Lu", "Ll", "Lt", "Lo", "Mn", "Mc", "Nd")


def _check_marks(name: str) -> None:
    """Refuse marks that have no letter, that hide (UTS #39, section 5.4), or that run into other lines."""
    if unicodedata.category(name[0])[0] == "M":
        raise NameRefused(
            f"A nickname cannot begin with the mark {character_name(name[0])}; put a letter before it."
        )
    run = 0
    for character in name:
        run = run + 1 if unicodedata.category(character)[0] == "M" else 0
        if run > _MAX_MARKS:
            raise NameRefused(
                f"A nickname cannot have more than {_MAX_MARKS} marks on one letter; leave some out."
            )
    previous = ""
    for character in unicodedata.normalize("NFD", name):
        if character == previous and unicodedata.category(character) == "Mn":
            raise NameRefused(
                f"A nickname cannot repeat the mark {character_name(character)} on one letter; write it once."
            )
        previous = character


def _check_scripts(name: str) -> None:
    """Refuse a mixture of scripts (UTS #39, section 5.2)."""
    scripts = set()
    for character in name:
        script = script_of(character)
        if script is None:
            raise NameRefused(
                f"A nickname cannot contain {character_name(character)}, which this server does not know; "
                "leave it out."
            )
        scripts.add(script)
    scripts -= {"COMMON", "INHERITED"}
    if len(scripts) > 1 and not any(scripts <= mixture for mixture in _MIXTURES):
        one, other = (script.replace("_", " ").title() for script in sorted(scripts)[:2])
        raise NameRefused(f"A nickname cannot mix {one} and {other} letters; write it in one alphabet.")


def _check_direction(name: str) -> None:
    """Refuse what is not shown in the order it is written: `1א` looks like `א1` (RFC 5893, section 2)."""
    from precis_i18n.bidi import bidi_rule, has_rtl

    ucd = _profiles()[0].base.ucd
    if has_rtl(name, ucd) and not bidi_rule(name, ucd):
        raise NameRefused(
            "A nickname written from right to left must begin with a letter, end with a letter or a digit, "
            "and have one kind of digits; change its order."
        )


@cache
def _profiles() -> tuple[Profile, Profile]:
    """RFC 8266: the profile that keeps case, for display, and the one that maps it, for comparison."""
    from precis_i18n import get_profile

    return get_profile("NicknameCasePreserved"), get_profile("NicknameCaseMapped")


def _enforce(profile: Profile, text: str) -> str:
    """RFC 8266, section 2: the rules until nothing changes, three times at most."""
    try:
        return profile.enforce(text)
    except UnicodeEncodeError as error:
        if error.reason.endswith("/empty"):
            reason = "The nickname is empty; give it a name."
        elif error.reason.endswith("/not_idempotent"):
            reason = "The nickname has no stable form (RFC 8266); choose simpler letters."
        else:
            character = error.object[error.start]
            fault = _unfit(character, unicodedata.category(character)) if character not in _SIGNS else ""
            reason = (
                f"A nickname cannot contain {fault or character_name(character) + ' at that place'}; "
                "leave it out."
            )
        raise NameRefused(reason) from None
