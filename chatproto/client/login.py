"""Logging in, as the command line says."""

from __future__ import annotations

import getpass
import os
from typing import NamedTuple

from chatproto.client.client import ChatClient
from chatproto.client.events import ChatEvents, tell_event
from chatproto.text import tame
from chatproto.wire.messages import Notice

__all__ = ["SECRET_VARIABLE", "Credentials", "NoSecret", "credentials_of", "log_in"]

SECRET_VARIABLE = "CHATPROTO_SECRET"
"""Of the environment. The command line is for everybody on the machine to read."""


class Credentials(NamedTuple):
    """An account, and what proves that it is one's own: a password or a token."""

    user: str
    secret: str


class NoSecret(Exception):
    """Nobody has told the secret; `str()` is a sentence that says how to."""


def credentials_of(user: str) -> Credentials:
    """The secret of *user*, out of the environment or else asked for at the terminal. Raises NoSecret."""
    secret = os.environ.get(SECRET_VARIABLE)
    if secret is None:
        try:
            # getpass would go on with standard input, which has what is to be said.
            os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
            secret = getpass.getpass(f"secret of {tame(user)}: " if user else "secret: ")
        except (OSError, EOFError):
            raise NoSecret(
                f"nobody is there to be asked for the secret; the environment's {SECRET_VARIABLE} can tell it"
            ) from None
    return Credentials(user, secret)


async def log_in(client: ChatClient, credentials: Credentials | None, events: ChatEvents) -> None:
    """Log in, if there is anything to do it with, and show the answer. Fails as `ChatClient.login` does."""
    if credentials is not None:
        said = await client.login(*credentials)
        if said:
            tell_event(events.notice, Notice(said))
