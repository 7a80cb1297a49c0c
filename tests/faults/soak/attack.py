"""All hostile peers of a soak in one process, each kind at its rate.

    python -m faults.soak.attack TARGET SEED

TARGET is a `Target` as JSON. It prints a line when it is ready, attacks from
SIGUSR1 on, and stops on SIGTERM. Then it prints as JSON how many attacks of each kind ended in which way.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter
from dataclasses import dataclass, field

from faults.soak.guests import GUESTS
from faults.soak.hostile import ENDED, Hostile, Target
from faults.soak.strangers import STRANGERS

__all__ = ["BEGIN", "CUT_SHORT", "END", "KINDS", "READY", "WITHHELD"]

KINDS: tuple[type[Hostile], ...] = (*STRANGERS, *GUESTS)

READY = "ready to attack\n"
BEGIN, END = signal.SIGUSR1, signal.SIGTERM

NICENESS = 19
"""What is measured is the server's time, and not who of us gets the CPU."""

WITHHELD, CUT_SHORT = "withheld", "cut short"
"""As many went on as may at once; or it went on when all was over."""


@dataclass
class Campaign:
    """One kind at its rate."""

    kind: type[Hostile]
    hostile: Hostile
    ends: Counter[str] = field(default_factory=Counter)
    going_on: set[asyncio.Task[None]] = field(default_factory=set)

    async def go_on(self) -> None:
        """Begin one attack after the other, at planned times."""
        now_s = asyncio.get_running_loop().time
        period_s = 1 / self.kind.per_s
        planned_s = now_s() + self.hostile.chance.random() * min(1.0, period_s)
        while True:
            await asyncio.sleep(max(0.0, planned_s - now_s()))
            # Behind, it does not make up for it: the rate is a bound.
            planned_s = max(planned_s + period_s, now_s() - period_s)
            if len(self.going_on) >= self.kind.at_once:
                self.ends[WITHHELD] += 1
                continue
            task = asyncio.create_task(self._attack())
            self.going_on.add(task)
            task.add_done_callback(self.going_on.discard)

    async def _attack(self) -> None:
        try:
            self.ends[await self.hostile.attack()] += 1
        except ConnectionError:
            self.ends[ENDED] += 1
        except asyncio.CancelledError:
            self.ends[CUT_SHORT] += 1


async def attack(target: Target, seed: int) -> dict[str, dict[str, int]]:
    """Attack when told to, until told not to; how each kind's attacks ended."""
    begin, end = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(BEGIN, begin.set)
    asyncio.get_running_loop().add_signal_handler(END, end.set)
    source = random.Random(seed)
    campaigns = [Campaign(kind, kind(target, random.Random(source.getrandbits(64)))) for kind in KINDS]
    print(READY, end="", flush=True)
    await begin.wait()
    async with asyncio.TaskGroup() as group:
        going_on = [group.create_task(campaign.go_on()) for campaign in campaigns]
        await end.wait()
        for task in going_on:
            task.cancel()
    attacks = [task for campaign in campaigns for task in campaign.going_on]
    for task in attacks:
        task.cancel()
    await asyncio.gather(*attacks, return_exceptions=True)
    return {campaign.kind.__name__: dict(campaign.ends) for campaign in campaigns}


def main(target: str, seed: str) -> None:
    """Attack, and tell what came of it."""
    os.nice(NICENESS)
    words = json.loads(target)
    words["rooms"] = tuple(words["rooms"])
    print(json.dumps(asyncio.run(attack(Target(**words), int(seed)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
