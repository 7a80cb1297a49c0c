"""Passwords as they are kept: scrypt (RFC 7914) with the parameters beside it.

A hash is written as `$scrypt$ln=15,r=8,p=1$SALT$HASH`, salt and hash in Base64 without padding.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import unicodedata
from dataclasses import dataclass

__all__ = ["Hash", "hash_password"]

SALT_BYTES = 16
HASH_BYTES = 32

MOST_MEMORY_BYTES = 1024 * 1024 * 1024
"""Of one check; a file that asks for more is not trusted."""

_WRITTEN = re.compile(
    r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,3}),p=(\d{1,3})\$([A-Za-z0-9+/]{8,128})\$([A-Za-z0-9+/]{22,128})"
)


@dataclass(frozen=True, slots=True)
class Hash:
    """A password's hash, with the base-2 logarithm of the cost, and the other parameters."""

    log_n: int
    r: int
    p: int
    salt: bytes
    hash: bytes

    @classmethod
    def parse(cls, written: str) -> Hash:
        """The hash that `str` wrote. Raises ValueError."""
        found = _WRITTEN.fullmatch(written)
        if found is None:
            raise ValueError("that is no hash of scrypt's")
        log_n, r, p = (int(number) for number in found.groups()[:3])
        if not (1 <= log_n <= 24 and r and p) or _memory_bytes(log_n, r, p) > MOST_MEMORY_BYTES:
            raise ValueError("the parameters of scrypt make no sense")
        return cls(log_n, r, p, _decode(found[4]), _decode(found[5]))

    def __str__(self) -> str:
        return f"$scrypt$ln={self.log_n},r={self.r},p={self.p}${_encode(self.salt)}${_encode(self.hash)}"

    @property
    def cost(self) -> int:
        """How long a check takes, beside that of other hashes."""
        return (self.r * self.p) << self.log_n

    def fits(self, password: str) -> bool:
        """Whether that is the password. Takes long, and the same time for every password."""
        found = _scrypt(password, self.salt, self.log_n, self.r, self.p, len(self.hash))
        return hmac.compare_digest(found, self.hash)


def hash_password(password: str, *, log_n: int = 15, r: int = 8, p: int = 1) -> Hash:
    """A new hash of a password. Takes long: about a tenth of a second and 32 MiB of memory."""
    salt = secrets.token_bytes(SALT_BYTES)
    return Hash(log_n, r, p, salt, _scrypt(password, salt, log_n, r, p, HASH_BYTES))


def _scrypt(password: str, salt: bytes, log_n: int, r: int, p: int, length_bytes: int) -> bytes:
    return hashlib.scrypt(
        # The same password from another keyboard (RFC 8265, section 4.2, has NFC for that).
        unicodedata.normalize("NFC", password).encode(errors="surrogatepass"),
        salt=salt,
        n=1 << log_n,
        r=r,
        p=p,
        maxmem=_memory_bytes(log_n, r, p) + 1024 * 1024,
        dklen=length_bytes,
    )


def _memory_bytes(log_n: int, r: int, p: int) -> int:
    return 128 * r * ((1 << log_n) + p + 2)


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
