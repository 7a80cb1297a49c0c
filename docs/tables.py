"""Write the tables of messages and errors into docs/protocol.md, from the code that they describe.

`python docs/tables.py` rewrites the tables in place; with `--check` it exits 1 where they are not current.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # after an installed chatproto, which is then the one described

from chatproto.wire.errors import ErrorCode  # noqa: E402
from chatproto.wire.messages import MESSAGES, Message  # noqa: E402

PAGE = ROOT / "docs" / "protocol.md"
_TABLE = re.compile(r"(?<=<!-- table: )(\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)


def main(arguments: list[str] | None = None) -> int:
    """Rewrite or check the page; the exit code."""
    parser = argparse.ArgumentParser(description="Write the tables of docs/protocol.md from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if they are not current")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page with the tables (%(default)s)")
    options = parser.parse_args(arguments)
    page: Path = options.page
    written = page.read_text("utf-8")
    current = with_tables(written)
    if current == written:
        return 0
    if options.check:
        print(f"The tables in {page} are not current: run python docs/tables.py", file=sys.stderr)
        return 1
    page.write_text(current, "utf-8")
    return 0


def with_tables(page: str) -> str:
    """*page* with every table between its markers made anew.

    Raises ValueError where the page does not have each table exactly once.
    """
    named = _TABLE.findall(page)
    if sorted(name for name, _ in named) != sorted(TABLES):
        raise ValueError(f"the page has each of the tables {', '.join(TABLES)} once")
    return _TABLE.sub(lambda found: f"{found[1]}{found[2]}{TABLES[found[1]]()}", page)


def _messages(of_whom: Callable[[int], bool]) -> str:
    def row(cls: type[Message]) -> tuple[str, ...]:
        fields = " ".join(f"{field.name}:{field.type.value}" for field in cls.fields)
        return f"`0x{cls.kind:02X}`", f"`{cls.type}`", fields, cls.meaning

    rows = (row(cls) for kind, cls in MESSAGES.items() if of_whom(kind))
    return _table(("kind", "name", "fields", "meaning"), rows)


def _errors() -> str:
    rows = ((str(code.value), code.label, "yes" if code.fatal else "no", code.when) for code in ErrorCode)
    return _table(("code", "name", "fatal", "when"), rows)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


TABLES: dict[str, Callable[[], str]] = {
    "client": lambda: _messages(lambda kind: kind < 0x80),
    "server": lambda: _messages(lambda kind: kind >= 0x80),
    "errors": _errors,
}
"""What makes each table, by the name in its marker."""


if __name__ == "__main__":
    sys.exit(main())
