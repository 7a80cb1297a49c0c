"""SIGHUP: the file is read again, and what may change in a running server changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.logger import Logger

from chatproto.limits import Effect, Limits
from chatproto.server.config import Configuration, ConfigurationRefused, shown
from chatproto.server.settings import SETTINGS

if TYPE_CHECKING:
    from chatproto.server.service import ChatService

__all__ = ["Reload"]

_log = Logger(namespace="chatproto")

_LIMITS = {known.name for known in fields(Limits)}


class Reload:
    """What a server is told now, *configuration*, and the way to *reread* it, from *file* if there is one."""

    def __init__(
        self, configuration: Configuration, reread: Callable[[], Configuration], file: Path | None
    ) -> None:
        self._now = configuration
        self._reread = reread
        self._file = file

    def __call__(self, service: ChatService) -> None:
        """Read the file again and renew *service* by it; one that cannot be used changes nothing."""
        if self._file is None:
            _log.info("there is no --config file to read again")
            return
        try:
            wanted = self._reread()
        except ConfigurationRefused as refusal:
            _log.error("{refusal}; nothing was changed", refusal=str(refusal))
            return
        before = self._now.values
        changed = [setting for setting in SETTINGS if wanted.values[setting.name] != before[setting.name]]
        _log.info(
            "{file} was read again: {what}",
            file=self._file,
            what=f"{len(changed)} settings are new" if changed else "nothing is new",
        )
        values = {**before}
        for setting in changed:
            name = setting.name
            if setting.effect is not Effect.RESTART:
                values[name] = wanted.values[name]
            _log.info(
                "{name} is {new} instead of {old}: it holds {effect}",
                name=name,
                new=shown(wanted.values[name]),
                old=shown(before[name]),
                effect=setting.effect.value,
            )
        own = {name: values[name] for name in _LIMITS if values[name] != before[name]}
        try:
            limits = replace(service.limits, **own)
        except ValueError as refusal:
            _log.error("{refusal} until a restart; no limit was changed", refusal=str(refusal))
            for name in own:
                values[name] = before[name]
            limits = service.limits
        # What waits for a restart stays as it was, so that it is told of again, and counts as it is.
        self._now = replace(self._now, values=values, limits=limits)
        service.renew(limits, values["origin"], values["trusted_proxy"])
