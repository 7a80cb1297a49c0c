"""What an operator sees over the control socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from live import PATIENCE_S, Framed, Server, eventually
from server.controlling import Control, ctl
from websockets.sync.client import connect

from chatproto.wire.messages import Ack, Chat, Join, Joined, Lagged, Roster, Say

QUEUE_BYTES = 200_000


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    """One for all tests that look for what is theirs."""
    options = ("--max-queued-bytes", str(QUEUE_BYTES), "--ping-interval-s", "1", "--join-timeout-s", "60")
    with Server(*options) as running:
        yield running


@pytest.fixture
def control(shared: Server) -> Iterator[Control]:
    asking = Control(shared)
    yield asking
    asking.close()


def test_status_is_how_the_server_is(control: Control, shared: Server) -> None:
    ann = shared.join("ann")
    ann.send(Say(1, "", "hello"))
    ann.until(Ack)
    browser = shared.raw()
    browser.sendall(b"GET / HTTP/1.1\r\n")  # and no more of it
    eventually(lambda: control.ask(do="status")[1]["done"]["no_face"] == 1)
    _, last = control.ask(do="status")
    found = last["done"]
    assert (found["pid"], found["state"], found["trouble"]) == (shared.process.pid, "running", "")
    assert found["faces"] == {"frames": 1}
    assert (found["connections"], found["people"], found["rooms"], found["lagging"]) == (1, 1, 1, 0)
    assert found["messages"] >= 1
    assert 0 <= found["now_ms"] - found["since_ms"] < 1000 * PATIENCE_S * 10
    assert found["listening"] == ["tcp:0:interface=127.0.0.1:backlog=1024"]
    assert found["memory_bytes"] > 10_000_000
    for line in ("running", "1 (1 frames, 1 HTTP or nothing yet)", "1 in 1 rooms", "chat.sqlite"):
        assert line in ctl(shared, "status").output
    browser.close()
    ann.close()
    eventually(lambda: control.ask(do="status")[1]["done"]["connections"] == 0)


def test_each_connection_is_a_row_with_how_far_away_it_is(control: Control, shared: Server) -> None:
    framed = shared.join("framed", room="here")
    framed.send(Join("framed", "there", 0, 0, 0))
    framed.until(Roster, lambda roster: roster.room == "there")
    lines = shared.raw()
    lines.sendall(b"lines\n/join here\n")
    framed.until(Joined, lambda joined: joined.nick == "lines" and joined.room == "here")
    with connect(f"ws://127.0.0.1:{shared.port}/chat", subprotocols=["chat.v1.json"]) as web:  # type: ignore[list-item]
        web.send('{"type": "join", "nick": "web", "room": "here"}')
        framed.until(Joined, lambda joined: joined.nick == "web")

        def by_nick() -> dict[str, dict[str, object]]:
            return {row["nick"]: row for row in control.ask(do="connections")[0]}

        rows = by_nick()
        assert {nick: row["face"] for nick, row in rows.items()} == {
            "framed": "frames",
            "lines": "lines",
            "web": "websocket-json",
        }
        assert rows["framed"]["rooms"] == ["here", "there"]
        assert rows["framed"]["n_rooms"] == 2
        for row in rows.values():
            assert (row["address"], row["account"], row["queued"], row["queued_bytes"]) == (
                "127.0.0.1",
                "",
                0,
                0,
            )
            assert (row["lag_s"], row["lag_messages"], row["is_blocked"]) == (0, 0, False)
            assert isinstance(row["rtt_ms"], float)
            assert 0 < row["rtt_ms"] < 10_000
        # What the kernel says goes no further than the next machine; a ping does.
        assert rows["lines"]["rtt_by"] == rows["framed"]["rtt_by"] == "kernel"
        eventually(lambda: by_nick()["web"]["rtt_by"] == "ping", "no ping was measured")

        assert [row["nick"] for row in control.ask(do="connections", room="there")[0]] == ["framed"]
        assert control.ask(do="connections", room="nowhere") == ([], {"done": {}})
        assert control.ask(do="connections", lagging=True) == ([], {"done": {}})
        rooms = {row["room"]: row for row in control.ask(do="rooms")[0]}
        assert rooms["here"]["people"] == 3
        assert rooms["there"]["people"] == 1
    framed.close()
    lines.close()
    eventually(lambda: control.ask(do="connections") == ([], {"done": {}}))


def test_over_a_unix_socket_nobody_is_any_distance_away(tmp_path: Path) -> None:
    place = tmp_path / "chat"
    with Server("--listen", "tcp:0:interface=127.0.0.1", "--listen", f"unix:{place}") as server:
        plain = socket.socket(socket.AF_UNIX)
        plain.connect(str(place))
        framed = Framed(plain)
        framed.send(Join("ann", "", 0, 0, 0))
        framed.until(Roster)
        [row] = Control(server).ask(do="connections")[0]
        assert (row["address"], row["rtt_ms"], row["rtt_by"]) == ("", None, "")
        assert "unix" in ctl(server, "connections").output


def test_who_does_not_read_is_seen_to_lag_and_to_catch_up(control: Control, shared: Server) -> None:
    talker = shared.join("talker", room="flood")
    plain = shared.raw(receive_buffer_bytes=4_096)
    slow = Framed(plain)
    slow.send(Join("slow", "flood", 0, 0, 0))
    talker.until(Joined)
    n_said = 0

    def lagging() -> list[dict[str, object]]:
        return control.ask(do="connections", lagging=True)[0]

    while not lagging():
        talker.send(*(Say(n_said + number, "flood", "x" * 4_000) for number in range(1, 51)))
        n_said += 50
        talker.until(Ack, lambda ack, last=n_said: ack.id == last)  # type: ignore[misc]
    [first] = lagging()
    eventually(lambda: lagging()[0]["lag_s"] > first["lag_s"], "the lag does not grow")  # type: ignore[operator]
    [row] = lagging()
    assert row["nick"] == "slow"
    assert row["is_blocked"]
    assert isinstance(row["lag_messages"], int)
    assert 0 < row["lag_messages"] <= n_said
    assert isinstance(row["unacknowledged_bytes"], int)
    assert row["unacknowledged_bytes"] > 0
    assert control.ask(do="status")[1]["done"]["lagging"] == 1
    assert [found["behind"] for found in control.ask(do="rooms")[0] if found["room"] == "flood"] == [1]
    shown = ctl(shared, "connections", "--lagging", "--sort", "lag").output.splitlines()
    assert [line.split()[1] for line in shown[1:-1]] == ["slow"]

    slow.until(Lagged)
    slow.until(Chat, lambda chat: chat.seq == n_said)
    eventually(lambda: not lagging(), "it is not seen to have caught up")
    talker.close()
    slow.close()


def test_very_many_are_given_in_slices_and_in_order(shared: Server) -> None:
    names = [f"one{number}" for number in range(300)]
    many = []
    for name in names:
        many.append(Framed(shared.port))
        many[-1].send(Join(name, "crowd", 0, 0, 0))
        many[-1].until(Roster)
    control = Control(shared)
    rows, last = control.ask(do="connections", room="crowd")
    assert last == {"done": {}}
    assert [row["nick"] for row in rows] == names
    ids = [row["id"] for row in rows]
    assert ids == sorted(ids)

    # Who does not read the answer holds nobody up, and gets all of it later.
    unread = Control(shared, receive_buffer_bytes=4_096)
    for _ in range(20):
        unread.send(do="connections")
    many[0].send(Say(1, "crowd", "still here"))
    many[0].until(Ack)
    assert control.ask(do="rooms")[1] == {"done": {}}
    n_rows = n_done = 0
    while n_done < 20:
        line = unread.line()
        n_rows += "row" in line
        n_done += "done" in line
    assert n_rows == 20 * len(names)
    assert len(ctl(shared, "connections", "--json").rows) == len(names)
    for one in many:
        one.close()


def test_what_strangers_are_called_cannot_act_on_a_terminal_nor_shift_a_table(shared: Server) -> None:
    room = "日本語\u202eevil"
    ann = Framed(shared.port)
    ann.send(Join("김민준", "部屋", 0, 0, 0), Join("김민준", room, 0, 0, 0))
    ann.until(Roster)
    output = ctl(shared, "rooms").output
    assert "部屋" in output
    assert "\u202e" not in output
    assert ctl(shared, "rooms", "--json").output.isascii()
    ann.close()
