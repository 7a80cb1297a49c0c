"""The store dies, is cut off, is slow or is replaced while people talk on three servers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from live import Server, eventually
from shared.proxy import Proxy
from shared.store import Store, needs_store
from shared.talk import Talk

pytestmark = [pytest.mark.system, needs_store]

ROUNDS = int(os.environ.get("CHATPROTO_ROUNDS", "20"))

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
PLENTY = ("--max-history-messages", "65535")


@contextmanager
def three(url: str, *options: str) -> Iterator[list[Server]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Server("--history", url, *PLENTY, *options)) for _ in range(3)]


@pytest.fixture
def durable() -> Iterator[Store]:
    with Store(*DURABLE) as store:
        yield store


def epoch(store: Store) -> str:
    return str(store.ask("HGET", "chat:about", "epoch"))


def kill_and_restart(store: Store, rounds: int) -> None:
    with three(store.url) as servers:
        talk = Talk(servers)
        talk.until_more_is_kept(5)
        before = epoch(store)
        for _ in range(rounds):
            talk.for_s(0.1)
            store.kill()
            talk.for_s(0.05)
            store.restart()
            talk.until_more_is_kept(5)
        order = talk.end()
        assert len(order) > 10 * rounds
        assert epoch(store) == before


def test_nothing_is_lost_and_nothing_doubled_when_the_store_is_killed(durable: Store) -> None:
    kill_and_restart(durable, 1)


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_doubled_when_the_store_is_killed_often(durable: Store) -> None:
    kill_and_restart(durable, ROUNDS)


def cut(store: Store, seconds: float) -> None:
    with Proxy(store.port) as proxy, three(proxy.url) as servers:
        talk = Talk(servers)
        talk.until_more_is_kept(20)
        proxy.cut()
        talk.for_s(seconds)
        proxy.mend()
        talk.until_more_is_kept(20)
        talk.end()
        assert "Traceback" not in "".join(server.log() for server in servers)


def test_a_link_that_is_cut_for_5_s_costs_no_message(store: Store) -> None:
    cut(store, 5)


@pytest.mark.slow
def test_a_link_that_is_cut_for_60_s_costs_no_message(store: Store) -> None:
    cut(store, 60)


@pytest.mark.parametrize("pause_s", [1, pytest.param(12, marks=pytest.mark.slow)])
def test_a_store_that_pauses_costs_no_message(store: Store, pause_s: int) -> None:
    with three(store.url) as servers:
        talk = Talk(servers)
        talk.until_more_is_kept(20)
        store.ask("CLIENT", "PAUSE", pause_s * 1_000, "ALL")
        talk.for_s(pause_s + 0.5)
        talk.until_more_is_kept(20)
        talk.end()
