"""The JSON form of the messages (docs/protocol.md, section 4), by the same table as the frames."""

from __future__ import annotations

import json
from typing import Any

from chatproto.wire.errors import ErrorCode, ProtocolError
from chatproto.wire.messages import MAX_U64, MESSAGES, FieldType, Message, Side

__all__ = ["from_json", "from_object", "to_json", "to_object"]

_MAXIMA = {FieldType.U8: 2**8 - 1, FieldType.U16: 2**16 - 1, FieldType.U32: 2**32 - 1, FieldType.U64: MAX_U64}
_CLIENT_TYPES = {cls.type: cls for cls in MESSAGES.values() if cls.kind < 0x80}
_SERVER_TYPES = {cls.type: cls for cls in MESSAGES.values() if cls.kind >= 0x80}
_CLASSES = frozenset(MESSAGES.values())
_MAX_STR_BYTES = 2**16 - 1


def to_object(message: Message) -> dict[str, Any]:
    """*message* as a dictionary of `type` and its fields, fit for `json.dumps`.

    Raises TypeError for what is no message, and ValueError for a field that a peer would refuse.
    """
    if type(message) not in _CLASSES:
        raise TypeError(f"only a message can be encoded, not {type(message).__name__}")
    shown: dict[str, Any] = {"type": message.type}
    for field in message.fields:
        value = getattr(message, field.name)
        fault = _fault_of(value, field.type)
        if fault:
            raise ValueError(f"{message.type}: {field.name} {fault}")
        shown[field.name] = list(value) if field.type is FieldType.STRS else value
    return shown


def to_json(message: Message) -> str:
    """*message* as one JSON object without insignificant white space; raises as `to_object` does."""
    return json.dumps(to_object(message), ensure_ascii=False, separators=(",", ":"))


def from_object(shown: object, side: Side) -> Message | ProtocolError | None:
    """The message that a decoded JSON value is, or the fault in it.

    *side* is who decodes: a server takes a client's messages, and the reverse. Absent fields count as 0 or
    empty. A client gets None for a type that it does not know.
    """
    if not isinstance(shown, dict):
        return _malformed("a message is a JSON object")
    name = shown.get("type")
    types = _CLIENT_TYPES if side is Side.SERVER else _SERVER_TYPES
    cls = types.get(name) if isinstance(name, str) else None
    if cls is None:
        if side is Side.CLIENT and isinstance(name, str):
            return None
        return _malformed("the type of the message is unknown")
    values: list[object] = []
    for field in cls.fields:
        value = shown.get(field.name)
        if value is None and field.name not in shown:
            value = "" if field.type is FieldType.STR else () if field.type is FieldType.STRS else 0
        fault = _fault_of(value, field.type)
        if fault:
            return _malformed(f"{cls.type}: {field.name} {fault}")
        values.append(tuple(value) if isinstance(value, list) else value)
    return cls(*values)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)  # Python would take NaN and Infinity


def from_json(text: str, side: Side) -> Message | ProtocolError | None:
    """The message in *text*, or the fault in it; see `from_object`."""
    try:
        shown = _DECODER.decode(text)
    except (ValueError, RecursionError):
        return _malformed("this is not JSON")
    return from_object(shown, side)


def _fault_of(value: object, kind: FieldType) -> str:
    """What is wrong with *value* as a field, or the empty string."""
    if kind is FieldType.STR:
        return _fault_of_str(value)
    if kind is FieldType.STRS:
        if not isinstance(value, list | tuple) or len(value) > 2**16 - 1:
            return "is not an array of strings"
        return next(filter(None, map(_fault_of_str, value)), "")
    # bool is an int to Python, but true is no number to JSON
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAXIMA[kind]:
        return f"is not a whole number from 0 to {_MAXIMA[kind]}"
    return ""


def _fault_of_str(value: object) -> str:
    if not isinstance(value, str):
        return "is not a string"
    try:
        length_bytes = len(value) if value.isascii() else len(value.encode())
    except UnicodeEncodeError:
        return "has half a surrogate pair"
    return "" if length_bytes <= _MAX_STR_BYTES else f"has more than {_MAX_STR_BYTES} bytes"


def _malformed(reason: str) -> ProtocolError:
    return ProtocolError(ErrorCode.MALFORMED, reason)
