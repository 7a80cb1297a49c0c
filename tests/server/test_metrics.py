"""What Prometheus is shown: by a registry over a hub in memory, and by the real server."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import prometheus_client
import pytest
from forms import Binary, Json
from live import Framed, Server, eventually, patiently
from prometheus_client import CollectorRegistry
from server.asking import ask, figures
from twisted.internet.task import Clock

from chatproto.net.factory import ChatFactory
from chatproto.net.resource import ChatResource
from chatproto.rooms.hub import Hub
from chatproto.rooms.log import MemoryLog
from chatproto.server.delay import ReactorDelay
from chatproto.server.metrics import FACES, ChatCollector, registry_of
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import Ack, Chat, End, Error, Join, Joined, Lagged, Say, Tell

ROOT = Path(__file__).parents[2]


@pytest.fixture
def registry() -> CollectorRegistry:
    hub = Hub(Clock())
    return registry_of(hub, [ChatFactory(hub)], ReactorDelay(Clock()))


class TestNames:
    """https://prometheus.io/docs/practices/naming/."""

    def test_every_figure_of_the_chat_says_its_unit_or_what_it_counts(
        self, registry: CollectorRegistry
    ) -> None:
        for family in registry.collect():
            if not family.name.startswith("chat_"):
                continue
            assert re.fullmatch(r"[a-z_]+", family.name)
            assert family.documentation.endswith(".")
            units = {"seconds": "Seconds", "bytes": "Bytes", "messages": "Messages"}
            unit = units.get(family.name.rsplit("_", 1)[-1])
            if unit is not None:
                assert unit in family.documentation

    def test_counters_end_with_total_and_nothing_else_does(self, registry: CollectorRegistry) -> None:
        for family in registry.collect():
            for sample in family.samples:
                if family.type == "counter":
                    assert sample.name.endswith("_total")
                else:
                    assert not sample.name.endswith("_total")

    def test_no_figure_is_there_twice(self, registry: CollectorRegistry) -> None:
        samples = [
            (sample.name, *sorted(sample.labels.items()))
            for family in registry.collect()
            for sample in family.samples
        ]
        assert len(samples) == len(set(samples))

    def test_every_label_has_all_its_values_from_the_beginning(self, registry: CollectorRegistry) -> None:
        def values(name: str, label: str) -> set[str]:
            return {
                sample.labels[label]
                for family in registry.collect()
                for sample in family.samples
                if sample.name == name
            }

        assert values("chat_connections", "face") == set(FACES)
        assert values("chat_refusals_total", "error") == {code.label for code in ErrorCode}
        assert values("chat_messages_total", "to") == {"room", "person"}

    def test_those_that_the_documentation_speaks_of_exist(self, registry: CollectorRegistry) -> None:
        known = {sample.name for family in registry.collect() for sample in family.samples}
        for page in ("howto", "design", "reference"):
            text = (ROOT / "docs" / f"{page}.md").read_text("utf-8")
            assert {name for name in re.findall(r"\bchat_[a-z_]+", text) if name not in known} == set()


class TestRegistry:
    def test_nothing_global_is_touched(self, registry: CollectorRegistry) -> None:
        names = {family.name for family in prometheus_client.REGISTRY.collect()}
        assert not [name for name in names if name.startswith("chat_")]

    def test_an_application_adds_the_chat_to_its_own(self) -> None:
        hub = Hub(Clock())
        own = CollectorRegistry()
        own.register(ChatCollector(hub, [ChatFactory(hub), ChatFactory(hub)]))
        assert own.get_sample_value("chat_history_up") == 1
        assert own.get_sample_value("chat_reactor_delay_seconds_count") is None

    def test_a_resource_in_a_site_is_a_door_as_well(self) -> None:
        hub = Hub(Clock())
        own = CollectorRegistry()
        own.register(ChatCollector(hub, [ChatFactory(hub), ChatResource(hub)]))
        assert own.get_sample_value("chat_connections", {"face": "none"}) == 0
        assert own.get_sample_value("chat_deliveries_total") == 0

    def test_two_servers_in_a_process_have_their_own(self) -> None:
        first, second = Hub(Clock()), Hub(Clock())
        registries = [registry_of(hub, [ChatFactory(hub)], ReactorDelay(Clock())) for hub in (first, second)]
        first.say("lobby", "bot", "hi")
        values = [each.get_sample_value("chat_messages_total", {"to": "room"}) for each in registries]
        assert values == [1, 0]

    def test_a_history_that_cannot_keep_is_down(self) -> None:
        log = MemoryLog()
        registry = registry_of(Hub(Clock(), log), [], ReactorDelay(Clock()))
        log.trouble = "database or disk is full"
        assert registry.get_sample_value("chat_history_up") == 0


def answers(id: int) -> Callable[[Ack], bool]:
    return lambda ack: ack.id == id


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One for all of these: they look at differences."""
    with Server("--max-queued-bytes", "200000", "--max-messages-per-s", "0") as running:
        yield running


class TestRealServer:
    def test_is_asked_over_http(self, server: Server) -> None:
        answer = ask(server.port, "/metrics")
        assert answer.status == 200
        assert answer.headers["content-type"] == prometheus_client.CONTENT_TYPE_LATEST
        assert answer.headers["cache-control"] == "no-store"
        assert "# HELP chat_people People who are in, each with a nickname.\n" in answer.body

    def test_connections_by_face(self, server: Server) -> None:
        before = figures(server.port)
        silent, lines = server.raw(), server.raw()
        silent.sendall(b"GET / HTTP/1.1\r\n")  # and no more of it; without a byte it becomes a person soon
        lines.sendall(b"liner\n")
        clients = [
            Framed(server.port),
            Framed(server.port, Binary()),
            Framed(server.port, Json()),
        ]
        for number, client in enumerate(clients):
            client.send(Join(f"face{number}", "faces", 0, 0, 0))
            client.until(End)
        eventually(lambda: figures(server.port)["chat_people"] == before["chat_people"] + 4)
        after = figures(server.port)
        more = {face: after[f'chat_connections{{face="{face}"}}'] for face in FACES}
        # The one that asks is one, and the one that has not said yet what it wants.
        assert more == {"frames": 1, "lines": 1, "websocket-bin": 1, "websocket-json": 1, "none": 2}
        assert after["chat_sessions_total"] - before["chat_sessions_total"] == 4
        for plain in (silent, lines):
            plain.close()
        for client in clients:
            client.close()
        eventually(lambda: figures(server.port)["chat_people"] == before["chat_people"])
        ended = 'chat_sessions_ended_total{reason="closed"}'
        assert figures(server.port)[ended] - before[ended] >= 4

    def test_messages_deliveries_refusals_and_commits(self, server: Server) -> None:
        people = [server.join(f"p{number}", "counted") for number in range(4)]
        browser = Framed(server.port, Json())
        browser.send(Join("browser", "counted", 0, 0, 0))
        browser.until(End)
        people[0].until(Joined, lambda joined: joined.nick == "browser")
        people.append(browser)
        before = figures(server.port)
        for id in range(1, 11):
            people[0].send(Say(id, "counted", "a secret text"))
            people[0].until(Ack)
        for person in people[1:]:
            for _ in range(10):
                person.until(Chat)
        people[0].send(Tell(99, "p1", "a secret text"))
        people[0].until(Ack)
        people[0].send(Say(0, "elsewhere", "a secret text"))
        people[0].until(Error)
        after = figures(server.port)
        more = {name: after[name] - before[name] for name in after if after[name] != before.get(name)}
        assert more['chat_messages_total{to="room"}'] == 10
        assert more['chat_messages_total{to="person"}'] == 1
        assert more["chat_deliveries_total"] == 40
        assert more['chat_refusals_total{error="not-in-room"}'] == 1
        assert more["chat_fanout_seconds_count"] == 10
        assert more["chat_history_commits_total"] == more["chat_history_commit_messages_count"] == 10
        assert more["chat_history_commit_messages_sum"] == 10
        assert more["chat_history_commit_seconds_count"] == 10
        assert more["chat_sent_bytes_total"] > 30 * len("a secret text")
        assert after["chat_history_up"] == 1
        assert after["chat_history_file_bytes"] > 4_096
        assert "secret" not in ask(server.port, "/metrics").body
        for person in people:
            person.close()

    def test_a_reader_that_lags_and_what_waits_for_it(self, server: Server) -> None:
        talker = server.join("talker", "slow")
        deaf = Framed(server.raw(receive_buffer_bytes=4_096))
        deaf.send(Join("deaf", "slow", 0, 0, 0))
        deaf.until(End)
        before = figures(server.port)
        assert before["chat_lagging_readers"] == 0
        said = 0

        def say_more_until(figure: str) -> dict[str, float]:
            """A little at a time: how much the kernel takes on its way is not known."""
            nonlocal said
            for _ in patiently(0):
                for _ in range(10):
                    said += 1
                    talker.send(Say(said, "slow", "x" * 4_000))
                talker.until(Ack, answers(said))
                now = figures(server.port)
                if now[figure]:
                    return now
            raise AssertionError(f"{figure} is 0 for ever")

        waiting = say_more_until("chat_queue_bytes")
        assert 4_000 < waiting["chat_queue_bytes"] <= 200_000
        assert waiting["chat_lagging_readers"] == 0
        during = say_more_until("chat_lagging_readers")
        assert during["chat_lags_total"] - before["chat_lags_total"] == 1
        assert during["chat_lagging_readers"] == 1
        deaf.until(Lagged)
        deaf.until(Chat, lambda chat: chat.seq == said)
        eventually(lambda: figures(server.port)["chat_lagging_readers"] == 0)
        assert figures(server.port)["chat_deliveries_total"] - before["chat_deliveries_total"] == said
        talker.close()
        deaf.close()

    def test_the_reactor_and_the_process(self, server: Server) -> None:
        before = figures(server.port)
        eventually(
            lambda: (
                figures(server.port)["chat_reactor_delay_seconds_count"]
                > before["chat_reactor_delay_seconds_count"]
            )
        )
        assert before["process_resident_memory_bytes"] > 2**20
        assert before["process_open_fds"] > 3
        assert abs(before["process_start_time_seconds"] - time.time()) < 10_000


def test_a_reactor_that_is_kept_busy_is_late(tmp_path: Path) -> None:
    """The real reactor, and something that keeps it for half a second."""
    program = tmp_path / "busy.py"
    program.write_text(
        "import time\n"
        "from twisted.internet import reactor\n"
        "from chatproto.server.delay import ReactorDelay\n"
        "delay = ReactorDelay(reactor)\n"
        "delay.start()\n"
        "reactor.callLater(0.01, time.sleep, 0.75)\n"
        "reactor.callLater(1.2, reactor.stop)\n"
        "reactor.run()\n"
        "assert 0.4 < delay.seen.total < 60, delay.seen.total\n"
    )
    finished = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
