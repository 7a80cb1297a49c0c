"""`chatproto-ctl`: sees what a running chat server does, and tells it what to do, over its control socket."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from typing import Any, NoReturn

from chatproto.control import views
from chatproto.control.asking import NoServer, Refused, Server
from chatproto.control.lines import DEFAULT_PATH
from chatproto.text import tame
from chatproto.version import __version__

__all__ = ["main"]

DONE, REFUSED, NO_ANSWER = 0, 1, 2

_EPILOG = """\
WHO is a nickname, account:NAME, address:ADDRESS or address:NETWORK, or * for everybody; without --room it is
about the whole server. A time is a number with s, min, h, d or w behind it: 90s, 2h.
exit codes: 0 done; 1 the server does not do it; 2 the command line makes no sense, there is no server, or
what it says cannot be written"""

_SPAN = re.compile(r"(\d{1,10})(s|m|min|h|d|w)?")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}

Request = dict[str, Any]
Row = dict[str, Any]


def _seconds(text: str) -> int:
    found = _SPAN.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write 90s, 5min, 2h, 7d or 1w")
    return int(found[1]) * _SECONDS[found[2] or "s"]


def _lasting(text: str) -> int:
    seconds = _seconds(text)
    if not seconds:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; for good it is without --for")
    return seconds


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    # Both before and behind the command; what is not given there must not undo what is given before.
    common.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="for programs: one JSON object a line"
    )
    common.add_argument(
        "--socket",
        metavar="PATH",
        default=argparse.SUPPRESS,
        help=f"the server's --control; {DEFAULT_PATH} in this folder unless given",
    )
    parser = argparse.ArgumentParser(
        prog="chatproto-ctl",
        description="See what a running chat server does, and tell it what to do.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common],
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")

    def command(
        name: str,
        help: str,
        show: Callable[[list[Row], argparse.Namespace], str] | None = None,
        do: str = "",
        **fixed: Any,
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(
            name, help=help, description=f"{help[0].upper()}{help[1:]}.", parents=[common]
        )
        made.set_defaults(do=do or name, show=show, fixed=fixed)
        return made

    command("status", "how the server is, in a few lines", views.status)
    connections = command("connections", "who is connected, and what waits for each", views.connections)
    connections.add_argument("--room", metavar="ROOM", help="only who is in this room")
    connections.add_argument("--lagging", action="store_const", const=True, help="only who is too slow")
    connections.add_argument(
        "--sort",
        choices=tuple(views.SORTS),
        default="id",
        help="the largest first; by id unless given",
    )
    command("rooms", "the rooms that somebody is in", views.rooms)
    rules = command("rules", "the bans, mutes and locks that are in force", views.rules)
    rules.add_argument("--room", metavar="ROOM", help="only those of this room")
    sessions = command("sessions", "the sessions of an account", views.sessions)
    sessions.add_argument("account", metavar="ACCOUNT")
    for name, help in (
        ("trace", "what comes and goes on one connection: kinds, sizes and times, and nothing that is said"),
        ("end-session", "end one connection"),
    ):
        command(name, help).add_argument("id", metavar="ID", type=int, help="as connections has it")
    for name, help in (
        ("kick", "put somebody out"),
        ("ban", "put somebody out, and keep them out"),
        ("unban", "let them in again"),
        ("mute", "let somebody listen, and not speak"),
        ("unmute", "let them speak again"),
    ):
        made = command(name, help)
        made.add_argument("who", metavar="WHO")
        made.add_argument("--room", metavar="ROOM", help="only in this room, and not the whole server")
        _add_reason(made, has_end=name in ("ban", "mute"))
    for name, do in (("lock", "ban"), ("unlock", "unban")):
        help = "let only operators into a room" if do == "ban" else "let everybody in again"
        made = command(name, help, do=do, who="*")
        made.add_argument("room", metavar="ROOM")
        _add_reason(made, has_end=do == "ban")
    remove = command("remove", "remove a message, and wipe it from the history")
    remove.add_argument("room", metavar="ROOM")
    remove.add_argument("seq", metavar="SEQ", type=int, help="its number in the room")
    _add_reason(remove, has_end=False)
    drain = command("drain", "end the server as SIGTERM does, and wait for that")
    drain.add_argument(
        "--within", dest="within_s", metavar="TIME", type=_seconds, help="cut off who is still there then"
    )
    command("reload", "read the --config file again, as SIGHUP does, and show what that changed")
    return parser


def _add_reason(command: argparse.ArgumentParser, has_end: bool) -> None:
    command.add_argument("--reason", metavar="TEXT", help="told to whoever it is about")
    if has_end:
        command.add_argument(
            "--for", dest="seconds", metavar="TIME", type=_lasting, help="for so long; for good unless given"
        )


_FIELDS = ("room", "lagging", "account", "id", "who", "reason", "seconds", "seq", "within_s")
"""Of requests; what was not given is not sent."""


def _request(chosen: argparse.Namespace) -> Request:
    given = {name: getattr(chosen, name, None) for name in _FIELDS}
    asked = {name: value for name, value in given.items() if value is not None}
    return {"do": chosen.do, **asked, **chosen.fixed}


_LINES = {"trace": views.event, "drain": views.draining, "reload": views.change}
"""What is shown as it comes, and not as a table."""


class _Unwritten(Exception):
    """What there is to say cannot be written; the text is a phrase."""


class _Run:
    """One run of the program: asks for what was *chosen*, and shows it."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self._chosen = chosen
        self._is_json: bool = getattr(chosen, "json", False)
        self._line = _LINES.get(chosen.command)

    def code(self) -> int:
        """Do it; the exit code."""
        try:
            return self._code()
        except _Unwritten as trouble:
            print(f"chatproto-ctl: what the server says cannot be written, {trouble}", file=sys.stderr)
            return NO_ANSWER

    def _code(self) -> int:
        try:
            done = self._answered()
        except Refused as refusal:
            self._complain(str(refusal))
            return REFUSED
        except NoServer as trouble:
            self._complain(str(trouble))
            return NO_ANSWER
        return REFUSED if done.get("errors") else DONE

    def _answered(self) -> Row:
        """Ask, and show what is answered; what is said in the end."""
        rows: list[Row] = []
        done: Row = {}
        server = Server(getattr(self._chosen, "socket", DEFAULT_PATH))
        is_sorted = getattr(self._chosen, "sort", "id") != "id"
        has_time = self._chosen.command in ("trace", "drain")
        for found in server.ask(_request(self._chosen), has_time=has_time):
            if "row" not in found:
                done = found.get("done", {})
            elif self._is_json and not is_sorted:
                self._say_json(found["row"])
            elif self._line is not None and not self._is_json:
                self._say(self._line(found["row"]))
            else:
                rows.append(found["row"])
        if self._is_json:
            for row in views.sorted_rows(rows, self._chosen):
                self._say_json(row)
            if done:
                self._say_json(done)
        elif self._chosen.show is not None:
            self._say(self._chosen.show([*rows, done] if done else rows, self._chosen))
        elif done.get("text"):
            self._say(tame(done["text"]))
        return done

    def _say_json(self, found: Row) -> None:
        # In ASCII: nothing in it acts on a terminal.
        self._say(json.dumps(found))

    def _say(self, text: str) -> None:
        if text:
            try:
                print(text.rstrip("\n"), flush=True)
            except OSError as error:
                # What is left of it would be tried again at the end.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise _Unwritten((error.strerror or str(error)).lower()) from None

    def _complain(self, sentence: str) -> None:
        if self._is_json:
            self._say_json({"error": sentence})
        else:
            print(f"chatproto-ctl: {tame(sentence)}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The console script; `--help` lists the exit codes."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as `head` expects
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a trace ends by it
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # the terminal may have no letters for somebody's name
    sys.exit(_Run(_parser().parse_args(arguments)).code())


if __name__ == "__main__":
    main()
