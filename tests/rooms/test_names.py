"""What may be a nickname or the name of a room (docs/protocol.md, sections 2 and 3.6)."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from string import ascii_letters, digits, printable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rooms.nicknames import ANY, ASCII_NICKS, HONEST_NAMES, NICKISH, is_safe_to_show, refusal

from chatproto.rooms import looks, names
from chatproto.rooms.names import NameRefused, check_room, parse_nick
from chatproto.text import character_name


def room_refusal(text: str, max_chars: int = 64) -> str:
    with pytest.raises(NameRefused) as caught:
        check_room(text, max_chars)
    return str(caught.value)


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
            assert variant.key == nick.key or set(variant.looks) & set(nick.looks)

    @given(ASCII_NICKS)
    def test_ascii_fast_path(self, text: str) -> None:
        """The fast path gives what PRECIS and the tables give."""
        nick = parse_nick(text)
        preserved, mapped = names._profiles()
        assert nick.text == preserved.enforce(text)
        assert nick.key == mapped.enforce(text)
        assert nick.looks == tuple(sorted(looks.looks_of(text)))

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
