"""Nicknames and rooms (docs/protocol.md, sections 2 and 3.6)."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from string import ascii_letters, ascii_lowercase, ascii_uppercase, digits, printable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from chatproto.rooms import looks, names
from chatproto.rooms.names import NameRefused, Nick, Nicknames, check_room, parse_nick
from chatproto.text import character_name

ANY = st.text(st.characters(exclude_categories=()), max_size=40)
"""Any string that Python can hold, lone surrogates included."""

NICKISH = st.text(
    st.one_of(
        st.sampled_from("abcIl10OmMß-_.' "),
        st.sampled_from(
            "éÅİıǆœﬁſΩσςΣЖйІіاابهن٣۳אבג׳漢字かカー・한글สมชาย्क\u200c\u200d\u0301\u0307\u00b7ｆＡ①㍿🔥🏻\u2122"
        ),
        st.characters(categories=("L", "M", "N")),
    ),
    min_size=1,
    max_size=12,
)
"""Strings with a fair chance to be a nickname."""

ASCII_NICKS = st.from_regex(r"[-_.']{0,3}[A-Za-z0-9][-_.'A-Za-z0-9]{0,20}", fullmatch=True)

HONEST = {
    "Latin": "José Nguyễn Åsa Łukasz Zoë Çağla Þórunn Øyvind François Jürgen Ñuñez Škoda Ağaoğlu İpek Bjørn "
    "McDonald O'Brien d'Artagnan Jean-Luc J.R.R.Tolkien scipio femdev Paral·lel Seán Ōkami Kahoʻolawe Strauß",
    "Cyrillic": "Ольга Владимир Наталья Дмитрий Юлия Київ Їжак Љубица Ђорђе Жанна Щукин Алексей-2",
    "Greek": "Σωκράτης Ελένη Γιώργος Οδυσσέας Παναγιώτης Ζωή",
    "Armenian and Georgian": "Արմեն Գայանե ნინო გიორგი",
    "Arabic": "محمد فاطمة علي نور_الدين زهرا سارا۱۲ علی\u200cرضا نسرین_پور",
    "Hebrew": "דוד שרה יעקב ג׳ורג׳ מרים_כהן",
    "Chinese": "李小龍 王偉 孫悟空 习近平 陳大文",
    "Japanese": "さくら 山田太郎 ジョン・スミス スーパーマン 佐々木 ひろゆき",
    "Korean": "김철수 이영희 박지성 홍길동",
    "Thai": "สมชาย กิ่งแก้ว น้ำฝน",
    "Devanagari": "अमित प्रिया राजेश लक्ष्मी क्\u200dष",
    "Tamil and Bengali": "தமிழ் রবীন্দ্রনাথ",
    "mixed": "Åsa-李 MAX鈴木 김tube ㄅㄆㄇbopo bob🔥 🦊fox さくらchan",
}
HONEST_NAMES = [name for line in HONEST.values() for name in line.split()]


def refusal(text: str, max_chars: int = 32) -> str:
    with pytest.raises(NameRefused) as caught:
        parse_nick(text, max_chars)
    return str(caught.value)


def room_refusal(text: str, max_chars: int = 64) -> str:
    with pytest.raises(NameRefused) as caught:
        check_room(text, max_chars)
    return str(caught.value)


def is_safe_to_show(sentence: str) -> bool:
    return sentence.isascii() and sentence.isprintable() and len(sentence) <= 200


def taken(*held: str) -> Nicknames[str]:
    registry: Nicknames[str] = Nicknames()
    for name in held:
        assert registry.claim(parse_nick(name), name) is None
    return registry


def is_kept_out(text: str, registry: Nicknames[str]) -> bool:
    try:
        return registry.claim(parse_nick(text), "someone else") is not None
    except NameRefused:
        return True


def test_public_names() -> None:
    """The module offers this and nothing else."""
    assert names.__all__ == ["NameRefused", "Nick", "Nicknames", "check_room", "parse_nick"]


class TestFormRfc8266:
    """RFC 8266, section 2: the form that is shown, and the one that is compared."""

    @pytest.mark.parametrize(
        ("given", "text", "key"),
        [
            ("Bob", "Bob", "bob"),
            ("  Bob ", "Bob", "bob"),
            ("\u3000Bob\u00a0", "Bob", "bob"),
            ("ＢＯＢ", "BOB", "bob"),
            ("𝓑𝓸𝓫", "Bob", "bob"),
            ("ﬁona", "fiona", "fiona"),
            ("Jose\u0301", "José", "josé"),
            ("ΣΩΚΡΆΤΗΣ", "ΣΩΚΡΆΤΗΣ", "σωκράτης"),
            ("Ⅷ", "VIII", "viii"),
            ("ｱｷﾗ", "アキラ", "アキラ"),
        ],
    )
    def test_forms(self, given: str, text: str, key: str) -> None:
        """Blanks around the name go, compatibility characters are replaced, the key has no case."""
        nick = parse_nick(given)
        assert (nick.text, nick.key) == (text, key)

    @settings(max_examples=500)
    @given(ANY | NICKISH | ASCII_NICKS)
    @example("\u0130")
    @example("\u1e9e")
    @example("\u03d3\u0301")
    @example("\u1100\u1161\u11a8")
    def test_nick_or_refusal(self, text: str) -> None:
        """Any string gives a nickname, the same again when parsed again, or a refusal fit for a terminal."""
        sentence = ""
        try:
            nick = parse_nick(text)
        except NameRefused as refused:
            sentence = str(refused)
        if sentence:
            assert is_safe_to_show(sentence)
            return
        assert parse_nick(nick.text) == nick
        assert 1 <= len(nick.text) <= 32
        assert not set(nick.text) & set(':<>[]*#@/\\,"` \n')

    @settings(max_examples=500)
    @given(NICKISH)
    def test_unicode_forms_share_the_key(self, text: str) -> None:
        """NFC, NFD, NFKC and NFKD of a name are one name."""
        try:
            nick = parse_nick(text, 64)
        except NameRefused:
            return
        for form in ("NFC", "NFD", "NFKC", "NFKD"):
            assert parse_nick(unicodedata.normalize(form, nick.text), 64) == nick

    @settings(max_examples=500)
    @given(NICKISH | st.sampled_from(HONEST_NAMES))
    def test_case_variants_are_kept_out(self, text: str) -> None:
        """Variants with the same small letters share the key; all variants share the key or a look."""
        try:
            nick = parse_nick(text, 64)
            variants = [
                parse_nick(v, 64) for v in (nick.text.lower(), nick.text.upper(), nick.text.swapcase())
            ]
        except NameRefused:
            return
        for variant in variants:
            if variant.text.lower() == nick.text.lower():
                assert variant.key == nick.key
            assert variant.key == nick.key or variant.looks & nick.looks

    @given(ASCII_NICKS)
    def test_ascii_fast_path(self, text: str) -> None:
        """The fast path gives what PRECIS and the tables give."""
        nick = parse_nick(text)
        preserved, mapped = names._profiles()
        assert nick.text == preserved.enforce(text)
        assert nick.key == mapped.enforce(text)
        assert nick.looks == looks.looks_of(text)

    def test_no_stable_form(self) -> None:
        """What the profile finds unstable is refused in words."""

        class Restless:
            def enforce(self, text: str) -> str:
                raise UnicodeEncodeError("Nickname", text, 0, len(text), "DISALLOWED/not_idempotent")

        with pytest.raises(NameRefused, match="no stable form"):
            names._enforce(Restless(), "x")  # type: ignore[arg-type]


class TestSigns:
    """One word of letters, marks, digits, a few signs and emoji; nothing that could forge a line."""

    @pytest.mark.parametrize(
        "text",
        [
            "a",
            "7",
            "a-b_c.d'e",
            "-a-",
            "x86_64",
            "bob🔥",
            "bob👍🏻",
            "♥bob",
            "l·l",
            "ג׳ורג׳",
            "ア・イ",
            "क्\u200dष",
        ],
    )
    def test_passes(self, text: str) -> None:
        """Signs within a word, emoji, and what an orthography needs."""
        assert parse_nick(text).text == text

    @pytest.mark.parametrize("text", ["", " ", "\u3000", "    "])
    def test_empty(self, text: str) -> None:
        """A name has something in it."""
        assert refusal(text) == "The nickname is empty; give it a name."

    def test_length(self) -> None:
        """The limit counts the characters of the form that is shown."""
        assert parse_nick("x" * 32).text == "x" * 32
        assert parse_nick("é" * 32).text == "é" * 32
        assert parse_nick("e\u0301" * 32).text == "é" * 32
        assert refusal("x" * 33) == "The nickname has 33 characters; use at most 32."
        assert refusal("é" * 33) == "The nickname has 33 characters; use at most 32."
        assert refusal("é" * 129) == "The nickname has 129 characters; use at most 32."
        assert refusal("ab", 1) == "The nickname has 2 characters; use at most 1."

    @pytest.mark.parametrize(
        "text",
        ["a b", "a\tb", "a\nb", "\rb", "a\x85b", "a\u00a0b", "a\u3000b", "é b", "a\u2028b", "a\u1680b", "ﷺ"],
    )
    def test_blanks(self, text: str) -> None:
        """Commands separate words by blanks: a nickname has none inside, of no kind."""
        assert refusal(text).startswith("A nickname cannot contain a blank (U+")

    @pytest.mark.parametrize("character", ["\x00", "\x1b", "\x7f", "\x9b"])
    def test_control_characters(self, character: str) -> None:
        """No C0, DEL, C1."""
        assert refusal(f"bob{character}") == (
            f"A nickname cannot contain U+{ord(character):04X} CONTROL CHARACTER; leave it out."
        )

    @pytest.mark.parametrize(
        "character",
        "\xad\u034f\u061c\u115f\u17b4\u180b\u180e\u200b\u200e\u200f\u202a\u202e\u2060\u2066\u2069\u2800\u3164"
        "\ufe0f\ufeff\uffa0\ufff9\U0001d159\U0001d173\U000e0041\U000e0100",
    )
    def test_invisible_characters(self, character: str) -> None:
        """No bidi control, no zero width, no filler, no selector, no tag."""
        assert refusal(f"bob{character}").startswith("A nickname cannot contain the invisible character U+")

    @pytest.mark.parametrize("character", [*map(chr, (0xD800, 0xDFFF, 0xE000, 0xFFFF, 0x10FFFF, 0x378))])
    def test_no_characters(self, character: str) -> None:
        """No surrogate, private use, noncharacter, unassigned."""
        assert refusal(f"bob{character}") == (
            f"A nickname cannot contain {character_name(character)}, which this server does not know; "
            "leave it out."
        )

    @pytest.mark.parametrize(
        "character", sorted(set(printable) - set(ascii_letters + digits + "-_.' \t\n\r\v\f"))
    )
    def test_punctuation_of_ascii(self, character: str) -> None:
        """A line such as `<bob> hi` or `* bob left` cannot be forged."""
        assert refusal(f"bob{character}") == (
            f"A nickname cannot contain {character_name(character)}; use letters, digits and - _ . ' instead."
        )

    @pytest.mark.parametrize(
        "character", "“”‘’«»‹›„—–…⟨⟩＜＞：／＠＃＊，「」、。†‡€±×→│█❛❝✱\u20dd①ː\ua4fd\u02ba\u02ee\ua4f9"
    )
    def test_punctuation_beyond(self, character: str) -> None:
        """Nor can it with other punctuation, frames, ornaments, or letters that look like them."""
        if character in "…①":
            assert parse_nick(f"bob{character}").text == "bob" + unicodedata.normalize("NFKC", character)
        else:
            assert refusal(f"bob{character}").endswith("; use letters, digits and - _ . ' instead.")

    @pytest.mark.parametrize("text", ["-", "...", "_'_", "🔥", "♥♥"])
    def test_letter_or_digit(self, text: str) -> None:
        """Signs alone are no name."""
        assert refusal(text) == "A nickname needs a letter or a digit; add one."

    def test_marks_first(self) -> None:
        """A mark would go onto what stands before the name."""
        assert refusal("\u0301bob") == (
            "A nickname cannot begin with the mark U+0301 COMBINING ACUTE ACCENT; put a letter before it."
        )

    def test_marks_in_heaps(self) -> None:
        """Three marks after a letter pass, four run into the next line."""
        assert parse_nick("x\u0301\u0302\u0303").text
        assert refusal("x\u0301\u0302\u0303\u0304") == (
            "A nickname cannot have more than 3 marks on one letter; leave some out."
        )

    @pytest.mark.parametrize("text", ["x\u0301\u0301", "é\u0301", "กิิ"])
    def test_marks_twice(self, text: str) -> None:
        """UTS #39, section 5.4: the second one is drawn over the first."""
        assert refusal(text).startswith("A nickname cannot repeat the mark U+")

    @pytest.mark.parametrize("text", ["1\u0663", "١۲", "1२", "bob1२"])
    def test_digits_of_several_kinds(self, text: str) -> None:
        """UTS #39, section 5.3: one kind of digits."""
        assert refusal(text) in (
            "A nickname cannot mix the digits of several scripts; use one kind.",
            "A nickname cannot contain U+0661 ARABIC-INDIC DIGIT ONE at that place; leave it out.",
        )

    @pytest.mark.parametrize("text", ["a·b", "·", "l·", "bob\u200c", "bob\u200dx", "ア\u200d", "a・b", "a׳"])
    def test_signs_out_of_place(self, text: str) -> None:
        """RFC 5892, appendix A: where the orthography does not need them they are refused."""
        assert refusal(text).endswith(" at that place; leave it out.")


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
            assert parse_nick(small_capital * 2).looks & parse_nick(letter * 2).looks, letter

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


class TestNicknames:
    """Section 3.6: unique as long as a session holds them."""

    def test_claim_and_release(self) -> None:
        """A name is free again after release, and nothing is left behind."""
        registry: Nicknames[str] = Nicknames()
        bob = parse_nick("Bob")
        assert registry.claim(bob, "one") is None
        assert registry.claim(parse_nick("bob"), "two") == "one"
        assert registry.claim(parse_nick("b0b"), "two") == "one"
        assert len(registry) == 1
        registry.release(bob, "one")
        assert len(registry) == 0
        assert registry.claim(parse_nick("b0b"), "two") is None

    def test_claim_twice(self) -> None:
        """Claiming what one holds changes nothing: one release frees it."""
        registry: Nicknames[str] = Nicknames()
        registry.claim(parse_nick("bob"), "one")
        registry.claim(parse_nick("bob"), "one")
        registry.release(parse_nick("bob"), "one")
        assert registry.claim(parse_nick("bob"), "two") is None

    def test_release_of_what_one_does_not_hold(self) -> None:
        """Only the owner lets go of a name."""
        registry = taken("bob")
        registry.release(parse_nick("bob"), "two")
        registry.release(parse_nick("Bob"), "bob")
        registry.release(parse_nick("carol"), "bob")
        assert registry.find("bob") == "bob"

    @pytest.mark.parametrize(
        ("held", "wanted", "free"),
        [
            (["ann"], "ann", "ann2"),
            (["ann", "ANN2", "ann3"], "Ann", "Ann4"),
            (["x" * 32], "x" * 32, "x" * 31 + "2"),
            (["bill"], "BiII", "BiII2"),
            (["שלום"], "שלום", "שלום2"),
            (["ann", *(f"ann{digit}" for digit in range(2, 10))], "ann", "ann_"),
        ],
    )
    def test_a_free_name_like_one_that_is_not(self, held: list[str], wanted: str, free: str) -> None:
        """It can really be claimed, and looking for it claims nothing."""
        registry = taken(*held)
        assert registry.free_like(parse_nick(wanted), "new") == free
        assert len(registry) == len(held)
        assert registry.claim(parse_nick(free), "new") is None

    def test_a_free_name_is_none_that_one_has_already(self) -> None:
        """Who is `ann2` asked for another."""
        assert taken("ann", "ann2").free_like(parse_nick("ann"), "ann2") == "ann3"

    def test_no_free_name_is_invented_for_ever(self) -> None:
        """There is an end to the trying."""
        endings = ["", *"23456789", "_", *map(str, range(10, 30))]
        registry = taken(*(f"ann{ending}" for ending in endings))
        assert registry.free_like(parse_nick("ann"), "new") is None

    def test_rename_to_a_variant(self) -> None:
        """One's own name is not in the way, and the old one takes nothing from the new one with it."""
        registry: Nicknames[str] = Nicknames()
        old, new = parse_nick("Bob"), parse_nick("b0b")
        for nick in (old, parse_nick("bob"), new):
            assert registry.claim(nick, "one") is None
        assert len(registry) == 3
        registry.release(old, "one")
        assert registry.find("BOB") == "one"
        registry.release(parse_nick("bob"), "one")
        assert registry.find("bob") is None
        assert registry.find("B0B") == "one"
        assert registry.claim(parse_nick("bob"), "two") == "one"

    def test_a_refused_claim_leaves_nothing(self) -> None:
        """Nothing of a name that could not be had is taken."""
        registry = taken("modern")
        assert registry.claim(parse_nick("modem"), "two") == "modern"
        registry.release(parse_nick("modern"), "modern")
        assert not registry._keys
        assert not registry._looks
        assert not registry._held

    @pytest.mark.parametrize("text", ["josé", "JOSE\u0301", " José ", "ＪＯＳÉ"])
    def test_find(self, text: str) -> None:
        """By the comparison of RFC 8266."""
        assert taken("José").find(text) == "José"

    @pytest.mark.parametrize(
        "text", ["", "jose", "Jose\u0300", "a b", "\ud800", "é\x00", "x" * 10_000, "é" * 10_000, "b0b"]
    )
    def test_find_nobody(self, text: str) -> None:
        """Not by looks, and no string is too strange to ask for."""
        assert taken("José", "bob").find(text) is None

    @given(ANY | NICKISH)
    def test_find_never_raises(self, text: str) -> None:
        """Whoever can claim a text as name is found under it."""
        registry: Nicknames[int] = Nicknames()
        assert registry.find(text) is None
        try:
            registry.claim(parse_nick(text), 1)
        except NameRefused:
            return
        assert registry.find(text) == 1

    def test_longer_names(self) -> None:
        """A server that allows longer names tells the registry."""
        name = "x" * 200
        registry: Nicknames[int] = Nicknames(max_chars=200)
        registry.claim(parse_nick(name, 200), 1)
        assert registry.find(name) == 1


class NicknamesModel(RuleBasedStateMachine):
    """The registry against a plain list of who holds what."""

    nicks = st.sampled_from(
        [
            "bob",
            "Bob",
            "b0b",
            "BOB0",
            "modern",
            "modem",
            "Ian",
            "lan",
            "Lan",
            "ivan",
            "ѕсіріо",
            "scipio",
            "José",
            "josé",
        ]
    )
    owners = st.sampled_from(["one", "two", "three"])

    def __init__(self) -> None:
        super().__init__()
        self.registry: Nicknames[str] = Nicknames()
        self.held: dict[Nick, str] = {}

    @rule(text=nicks, owner=owners)
    def claim(self, text: str, owner: str) -> None:
        nick = parse_nick(text)
        in_the_way = {
            other
            for held, other in self.held.items()
            if other != owner and (held.key == nick.key or held.looks & nick.looks)
        }
        answer = self.registry.claim(nick, owner)
        if in_the_way:
            assert answer in in_the_way
        else:
            assert answer is None
            self.held[nick] = owner

    @rule(text=nicks, owner=owners)
    def release(self, text: str, owner: str) -> None:
        nick = parse_nick(text)
        self.registry.release(nick, owner)
        if self.held.get(nick) == owner:
            del self.held[nick]

    @rule(text=nicks)
    def find(self, text: str) -> None:
        key = parse_nick(text).key
        owners = {owner for nick, owner in self.held.items() if nick.key == key}
        found = self.registry.find(text)
        assert owners == (set() if found is None else {found})

    @invariant()
    def nothing_is_left_behind(self) -> None:
        assert len(self.registry) == len(self.held)
        assert set(self.registry._keys) == {nick.key for nick in self.held}
        assert set(self.registry._looks) == {look for nick in self.held for look in nick.looks}


TestNicknamesModel = NicknamesModel.TestCase


class TestRooms:
    """Section 2: a room has 1 to 64 characters."""

    @pytest.mark.parametrize(
        "text",
        [
            "lobby",
            "#ops",
            "日本語",
            "c++",
            "team/red",
            "a",
            "x" * 64,
            "é" * 64,
            "Ünïcödé",
            "עברית",
            "🔥",
            "a/",
        ],
    )
    def test_passes(self, text: str) -> None:
        """Anything visible, in any script."""
        check_room(text)

    def test_empty(self) -> None:
        """The empty room is the default room; that is the caller's to know."""
        assert room_refusal("") == "The room is empty; give it a name."

    def test_length(self) -> None:
        """The limit counts characters."""
        assert room_refusal("x" * 65) == "The room has 65 characters; use at most 64."
        assert room_refusal("é" * 65) == "The room has 65 characters; use at most 64."
        assert room_refusal("ab", 1) == "The room has 2 characters; use at most 1."

    @pytest.mark.parametrize("text", ["/", "/join", "//x", "/é"])
    def test_slash_first(self, text: str) -> None:
        """It would be taken for a command."""
        assert room_refusal(text).startswith("The name of a room cannot begin with a slash")

    @pytest.mark.parametrize("character", " \t\n\r\x0b\x0c\x85\xa0\u1680\u2003\u2028\u2029\u3000")
    def test_blanks(self, character: str) -> None:
        """No whitespace of any kind."""
        assert room_refusal(f"a{character}").startswith("The name of a room cannot contain a blank (U+")

    @pytest.mark.parametrize("character", "\x00\x1b\x7f\x9f")
    def test_control_characters(self, character: str) -> None:
        """No C0, DEL, C1."""
        assert room_refusal(f"a{character}") == (
            f"The name of a room cannot contain U+{ord(character):04X} CONTROL CHARACTER; leave it out."
        )

    @pytest.mark.parametrize(
        "character", "\xad\u034f\u061c\u200b\u200c\u200d\u202e\u2066\u2800\u3164\ufe0f\ufeff\U000e0041"
    )
    def test_invisible_characters(self, character: str) -> None:
        """Two rooms that look the same must be the same."""
        assert room_refusal(f"a{character}").startswith(
            "The name of a room cannot contain the invisible character U+"
        )

    @pytest.mark.parametrize("character", ["\ud800", "\ue000", "\uffff", "\u0378"])
    def test_no_characters(self, character: str) -> None:
        """No surrogate, private use, noncharacter, unassigned."""
        assert room_refusal(f"a{character}").endswith(", which this server does not know; leave it out.")

    def test_form(self) -> None:
        """A name is never changed silently: other forms than NFC are refused."""
        assert room_refusal("e\u0301") == (
            "The name of a room must be in Unicode form NFC; ask for it in that form."
        )

    @settings(max_examples=500)
    @given(ANY | NICKISH)
    def test_properties(self, text: str) -> None:
        """Any string passes or is refused in words, and what passes is fit for one line."""
        sentence = ""
        try:
            check_room(text)
        except NameRefused as refused:
            sentence = str(refused)
        if sentence:
            assert is_safe_to_show(sentence)
            return
        assert 1 <= len(text) <= 64
        assert not text.startswith("/")
        assert unicodedata.normalize("NFC", text) == text
        assert not any(unicodedata.category(c)[0] in "CZ" for c in text)


def test_ascii_needs_no_tables() -> None:
    """A server where everybody writes ASCII never loads PRECIS or the tables."""
    program = (
        "import sys\n"
        "from chatproto.rooms.names import NameRefused, Nicknames, check_room, parse_nick\n"
        "registry = Nicknames()\n"
        "registry.claim(parse_nick('scipio'), 1)\n"
        "registry.find('Scipio')\n"
        "check_room('#ops')\n"
        "for text in ('', 'a b', '<a>', 'x' * 99, '...'):\n"
        "    try:\n"
        "        parse_nick(text)\n"
        "    except NameRefused:\n"
        "        continue\n"
        "    raise SystemExit(text)\n"
        "raise SystemExit(any(m.startswith(('precis', 'confusable')) for m in sys.modules))\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
