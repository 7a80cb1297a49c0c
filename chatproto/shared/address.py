"""Where a store is: the URLs that `--history` takes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

__all__ = ["StoreAddress", "is_store", "parse_store", "without_secret"]

PORT = 6379
SENTINEL_PORT = 26379

_SCHEMES = ("redis", "rediss", "redis+unix", "redis+sentinel", "rediss+sentinel")

_SCHEME = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*://"
)  # a mistyped one is no file's name, and may have a password

_NO_HOST = re.compile(r"[^\w.-]")


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """One store. *hosts* are those of the store or, with a *service*, of its Sentinels; *path* is a Unix
    socket. `str()` is fit for logs: it has no password."""

    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    is_tls: bool = False
    database: int = 0
    user: str = ""
    password: str = field(default="", repr=False)
    service: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"redis+unix://{self.path}" + (f"?db={self.database}" if self.database else "")
        places = ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts
        )
        scheme = ("rediss" if self.is_tls else "redis") + ("+sentinel" if self.service else "")
        service = f"/{self.service}" if self.service else ""
        return f"{scheme}://{places}{service}/{self.database}"


def is_store(text: str) -> bool:
    """Whether *text* means a store, and no file; perhaps one that `parse_store` refuses."""
    return _SCHEME.match(text) is not None


def without_secret(text: str) -> str:
    """*text* as it may be shown: where it is the URL of a store with a password, that is left out."""
    scheme, mark, rest = text.partition("://")
    if not mark or not is_store(text):
        return text
    place, slash, path = rest.partition("/")
    login, at, hosts = place.rpartition("@")
    user, colon, _ = login.partition(":")
    return f"{scheme}://{user}:***@{hosts}{slash}{path}" if at and colon else text


def parse_store(text: str) -> StoreAddress:
    """The store that *text* means.

    Raises ValueError, with a phrase in which no password stands, for what is no such URL.
    """
    scheme, mark, rest = text.partition("://")
    if not mark or scheme not in _SCHEMES:
        raise ValueError(
            f"begins with {', '.join(f'{known}://' for known in _SCHEMES[:-1])} or {_SCHEMES[-1]}://"
        )
    # Several hosts are no URL, so the hosts are taken out first.
    place, _, _ = rest.partition("/")
    login, _, hosts = place.rpartition("@")
    try:
        url = urlsplit(f"{scheme}://{rest[len(place) :]}")
    except ValueError:
        raise ValueError("is no URL") from None
    if url.fragment:
        raise ValueError("has a # in it; write %23 in a password")
    user, _, password = login.partition(":")
    secrets = unquote(user), unquote(password)
    if scheme == "redis+unix":
        return _unix(url, hosts, secrets)
    if url.query:
        raise ValueError("needs no '?': the database is a number at the end, as in redis://HOST:6379/0")
    return _network(scheme, url.path, hosts, secrets)


def _unix(url: SplitResult, hosts: str, secrets: tuple[str, str]) -> StoreAddress:
    if hosts or not url.path.strip("/"):
        raise ValueError("needs the path of a socket, as in redis+unix:///run/redis.sock?db=0")
    query = parse_qs(url.query, keep_blank_values=True)
    if set(query) - {"db"}:
        raise ValueError(
            "can only be told its database behind the '?', as in redis+unix:///run/redis.sock?db=0"
        )
    database = _database(query.get("db", ["0"])[-1])
    return StoreAddress(path=unquote(url.path), database=database, user=secrets[0], password=secrets[1])


def _network(scheme: str, path: str, hosts: str, secrets: tuple[str, str]) -> StoreAddress:
    parts = [part for part in path.split("/") if part]
    service = ""
    is_watched = scheme.endswith("+sentinel")
    if is_watched:
        if not parts:
            raise ValueError(
                "needs the name of the service, as in redis+sentinel://A:26379,B:26379/mymaster/0"
            )
        service = unquote(parts.pop(0))
    if len(parts) > 1:
        raise ValueError("has too many parts: the last is the number of the database")
    found = tuple(_host(host, SENTINEL_PORT if is_watched else PORT) for host in hosts.split(","))
    if len(found) > 1 and not is_watched:
        raise ValueError("can only name several hosts with Sentinel: redis+sentinel://A,B,C/mymaster")
    return StoreAddress(
        hosts=found,
        is_tls=scheme.startswith("rediss"),
        database=_database(parts[0]) if parts else 0,
        service=service,
        user=secrets[0],
        password=secrets[1],
    )


def _host(text: str, default_port: int) -> tuple[str, int]:
    host, bracket, tail = text.removeprefix("[").partition("]") if text.startswith("[") else ("", "", text)
    if not bracket:
        host, colon, port = text.partition(":")
    else:
        colon, port = tail[:1], tail[1:]
    try:
        if bracket:
            IPv6Address(host)
        elif _NO_HOST.search(host):
            raise ValueError
        host.encode("idna")  # refuses names that no host can have
        is_good = not colon or (port.isascii() and port.isdigit() and 0 < int(port) < 65_536)
    except ValueError:
        is_good = False
    if not host or not is_good:
        raise ValueError("needs a host and perhaps a port from 1 to 65535, as in redis://HOST:6379/0")
    return host, int(port) if colon else default_port


def _database(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 4:
        raise ValueError("ends with the number of the database, as in redis://HOST:6379/0")
    return int(text)
