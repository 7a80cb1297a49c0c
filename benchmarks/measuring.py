"""What every part of the benchmarks is given: cores, load generator, peers, how long and how often."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from environment import Environment
from generator import Generator
from rounds import Run, Subject, run_of_load
from servers import Program, serving

__all__ = ["Measuring", "two_cores"]

# Until ten thousand are connected, on a machine that has other things to do.
_LIMIT_S = 300


def two_cores() -> tuple[int, int] | tuple[None, None]:
    """One for the server and one for the load; none where there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return (usable[0], usable[1]) if len(usable) > 1 else (None, None)


@dataclasses.dataclass(frozen=True)
class Measuring:
    """How it is measured. *is_quick* makes everything small: to see that it works, not how fast it is."""

    generator: Generator
    server_core: int | None
    peers: Environment
    rounds: int
    seconds: float
    is_quick: bool

    def people(self, number: int) -> int:
        """So many connections, or fewer where it has to be quick."""
        return min(number, 50) if self.is_quick else number

    def loaded(self, program: Program, **options: Any) -> Subject:
        """*program*, started anew, under the load that the options of the generator ask for."""
        asked = {"seconds": self.seconds, "warmup": min(1.0, self.seconds / 2), "limit_s": _LIMIT_S} | options

        def measure() -> Run:
            with serving(program, self.server_core) as served:
                return run_of_load(self.generator.load(served, **asked))

        return Subject(program.name, measure)
