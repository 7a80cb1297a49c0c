"""Nicknames that mix scripts, or look like one that is taken, are kept out; UTS #39."""

from __future__ import annotations

import itertools
import json
import random
import unicodedata
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from string import ascii_lowercase, ascii_uppercase

import pytest
from rooms.nicknames import HONEST_NAMES, refusal, taken

from chatproto.rooms import looks, names
from chatproto.rooms.names import NameRefused, Nicknames, parse_nick


def is_kept_out(text: str, registry: Nicknames[str]) -> bool:
    try:
        return registry.claim(parse_nick(text), "someone else") is not None
    except NameRefused:
        return True


class TestScriptsUts39:
    """UTS #39, section 5.2: highly restrictive."""

    @pytest.mark.parametrize("text", ["Åsa-李", "MAX鈴木さんダ", "bopoㄅ李", "김tube李", "Ольга-1", "ーa"])
    def test_mixtures_that_pass(self, text: str) -> None:
        """Latin goes with the scripts of East Asia, signs and digits go with everything."""
        assert parse_nick(text).text == text

    @pytest.mark.parametrize(
        ("text", "one", "other"),
        [
            ("paypаl", "Cyrillic", "Latin"),
            ("bοb", "Greek", "Latin"),
            ("Наtаlia", "Cyrillic", "Latin"),
            ("аαд", "Cyrillic", "Greek"),
            ("դavid", "Armenian", "Latin"),
            ("bobד", "Hebrew", "Latin"),
            ("さ김", "Hangul", "Hiragana"),
            ("さㄅ", "Bopomofo", "Hiragana"),
            ("李д", "Cyrillic", "Han"),
            ("ᎪBC", "Cherokee", "Latin"),
        ],
    )
    def test_mixtures_that_do_not(self, text: str, one: str, other: str) -> None:
        """One letter of a look-alike script is enough."""
        assert refusal(text) == f"A nickname cannot mix {one} and {other} letters; write it in one alphabet."

    def test_unknown_script(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A letter that Python knows and the tables do not yet is refused, not let through."""
        monkeypatch.setattr(names, "script_of", lambda character: None)
        assert "which this server does not know" in refusal("é")

    @pytest.mark.parametrize("text", ["1א", "_محمد", "محمد-", "א🔥", "۱سارا"])
    def test_direction(self, text: str) -> None:
        """RFC 5893, section 2: what would be shown in another order than it is written."""
        assert refusal(text).startswith("A nickname written from right to left must begin with a letter")


@cache
def pairs() -> set[tuple[str, str]]:
    """The pairs of UTS #39, in both directions."""
    data = json.loads((files("confusable_homoglyphs") / "confusables.json").read_bytes())
    return {(a.strip("\u200e"), b["c"].strip("\u200e")) for a, others in data.items() for b in others}


@cache
def glyphs(letter: str) -> list[str]:
    """What is drawn like a letter of ASCII in its case: by UTS #39, or because NFKC makes it that letter."""
    shapes = {letter, "l"} if letter in "I1" else {letter}
    drawn = {letter} | {a for a, b in pairs() if b in shapes} | ({"rn"} if letter == "m" else set())
    drawn |= {c for c in map(chr, range(0x110000)) if unicodedata.normalize("NFKC", c) == letter}
    # What NFKC turns into another letter is shown as that one: a long s is no f.
    return sorted(
        g
        for g in drawn
        if (plain := unicodedata.normalize("NFKC", g)) in (letter, "rn", "I")
        or not (plain.isascii() and plain.isalpha())
    )


def choices(spelling: str) -> list[list[str]]:
    """For each letter of a name what may stand in its place: in either case, but `l` and `L` in their own."""
    found = []
    for letter in spelling:
        if not letter.isalpha():
            found.append([letter])
        elif letter in "lL":
            found.append(glyphs(letter))
        else:
            found.append(glyphs(letter.lower()) + glyphs(letter.upper()))
    return found


def forgeries(target: str, count: int) -> Iterator[str]:
    """Names drawn like `target` as it is, in small letters or capitals.

    Each single replacement, each whole script, and `count` from all of them by the dice.
    """
    dice = random.Random(target)
    for spelling in sorted({target, target.lower(), target.upper(), target.title()}):
        options = choices(spelling)
        for place, own in enumerate(options):
            for glyph in own:
                yield spelling[:place] + glyph + spelling[place + 1 :]
        scripts = {looks.script_of(c) for own in options for g in own for c in g if not c.isascii()}
        for script in sorted(filter(None, scripts - {"COMMON", "INHERITED"})):
            whole = [
                [g for g in own if looks.script_of(g[0]) in (script, "COMMON")] or [letter]
                for letter, own in zip(spelling, options, strict=True)
            ]
            yield from ("".join(map(dice.choice, whole)) for _ in range(60))
        yield from ("".join(map(dice.choice, options)) for _ in range(count // 4))


class TestLookAlikesUts39:
    """UTS #39, section 4: the skeletons keep out what looks like a name that is taken."""

    @pytest.mark.parametrize("target", ["scipio", "femdev", "Paypal_admin", "MILLER", "jkqwxyz", "bertoh"])
    def test_generated(self, target: str) -> None:
        """Whatever is drawn like the name, in one script or several, small or capital, is kept out."""
        registry = taken(target)
        tried = set(forgeries(target, 4000))
        assert len(tried) > 4000
        assert [name for name in tried if not is_kept_out(name, registry)] == []
        assert len(registry) == 1

    @pytest.mark.parametrize("target", ["scipio", "femdev", "Paypal_admin"])
    def test_by_looks_alone(self, target: str) -> None:
        """Many of the forgeries are in one script, so that only their looks give them away."""
        registry, by_looks = taken(target), set()
        for name in forgeries(target, 4000):
            try:
                nick = parse_nick(name)
            except NameRefused:
                continue
            if nick.key != parse_nick(target).key:
                assert registry.claim(nick, "someone else") == target
                by_looks.add(nick.text)
        assert len(by_looks) >= 50

    def test_case_and_digits(self) -> None:
        """Every spelling of scipio with capitals, small capitals, ones and zeros."""
        registry = taken("scipio")
        spellings = itertools.product("sSꜱ", "cCᴄ", "iI1", "pPᴘ", "iI1", "oO0ᴏ")
        tried = ["".join(spelling) for spelling in spellings]
        assert len(tried) == 972
        assert [name for name in tried if not is_kept_out(name, registry)] == []

    @pytest.mark.parametrize(
        ("held", "other"),
        [
            ("scipio", "ѕсіріо"),
            ("scipio", "ЅСІРІО"),
            ("Scipio", "SClPlO"),
            ("paypal", "paypaI"),
            ("paypal", "PAYPA1"),
            ("Paypal_admin", "PaypaI_adm1n"),
            ("Lillian", "lil1ian"),
            ("Al", "AI"),
            ("lan", "1an"),
            ("MILLER", "mi11er"),
            ("Ivan", "lvan"),
            ("ivan", "lvan"),
            ("bob", "b0b"),
            ("bob", "B0B"),
            ("femdev", "ferndev"),
            ("FEMDEV", "ferndev"),
            ("Carmen", "Carrnen"),
            ("modern", "modem"),
            ("femdev", "ꜰᴇᴍᴅᴇᴠ"),
            ("марк", "ᴍᴀᴘᴋ"),
            ("Strauß", "STRAUSS"),
            ("i", "i\u0307"),
            ("jim", "j\u0307im"),
            ("istanbul", "ıstanbul"),
            ("istanbul", "İstanbul"),
            ("カロ", "力口"),
            ("علی\u200cرضا", "علیرضا"),
            ("user1", "userl"),
        ],
    )
    def test_pairs(self, held: str, other: str) -> None:
        """Whoever comes second is kept out, either way round."""
        assert is_kept_out(other, taken(held))
        assert is_kept_out(held, taken(other))

    def test_honest_names(self) -> None:
        """Names of many languages pass as they are, and all can be held at once."""
        assert len(HONEST_NAMES) >= 90
        registry = taken(*HONEST_NAMES)
        assert len(registry) == len(HONEST_NAMES)
        for name in HONEST_NAMES:
            assert parse_nick(name).text == unicodedata.normalize("NFKC", name)
            assert registry.find(name) == name

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("Ian", "Lan"),
            ("Neil", "Nell"),
            ("Kai", "Kal"),
            ("Mei", "Mel"),
            ("Ali", "All"),
            ("Ali", "Ail"),
            ("MALI", "Mall"),
            ("Mila", "Mlia"),
            ("Lisa", "Isa"),
            ("Jose", "José"),
            ("bot1", "bot10"),
        ],
    )
    def test_names_that_differ(self, one: str, other: str) -> None:
        """What people tell apart stays apart: `L` from `I`, `i` from `l`, accents."""
        taken(one, other)

    def test_data_is_complete(self) -> None:
        """Every letter of Latin has look-alikes beyond those that NFKC removes, and its small capital."""
        counts = {
            letter: sum(unicodedata.normalize("NFKC", g) == g and not g.isascii() for g in choices(letter)[0])
            for letter in ascii_lowercase
        }
        assert sum(counts.values()) > 300
        assert [letter for letter, count in counts.items() if count < 3] == []
        for letter in ascii_uppercase.replace("X", ""):
            small_capital = unicodedata.lookup(f"LATIN LETTER SMALL CAPITAL {letter}")
            assert set(parse_nick(small_capital * 2).looks) & set(parse_nick(letter * 2).looks), letter

    def test_prototypes_are_final(self) -> None:
        """No prototype has a prototype of its own: one pass over a name is enough."""
        table = looks._prototypes()
        assert len(table) > 6000
        assert {c for shape in table.values() for c in shape if ord(c) in table} <= {"|"}

    def test_many_readings(self) -> None:
        """A name of nothing but ones has not a thousand looks."""
        assert len(parse_nick("1" * 32).looks) == 2
        assert max(len(parse_nick(text).looks) for text in ("l111l", "1I1I", "lIlI", "l1l1-Il1")) <= 26
        assert is_kept_out("1" * 10, taken("l" * 10))
        assert is_kept_out("1" * 10, taken("i" * 10))
