"""Every setting of the server, in one table.

An option of `twistd chat`, a key of its file, what `--print-config` writes, what SIGHUP may change and the
table of the documentation all follow from a row here. A limit is a row by being a field of `Limits`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib.util import find_spec
from typing import Any, cast

from chatproto.control.lines import DEFAULT_PATH
from chatproto.limits import MOST, Effect, HistoryLimits, Limits
from chatproto.net.peers import LOCAL, TrustedPeers
from chatproto.server.logs import JSON, TEXT
from chatproto.server.status import LOCAL as LOCAL_STATUS
from chatproto.server.status import OFF
from chatproto.shared.address import is_store, parse_store
from chatproto.wire.handshake import check_origin

__all__ = ["DEFAULT_ENDPOINT", "GROUPS", "IN_MEMORY", "SETTINGS", "Setting"]

DEFAULT_ENDPOINT = "tcp:9000:interface=127.0.0.1"

IN_MEMORY = "memory"
"""What `history` is where there is to be no file."""

Value = bool | int | float | str | tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting. Its default tells its type; a tuple is of any number of strings.

    *meaning* is a phrase that says the unit; *why* the default is what it is. *check* raises ValueError with
    a phrase that goes on from the setting's name. *least* and *most* are for numbers.
    """

    name: str
    default: Value
    meaning: str
    why: str
    group: str = "Options"
    effect: Effect = Effect.RESTART
    least: float = 0
    most: float = MOST
    check: Callable[[str], None] | None = None

    @property
    def option(self) -> str:
        """As it stands on the command line."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def wanted(self) -> str:
        """What it may be, in words."""
        if isinstance(self.default, bool):
            return "true or false"
        if isinstance(self.default, tuple):
            return "a list of strings"
        if isinstance(self.default, str):
            return "a string"
        return "a whole number" if isinstance(self.default, int) else "a number"


def _no_endpoint(text: str) -> None:
    if not text:
        raise ValueError("needs an endpoint, such as tcp:9000")


def _history(text: str) -> None:
    if not text:
        raise ValueError(f"needs the name of a file, or '{IN_MEMORY}'")
    if is_store(text):
        try:
            parse_store(text)
        except ValueError as refusal:
            raise ValueError(f"is no store: its URL {refusal}") from None
        if find_spec("hiredis") is None:
            raise ValueError("needs hiredis for a store: pip install hiredis")


def _rules(text: str) -> None:
    if not text:
        raise ValueError(f"needs the name of a file, or '{IN_MEMORY}'")


def _control(text: str) -> None:
    if not text:
        raise ValueError(f"needs a path, or '{OFF}'")


def _trusted(text: str) -> None:
    try:
        TrustedPeers([text])
    except ValueError as refusal:
        raise ValueError(f"{text!r} is no network: {refusal}, and Unix sockets as unix") from None


def _log_format(text: str) -> None:
    if text not in (TEXT, JSON):
        raise ValueError(f"is '{TEXT}' or '{JSON}', not {text!r}")


def _limits(kind: Any, group: str) -> list[Setting]:
    return [
        Setting(
            name=known.name,
            default=cast(Value, known.default),
            meaning=known.metadata["meaning"],
            why=known.metadata["why"],
            group=group,
            effect=known.metadata["effect"],
            least=known.metadata["least"],
            most=known.metadata["most"],
        )
        for known in fields(kind)
    ]


SETTINGS: tuple[Setting, ...] = (
    Setting(
        name="listen",
        default=(DEFAULT_ENDPOINT,),
        meaning="listen on this endpoint, e.g. tcp:9000, tls:DIRECTORY:9443 or unix:/run/chat.sock; with "
        ":faces=web,lines behind it only for those; may be repeated",
        why="nobody from another machine comes in before somebody decided so",
        check=_no_endpoint,
    ),
    Setting(
        name="open",
        default=False,
        meaning="let people without an account in from other machines too",
        why="whoever reaches the port can talk, under any name that is free",
    ),
    Setting(
        name="room",
        default="lobby",
        meaning="the room that people enter who name none",
        why="one has to be there",
    ),
    Setting(
        name="history",
        default="chat.sqlite",
        meaning=f"the file that keeps what is said; or '{IN_MEMORY}', forgotten with the server; or the "
        "URL of a Redis or Valkey that servers share, as redis://HOST:6379/0",
        why="a restart should lose nothing",
        check=_history,
    ),
    Setting(
        name="reuse_port",
        default=False,
        meaning="share the TCP ports with other servers on this machine that do so too, each of which gets "
        "some of the connections; for servers that share a store",
        why="one process has one core, and a port in use is mostly a mistake",
    ),
    Setting(
        name="origin",
        default=(),
        meaning="let pages of this origin in too, beside the server's own, or of all with *; may be repeated",
        why="a page of somebody else's could talk in the name of whoever looks at it",
        effect=Effect.CONNECTIONS,
        check=check_origin,
    ),
    Setting(
        name="deflate",
        default=False,
        meaning="compress what goes over WebSockets, where the client can do that",
        why="short messages gain little, and it takes the server's time",
    ),
    Setting(
        name="trusted_proxy",
        default=LOCAL,
        meaning="believe proxies of this network (or 'unix', for Unix sockets) whom they come from: in "
        "X-Forwarded-For, and where a haproxy: endpoint has them say so; may be repeated",
        why="a proxy is most often on the same machine, where nobody else forges addresses",
        effect=Effect.CONNECTIONS,
        check=_trusted,
    ),
    Setting(
        name="status",
        default=LOCAL_STATUS,
        meaning="the endpoint that has /metrics, /healthz and /readyz for whoever gets there, e.g. tcp:9001; "
        f"'{LOCAL_STATUS}': every port has them, for who is on this machine; '{OFF}': none has",
        why="strangers are not to read it, and nobody has to set anything up",
        check=_no_endpoint,
    ),
    Setting(
        name="control",
        default=DEFAULT_PATH,
        meaning="the Unix socket for chatproto-ctl, which only the server's user and root can open; "
        f"'{OFF}': there is none",
        why="it is private, and where whoever started the server looks first",
        check=_control,
    ),
    Setting(
        name="log_format",
        default=TEXT,
        meaning=f"'{JSON}': each line is a JSON object, and what happens to each connection is logged too; "
        f"'{TEXT}': lines for people",
        why="most logs are read by people",
        check=_log_format,
    ),
    Setting(
        name="accounts",
        default="",
        meaning="the password file, which python -m chatproto.accounts writes; a change of it takes effect "
        "within seconds",
        why="a chat among people who know each other needs no passwords",
        group="Who may talk",
    ),
    Setting(
        name="login_required",
        default=False,
        meaning="let nobody join without an account",
        why="there is none unless somebody made it",
        group="Who may talk",
    ),
    Setting(
        name="operator",
        default=(),
        meaning="let this account moderate, beside those of which the password file or a token says so; may "
        "be repeated",
        why="nobody moderates by accident",
        group="Who may talk",
    ),
    Setting(
        name="token_key",
        default="",
        meaning="the file with the key of signed tokens (JWT): a public key in PEM, or a shared secret of 32 "
        "bytes or more",
        why="only who has another service that makes tokens needs it",
        group="Who may talk",
    ),
    Setting(
        name="token_audience",
        default="chatproto",
        meaning="whom tokens have to be for: their aud",
        why="a token that was made for another service is not to be used here",
        group="Who may talk",
    ),
    Setting(
        name="rules",
        default="chat.rules",
        meaning=f"the file that keeps bans, mutes and locks, or '{IN_MEMORY}': they end with the server",
        why="who was banned stays so after a restart; it is made with the first rule",
        group="Who may talk",
        check=_rules,
    ),
    Setting(
        name="audit_log",
        default="",
        meaning="the file to which each act of an operator is appended, as one line of JSON",
        why="the server's log has them in any case",
        group="Who may talk",
    ),
    *_limits(Limits, "Limits"),
    *_limits(HistoryLimits, "Limits of the file of the history"),
)
"""In the order in which they are shown. A new one is one row, in a group of its own if need be."""

GROUPS: tuple[str, ...] = tuple(dict.fromkeys(setting.group for setting in SETTINGS))
