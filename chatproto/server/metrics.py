"""What Prometheus is shown. Nearly everything is read off what is there anyway, when somebody asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from operator import attrgetter

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from chatproto.history.log import SqliteLog
from chatproto.history.threads import COMMIT_MESSAGES, COMMIT_S
from chatproto.net.factory import ChatFactory
from chatproto.net.resource import ChatResource
from chatproto.net.sendqueue import FANOUT_BOUNDS_S
from chatproto.rooms.hub import Hub
from chatproto.rooms.spread import Spread
from chatproto.server.delay import ReactorDelay
from chatproto.shared.log import SharedLog
from chatproto.shared.speaking import ANSWERS_S

__all__ = ["FACES", "ChatCollector", "Door", "registry_of"]

Door = ChatFactory | ChatResource
"""What people come through."""

FACES = ("frames", "lines", "websocket-bin", "websocket-json", "none")
"""What a connection speaks; none: HTTP, or nothing so far."""

# There may be very many connections, and nobody else has the reactor meanwhile.
_KIND = attrgetter("kind")
_IS_LAGGING = attrgetter("session.catch_up.is_lagging")


class ChatCollector(Collector):
    """The figures of one *hub* and the *doors* that people come through, for a registry of one's own.

    Without *delay* nothing is said of the reactor. No figure has text of people's in it, nor has a label.
    """

    def __init__(self, hub: Hub, doors: Iterable[Door], delay: ReactorDelay | None = None) -> None:
        self._hub = hub
        self._doors = tuple(doors)
        self._delay = delay

    def describe(self) -> Iterator[Metric]:
        """What `collect` gives (Collector)."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        """All figures as they are now (Collector)."""
        yield from self._connections()
        yield from self._messages()
        yield from self._refusals()
        yield from self._history()
        if self._delay is not None:
            yield _histogram(
                "chat_reactor_delay_seconds",
                "Seconds by which the reactor was late for what was due; measured four times a second.",
                self._delay.seen,
            )

    def _connections(self) -> Iterator[Metric]:
        faces = Counter(dict.fromkeys(FACES, 0))
        queued_bytes = lagging = 0
        for door in self._doors:
            faces.update(map(_KIND, door.faces))
            queued_bytes += door.turn.queued_bytes
            lagging += sum(map(_IS_LAGGING, door.faces))
            if isinstance(door, ChatFactory):
                faces["none"] += max(0, len(door.fronts) - len(door.faces))
        connections = GaugeMetricFamily(
            "chat_connections",
            "Connections that are open, by what they speak; none: HTTP, or nothing so far.",
            labels=["face"],
        )
        for kind, number in faces.items():
            connections.add_metric([kind], number)
        yield connections
        yield _gauge("chat_people", "People who are in, each with a nickname.", len(self._hub.nicks))
        yield _gauge("chat_rooms", "Rooms that somebody is in.", len(self._hub.rooms))
        yield _gauge("chat_queue_bytes", "Bytes that wait to be sent, over all connections.", queued_bytes)
        yield _gauge(
            "chat_lagging_readers",
            "Connections that were too slow and have not caught up yet.",
            lagging,
        )
        yield _counter("chat_sessions", "Connections that began to speak.", self._hub.n_sessions)
        record = self._hub.record
        yield _counter("chat_lags", "Times that a connection began to be too slow.", record.lags)
        ends = CounterMetricFamily(
            "chat_sessions_ended", "Connections that ended after that, by reason.", labels=["reason"]
        )
        for reason, number in record.ends.items():
            ends.add_metric([reason], number)
        yield ends

    def _messages(self) -> Iterator[Metric]:
        record = self._hub.record
        messages = CounterMetricFamily(
            "chat_messages", "Messages said in a room and kept, or told to one person.", labels=["to"]
        )
        messages.add_metric(["room"], record.messages)
        messages.add_metric(["person"], record.private_messages)
        yield messages
        turns = [door.turn for door in self._doors]
        yield _counter(
            "chat_deliveries",
            "Messages of rooms handed to the kernel, or to TLS, each for one reader, live or to catch up.",
            sum(turn.n_delivered for turn in turns),
        )
        yield _counter(
            "chat_sent_bytes",
            "Bytes handed to the kernel, or to TLS, for all connections; HTTP is not counted.",
            sum(turn.taken_bytes for turn in turns),
        )
        fanouts = [sum(counts) for counts in zip(*(turn.fanouts for turn in turns), strict=True)]
        yield _histogram_of(
            "chat_fanout_seconds",
            "Seconds from the first thing queued in a turn of the reactor to when all of it was written, for "
            "turns in which something was said in a room.",
            FANOUT_BOUNDS_S,
            fanouts or [0] * (len(FANOUT_BOUNDS_S) + 1),
            sum(turn.fanout_s for turn in turns),
        )

    def _refusals(self) -> Iterator[Metric]:
        refusals = CounterMetricFamily(
            "chat_refusals", "Errors that were answered, by the protocol's name for them.", labels=["error"]
        )
        for code, number in self._hub.record.refusals.items():
            refusals.add_metric([code.label], number)
        yield refusals
        limited = CounterMetricFamily(
            "chat_limited",
            "Times that a limit was met, and somebody refused, slowed down or ended by it.",
            labels=["limit"],
        )
        for limit, number in self._hub.record.limited_by.items():
            limited.add_metric([limit], number)
        yield limited

    def _history(self) -> Iterator[Metric]:
        log = self._hub.log
        commits, commits_s, unkept_bytes, file_bytes = Spread(COMMIT_MESSAGES), Spread(COMMIT_S), 0, 0
        if isinstance(log, SqliteLog):
            commits, commits_s = log.commits, log.commits_s
            unkept_bytes, file_bytes = log.unkept_bytes, log.file_bytes()
        answers_s, n_opened = Spread(ANSWERS_S), 0
        if isinstance(log, SharedLog):
            unkept_bytes, answers_s, n_opened = log.unkept_bytes, log.answers_s, log.n_connected
        yield _gauge(
            "chat_history_up", "1 while what is said can be kept, 0 while it cannot.", int(not log.trouble)
        )
        yield _counter("chat_history_commits", "Commits to the file of the history.", sum(commits.counts))
        yield _histogram(
            "chat_history_commit_messages",
            "Messages in a commit, those that were sent again included.",
            commits,
        )
        yield _histogram("chat_history_commit_seconds", "Seconds that a commit took.", commits_s)
        yield _gauge(
            "chat_history_unkept_bytes", "Bytes of memory for what waits to be committed.", unkept_bytes
        )
        yield _gauge(
            "chat_history_file_bytes",
            "Bytes of the file of the history and its write-ahead log.",
            file_bytes,
        )
        yield _counter(
            "chat_store_connections", "Times that a store for many servers was connected.", n_opened
        )
        yield _histogram(
            "chat_store_answer_seconds",
            "Seconds in which a store for many servers answered that it keeps a message.",
            answers_s,
        )


def registry_of(hub: Hub, doors: Iterable[Door], delay: ReactorDelay) -> CollectorRegistry:
    """A registry with everything that there is to be seen of this process, and nothing global in it."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ChatCollector(hub, doors, delay))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def _gauge(name: str, help: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help, value=value)


def _counter(name: str, help: str, value: float) -> Metric:
    return CounterMetricFamily(name, help, value=value)


def _histogram(name: str, help: str, spread: Spread) -> Metric:
    return _histogram_of(name, help, spread.bounds, spread.counts, spread.total)


def _histogram_of(
    name: str, help: str, bounds: Sequence[float], counts: Sequence[int], total: float
) -> Metric:
    limits = [*map(floatToGoString, bounds), "+Inf"]
    buckets = list(zip(limits, accumulate(counts), strict=True))
    return HistogramMetricFamily(name, help, buckets=buckets, sum_value=total)
