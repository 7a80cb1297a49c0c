"""The face for programs: length-prefixed frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chatproto.net.chat import ChatProtocol
from chatproto.wire.chat import FrameDecoder, encode_frame
from chatproto.wire.messages import Side

if TYPE_CHECKING:
    from chatproto.net.factory import ChatFactory

__all__ = ["FrameProtocol"]


class FrameProtocol(ChatProtocol):
    """One connection that speaks length-prefixed frames (docs/protocol.md, sections 1 and 2)."""

    kind = "frames"
    form = staticmethod(encode_frame)

    def __init__(self, factory: ChatFactory) -> None:
        super().__init__(factory)
        self._decoder = FrameDecoder(Side.SERVER, factory.hub.limits.max_frame_bytes)

    def dataReceived(self, data: bytes) -> None:
        """Take frames in, in any cut."""
        session = self.session
        if session.ended or (session.name is None and not session.is_heard(len(data))):
            return
        requests: list[object] = self._decoder.receive(data)  # type: ignore[assignment]
        if self._decoder.fault is not None:
            requests.append(self._decoder.fault)
        session.receive(requests)
