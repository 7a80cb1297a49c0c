"""What somebody is told who speaks what is not spoken at this place, in their own form."""

from __future__ import annotations

from collections.abc import Collection

from chatproto.wire.chat import encode_frame
from chatproto.wire.errors import ErrorCode
from chatproto.wire.http import Refusal
from chatproto.wire.messages import Error

__all__ = ["not_spoken"]

_NAMES = {"web": "the web", "frames": "frames", "lines": "lines"}


def not_spoken(face: str, faces: Collection[str]) -> bytes:
    """Says to whoever speaks *face* that only *faces* are spoken here."""
    spoken = [name for known, name in _NAMES.items() if known in faces]
    sentence = f"this port is not for {_NAMES[face]}, only for {' and '.join(spoken)}"
    if face == "frames":
        return encode_frame(Error(ErrorCode.NOT_SUPPORTED, 0, sentence))
    if face == "web":
        return Refusal(403, f"{sentence}\n").encode()
    return f"* {sentence}\r\n".encode()
