"""`twistd -n chat` with a defect planted in its history, to see that it is noticed.

python history_defects.py DEFECT [OPTIONS OF twistd chat]
"""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Callable
from typing import Any

from twisted.scripts import twistd

from chatproto.history import file
from chatproto.history.batch import Numbers
from chatproto.history.ids import KnownIds
from chatproto.history.log import SqliteLog
from chatproto.history.writer import Writer

LATE_S = 0.5


def acknowledges_before_it_commits() -> None:
    began_s = 0.0

    def transact(self: Writer, change: Callable[[sqlite3.Connection], Any]) -> Any:
        nonlocal began_s
        if not self.connection.in_transaction:
            self.connection.execute("BEGIN IMMEDIATE")
            began_s = time.monotonic()
        result = change(self.connection)
        if time.monotonic() - began_s > LATE_S:
            self.connection.execute("COMMIT")
        return result

    Writer._transact = transact  # type: ignore[method-assign]


def forgets_ids_over_a_restart() -> None:
    load = KnownIds.load

    def forget(self: KnownIds, connection: sqlite3.Connection) -> None:
        load(self, connection)
        self._newest.clear()

    KnownIds.load = forget  # type: ignore[method-assign]


def leaves_out_a_number() -> None:
    find = Writer._find

    def find_later(self: Writer, connection: sqlite3.Connection, room: str) -> Numbers:
        numbers = find(self, connection, room)
        if room not in self._rooms and numbers.newest:
            numbers.newest += 1
        return numbers

    Writer._find = find_later  # type: ignore[method-assign]


def begins_anew() -> None:
    """Another epoch each time."""
    init = SqliteLog.__init__

    def init_anew(self: SqliteLog, *arguments: Any, **named: Any) -> None:
        init(self, *arguments, **named)
        self.epoch += 1 + int(time.time() * 1000) % 1000

    SqliteLog.__init__ = init_anew  # type: ignore[method-assign]


def tells_in_another_order() -> None:
    """Of two in one commit, now and then."""
    were_tried = SqliteLog._were_tried

    def tell(self: SqliteLog, batch: list[Any], committed: Any) -> None:
        for index in range(len(batch) - 1):
            first, second = committed.outcomes[index : index + 2]
            if batch[index].room == batch[index + 1].room:
                committed.outcomes[index : index + 2] = second, first
                batch[index : index + 2] = batch[index + 1], batch[index]
                break
        were_tried(self, batch, committed)

    SqliteLog._were_tried = tell  # type: ignore[method-assign]


def does_not_wait_for_the_disk() -> None:
    """Which a killed process does not lose, but a machine without power does."""
    set_up = file._set_up_writer

    def set_up_carelessly(connection: sqlite3.Connection) -> None:
        set_up(connection)
        connection.execute("PRAGMA synchronous = NORMAL")

    file._set_up_writer = set_up_carelessly


DEFECTS = {
    defect.__name__: defect
    for defect in (
        acknowledges_before_it_commits,
        forgets_ids_over_a_restart,
        leaves_out_a_number,
        begins_anew,
        tells_in_another_order,
        does_not_wait_for_the_disk,
    )
}


def main() -> None:
    """Be twistd."""
    DEFECTS[sys.argv[1]]()
    sys.argv = ["twistd", "-n", "--pidfile=", "chat", *sys.argv[2:]]
    twistd.run()


if __name__ == "__main__":
    main()
