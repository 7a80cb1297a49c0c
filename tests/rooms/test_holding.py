"""Nicknames that are held, free again, or like a held one (docs/protocol.md, section 3.6)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from rooms.nicknames import ANY, NICKISH, taken

from chatproto.rooms.names import NameRefused, Nick, Nicknames, parse_nick


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
            if other != owner and (held.key == nick.key or set(held.looks) & set(nick.looks))
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
