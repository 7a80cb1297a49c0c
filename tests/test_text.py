"""What a message may contain (docs/protocol.md, error 9), and taming it for terminals."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chatproto import text as module
from chatproto.text import TextRefused, character_name, check_text, tame

ANY = st.text(st.characters(exclude_categories=()))
"""Any string that Python can hold, lone surrogates included."""

NASTY = st.text(
    st.sampled_from(
        "a \n\t\r\x00\x07\x1b\x7f\x85\x9b\xad\u061c\u200b\u200c\u200d\u200e\u202e\u2028\u2029\u2066\u206a"
        "\ufeff\ufff9\ufe0f\U000e0041\U000e0100\U0001f600é漢\ud800\udfff"
    )
)

BIDI_CONTROLS = {0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}

TAMED = {
    *range(0x20),
    *range(0x7F, 0xA0),
    0xAD,
    *BIDI_CONTROLS,
    0x2028,
    0x2029,
    *range(0x206A, 0x2070),
    0x180E,
    *range(0x2060, 0x2066),
    *range(0x1BCA0, 0x1BCA4),
    *range(0x1D173, 0x1D17B),
    *range(0x200B, 0x200E),  # behind an ASCII letter
    0xFEFF,
    *range(0xFFF9, 0xFFFC),
    *range(0xD800, 0xE000),
    *range(0xE0000, 0xE0080),
}


def refusal(text: str, max_bytes: int = 4096) -> str:
    with pytest.raises(TextRefused) as caught:
        check_text(text, max_bytes)
    return str(caught.value)


def test_public_names() -> None:
    """The module offers this and nothing else."""
    assert module.__all__ == ["TextRefused", "TextTooLong", "character_name", "check_text", "tame"]


class TestCheckText:
    """Error 9: empty, too long, or with control characters other than newline and tab."""

    @pytest.mark.parametrize(
        "text",
        [
            "hi",
            "two\nlines",
            "a\ttab",
            " ",
            "привет",
            "漢字",
            "👨\u200d👩\u200d👧 ❤\ufe0f",
            "می\u200cخواهم",
            "\u202eabc",
        ],
    )
    def test_what_people_say_passes(self, text: str) -> None:
        """Everything but control characters may be said, in any script."""
        check_text(text, 4096)

    def test_empty(self) -> None:
        """Nothing is no message."""
        assert refusal("") == "The message is empty; write something."

    @pytest.mark.parametrize(
        "character", [chr(c) for c in (*range(0x20), *range(0x7F, 0xA0)) if c not in (9, 10)]
    )
    @pytest.mark.parametrize("around", ["{}", "before {} after", "é{}"])
    def test_control_characters(self, character: str, around: str) -> None:
        """C0 but newline and tab, DEL and C1 are refused wherever they stand."""
        assert refusal(around.format(character)) == (
            f"The message contains U+{ord(character):04X} CONTROL CHARACTER; leave that character out."
        )

    def test_lone_surrogate(self) -> None:
        """What UTF-8 cannot carry is refused, not raised later by an encoder."""
        assert refusal("a\ud83d") == "The message contains U+D83D SURROGATE; leave that character out."

    @pytest.mark.parametrize(("text", "size"), [("abcde", 5), ("éé\n", 5), ("漢字", 6), ("👩👩", 8)])
    def test_limit_is_in_bytes(self, text: str, size: int) -> None:
        """The limit counts bytes of UTF-8; a text of exactly that many passes."""
        check_text(text, size)
        assert "send it in parts" in refusal(text, size - 1)

    def test_sentences_of_length(self) -> None:
        """Where counting the bytes is cheap the sentence gives them."""
        assert refusal("ééé", 5) == "The message has 6 bytes and 5 are allowed; send it in parts."
        assert refusal("x" * 4097) == "The message is longer than 4096 bytes; send it in parts."

    @given(ANY | NASTY, st.integers(1, 40))
    @example("", 1)
    def test_agrees_with_the_protocol(self, text: str, max_bytes: int) -> None:
        """The fast path and the slow one together are the rule of the protocol, and raise nothing else."""
        allowed = 0 < len(text.encode(errors="surrogatepass")) <= max_bytes and not any(
            unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" for c in text
        )
        if allowed:
            check_text(text, max_bytes)
        else:
            sentence = refusal(text, max_bytes)
            assert sentence.isascii()
            assert sentence.isprintable()
            assert len(sentence) <= 200


class TestTame:
    """Section 7: control characters never reach a terminal."""

    def test_every_code_point(self) -> None:
        """Exactly the characters listed become U+FFFD, everything else stays."""
        for point in range(0x110000):
            assert tame(f"a{chr(point)}b") == ("a\ufffdb" if point in TAMED else f"a{chr(point)}b"), hex(
                point
            )

    def test_escape_sequences(self) -> None:
        """A terminal sees no escape sequence, in seven bits or in eight."""
        assert tame("\x1b[2J\x9b31mred\x07") == "\ufffd[2J\ufffd31mred\ufffd"

    def test_lines_cannot_be_forged(self) -> None:
        """Newline, tab and carriage return are replaced too."""
        assert tame("hi\n<bob> me\r\tx") == "hi\ufffd<bob> me\ufffd\ufffdx"

    @pytest.mark.parametrize(
        "text",
        [
            "👨\u200d👩\u200d👧",
            "❤\ufe0f\u200d🔥",
            "🏴\u200d☠\ufe0f",
            "👩🏽\u200d💻",
            "❤\ufe0f",
            "1\ufe0f\u20e3",
            "می\u200cخواهم",
            "ه\u200d",
            "क्\u200dष",
            "क्\u200cष",
            "ශ්\u200dරී",
            "葛\U000e0100",
            "ភាសា\u200bខ្មែរ",
            "ภาษา\u200bไทย",
            "မြန်မာ\u200bစာ",
        ],
    )
    def test_what_is_invisible_stays_where_a_script_needs_it(self, text: str) -> None:
        """Emoji, Persian, the Indic scripts, ideographs, and scripts without blanks between words."""
        assert tame(text) == text

    @pytest.mark.parametrize(
        ("text", "tamed"),
        [
            ("ad\u200bmin", "ad\ufffdmin"),
            ("ad\u200dmin", "ad\ufffdmin"),
            ("\u200c", "\ufffd"),
            ("\u200dadmin", "\ufffdadmin"),
            ("é\u200d\u200d\u200c", "é\u200d\ufffd\ufffd"),
            ("ไ\u200b\u200b\u200d", "ไ\u200b\ufffd\ufffd"),
            ("привет\u200b", "привет\ufffd"),
            ("2\u2062x", "2\ufffdx"),
            ("good\u2060bye", "good\ufffdbye"),
            ("\U0001d173", "\ufffd"),
        ],
    )
    def test_nothing_hides_where_no_script_needs_it(self, text: str, tamed: str) -> None:
        """Between letters of ASCII, at the beginning, and in a row."""
        assert tame(text) == tamed

    def test_printable_text_is_not_copied(self) -> None:
        """The usual text costs one look."""
        text = "".join(["plain ", "text é漢"])
        assert tame(text) is text

    @given(ANY | NASTY)
    def test_properties(self, text: str) -> None:
        """No control or bidi control is left, taming twice is taming once, the length stays."""
        tamed = tame(text)
        assert not any(
            unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or ord(c) in BIDI_CONTROLS for c in tamed
        )
        assert tame(tamed) == tamed
        assert len(tamed) == len(text)
        assert all(old == new or new == "\ufffd" for old, new in zip(text, tamed, strict=True))
        tamed.encode()


class TestCharacterName:
    """How refusals speak of a character."""

    @pytest.mark.parametrize(
        ("character", "name"),
        [
            ("\x00", "U+0000 CONTROL CHARACTER"),
            ("\u202e", "U+202E RIGHT-TO-LEFT OVERRIDE"),
            ("\U0001f600", "U+1F600 GRINNING FACE"),
            ("\ue000", "U+E000 PRIVATE USE"),
            ("\udc80", "U+DC80 SURROGATE"),
            ("\uffff", "U+FFFF UNASSIGNED"),
        ],
    )
    def test_examples(self, character: str, name: str) -> None:
        """A number and a name, also for what Unicode gives no name."""
        assert character_name(character) == name

    @given(st.characters(exclude_categories=()))
    def test_is_safe_to_show(self, character: str) -> None:
        """ASCII, printable, short."""
        name = character_name(character)
        assert name.isascii()
        assert name.isprintable()
        assert len(name) <= 70
