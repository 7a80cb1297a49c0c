"""The store dies, is cut off, is slow or is replaced while people talk on three servers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from live import Server, eventually
from shared.proxy import Proxy
from shared.store import Sentinel, Store, needs_store
from shared.talk import Talk

from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import Ack, Chat, End, Error, History, Join, Nick, Ping, Pong, Renamed, Say, Tell

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


def kill_servers(store: Store, rounds: int) -> None:
    options = ("--history", store.url, *PLENTY, "--lease-s", "1")
    with ExitStack() as stack:
        servers = [stack.enter_context(Server(*options)) for _ in range(3)]
        talk = Talk(servers)
        talk.until_more_is_kept(5)
        for turn in range(rounds):
            doomed = servers[turn % 3]
            doomed.process.kill()
            doomed.process.wait()
            talk.for_s(0.3)
            servers[turn % 3] = stack.enter_context(Server(*options))
            talk.until_more_is_kept(5)
        assert len(talk.end()) > 10 * rounds
        for server in servers:
            # The nicknames of those who were last on a server that is gone are free within the lease.
            assert sorted(talk.people_at(server)) == [f"check{server.port}"]
            assert "Traceback" not in server.log()


def test_a_server_that_is_killed_takes_nothing_with_it(store: Store) -> None:
    kill_servers(store, 1)


@pytest.mark.slow
def test_servers_that_are_killed_often_take_nothing_with_them(store: Store) -> None:
    kill_servers(store, ROUNDS)


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


def is_master(store: Store) -> bool:
    """Whether others may write to it; Sentinel ends all connections to the store of which it makes one."""
    try:
        return "role:master" in store.ask("INFO", "replication")
    except ConnectionError:
        return False


def test_when_sentinel_puts_a_replica_in_the_stores_place_people_talk_on() -> None:
    with Store(*DURABLE) as master, Store(*DURABLE, "--replicaof", f"127.0.0.1 {master.port}") as replica:
        eventually(lambda: "master_link_status:up" in replica.ask("INFO", "replication"), "no replica")
        with Sentinel(master) as sentinel, three(sentinel.url) as servers:
            eventually(lambda: bool(sentinel.ask("SENTINEL", "REPLICAS", "chat")), "the replica is not known")
            talk = Talk(servers)
            talk.until_more_is_kept(20)
            before = epoch(master)
            master.kill()
            talk.until(lambda: is_master(replica), "no other master")
            talk.until_more_is_kept(20)
            # What the replica did not have yet is lost, and then all begin anew; else nobody notices.
            order = talk.end(may_have_begun_anew=epoch(replica) != before)
            assert len(order) > 40


def test_a_store_that_lost_what_people_had_seen_makes_everybody_begin_anew() -> None:
    with Store() as forgetful, three(forgetful.url) as servers:
        talk = Talk(servers)
        talk.until_more_is_kept(20)
        before = epoch(forgetful)
        forgetful.kill()
        talk.for_s(0.2)
        forgetful.restart()
        talk.until_more_is_kept(20)
        assert epoch(forgetful) != before
        talk.end(may_have_begun_anew=True)


def test_a_store_that_is_emptied_while_people_talk_makes_everybody_begin_anew(store: Store) -> None:
    with three(store.url) as servers:
        talk = Talk(servers)
        talk.until_more_is_kept(20)
        before = epoch(store)
        store.ask("FLUSHALL")
        talk.until(lambda: epoch(store) not in (before, "None"), "another epoch")
        talk.until_more_is_kept(20)
        talk.end(may_have_begun_anew=True)


class TestWhileTheStoreIsAway:
    """What people and operators see of one server meanwhile."""

    def test_speakers_are_told_rooms_in_memory_go_on_and_readiness_says_so(self) -> None:
        with Store() as gone, Server("--history", gone.url) as server:
            ann, bob = server.join("ann"), server.join("bob")
            ann.send(Say(1, "", "before"))
            ann.until(Ack)
            bob.until(Chat)
            gone.kill()
            eventually(lambda: not_ready(server), "still ready")
            ann.send(Say(2, "", "meanwhile"))
            refusal = ann.until(Error)
            assert (refusal.code, refusal.id) == (ErrorCode.NOT_STORED, 2)
            assert refusal.text == "the history cannot be reached at the moment; nobody saw it"
            bob.send(History("", 0, 10))
            assert bob.until(End).last == 1
            bob.send(Join("bob", "elsewhere", 0, 0, 0))
            assert bob.until(Error).code == ErrorCode.RATE_LIMITED
            stranger = server.connect()
            stranger.send(Join("stranger", "", 0, 0, 0))
            assert "try later" in stranger.until(Error).text
            assert "chat_history_up 0.0" in page(server, "metrics")
            assert "the store is out of reach" in server.log()
            bob.send(Ping(1))
            bob.until(Pong)
            assert [chat.text for chat in bob.of(Chat)] == ["before", "before"]
            assert "Traceback" not in server.log()

    def test_a_store_that_is_full_is_told_of_and_recovers_by_itself(self) -> None:
        with Store() as full, Server("--history", full.url) as server:
            ann = server.join("ann")
            full.ask("CONFIG", "SET", "maxmemory", "1")
            ann.send(Say(1, "", "too much"))
            refusal = ann.until(Error)
            assert refusal.code == ErrorCode.NOT_STORED
            assert "cannot be kept at the moment" in refusal.text
            assert not_ready(server)
            full.ask("CONFIG", "SET", "maxmemory", "0")
            eventually(lambda: not not_ready(server), "not ready again")
            ann.send(Say(2, "", "now"))
            assert ann.until(Ack).seq == 1

    def test_a_server_that_starts_before_its_store_lets_people_in_when_that_is_there(self) -> None:
        with Store() as late:
            late.kill()
            with Server("--history", late.url) as server:
                assert not_ready(server)
                late.restart()
                eventually(lambda: not not_ready(server), "not ready")
                server.join("ann")

    def test_a_wrong_password_is_said_without_the_password(self) -> None:
        with Store("--requirepass", "right") as store:
            url = f"redis://:wr0ng@127.0.0.1:{store.port}/0"
            with Server("--history", url) as server:
                eventually(lambda: "out of reach" in server.log(), "nothing in the log")
                assert "WRONGPASS" in server.log()
                assert "wr0ng" not in server.log()

    def test_the_user_of_the_documentation_may_do_what_is_needed(self) -> None:
        page = (Path(__file__).parents[2] / "docs" / "shared.md").read_text()
        [rights] = re.findall(r"ACL SETUSER chat on >PASSWORD ([^`]*)", page)
        with (
            Store("--user", "chat", "on", ">sesame", *rights.split()) as store,
            Server("--history", f"redis://chat:sesame@127.0.0.1:{store.port}/0") as server,
        ):
            for _ in range(2):
                person = server.join("ann")
                person.send(Say(0, "", "hi"), Tell(1, "ann", "psst"), Nick("bob"))
                person.until(Renamed)
                assert person.of(Ack)
                assert not person.of(Error)
                person.close()
                store.ask("CLIENT", "KILL", "USER", "chat")
                eventually(lambda: server.log().count("is connected") > 1, "not connected again")
            assert "in doubt" not in server.log()


def page(server: Server, name: str) -> str:
    try:
        with urlopen(f"http://127.0.0.1:{server.port}/{name}", timeout=10) as answer:
            return str(answer.read().decode())
    except HTTPError as error:
        return f"{error.code} {error.read().decode()}"


def not_ready(server: Server) -> bool:
    return page(server, "readyz").startswith("503")
