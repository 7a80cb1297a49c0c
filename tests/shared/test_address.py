"""The URLs of stores: what they mean, what is refused, and that no password is shown."""

from __future__ import annotations

import pytest

from chatproto.shared.address import StoreAddress, is_store, parse_store, without_secret


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("redis://example.org", StoreAddress(hosts=(("example.org", 6379),))),
        ("redis://10.0.0.1:7000/3", StoreAddress(hosts=(("10.0.0.1", 7000),), database=3)),
        ("redis://[::1]:7000/", StoreAddress(hosts=(("::1", 7000),))),
        ("redis://[::1]", StoreAddress(hosts=(("::1", 6379),))),
        (
            "rediss://ann:p%40ss%2F@example.org/0",
            StoreAddress(hosts=(("example.org", 6379),), is_tls=True, user="ann", password="p@ss/"),
        ),
        ("redis://:secret@h", StoreAddress(hosts=(("h", 6379),), password="secret")),
        ("redis+unix:///run/redis.sock", StoreAddress(path="/run/redis.sock")),
        ("redis+unix:///run/redis.sock?db=2", StoreAddress(path="/run/redis.sock", database=2)),
        ("redis+unix://u:p@/r.sock", StoreAddress(path="/r.sock", user="u", password="p")),
        (
            "redis+sentinel://a,b:7,[::1]/chat/1",
            StoreAddress(hosts=(("a", 26379), ("b", 7), ("::1", 26379)), service="chat", database=1),
        ),
        (
            "rediss+sentinel://:s@a/chat",
            StoreAddress(hosts=(("a", 26379),), service="chat", is_tls=True, password="s"),
        ),
    ],
)
def test_a_url_means_a_store(text: str, address: StoreAddress) -> None:
    assert is_store(text)
    assert parse_store(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "redis://",
        "redis://:sesame@",
        "redis://h:0",
        "redis://h:65536",
        "redis://h:x",
        "redis://h:",
        "redis://h/x",
        "redis://h/1/2",
        "redis://h/0?db=1",
        "redis://h/0#sesame",
        "redis://h?replicas=1",
        "redis://ho st/0",
        "redis://a..b/0",
        "redis://h%20/0",
        f"redis://{'a' * 70}/0",
        "redis://[::1",
        "redis://[::x]/0",
        "redis://[::1]x/0",
        "reds://:sesame@h/0",
        "redis://a,b/0",
        "redis+unix://host/run/sock",
        "redis+unix://",
        "redis+unix:///s?database=1",
        "redis+unix:///s?db=x",
        "redis+sentinel://a",
        "http://h",
        "chat.sqlite",
    ],
)
def test_anything_else_is_refused_with_a_phrase_without_a_password(text: str) -> None:
    with pytest.raises(ValueError, match=r"^[a-z]") as refused:
        parse_store(text)
    assert "\n" not in str(refused.value)
    assert "sesame" not in str(refused.value)


@pytest.mark.parametrize(
    "text", ["chat.sqlite", "memory", "./redis://x", "/srv/redis", "redis", "C:\\chat.sqlite"]
)
def test_a_file_is_no_store(text: str) -> None:
    assert not is_store(text)
    assert without_secret(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://ann:sesame@h:1/0", "redis://ann:***@h:1/0"),
        ("redis://:s@same@h/0", "redis://:***@h/0"),
        ("redis://ann@h", "redis://ann@h"),
        ("redis+unix://u:sesame@/s?db=1", "redis+unix://u:***@/s?db=1"),
    ],
)
def test_a_password_is_not_shown(text: str, shown: str) -> None:
    assert without_secret(text) == shown
    address = parse_store(text.replace("s@same", "s%40same"))
    assert "same" not in str(address)
    assert "same" not in repr(address)


@pytest.mark.parametrize(
    "text", ["redis://h:1/2", "redis://[::1]:1/0", "rediss+sentinel://a:1,b:2/chat/3", "redis+unix:///s?db=1"]
)
def test_an_address_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_store(text)) == text
