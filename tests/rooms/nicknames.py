"""Nicknames to try: any, likely and honest ones; and which of them are refused or taken."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from chatproto.rooms.names import NameRefused, Nicknames, parse_nick

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


def is_safe_to_show(sentence: str) -> bool:
    return sentence.isascii() and sentence.isprintable() and len(sentence) <= 200


def taken(*held: str) -> Nicknames[str]:
    registry: Nicknames[str] = Nicknames()
    for name in held:
        assert registry.claim(parse_nick(name), name) is None
    return registry
