"""Who is let in, and what that takes: figures that no socket shows."""

from __future__ import annotations

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock

from chatproto.limits import Limits
from chatproto.net.admission import EXPLAINED_PER_S, Admission, Place, TurnedAway
from chatproto.net.peers import TrustedPeers
from chatproto.rooms.hub import Hub


def v4(host: str) -> IPv4Address:
    return IPv4Address("TCP", host, 40_000)


def v6(host: str) -> IPv6Address:
    return IPv6Address("TCP", host, 40_000)


class Door:
    """An admission on a clock in the test's hand."""

    def __init__(self, trusted: TrustedPeers | None = None, **limits: int) -> None:
        self.clock = Clock()
        self.hub = Hub(self.clock, limits=Limits(**limits))
        self.admission = Admission(self.hub, trusted)

    def come(self, peer: object) -> Place | TurnedAway:
        return self.admission.refusal(peer) or self.admission.take(peer)

    def place(self, peer: object) -> Place:
        place = self.come(peer)
        assert isinstance(place, Place), place
        return place

    def refused(self, peer: object) -> str:
        refusal = self.come(peer)
        assert isinstance(refusal, TurnedAway)
        return refusal.limit


class TestAddresses:
    def test_each_has_its_own_places(self) -> None:
        door = Door(max_connections_per_address=1)
        first = door.place(v4("192.0.2.1"))
        assert door.refused(v4("192.0.2.1")) == "max_connections_per_address"
        door.place(v4("192.0.2.2"))
        first.give_back()
        door.place(v4("192.0.2.1"))

    @pytest.mark.parametrize(
        ("one", "other", "are_one"),
        [
            (v6("2001:db8::1"), v6("2001:db8::ffff:1"), True),
            (v6("2001:db8::1"), v6("2001:db8:0:1::1"), False),
            (v4("192.0.2.1"), v6("::ffff:192.0.2.1"), True),
            (v6("fe80::1%eth0"), v6("fe80::2%eth1"), True),
        ],
    )
    def test_what_one_customer_can_choose_is_one_address(
        self, one: object, other: object, are_one: bool
    ) -> None:
        door = Door(max_connections_per_address=1)
        door.place(one)
        assert isinstance(door.come(other), TurnedAway) is are_one

    @pytest.mark.parametrize(
        "peer", [v4("127.0.0.1"), v4("127.3.2.1"), v6("::1"), UNIXAddress("/run/x"), None, v4("10.1.2.3")]
    )
    def test_this_machine_and_trusted_proxies_are_many(self, peer: object) -> None:
        door = Door(TrustedPeers(["10.0.0.0/8"]), max_connections_per_address=1)
        for _ in range(5):
            door.place(peer)
        assert door.admission.n_connections == 5
        assert len(door.admission) == 0

    def test_a_proxy_s_connection_counts_as_its_client_s_from_then_on(self) -> None:
        door = Door(max_connections_per_address=1)
        first, second = door.place(v4("127.0.0.1")), door.place(v4("127.0.0.1"))
        assert first.move(v4("192.0.2.1")) is None
        assert first.move(v4("192.0.2.1")) is None
        refusal = second.move(v4("192.0.2.1"))
        assert refusal is not None
        assert refusal.limit == "max_connections_per_address"
        first.give_back()
        assert second.move(v4("192.0.2.1")) is None

    def test_a_place_is_given_back_once(self) -> None:
        door = Door(max_connections=2)
        first, _ = door.place(v4("192.0.2.1")), door.place(v4("192.0.2.1"))
        first.give_back()
        first.give_back()
        assert first.move(v4("192.0.2.9")) is None
        assert door.admission.n_connections == 1

    def test_many_of_them_take_no_memory_that_outlasts_the_second(self) -> None:
        door = Door(max_arrivals_per_s=100)
        for number in range(1_000):
            outcome = door.come(v6(f"2001:db8:{number:x}::1"))
            if isinstance(outcome, Place):
                outcome.give_back()
        assert len(door.admission) == 100
        door.clock.advance(1)
        door.place(v6("2001:db8::1")).give_back()
        assert len(door.admission) == 1


class TestInASecond:
    def test_so_many_come_in_and_the_next_second_as_many_again(self) -> None:
        door = Door(max_arrivals_per_s=3)
        for second in range(3):
            for number in range(3):
                door.place(v4(f"192.0.{second}.{number}")).give_back()
            assert door.refused(v4("192.0.9.9")) == "max_arrivals_per_s"
            door.clock.advance(1)

    def test_those_of_one_address_that_are_turned_away_do_not_count_for_all(self) -> None:
        door = Door(max_arrivals_per_s=4, max_arrivals_per_address_per_s=2)
        outcomes = [door.come(v4("192.0.2.1")) for _ in range(50)]
        assert sum(isinstance(outcome, Place) for outcome in outcomes) == 2
        door.place(v4("192.0.2.2"))
        assert door.hub.record.limited_by["max_arrivals_per_address_per_s"] == 48

    def test_only_so_many_are_told_why(self) -> None:
        door = Door()
        assert sum(door.admission.may_explain() for _ in range(1_000)) == EXPLAINED_PER_S
        door.clock.advance(0.5)
        assert sum(door.admission.may_explain() for _ in range(1_000)) == EXPLAINED_PER_S // 2


class TestInAll:
    def test_there_are_no_more_than_may_be(self) -> None:
        door = Door(max_connections=2)
        first = door.place(None)
        door.place(v4("192.0.2.1"))
        assert door.refused(None) == "max_connections"
        first.give_back()
        door.place(None)

    def test_nor_more_than_files_can_be_open(self) -> None:
        door = Door(max_connections=0)
        door.admission.most_descriptors = 1
        door.place(None)
        assert door.refused(None) == "max_connections"

    def test_zero_is_any_number(self) -> None:
        door = Door(
            max_connections=0,
            max_connections_per_address=0,
            max_arrivals_per_s=0,
            max_arrivals_per_address_per_s=0,
        )
        for _ in range(5_000):
            door.place(v4("192.0.2.1"))

    def test_other_limits_hold_at_once(self) -> None:
        door = Door(max_connections=1)
        door.place(None)
        door.hub.limits = Limits(max_connections=2)
        door.place(None)
