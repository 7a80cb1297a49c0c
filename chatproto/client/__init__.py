"""The client side: `ChatClient`, and `chatproto-connect` made of it (`chatproto.client.connect`)."""

from chatproto.client.client import ChatClient
from chatproto.client.events import ChatEvents
from chatproto.client.outcomes import (
    CannotConnect,
    Disconnected,
    Entered,
    Receipt,
    Refused,
    TooManyWaiting,
)

__all__ = [
    "CannotConnect",
    "ChatClient",
    "ChatEvents",
    "Disconnected",
    "Entered",
    "Receipt",
    "Refused",
    "TooManyWaiting",
]
