"""`twistd chat`: its options, and the service that they make."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted import __version__ as twisted_version
from twisted.application.service import IService
from twisted.python import usage

from chatproto.server.access import AccessSettings
from chatproto.server.config import (
    Configuration,
    ConfigurationRefused,
    configure,
    did_you_mean,
    read_text,
    template,
)
from chatproto.server.garbage import look_less_often
from chatproto.server.listening import Listening
from chatproto.server.logs import JSON, log_with
from chatproto.server.reload import Reload
from chatproto.server.service import ChatService
from chatproto.server.settings import GROUPS, IN_MEMORY, SETTINGS, Setting
from chatproto.server.status import LOCAL, OFF
from chatproto.shared.address import is_store
from chatproto.version import __version__
from chatproto.wire.deflate import Deflate

__all__ = ["Options", "makeService"]

DEFLATE = Deflate(client_no_context_takeover=True)
"""What `--deflate` means: a connection that is idle keeps no window, in neither direction."""


_PLACES = ("listen", "status", "open", "login_required")
"""What decides whether it may and can listen."""


def _sentence(meaning: str) -> str:
    return f"{meaning[0].upper()}{meaning[1:]}."


class Options(usage.Options):
    """What the command line of `twistd chat` may say; every setting is an option under its own name.

    `configuration` is what came of it, and each setting's value is there under its name as well.
    """

    synopsis = "[options]"
    longdesc = (
        "A chat server. People talk with nc, telnet or chatproto-connect, browsers over WebSocket, programs "
        "with length-prefixed frames too, all on the same port."
    )
    configuration: Configuration

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}
        self.file: Path | None = None
        super().__init__()
        self._instead: Callable[[Configuration], str] | None = None

    def opt_config(self, path: str) -> None:
        """Read this file (TOML); options count for more than what it says, and SIGHUP reads it again."""
        self.file = Path(path).absolute()

    def opt_check(self) -> None:
        """Start nothing: show every setting as it would be, and where it comes from."""
        self._instead = Configuration.effective

    def opt_print_config(self) -> None:
        """Start nothing: write a file for --config, with every setting and why it is what it is."""
        self._instead = template

    def opt_version(self) -> None:
        """Display the version and exit."""
        print(f"chatproto {__version__} on Twisted {twisted_version}")
        sys.exit(0)

    def parseOptions(self, options: Any = None) -> None:
        """Take the arguments in. What cannot be meant ends twistd with one sentence, and raises elsewhere."""
        try:
            super().parseOptions(options)
        except usage.UsageError as refusal:
            sentence = str(refusal)
            if unknown := re.fullmatch(r"option --(\S+) not recognized", sentence):
                hint = did_you_mean(unknown[1], [known.rstrip("=") for known in self.longOpt])
                hint = hint.replace("you mean ", "you mean --")
                sentence = f"there is no option --{unknown[1]}{hint}"
            if self.parent is None:
                raise usage.UsageError(sentence) from None
            # twistd would show all the options and only then what is wrong.
            sys.exit(f"{Path(sys.argv[0]).name} chat: {sentence}")

    def parseArgs(self, *rest: str) -> None:
        """Refuse what is no option."""
        if rest:
            raise usage.UsageError(f"{rest[0]!r} is no option of chat; twistd chat --help shows them all")

    def postOptions(self) -> None:
        """Check everything that can be checked before something is opened."""
        try:
            self.configuration = self.reread()
        except ConfigurationRefused as refusal:
            raise usage.UsageError(str(refusal)) from None
        self.update(self.configuration.values)
        self["limits"] = self.configuration.limits
        self["history_limits"] = self.configuration.history_limits
        if self.parent is not None:
            log_with(self.parent, self["log_format"])
        if self._instead is not None:
            print(self._instead(self.configuration), end="")
            sys.exit(0)

    def reread(self) -> Configuration:
        """What the options and the file say now. Raises ConfigurationRefused."""
        configuration = configure(self.given, self.file)
        values = configuration.values
        before: Configuration | None = getattr(self, "configuration", None)
        # Where it listens already, it need not be able to listen again: its key may be root's alone by now.
        if before is None or any(before.values[name] != values[name] for name in _PLACES):
            self._check_endpoints(configuration)
        if values["reuse_port"] and not is_store(values["history"]):
            raise ConfigurationRefused(
                f"{configuration.called('reuse_port')} needs a history that servers share, such as "
                "redis://HOST:6379/0, or people on one port would be in different chats"
            )
        if values["login_required"] and not (values["accounts"] or values["token_key"]):
            raise ConfigurationRefused(
                f"{configuration.called('login_required')} needs accounts or token_key, or nobody could join"
            )
        return configuration

    def _check_endpoints(self, configuration: Configuration) -> None:
        values = configuration.values
        for text in values["listen"]:
            listening = _listening("listen", text, configuration)
            public = listening.public_host()
            if public and not strangers_may_come(values):
                raise ConfigurationRefused(
                    f"{configuration.called('listen')} {text!r} lets anybody who reaches {public} talk, "
                    "without an account: give --open too if that is meant, or interface=127.0.0.1"
                )
        if values["status"] not in (LOCAL, OFF):
            _listening("status", values["status"], configuration)

    def getUsage(self, width: int | None = None) -> str:
        """Twisted's, in another order: that of the table of settings, in its groups."""
        usage_text, _, description = super().getUsage(width).partition("\n\n")
        _, *shown = re.split(r"^(?= +--)", f"{usage_text}\n", flags=re.MULTILINE)
        by_option = {entry.split()[0].rstrip("="): entry for entry in shown}
        groups = dict.fromkeys(GROUPS, "")
        for setting in SETTINGS:
            groups[setting.group] += by_option.pop(setting.option)
        first, *others = groups.items()
        # What is no setting stands behind those that have no group of their own.
        texts = [f"{first[0]}:\n{first[1]}{''.join(by_option.values())}"]
        texts += [f"{group}:\n{entries}" for group, entries in others]
        return "\n".join(texts) + f"\n{description}"


def _listening(name: str, text: str, configuration: Configuration) -> Listening:
    try:
        return Listening(text)
    except ValueError as error:
        where = configuration.called(name)
        raise ConfigurationRefused(f"{where} {text!r} is no endpoint that can be used: {error}") from None


def _add_option(setting: Setting) -> None:
    """Make *setting* an option: `usage` finds methods by their names."""

    def keep(options: Options, text: str) -> None:
        try:
            value = read_text(setting, text)
        except ConfigurationRefused as refusal:
            raise usage.UsageError(str(refusal)) from None
        options.given[setting.name] = value

    def add(options: Options, text: str) -> None:
        options.given[setting.name] = (*options.given.get(setting.name, ()), text)

    def switch(options: Options) -> None:
        options.given[setting.name] = True

    def switch_off(options: Options) -> None:
        options.given[setting.name] = False

    default = setting.default
    if isinstance(default, bool):
        method: Callable[..., None] = switch
        switch_off.__doc__ = f"Take {setting.option} back, where the file has it."
        setattr(Options, f"opt_no_{setting.name}", switch_off)
    else:
        method = add if isinstance(default, tuple) else keep
    shown = ", ".join(default) if isinstance(default, tuple) else default
    has_default = shown != "" and not isinstance(default, bool)
    method.__doc__ = _sentence(setting.meaning) + (f" [default: {shown}]" if has_default else "")
    setattr(Options, f"opt_{setting.name}", method)


for _setting in SETTINGS:
    _add_option(_setting)


def strangers_may_come(values: Any) -> bool:
    """Whether people from other machines may talk: somebody said so, or they need an account."""
    return bool(values["open"] or values["login_required"])


def makeService(options: Options) -> IService:
    """Make the service; nothing is opened before it starts."""
    look_less_often()
    configuration = options.configuration
    values = configuration.values
    return ChatService(
        values["listen"],
        limits=configuration.limits,
        history=None if values["history"] == IN_MEMORY else values["history"],
        history_limits=configuration.history_limits,
        default_room=values["room"],
        origins=values["origin"],
        deflate=DEFLATE if values["deflate"] else None,
        trusted_proxies=values["trusted_proxy"],
        status=values["status"],
        log_connections=values["log_format"] == JSON,
        is_open=strangers_may_come(values),
        reuse_port=values["reuse_port"],
        access=AccessSettings(
            accounts=values["accounts"],
            login_required=values["login_required"],
            operators=values["operator"],
            token_key=values["token_key"],
            token_audience=values["token_audience"],
            rules="" if values["rules"] == IN_MEMORY else values["rules"],
            audit_log=values["audit_log"],
        ),
        control="" if values["control"] == OFF else values["control"],
        # Nobody asked for the one by default: it may have no place, as in a folder that cannot be written.
        control_may_fail=configuration.sources["control"] == "default",
        reload=Reload(configuration, options.reread, options.file),
    )
