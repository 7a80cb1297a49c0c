"""Write the tables of messages and errors into docs/protocol.md and chat.js, from the code.

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
from chatproto.wire.messages import MESSAGES, FieldType, Message  # noqa: E402

PAGE = ROOT / "docs" / "protocol.md"
SCRIPT = ROOT / "chatproto" / "page" / "chat.js"
_SCRIPT_TABLES = re.compile(r"(?<=// <tables>\n).*?(?=// </tables>\n)", re.DOTALL)
_TABLE = re.compile(r"(?<=<!-- table: )(\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)


def main(arguments: list[str] | None = None) -> int:
    """Rewrite or check the files; the exit code."""
    parser = argparse.ArgumentParser(description="Write the tables of the protocol from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if they are not current")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page with the tables (%(default)s)")
    parser.add_argument(
        "--script", type=Path, default=SCRIPT, help="the page's JavaScript with the tables (%(default)s)"
    )
    options = parser.parse_args(arguments)
    stale = [
        _renew(options.page, with_tables, options.check),
        _renew(options.script, with_script_tables, options.check),
    ]
    return 1 if options.check and any(stale) else 0


def _renew(path: Path, renewed: Callable[[str], str], only_check: bool) -> bool:
    """Rewrite a file, or only say that it is not current; whether it was not."""
    written = path.read_text("utf-8")
    current = renewed(written)
    if current == written:
        return False
    if only_check:
        print(f"The tables in {path} are not current: run python docs/tables.py", file=sys.stderr)
    else:
        path.write_text(current, "utf-8")
    return True


def with_tables(page: str) -> str:
    """*page* with every table between its markers made anew.

    Raises ValueError where the page does not have each table exactly once.
    """
    named = _TABLE.findall(page)
    if sorted(name for name, _ in named) != sorted(TABLES):
        raise ValueError(f"the page has each of the tables {', '.join(TABLES)} once")
    return _TABLE.sub(lambda found: f"{found[1]}{found[2]}{TABLES[found[1]]()}", page)


def with_script_tables(script: str) -> str:
    """*script* with what stands between its markers made anew.

    Raises ValueError where it does not have them exactly once.
    """
    if len(_SCRIPT_TABLES.findall(script)) != 1:
        raise ValueError("the script has the markers of the tables once")
    return _SCRIPT_TABLES.sub(lambda found: f"{_script_messages()}\n{_script_errors()}", script)


def _script_messages() -> str:
    def row(cls: type[Message]) -> str:
        types = {known: "strs" if known is FieldType.STRS else known.value for known in FieldType}
        fields = ", ".join(f'{field.name}: "{types[field.type]}"' for field in cls.fields)
        return f"  {cls.type}: [0x{cls.kind:02x}, {{ {fields} }}],\n"

    rows = "".join(row(cls) for cls in MESSAGES.values())
    meaning = "/** Each message by its type: its kind, and its fields in the order in which they travel. */\n"
    return f"{meaning}export const MESSAGES = {{\n{rows}}}\n"


def _script_errors() -> str:
    rows = "".join(f'  {code.value}: ["{code.label}", {str(code.fatal).lower()}],\n' for code in ErrorCode)
    meaning = "/** Each error by its code: its name, and whether the connection ends with it. */\n"
    return f"{meaning}export const ERRORS = {{\n{rows}}}\n"


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
