"""HTTP header fields, and the grammar of those that WebSocket handshakes use (RFC 9110, section 5)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "Extension",
    "HeaderFault",
    "Headers",
    "format_extension",
    "parse_cookies",
    "parse_extensions",
    "parse_protocols",
    "parse_tokens",
]

Extension = tuple[str, tuple[tuple[str, str | None], ...]]
"""An extension with its parameters, each with its value or None (RFC 6455, section 9.1)."""

TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]++"
"""What names are made of (RFC 9110, section 5.6.2)."""

_TOKEN = re.compile(TOKEN)
_PROTOCOL = re.compile(rf"{TOKEN}(?:/{TOKEN})?")
_QUOTED_PAIR = re.compile(r"\\(.)")

# The pieces of a list of extensions. Blanks may be around each.
_NAME = re.compile(rf"[ \t]*+({TOKEN})")
_PARAMETER = re.compile(
    rf"[ \t]*+;[ \t]*+({TOKEN})"
    rf'(?:[ \t]*+=[ \t]*+(?:({TOKEN})|"((?:[\t !#-\[\]-~]|\\[\t -~])*+)"))?'
)
_END = re.compile(r"[ \t]*+(?:,|\Z)")


# One str for all connections of each name that most requests have.
_COMMON = {
    name: name
    for name in """
        accept accept-encoding accept-language authorization cache-control connection content-length cookie
        dnt host origin pragma sec-fetch-dest sec-fetch-mode sec-fetch-site sec-websocket-extensions
        sec-websocket-key sec-websocket-protocol sec-websocket-version upgrade user-agent via
        x-forwarded-for x-forwarded-host x-forwarded-proto x-real-ip
    """.split()  # noqa: SIM905
}


MOST_RECENT = 1_024
MOST_RECENT_CHARS = 256
"""So many values, no longer than this, are remembered at once; whatever they are, they take little."""

# Values that came lately: most of what a browser sends it sends with each connection, and others send it too.
_RECENT: dict[str, str] = {}


def _recent(value: str) -> str:
    """One str for all that have the same value, as far as it came lately."""
    known = _RECENT.get(value)
    if known is not None:
        return known
    if len(value) <= MOST_RECENT_CHARS:
        if len(_RECENT) >= MOST_RECENT:
            _RECENT.clear()
        _RECENT[value] = value
    return value


class HeaderFault(ValueError):
    """A header field that is not what its grammar allows; `str()` is one sentence without a full stop."""


class Headers(Mapping[str, str]):
    """The header fields of a message, read-only; case makes no difference in their names.

    A field that came several times has its values joined by commas, as HTTP has it (RFC 9110, section 5.3);
    `all` keeps them apart, which `Set-Cookie` needs. Names come out in lower case, values are Latin-1.
    """

    # They stay as long as a connection, so they are two tuples and searched: a dict of lists would take four
    # times the memory for the few fields that there are.
    __slots__ = ("_names", "_values")

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        common = _COMMON
        read = [(name.lower(), value) for name, value in fields]
        self._names = tuple([common.get(name, name) for name, _ in read])
        self._values = tuple([_recent(value) for _, value in read])

    def __getitem__(self, name: str) -> str:
        values = self.all(name)
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(self._names))

    def __len__(self) -> int:
        return len(set(self._names))

    def __repr__(self) -> str:
        return f"Headers({[(name, value) for name in self for value in self.all(name)]!r})"

    def all(self, name: str) -> list[str]:
        """The value of each field of that name, in the order in which they came."""
        names, lower = self._names, name.lower()
        times = names.count(lower)
        if times == 0:
            return []
        if times == 1:
            return [self._values[names.index(lower)]]
        return [value for own, value in zip(names, self._values, strict=True) if own == lower]

    def one(self, name: str) -> str | None:
        """The value of a field that may come once; None where there is none. Raises HeaderFault."""
        names, lower = self._names, name.lower()
        if lower not in names:
            return None
        if names.count(lower) > 1:
            raise HeaderFault(f"{name} comes more than once")
        return self._values[names.index(lower)]


def _elements(values: Iterable[str]) -> list[str]:
    """The elements of a list, in one field or in several, without empty ones (RFC 9110, section 5.6.1.2)."""
    return [element for value in values for part in value.split(",") if (element := part.strip(" \t"))]


def parse_tokens(values: Iterable[str]) -> list[str]:
    """The words of a list such as `Connection` or `Sec-WebSocket-Protocol`. Raises HeaderFault."""
    found = _elements(values)
    if not all(map(_TOKEN.fullmatch, found)):
        raise HeaderFault("a list of words has something else in it")
    return found


def parse_protocols(values: Iterable[str]) -> list[str]:
    """The protocols of `Upgrade`, some with a version (RFC 9110, section 7.8). Raises HeaderFault."""
    found = _elements(values)
    if not all(map(_PROTOCOL.fullmatch, found)):
        raise HeaderFault("a list of protocols has something else in it")
    return found


def parse_extensions(values: Iterable[str]) -> list[Extension]:
    """The extensions of `Sec-WebSocket-Extensions` (RFC 6455, section 9.1). Raises HeaderFault."""
    found: list[Extension] = []
    for value in values:
        at = 0
        while at < len(value):
            name = _NAME.match(value, at)
            if name is not None:
                at = name.end()
                parameters: list[tuple[str, str | None]] = []
                while (parameter := _PARAMETER.match(value, at)) is not None:
                    at = parameter.end()
                    parameters.append((parameter[1], _parameter_value(parameter)))
                found.append((name[1], tuple(parameters)))
            end = _END.match(value, at)  # of an empty element, where there was no name
            if end is None:
                raise HeaderFault("a list of extensions is malformed")
            at = end.end()
    return found


def _parameter_value(parameter: re.Match[str]) -> str | None:
    quoted: str | None = parameter[3]
    if quoted is None:
        return parameter[2]
    word = _QUOTED_PAIR.sub(r"\1", quoted)
    if not _TOKEN.fullmatch(word):
        raise HeaderFault("a quoted value must be a word when the quotes are gone")
    return word


def format_extension(extension: Extension) -> str:
    """*extension* as it stands in `Sec-WebSocket-Extensions`."""
    name, parameters = extension
    return "; ".join([name, *(key if value is None else f"{key}={value}" for key, value in parameters)])


def parse_cookies(values: Iterable[str]) -> dict[str, str]:
    """The cookies of `Cookie`; what is no pair is passed over, and of two with one name the first counts.

    That is the one with the longer path (RFC 6265, section 5.4). Quotes around a value are taken off.
    """
    found: dict[str, str] = {}
    for value in values:
        for pair in value.split(";"):
            name, equals, content = pair.partition("=")
            name, content = name.strip(" \t"), content.strip(" \t")
            if not equals or not name:
                continue
            if len(content) >= 2 and content[0] == content[-1] == '"':
                content = content[1:-1]
            found.setdefault(name, content)
    return found
