"""A chat server that is one `twistd` command, and the compiled framing engine under it.

The public names are loaded when they are first used, so that who takes only the engine (`chatproto.wire`)
does not load Twisted with it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from chatproto.version import __version__

if TYPE_CHECKING:
    from chatproto.history.file import HistoryUnusable
    from chatproto.history.log import SqliteLog
    from chatproto.limits import HistoryLimits, Limits
    from chatproto.net.factory import ChatFactory
    from chatproto.net.resource import ChatResource
    from chatproto.net.site import PageResource
    from chatproto.rooms.hub import Hub
    from chatproto.rooms.log import MemoryLog, NotStored, Receipt, RoomLog
    from chatproto.server.service import ChatService

__all__ = [
    "ChatFactory",
    "ChatResource",
    "ChatService",
    "HistoryLimits",
    "HistoryUnusable",
    "Hub",
    "Limits",
    "MemoryLog",
    "NotStored",
    "PageResource",
    "Receipt",
    "RoomLog",
    "SqliteLog",
    "__version__",
]

_WHERE = {
    "ChatFactory": "chatproto.net.factory",
    "ChatResource": "chatproto.net.resource",
    "ChatService": "chatproto.server.service",
    "HistoryLimits": "chatproto.limits",
    "HistoryUnusable": "chatproto.history.file",
    "Hub": "chatproto.rooms.hub",
    "Limits": "chatproto.limits",
    "MemoryLog": "chatproto.rooms.log",
    "NotStored": "chatproto.rooms.log",
    "PageResource": "chatproto.net.site",
    "Receipt": "chatproto.rooms.log",
    "RoomLog": "chatproto.rooms.log",
    "SqliteLog": "chatproto.history.log",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
