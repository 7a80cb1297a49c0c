"""`twistd chat`: its options, and the service that they make."""

from __future__ import annotations

import re
import sys
from dataclasses import fields
from typing import Any, ClassVar

from twisted import __version__ as twisted_version
from twisted.application.service import IService
from twisted.internet.endpoints import serverFromString
from twisted.python import usage

from chatproto.limits import HistoryLimits, Limits
from chatproto.rooms.names import NameRefused, check_room
from chatproto.server.service import ChatService
from chatproto.version import __version__
from chatproto.wire.deflate import Deflate
from chatproto.wire.handshake import check_origin

__all__ = ["Options", "makeService"]

DEFAULT_ENDPOINT = "tcp:9000:interface=127.0.0.1"

DEFLATE = Deflate(client_no_context_takeover=True)
"""What `--deflate` means: a connection that is idle keeps no window, in neither direction."""

_LIMIT_NAME = re.compile(r"\b[a-z]+(?:_[a-z]+)+\b")

_LIMITS = {known.name.replace("_", "-"): known for known in fields(Limits)}
_HISTORY_LIMITS = {known.name.replace("_", "-"): known for known in fields(HistoryLimits)}

IN_MEMORY = "memory"
"""What is given to `--history` where there is to be no file."""


def _number(name: str, kind: type[Any]) -> Any:
    def coerce(text: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            needed = "a whole number" if kind is int else "a number"
            raise ValueError(f"--{name} needs {needed}, not {text!r}") from None

    return coerce


def _as_option(limit: re.Match[str]) -> str:
    return f"--{limit[0].replace('_', '-')}"


def _sentence(meaning: str) -> str:
    return f"{meaning[0].upper()}{meaning[1:]}."


class Options(usage.Options):
    """What the command line of `twistd chat` may say; every limit is an option under its own name."""

    synopsis = "[options]"
    longdesc = (
        "A chat server. People talk with nc, telnet or chatproto-connect, browsers over WebSocket, programs "
        "with length-prefixed frames too, all on the same port."
    )
    optFlags: ClassVar[list[list[Any]]] = [
        ["deflate", None, "Compress what goes over WebSockets, where the client can do that."],
    ]
    optParameters: ClassVar[list[list[Any]]] = [
        ["room", None, "lobby", "The room that people enter who name none."],
        [
            "history",
            None,
            "chat.sqlite",
            f"The file that keeps what is said, or '{IN_MEMORY}': it is forgotten when the server ends.",
        ],
        *(
            [
                name,
                None,
                known.default,
                _sentence(known.metadata["meaning"]),
                _number(name, type(known.default)),
            ]
            for name, known in (_LIMITS | _HISTORY_LIMITS).items()
        ),
    ]

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []
        self["origins"] = []

    def opt_listen(self, description: str) -> None:
        """Listen on this endpoint, e.g. tcp:9000 or unix:/run/chat.sock; may be repeated.
        [default: tcp:9000:interface=127.0.0.1]"""
        self["listen"].append(description)

    def opt_origin(self, origin: str) -> None:
        """Let pages of this origin in too, beside the server's own, or of all with *; may be repeated."""
        try:
            check_origin(origin)
        except ValueError as refusal:
            raise usage.UsageError(f"--origin {refusal}") from None
        self["origins"].append(origin)

    def opt_version(self) -> None:
        """Display the version and exit."""
        print(f"chatproto {__version__} on Twisted {twisted_version}")
        sys.exit(0)

    def parseArgs(self, *rest: str) -> None:
        """Refuse what is no option."""
        if rest:
            raise usage.UsageError(f"{rest[0]!r} is no option of chat; twistd chat --help shows them all")

    def postOptions(self) -> None:
        """Check everything that can be checked before something is opened."""
        from twisted.internet import reactor

        if not self["listen"]:
            self["listen"].append(DEFAULT_ENDPOINT)
        if not self["history"]:
            raise usage.UsageError(f"--history needs the name of a file, or '{IN_MEMORY}'")
        for description in self["listen"]:
            try:
                serverFromString(reactor, description)
            except Exception as error:
                # Endpoint parsers are plugins and raise what they like.
                raise usage.UsageError(
                    f"--listen {description!r} is no endpoint that can be used: {error}"
                ) from None
        try:
            self["limits"] = Limits(**{known.name: self[name] for name, known in _LIMITS.items()})
            self["history_limits"] = HistoryLimits(
                **{known.name: self[name] for name, known in _HISTORY_LIMITS.items()}
            )
            check_room(self["room"], self["limits"].max_room_chars)
        except NameRefused as refusal:
            raise usage.UsageError(f"--room: {refusal}") from None
        except ValueError as refusal:
            raise usage.UsageError(_LIMIT_NAME.sub(_as_option, str(refusal))) from None

    def getUsage(self, width: int | None = None) -> str:
        """Twisted's, in another order: where to listen first; the limits apart, in their own order."""
        usage_text, _, description = super().getUsage(width).partition("\n\n")
        _, *shown = re.split(r"^(?= +--)", f"{usage_text}\n", flags=re.MULTILINE)
        by_name = {entry.split()[0].strip("-="): entry for entry in shown}
        limits = "".join(by_name.pop(name) for name in _LIMITS)
        history = "".join(by_name.pop(name) for name in _HISTORY_LIMITS)
        first = "".join(by_name.pop(name) for name in ("listen", "room", "history", "origin", "deflate"))
        return (
            f"Options:\n{first}{''.join(by_name.values())}\nLimits:\n{limits}\n"
            f"Limits of the file of the history:\n{history}\n{description}"
        )


def makeService(options: Options) -> IService:
    """Make the service; nothing is opened before it starts."""
    return ChatService(
        options["listen"],
        limits=options["limits"],
        history=None if options["history"] == IN_MEMORY else options["history"],
        history_limits=options["history_limits"],
        default_room=options["room"],
        origins=options["origins"],
        deflate=DEFLATE if options["deflate"] else None,
    )
