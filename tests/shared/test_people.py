"""People of three servers that share rooms: nicknames, rosters, private messages, operators."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from live import Framed, Server, eventually
from shared.store import PumpedSharedLog, Store, needs_store

from chatproto.shared.people import SharedPeople
from chatproto.shared.peoplescripts import CLAIM, NICKS, SERVERS
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import (
    Ack,
    Chat,
    Error,
    Join,
    Joined,
    Leave,
    Left,
    Login,
    Moderate,
    Nick,
    Notice,
    Renamed,
    Roster,
    Say,
    Tell,
    Told,
    Welcome,
    Who,
)

pytestmark = [pytest.mark.system, needs_store]

LEASE_S = 2
SECRET = "long enough"
BAN, UNBAN, MUTE, UNMUTE, KICK = 2, 3, 4, 5, 1


@pytest.fixture(scope="module")
def options(lasting_store: Store, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = tmp_path_factory.mktemp("accounts") / "accounts"
    subprocess.run(
        [sys.executable, "-m", "chatproto.accounts", str(path), "add", "op"],
        input=f"{SECRET}\n",
        text=True,
        check=True,
        capture_output=True,
    )
    return [
        *("--history", lasting_store.url, "--lease-s", str(LEASE_S)),
        *("--accounts", str(path), "--operator", "op", "--rules", "memory"),
    ]


@pytest.fixture(scope="module")
def servers(options: list[str]) -> Iterator[list[Server]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Server(*options)) for _ in range(3)]


def roster(client: Framed, room: str) -> list[str]:
    client.send(Who(room))
    return sorted(client.until(Roster).nicks)


def operator(server: Server, nick: str, room: str) -> Framed:
    client = server.connect()
    client.send(Login("op", SECRET), Join(nick, room, 0, 0, 0))
    client.until(Roster)
    return client


def order(client: Framed, action: int, room: str, nick: str, seconds: int = 0) -> str:
    client.send(Moderate(action, room, nick, seconds, ""))
    return client.until(Notice, lambda notice: "logged in" not in notice.text).text


class TestRosters:
    def test_who_enters_and_leaves_is_seen_everywhere_once(self, servers: list[Server]) -> None:
        ann = servers[0].join("ann", "r1")
        bob = servers[1].join("bob", "r1")
        assert ann.until(Joined) == Joined("r1", "bob")
        cid = servers[2].connect()
        cid.send(Join("cid", "r1", 0, 0, 0))
        assert sorted(cid.until(Roster).nicks) == ["ann", "bob", "cid"]
        for other in (ann, bob):
            assert other.until(Joined, lambda joined: joined.nick == "cid")
            assert roster(other, "r1") == ["ann", "bob", "cid"]
        cid.send(Leave("r1"))
        for other in (ann, bob):
            assert other.until(Left) == Left("r1", "cid", "left")
            assert roster(other, "r1") == ["ann", "bob"]
        bob.close()
        assert ann.until(Left) == Left("r1", "bob", "closed")
        assert [message.nick for message in ann.of(Left)] == ["cid", "bob"]
        assert [message.nick for message in ann.of(Joined)] == ["bob", "cid"]

    def test_who_sits_on_two_servers_rooms_is_renamed_once_for_each(self, servers: list[Server]) -> None:
        ann, bob = servers[0].join("ren", "r2"), servers[1].join("bab", "r2")
        for client, nick in ((ann, "ren"), (bob, "bab")):
            client.send(Join(nick, "r3", 0, 0, 0))
            client.until(Roster, lambda found: found.room == "r3")
        ann.send(Nick("newname"), Say(1, "r2", "done"))
        ann.until(Ack)
        bob.until(Chat)
        bob.send(Who("r3"))
        bob.until(Roster, lambda found: "newname" in found.nicks)
        assert bob.of(Renamed) == [Renamed("ren", "newname")]
        servers[2].join("ren", "r2").close()  # it is free


class TestNicknames:
    def test_a_nickname_or_one_like_it_is_had_once(self, servers: list[Server]) -> None:
        holder = servers[0].join("Bill", "n1")
        for nick in ("bill", "Bill", "BiII"):
            other = servers[1].connect()
            other.send(Join(nick, "n1", 0, 0, 0))
            assert other.until(Error).code == ErrorCode.NICK_TAKEN
        assert roster(holder, "n1") == ["Bill"]

    def test_two_who_ask_at_once_for_one_do_not_both_get_it(self, servers: list[Server]) -> None:
        for turn in range(10):
            askers = [server.connect() for server in servers]
            for asker in askers:
                asker.send(Join(f"wanted{turn}", "n2", 0, 0, 0))
            got = 0
            for asker in askers:
                asker.gather(lambda a=asker: bool(a.of(Welcome) or a.of(Error)), "an answer")  # type: ignore[misc]
                got += len(asker.of(Welcome))
            assert got == 1

    def test_who_cannot_rename_keeps_the_name(self, servers: list[Server]) -> None:
        holder = servers[0].join("first", "n3")
        other = servers[1].join("second", "n3")
        other.send(Nick("First"))
        assert other.until(Error).code == ErrorCode.NICK_TAKEN
        holder.until(Joined)
        assert roster(other, "n3") == roster(holder, "n3") == ["first", "second"]

    def test_a_nickname_is_free_when_its_holder_is_gone(self, servers: list[Server]) -> None:
        watcher = servers[2].join("watcher", "n4")
        servers[0].join("brief", "n4").close()
        watcher.until(Left)
        servers[1].join("brief", "n4")


class TestTell:
    def test_a_private_message_gets_to_another_server(self, servers: list[Server]) -> None:
        ann, bob = servers[0].join("tann", "t1"), servers[1].join("tbob", "t2")
        ann.send(Tell(5, "TBOB", "psst"))
        assert ann.until(Ack).seq == 0
        told = bob.until(Told)
        assert (told.nick, told.text) == ("tann", "psst")

    def test_a_known_id_is_not_delivered_again_from_another_server(self, servers: list[Server]) -> None:
        bob = servers[1].join("ubob", "t3")
        ann = servers[0].join("uann", "t3")
        bob.until(Joined)
        ann.send(Tell(6, "ubob", "once"))
        before = ann.until(Ack)
        ann.close()
        bob.until(Left)
        again = servers[2].join("uann", "t3")
        again.send(Tell(6, "ubob", "once"), Tell(7, "ubob", "twice"))
        assert again.until(Ack) == before
        bob.until(Told, lambda told: told.text == "twice")
        assert [told.text for told in bob.of(Told)] == ["once", "twice"]

    def test_nobody_is_nobody_anywhere(self, servers: list[Server]) -> None:
        ann = servers[0].join("vann", "t4")
        ann.send(Tell(8, "nobody", "hi"))
        assert ann.until(Error).code == ErrorCode.NO_SUCH_NICK


class TestModeration:
    def test_a_kick_reaches_another_server(self, servers: list[Server]) -> None:
        op, bob = operator(servers[0], "op1", "m1"), servers[1].join("mbob", "m1")
        op.until(Joined)
        assert order(op, KICK, "m1", "mbob") == "mbob was kicked out of m1"
        assert bob.until(Left).reason == "kicked"
        assert op.until(Left) == Left("m1", "mbob", "kicked")
        op.send(Moderate(KICK, "m1", "mbob", 0, ""))
        assert op.until(Error).code == ErrorCode.NO_SUCH_NICK

    def test_a_ban_a_mute_and_a_lock_hold_everywhere_until_they_are_lifted(
        self, servers: list[Server]
    ) -> None:
        op, bob = operator(servers[0], "op2", "m2"), servers[1].join("nbob", "m2")
        order(op, MUTE, "m2", "nbob", 600)
        bob.until(Notice)
        bob.send(Say(1, "m2", "hello?"))
        assert bob.until(Error).code == ErrorCode.NOT_ALLOWED
        order(op, UNMUTE, "m2", "nbob")
        bob.until(Notice)
        bob.send(Say(2, "m2", "hello!"))
        bob.until(Ack)
        order(op, BAN, "m2", "nbob", 600)
        bob.until(Left)
        bob.send(Join("nbob", "m2", 0, 0, 0))
        assert bob.until(Error).code == ErrorCode.NOT_ALLOWED
        order(op, UNBAN, "m2", "nbob")
        order(op, BAN, "m2", "*")

        def is_kept_out() -> bool:
            stranger = servers[2].connect()
            stranger.send(Join(next(strangers), "m2", 0, 0, 0))
            stranger.gather(lambda: bool(stranger.of(Error) or stranger.of(Roster)), "an answer")
            stranger.close()
            return [error.code for error in stranger.of(Error)] == [ErrorCode.NOT_ALLOWED]

        strangers = (f"stranger{n}" for n in itertools.count())
        eventually(is_kept_out, "strangers are let in")
        order(op, UNBAN, "m2", "*")

    def test_a_server_that_starts_later_knows_the_rules(
        self, servers: list[Server], options: list[str]
    ) -> None:
        op = operator(servers[0], "op3", "m3")
        order(op, BAN, "m3", "early", 600)
        with Server(*options) as late:
            early = late.connect()
            early.send(Join("early", "m3", 0, 0, 0))
            assert early.until(Error).code == ErrorCode.NOT_ALLOWED

    def test_a_message_that_is_removed_is_so_on_every_server(self, servers: list[Server]) -> None:
        op, bob = operator(servers[0], "op4", "m4"), servers[1].join("rbob", "m4")
        bob.send(Say(1, "m4", "nasty"))
        bob.until(Ack)
        order(op, KICK, "m4", "message:1")

        def is_removed(server: Server) -> bool:
            reader = server.join(next(readers), "m4", limit=10)
            reader.close()
            return [chat.text for chat in reader.of(Chat)] == ["(removed)"]

        readers = (f"reader{n}" for n in itertools.count())
        for server in servers:
            eventually(lambda s=server: is_removed(s), "still there")  # type: ignore[misc]


def test_what_a_full_store_refused_is_put_right_afterwards(
    servers: list[Server], lasting_store: Store
) -> None:
    op, bob = operator(servers[0], "op5", "f1"), servers[1].join("fbob", "f2")
    cid = servers[1].join("fcid", "f1")
    op.until(Joined)
    lasting_store.ask("CONFIG", "SET", "maxmemory", "1")
    try:
        bob.send(Join("fbob", "f1", 0, 0, 0))
        bob.until(Roster, lambda found: found.room == "f1")
        order(op, MUTE, "f1", "fbob", 600)
        assert roster(op, "f1") == ["fcid", "op5"]
    finally:
        lasting_store.ask("CONFIG", "SET", "maxmemory", "0")
    for other in (op, cid):
        assert other.until(Joined).nick == "fbob"
    bob.until(Notice)
    bob.send(Say(1, "f1", "hello?"))
    assert bob.until(Error).code == ErrorCode.NOT_ALLOWED
    assert roster(cid, "f1") == ["fbob", "fcid", "op5"]


def test_a_nickname_is_had_until_the_people_of_a_dead_server_have_left_their_rooms(
    lasting_store: Store,
) -> None:
    lasting_store.ask("ZADD", SERVERS.decode(), 1, "dead")
    lasting_store.ask("HSET", NICKS.decode(), "kzoe", "dead.1")
    sha, keys = CLAIM.sha.decode(), (SERVERS.decode(), NICKS.decode(), "of")
    assert lasting_store.ask("EVAL", CLAIM.text, 3, *keys, "one.1", "kzoe") == 0
    lasting_store.ask("ZREM", SERVERS.decode(), "dead")
    assert lasting_store.ask("EVALSHA", sha, 3, *keys, "one.1", "kzoe") == 1


def test_who_was_renamed_while_one_did_not_hear_has_the_new_name(lasting_store: Store) -> None:
    log = PumpedSharedLog(f"redis+unix://{lasting_store.path}")
    people = SharedPeople(log.store, log, log.reactor, LEASE_S)
    people.looked_at("a", 1, [b"other.1", b"ann"])
    people.looked_at("a", 2, [b"other.1", b"anna"])
    assert people.people("a")["other.1"].nick == "anna"
    log.close_now()


def test_a_name_that_the_store_has_wrong_is_put_right(servers: list[Server], lasting_store: Store) -> None:
    person = servers[0].join("right", "w1")
    key = "chat:{w1}:people"
    eventually(lambda: lasting_store.ask("HLEN", key) == 1, "not in")
    [place] = lasting_store.ask("HKEYS", key)
    lasting_store.ask("HSET", key, place, "wrong")
    lasting_store.ask("CLIENT", "KILL", "TYPE", "pubsub")
    eventually(lambda: lasting_store.ask("HGET", key, place) == "right", "still wrong")
    eventually(lambda: roster(person, "w1") == ["right"], "still wrong in the roster")


def test_the_people_of_a_server_that_was_killed_are_gone_once_and_soon(
    servers: list[Server], options: list[str]
) -> None:
    ann, bob = servers[0].join("kann", "k1"), servers[1].join("kbob", "k1")
    with Server(*options) as doomed:
        people = [doomed.join(f"doomed{n}", "k1") for n in range(5)]
        assert len(people) == 5
        bob.until(Joined, lambda joined: joined.nick == "doomed4")
        doomed.process.kill()
        for other in (ann, bob):
            other.gather(lambda o=other: len(o.of(Left)) == 5, "all left")  # type: ignore[misc]
            assert sorted(left.nick for left in other.of(Left)) == [f"doomed{n}" for n in range(5)]
            assert {left.reason for left in other.of(Left)} == {"closed"}
    assert roster(ann, "k1") == roster(bob, "k1") == ["kann", "kbob"]
    heir = servers[2].join("doomed0", "k1")  # the nickname is free
    time.sleep(LEASE_S)
    for other in (ann, bob):
        other.drain()
        assert len(other.of(Left)) == 5
    assert roster(heir, "k1") == ["doomed0", "kann", "kbob"]
