"""A chat server that is one `twistd` command, and the compiled framing engine under it."""

from chatproto.limits import Limits
from chatproto.net.factory import ChatFactory
from chatproto.rooms.hub import Hub
from chatproto.rooms.log import MemoryLog, NotStored, Receipt, RoomLog
from chatproto.server.service import ChatService
from chatproto.version import __version__

__all__ = [
    "ChatFactory",
    "ChatService",
    "Hub",
    "Limits",
    "MemoryLog",
    "NotStored",
    "Receipt",
    "RoomLog",
    "__version__",
]
