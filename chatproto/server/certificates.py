"""Certificates as certbot keeps them, taken up anew when they are renewed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.ssl import CertificateOptions, TLSVersion
from twisted.logger import Logger
from zope.interface import implementer

__all__ = ["CHECK_EVERY_S", "CertbotDirectory"]

_log = Logger(namespace="chatproto")

CHECK_EVERY_S = 60.0
"""So soon a renewed certificate is noticed without being told."""

CHAIN, KEY = "fullchain.pem", "privkey.pem"
"""As certbot and others call them: the certificate with those that lead to the root, and its key."""


@implementer(IOpenSSLServerConnectionCreator)
class CertbotDirectory:
    """The certificate and the key in one directory. Raises ValueError, with a phrase, if they cannot be used.

    Every connection gets the newest pair that could be; those that are open keep theirs.
    """

    def __init__(self, path: str) -> None:
        if not path:
            raise ValueError(f"tls: needs the directory with {CHAIN} and {KEY}")
        self.path = Path(path).absolute()
        self._seen = self._state()
        self._context, self.names, self.not_after = self._read()

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        """A connection with the newest certificate (IOpenSSLServerConnectionCreator)."""
        return SSL.Connection(self._context, None)

    def renew(self, is_told: bool = False) -> None:
        """Take the files up anew if they have changed, or if somebody says so; never worse than before."""
        state = self._state()
        if state == self._seen and not is_told:
            return
        has_changed, self._seen = state != self._seen, state
        try:
            self._context, self.names, self.not_after = self._read()
        except ValueError as refusal:
            _log.error("{refusal}; the certificate from before stays", refusal=str(refusal))
        else:
            if has_changed:
                words = self.words()
                _log.info("the certificate in {path} was renewed: {words}", path=self.path, words=words)

    def words(self) -> str:
        """Whose it is, and for how long."""
        return f"for {self.names or 'nobody by name'}, good until {self.not_after}"

    def _state(self) -> tuple[object, ...]:
        """What changes when a file does: certbot lets a link point to another."""
        state: list[object] = []
        for name in (CHAIN, KEY):
            try:
                found = (self.path / name).stat()
            except OSError as error:
                state.append(error.errno)
            else:
                state.append((found.st_mtime_ns, found.st_ino, found.st_size))
        return tuple(state)

    def _read(self) -> tuple[SSL.Context, str, str]:
        contents = []
        for name in (CHAIN, KEY):
            try:
                contents.append((self.path / name).read_bytes())
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                raise ValueError(f"{self.path / name} cannot be read: {reason}") from None
        try:
            chain = x509.load_pem_x509_certificates(contents[0])
        except ValueError:
            raise ValueError(f"{self.path / CHAIN} has no certificate that can be read") from None
        try:
            key = load_pem_private_key(contents[1], None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ValueError(f"{self.path / KEY} has no key that can be read") from None
        first, *others = chain
        # As pyOpenSSL wants them today; what Twisted says of their types is older.
        pair: dict[str, Any] = {"privateKey": key, "certificate": first, "extraCertChain": others}
        options = CertificateOptions(**pair, raiseMinimumTo=TLSVersion.TLSv1_2)
        try:
            context = options.getContext()
            context.check_privatekey()
        except SSL.Error:
            raise ValueError(f"the key in {self.path} is not the one of the certificate") from None
        return context, _names(first), f"{first.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"


def _names(certificate: x509.Certificate) -> str:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ""
    return ", ".join(str(name.value) for name in found)
