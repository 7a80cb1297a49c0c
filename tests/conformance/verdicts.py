"""What a judge left in its folder, and what of it is at fault."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from conformance.cases import INFORMATIONAL

__all__ = ["STANDINGS", "NoReports", "Verdict", "count", "find_faults", "read_verdicts"]

STANDINGS = ("strict", "non-strict", "informational", "failed")

_MAX_CHARACTERS = 300

_OF_BEHAVIOR = {"OK": "strict", "NON-STRICT": "non-strict", "INFORMATIONAL": "informational"}


class NoReports(Exception):
    """A folder that should have reports has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The judge's on one case, in its words; *report* is the file with all that went over the wire."""

    case: str
    behavior: str
    behavior_close: str
    report: Path

    @property
    def standing(self) -> str:
        """One of STANDINGS. A case is as good as the worse of its messages and its closing."""
        pair = [_OF_BEHAVIOR.get(said, "failed") for said in (self.behavior, self.behavior_close)]
        return max(pair, key=STANDINGS.index)

    @property
    def is_late(self) -> bool:
        """Whether all that is wrong is that it took too long."""
        return self.standing == "failed" and "did not finish within" in self._details()["result"]

    def _details(self) -> dict[str, str]:
        details: dict[str, str] = json.loads(self.report.read_text("utf-8"))
        return details

    def told(self) -> str:
        """For whoever has to mend it."""
        details = self._details()
        return "\n    ".join(
            [
                f"case {self.case} is {self.behavior}, its closing {self.behavior_close}",
                f"case: {_plain(details['description'])}",
                f"messages: {_plain(details['result'])}",
                f"closing: {_plain(details['resultClose'])}",
                f"report: {self.report.with_suffix('.html')}",
            ]
        )


def _plain(html: str) -> str:
    text = " ".join(re.sub(r"<[^>]*>", " ", html).split())
    return text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}..."


def read_verdicts(folder: Path) -> dict[str, Verdict]:
    """By case. Raises NoReports."""
    try:
        agents = json.loads((folder / "index.json").read_text("utf-8")).values()
    except (OSError, ValueError):
        raise NoReports(f"the judge left no reports in {folder}; see judge.log beside it") from None
    return {
        case: Verdict(
            case=case,
            behavior=report["behavior"],
            behavior_close=report["behaviorClose"],
            report=folder / report["reportfile"],
        )
        for reports in agents  # kosoku names a server after what it says of itself
        for case, report in reports.items()
    }


def find_faults(verdicts: dict[str, Verdict], cases: Iterable[str]) -> list[str]:
    """A sentence or more for each case that has no verdict, or one that it may not have."""
    missing = [case for case in cases if case not in verdicts]
    faults = [f"{len(missing)} cases have no report: {', '.join(missing)}"] if missing else []
    for verdict in sorted(verdicts.values(), key=lambda verdict: [*map(int, verdict.case.split("."))]):
        may_be_informational = verdict.case in INFORMATIONAL
        if verdict.standing != "strict" and not (
            may_be_informational and verdict.standing == "informational"
        ):
            faults.append(verdict.told())
    return faults


def count(verdicts: Iterable[Verdict]) -> Counter[str]:
    """How many there are of each standing."""
    return Counter(verdict.standing for verdict in verdicts)
