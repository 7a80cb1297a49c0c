"""Whoever has the key says who somebody is, and nobody else does."""

from __future__ import annotations

import base64
import json
import sys
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from chatproto.accounts import Account, Tokens, TokensUnusable

SECRET = "0123456789abcdef0123456789abcdef"


def claims(**other: Any) -> dict[str, Any]:
    known = {"sub": "ann", "aud": "chat", "exp": int(time.time()) + 36_000}
    return {name: value for name, value in (known | other).items() if value is not None}


def signed(key: Any = SECRET, algorithm: str = "HS256", **other: Any) -> str:
    return jwt.encode(claims(**other), key, algorithm)


def pem(key: Any) -> bytes:
    found: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(f"{SECRET}\n")
    return path


@pytest.fixture
def tokens(path: Path) -> Tokens:
    return Tokens(str(path), "chat")


def test_a_token_says_who_it_is(tokens: Tokens) -> None:
    assert tokens("", signed()) == Account("ann")
    assert tokens("ann", signed()) == Account("ann")
    token = signed(sub="Ann Smith", operator=True, nicks=["ann", "annie"])
    assert tokens("", token) == Account("Ann Smith", frozenset({"ann", "annie"}), True)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a password",
        "a.b.c",
        "..",
        signed(SECRET[::-1]),
        signed(aud="other"),
        signed(aud=None),
        signed(exp=int(time.time()) - 60),
        signed(exp=None),
        signed(sub=None),
        signed(sub=""),
        signed(sub="x" * 257),
        signed(sub="a\nb"),
        signed(nbf=int(time.time()) + 360_000),
        signed(nicks="ann"),
        signed(nicks=[1]),
        signed(nicks=["x"] * 101),
        signed(algorithm="HS512"),
        signed()[:-4] + "AAAA",
    ],
)
def test_what_is_not_signed_for_here_and_now_says_nothing(tokens: Tokens, token: str) -> None:
    assert tokens("", token) is None


@pytest.mark.parametrize("operator", ["true", 1, "yes", [True]])
def test_only_the_word_true_makes_an_operator(tokens: Tokens, operator: object) -> None:
    account = tokens("", signed(operator=operator))
    assert account == Account("ann")


def test_a_token_of_somebody_else_is_no_use(tokens: Tokens) -> None:
    assert tokens("bob", signed()) is None


def test_a_token_without_a_signature_says_nothing(tokens: Tokens) -> None:
    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    for algorithm in ("none", "None", "HS256"):
        assert tokens("", f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part(claims())}.") is None


class TestPublicKeys:
    @pytest.mark.parametrize(
        ("key", "algorithm"),
        [
            (ec.generate_private_key(ec.SECP256R1()), "ES256"),
            (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
            (rsa.generate_private_key(65_537, 2_048), "RS256"),
        ],
    )
    def test_the_key_tells_the_algorithm(self, path: Path, key: Any, algorithm: str) -> None:
        path.write_bytes(pem(key))
        tokens = Tokens(str(path), "chat")
        assert tokens("", signed(key, algorithm)) == Account("ann")
        assert tokens("", signed(SECRET)) is None

    def test_a_public_key_is_no_shared_secret(self, path: Path) -> None:
        # What everybody may know must not be what tokens are signed with.
        public = pem(rsa.generate_private_key(65_537, 2_048))
        path.write_bytes(public)
        part = [
            base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
            for value in ({"alg": "HS256", "typ": "JWT"}, claims())
        ]
        import hashlib
        import hmac

        signature = hmac.new(public, ".".join(part).encode(), hashlib.sha256).digest()
        forged = ".".join([*part, base64.urlsafe_b64encode(signature).decode().rstrip("=")])
        assert Tokens(str(path), "chat")("", forged) is None


class TestKeys:
    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"short", "a shared secret has at least 32 bytes"),
            (b"-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----\n", "it is no public key in PEM"),
            (
                ec.generate_private_key(ec.SECP256R1()).private_bytes(
                    Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
                ),
                "it is a private key, and the server needs only the public one",
            ),
            (pem(ec.generate_private_key(ec.SECP384R1())), "it is no RSA key of 2048 bits"),
            (pem(rsa.generate_private_key(65_537, 1_024)), "it is no RSA key of 2048 bits"),
        ],
    )
    def test_one_that_cannot_be_used_is_refused(self, path: Path, data: bytes, reason: str) -> None:
        path.write_bytes(data)
        with pytest.raises(TokensUnusable, match=f"the key of tokens cannot be used, {reason}"):
            Tokens(str(path), "chat")

    def test_one_that_is_not_there_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(TokensUnusable, match="no such file or directory"):
            Tokens(str(tmp_path / "missing"), "chat")

    def test_tokens_have_to_be_for_somebody(self, path: Path) -> None:
        with pytest.raises(TokensUnusable, match="audience"):
            Tokens(str(path), "")

    def test_without_the_library_that_is_said(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "jwt", None)
        with pytest.raises(TokensUnusable, match="tokens need PyJWT"):
            Tokens(str(path), "chat")

    def test_a_new_key_counts_at_once_and_a_broken_one_does_not(self, path: Path, tokens: Tokens) -> None:
        new = SECRET[::-1]
        path.write_text(new)
        assert tokens("", signed(new)) == Account("ann")
        assert tokens("", signed()) is None
        path.write_text("broken")
        assert tokens("", signed(new)) == Account("ann")
        path.unlink()
        assert tokens("", signed(new)) == Account("ann")
