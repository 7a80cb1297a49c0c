"""What a soak shows in numbers, what they must be, and a table of them to read."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from faults.soak.attack import CUT_SHORT, KINDS, WITHHELD
from faults.soak.record import Conversation, Delays

__all__ = ["AFTER", "ATTACK", "QUIET", "Outcome", "Sample", "faults", "growth_bytes", "keep", "slowness"]

QUIET, ATTACK, AFTER = "quiet", "attack", "after"

WINDOW_S = 3.0
"""Of each such time the 99th percentile is taken, and of these the median: what is constant shows in all of
them, as an attack does, and what somebody else does on the machine does not."""

MARGIN_S = 0.1
"""What nobody notices who talks to somebody."""

FACTOR = 5
"""So many times the delay of a quiet server: half of the time or more it is not the people whom it serves."""

LEAST_SHARE = 0.1
"""A machine on which a server runs less than that says nothing."""

MET = (
    "join_timeout_s",
    "max_arrivals_per_address_per_s",
    "max_connections_per_address",
    "max_frame_bytes",
    "rename_burst",
)
"""The limits that an attack must come up to, or it would show nothing, however slow the machine is."""

KEPT_IN = Path(__file__).parents[3] / "build"

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Sample:
    """How things stood at a time. CPU is of the server, of the people's process and of the attackers'."""

    at_s: float
    rss_bytes: int
    descriptors: int
    ran_s: tuple[float, ...]
    waited_s: tuple[float, ...]
    """Ready to run, and another had the CPU."""


@dataclass
class Outcome:
    """All that is to be judged of a soak."""

    conversation: Conversation = field(default_factory=Conversation)
    phases: dict[str, tuple[float, float]] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    attacks: dict[str, dict[str, int]] = field(default_factory=dict)
    descriptors_before: int = 0
    descriptors_after: int = 0
    figures_after: dict[str, float] = field(default_factory=dict)
    exit_code: int = 0
    log: str = ""

    def samples_of(self, phase: str) -> list[Sample]:
        """Those of one phase."""
        from_s, until_s = self.phases[phase]
        return [sample for sample in self.samples if from_s <= sample.at_s < until_s]


def percentile(found: Sequence[float], percent: float) -> float:
    """So many of a hundred are not above it; 0 of none."""
    ordered = sorted(found)
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)] if ordered else 0.0


def typical_p99_s(delays: Delays, from_s: float, until_s: float) -> float:
    """The median of the 99th percentiles of all windows that lie in a time."""
    windows = [
        delays.between(from_s + number * WINDOW_S, from_s + (number + 1) * WINDOW_S)
        for number in range(int((until_s - from_s) // WINDOW_S))
    ]
    return statistics.median(percentile(window, 99) for window in windows if window)


def waited_share(outcome: Outcome, phase: str) -> float:
    """In what share of the time the server was ready to run, and somebody else on the machine ran instead."""
    first, *_, last = outcome.samples_of(phase)
    return (last.waited_s[0] - first.waited_s[0]) / (last.at_s - first.at_s)


def slowness(outcome: Outcome) -> str:
    """By how much people wait longer for one another under attack than they may; nothing if they do not.

    A server that may not run for half of the time is granted twice the time. Hostile peers take none of it
    from it: they run when nobody else wants to.
    """
    deliveries = outcome.conversation.deliveries
    typical_s = {phase: typical_p99_s(deliveries, *times) for phase, times in outcome.phases.items()}
    most_s = MARGIN_S + FACTOR * typical_s[QUIET]  # after the attack some of it may linger
    most_s /= max(LEAST_SHARE, 1 - waited_share(outcome, ATTACK))
    words = ", ".join(f"{phase} {1_000 * p99_s:.1f} ms" for phase, p99_s in typical_s.items())
    return f"the typical p99 is past {1_000 * most_s:.1f} ms: {words}" if typical_s[ATTACK] > most_s else ""


def growth_bytes(outcome: Outcome) -> float:
    """By how much memory grew from the first to the second half of the attack, typically.

    The first quarter does not count: what everybody hostile holds at a time is filling up then.
    """
    rss_bytes = [sample.rss_bytes for sample in outcome.samples_of(ATTACK)]
    quarter = len(rss_bytes) // 4
    early, late = rss_bytes[quarter : 2 * quarter], rss_bytes[3 * quarter :]
    return statistics.median(late) - statistics.median(early)


def faults(outcome: Outcome) -> list[str]:
    """Which attacks ended otherwise than they should, which never came, and which limits nobody met."""
    found = []
    for kind in KINDS:
        ends = outcome.attacks.get(kind.__name__, {})
        if not ends:
            found.append(f"{kind.__name__} never attacked")
        wrong = ends.keys() - kind.ends - {WITHHELD, CUT_SHORT}
        found += [f"{kind.__name__}: {ends[end]} {end}" for end in sorted(wrong)]
    met = {limit for limit in MET if outcome.figures_after.get(f'chat_limited_total{{limit="{limit}"}}')}
    return found + [f"nobody met {limit}" for limit in MET if limit not in met]


# --- to read ------------------------------------------------------------------------------------------------


def keep(outcome: Outcome) -> None:
    """Print the figures, and keep them in `build/soak.md`."""
    text = "\n".join([*_phases(outcome), "", *_sums(outcome), "", *_attacks(outcome), ""])
    print(text)
    KEPT_IN.mkdir(exist_ok=True)
    (KEPT_IN / "soak.md").write_text(text)


def _phases(outcome: Outcome) -> list[str]:
    lines = [
        "| phase | s | deliveries | p50 ms | p99 ms | typical p99 ms | most ms | ack p99 ms | back, p99 ms "
        "| server's CPU | people's | attackers' | server waited for a CPU |",
        "|---|" + "---:|" * 12,
    ]
    conversation = outcome.conversation
    for phase, (from_s, until_s) in outcome.phases.items():
        delays = conversation.deliveries.between(from_s, until_s)
        figures = [
            percentile(delays, 50),
            percentile(delays, 99),
            typical_p99_s(conversation.deliveries, from_s, until_s),
            max(delays, default=0.0),
            percentile(conversation.acknowledgements.between(from_s, until_s), 99),
            percentile(conversation.returns.between(from_s, until_s), 99),
        ]
        samples = outcome.samples_of(phase)
        first, last = samples[0], samples[-1]
        spent_s = last.at_s - first.at_s
        shares = [(after - before) / spent_s for before, after in zip(first.ran_s, last.ran_s, strict=True)]
        shares.append(waited_share(outcome, phase))
        row = [phase, f"{until_s - from_s:.0f}", f"{len(delays):,}"]
        row += [f"{1_000 * figure:.1f}" for figure in figures]
        row += [f"{share:.0%}" for share in shares]
        lines.append(f"| {' | '.join(row)} |")
    return lines


def _sums(outcome: Outcome) -> list[str]:
    conversation = outcome.conversation
    said = sum(len(room) for room in conversation.rooms.values())
    rss = [f"{outcome.samples_of(phase)[-1].rss_bytes / MIB:.1f}" for phase in outcome.phases]
    begun = sum(sum(ends.values()) for ends in outcome.attacks.values())
    return [
        f"- {said:,} messages in {len(conversation.rooms)} rooms; people came back "
        f"{len(conversation.returns.delays_s)} times; {len(conversation.faults)} faults",
        f"- {begun:,} attacks, at most {max(sample.descriptors for sample in outcome.samples)} descriptors",
        f"- resident at the end of each phase: {', '.join(rss)} MiB; during the attack it grew by "
        f"{growth_bytes(outcome) / MIB:.1f} MiB",
        f"- descriptors: {outcome.descriptors_before} before, {outcome.descriptors_after} after",
    ]


def _attacks(outcome: Outcome) -> list[str]:
    from_s, until_s = outcome.phases[ATTACK]
    lines = ["| hostile peers | attacks | a second | how they ended |", "|---|---:|---:|---|"]
    for kind in KINDS:
        ends = outcome.attacks.get(kind.__name__, {})
        begun = sum(number for end, number in ends.items() if end != WITHHELD)
        words = ", ".join(f"{end} {number}" for end, number in sorted(ends.items()))
        lines.append(f"| {kind.what} | {begun} | {begun / (until_s - from_s):.1f} | {words} |")
    return lines
