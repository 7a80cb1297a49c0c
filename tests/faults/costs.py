"""What something costs a server: the memory it had at most meanwhile, and its CPU time. Kept in a table.

The figures of each run go into `build/websocket-hostile.json`, and beside it into a table to read.
"""

from __future__ import annotations

import fcntl
import json
import re
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from faults.websocket_peer import WebSocketServer

MIB = 2**20
KEPT_IN = Path(__file__).parents[2] / "build"


class Cost:
    """What goes on in a `with` block costs *server*: `peak_bytes` beyond what it had when fresh, and `cpu_s`.

    The peak is the kernel's own, so that nothing between two looks is missed. It does not count what the
    kernel holds in socket buffers. The figures are printed and kept under the name of *what*, with `more`.
    """

    def __init__(self, server: WebSocketServer, what: str, **more: Any) -> None:
        self._server = server
        self._what = what
        self.more = more
        self.peak_bytes = 0
        self.cpu_s = 0.0
        self._before_s = 0.0

    def _highest_bytes(self) -> int:
        status = Path(f"/proc/{self._server.process.pid}/status").read_text()
        found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
        assert found, status
        return int(found[1]) * 1024

    def __enter__(self) -> Self:
        Path(f"/proc/{self._server.process.pid}/clear_refs").write_text("5")  # the peak begins anew
        self._before_s = self._server.cpu_s()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.peak_bytes = max(0, self._highest_bytes() - self._server.fresh_bytes)
            self.cpu_s = self._server.cpu_s() - self._before_s
            keep(self._what, peak_mib=self.peak_bytes / MIB, cpu_s=self.cpu_s, **self.more)


def keep(what: str, **figures: Any) -> None:
    """Print the figures of *what*, and put them into the table."""
    rounded = {
        name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()
    }
    print(f"{what}: {rounded}")
    KEPT_IN.mkdir(exist_ok=True)
    with (KEPT_IN / "websocket-hostile.json").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # other tests may run at the same time
        file.seek(0)
        kept = json.loads(file.read() or "{}")
        kept[what] = rounded
        file.truncate(0)
        file.write(json.dumps(kept, indent=1))
        _tell(kept)


def _tell(kept: dict[str, dict[str, Any]]) -> None:
    """Write the table."""
    lines = ["| what | peak MiB | CPU s | more |", "|---|---|---|---|"]
    for name, row in sorted(kept.items()):
        more = ", ".join(f"{key} {value}" for key, value in row.items() if key not in ("peak_mib", "cpu_s"))
        peak = f"{row['peak_mib']:.1f}" if "peak_mib" in row else ""
        cpu = f"{row['cpu_s']:.3f}" if "cpu_s" in row else ""
        lines.append(f"| {name} | {peak} | {cpu} | {more} |")
    (KEPT_IN / "websocket-hostile.md").write_text("\n".join(lines) + "\n")
