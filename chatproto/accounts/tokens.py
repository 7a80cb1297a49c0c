"""Signed tokens (JWT, RFC 7519) as secrets: whoever has the key says who somebody is. Needs PyJWT.

A token is the secret of `login`; the user is empty, or the token's `sub`. It has to have `sub`, `exp` and
`aud`, and may have `operator` (true) and `nicks` (a list of nicknames that nobody else may take).
"""

from __future__ import annotations

import os
from typing import Any

from twisted.logger import Logger

from chatproto.rooms.account import Account

__all__ = ["Tokens", "TokensUnusable"]

_log = Logger(namespace="chatproto.accounts")

MAX_NAME_CHARS = 256
MAX_NICKS = 100

LEAST_SECRET_BYTES = 32
"""Of a shared key (RFC 7518, section 3.2)."""

LEAST_RSA_BITS = 2_048


class TokensUnusable(Exception):
    """The key cannot be used, or PyJWT is not installed; the text is one sentence."""


class Tokens:
    """`authenticate` of a `Hub` for tokens that are signed with the key in the file *key_path*.

    The algorithm is the key's and never the token's: ES256, EdDSA or RS256 for a public key in PEM, HS256 for
    anything else, which is a shared secret. The file is read again when it changes. *audience* is for whom
    tokens have to be; *leeway_s* is how far clocks may differ. Raises `TokensUnusable`.
    """

    def __init__(self, key_path: str, audience: str, leeway_s: float = 10.0) -> None:
        if not audience:
            raise TokensUnusable("tokens need an audience, or those for other services would do here")
        try:
            import jwt
        except ImportError:
            raise TokensUnusable("tokens need PyJWT: pip install pyjwt") from None
        self._jwt = jwt
        self._key_path = os.path.abspath(key_path)
        self._audience = audience
        self._leeway_s = leeway_s
        self._stamp: tuple[int, int] | None = None
        self._key, self._algorithm = self._load()

    def __call__(self, user: str, secret: str) -> Account | None:
        """Who it is."""
        if secret.count(".") != 2:
            return None  # that may be a password
        self._refresh()
        try:
            claims = self._jwt.decode(
                secret,
                self._key,
                algorithms=[self._algorithm],
                audience=self._audience,
                leeway=self._leeway_s,
                options={"require": ["sub", "exp", "aud"]},
            )
        except self._jwt.PyJWTError:
            return None
        return _account(user, claims)

    def _refresh(self) -> None:
        try:
            if _stamp(self._key_path) != self._stamp:
                self._key, self._algorithm = self._load()
                _log.info("the key of tokens was read again from {path}", path=self._key_path)
        except (OSError, TokensUnusable):
            pass  # it is just being replaced, or gone: the one that was there stays

    def _load(self) -> tuple[Any, str]:
        try:
            stamp = _stamp(self._key_path)
            with open(self._key_path, "rb") as file:
                data = file.read()
        except OSError as error:
            raise _unusable(self._key_path, (error.strerror or str(error)).lower()) from None
        key, algorithm = _read_key(self._key_path, data)
        self._stamp = stamp
        return key, algorithm


def _account(user: str, claims: dict[str, Any]) -> Account | None:
    name, nicks = claims["sub"], claims.get("nicks", [])
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_CHARS or not name.isprintable():
        return None
    if user not in ("", name) or not isinstance(nicks, list) or len(nicks) > MAX_NICKS:
        return None
    if not all(isinstance(nick, str) for nick in nicks):
        return None
    return Account(name, frozenset(nicks), claims.get("operator") is True)


def _read_key(path: str, data: bytes) -> tuple[Any, str]:
    if b"-----BEGIN" not in data:
        secret = data.strip()
        if len(secret) < LEAST_SECRET_BYTES:
            raise _unusable(path, f"a shared secret has at least {LEAST_SECRET_BYTES} bytes")
        return secret, "HS256"
    if b"PRIVATE KEY" in data:
        raise _unusable(path, "it is a private key, and the server needs only the public one")
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError:
        raise TokensUnusable("tokens with a public key need cryptography: pip install cryptography") from None
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise _unusable(path, "it is no public key in PEM") from None
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= LEAST_RSA_BITS:
        return key, "RS256"
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key, "ES256"
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key, "EdDSA"
    raise _unusable(path, f"it is no RSA key of {LEAST_RSA_BITS} bits, P-256 or Ed25519 key")


def _unusable(path: str, reason: str) -> TokensUnusable:
    return TokensUnusable(f"the key of tokens cannot be used, {reason}: {path}")


def _stamp(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_ino, found.st_mtime_ns
