"""`chatproto-connect`: takes part in a chat, on a whole terminal, in plain lines, or in JSON."""

from __future__ import annotations

import argparse
import getpass
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from chatproto.client.address import DEFAULT_PORT, Address, parse_address
from chatproto.client.ends import Ended, ExitCode, on_signals
from chatproto.client.login import SECRET_VARIABLE, NoSecret, credentials_of
from chatproto.text import tame
from chatproto.version import __version__

__all__ = ["main", "options"]

_EXIT_CODES = """\
exit codes: 0 done; 1 something came to nothing; 2 the command line makes no sense; 3 no connection;
4 the server does not let one in; 128 and its number after a signal (130: Ctrl-C)"""


def address(text: str) -> Address:
    """As `parse_address`, but raises ArgumentTypeError."""
    try:
        return parse_address(text)
    except ValueError as refusal:
        raise argparse.ArgumentTypeError(str(refusal)) from None


def options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line. Ends the process with code 2 and a sentence where it makes no sense."""
    parser = argparse.ArgumentParser(
        prog="chatproto-connect",
        description="Take part in a chat: on the whole terminal, or where standard input or output is none, "
        "in plain lines. /help shows the commands.",
        epilog=_EXIT_CODES,
    )
    parser.add_argument(
        "address",
        type=address,
        metavar="HOST[:PORT]",
        help=f"the server, port {DEFAULT_PORT} by default; or ws://HOST[:PORT]/chat, or wss:// with TLS",
    )
    parser.add_argument(
        "--nick",
        metavar="NAME",
        help="the nickname to have; unless given the account's name, or else your login name here",
    )
    parser.add_argument(
        "--user",
        metavar="NAME",
        help=f"the account to log in to; its secret is asked for, if {SECRET_VARIABLE} in the environment "
        "does not tell it",
    )
    parser.add_argument(
        "--room", action="append", metavar="ROOM", help="a room to enter; may be given several times"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--plain", action="store_true", help="plain lines, on a terminal too")
    form.add_argument("--json", action="store_true", help="one JSON object a line, in both directions")
    parser.add_argument("--no-bell", action="store_true", help="do not ring when your name is said")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    chosen = parser.parse_args(argv)
    if chosen.nick is None:
        chosen.nick = chosen.user or _login_name()
        if chosen.nick is None:
            parser.error("you have no login name; --nick NAME says what to be called")
    chosen.credentials = None
    if chosen.user is not None:
        try:
            chosen.credentials = credentials_of(chosen.user)
        except NoSecret as error:
            parser.error(str(error))
    return chosen


def _login_name() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return None


class _Run(Protocol):
    """One run of the program, in whatever form."""

    async def take_part(self) -> Ended:
        """Take part until the end."""

    def end(self, code: int, sentence: str = "") -> Deferred[None]:
        """Come to an end soon."""


def participant(reactor: Any, chosen: argparse.Namespace) -> _Run:
    """The form that was chosen. Raises ValueError, with one sentence, for what is no address."""
    is_terminal = os.isatty(0) and os.isatty(1) and os.environ.get("TERM", "dumb") not in ("", "dumb")
    if is_terminal and not chosen.plain and not chosen.json:
        from chatproto.client.terminal.program import FullScreen  # not needed in a pipe

        return FullScreen(reactor, chosen)
    from chatproto.client.inlines import JsonParticipant, PlainParticipant

    return (JsonParticipant if chosen.json else PlainParticipant)(reactor, chosen)


async def run(reactor: Any, chosen: argparse.Namespace) -> None:
    """Take part. Fails with SystemExit where the exit code is not 0."""
    try:
        taking_part = participant(reactor, chosen)
    except ValueError as error:
        ended = Ended(ExitCode.WRONG_COMMAND_LINE, str(error))
    else:
        restore = on_signals(reactor, taking_part.end)
        # For whatever else stops the reactor.
        reactor.addSystemEventTrigger("before", "shutdown", taking_part.end, ExitCode.DONE)
        try:
            ended = await taking_part.take_part()
        finally:
            restore()
    if str(ended):
        print(f"chatproto-connect: {tame(str(ended))}", file=sys.stderr)
    if ended.code:
        raise SystemExit(int(ended.code))


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """The console script; `--help` lists the exit codes."""
    try:
        chosen = options(argv)
    except KeyboardInterrupt:  # instead of the secret
        raise SystemExit(128 + signal.SIGINT) from None
    were_blocking = [fd for fd in (0, 1, 2) if os.get_blocking(fd)]
    try:
        react(run, (chosen,))
    finally:
        # They are shared with the shell and with whatever else writes there.
        for fd in were_blocking:
            os.set_blocking(fd, True)


if __name__ == "__main__":
    main()
