"""Passwords are kept so that nobody can read them, and are found right all the same."""

from __future__ import annotations

import pytest

from chatproto.accounts.scrypt import Hash, hash_password

# RFC 7914, section 12: P = "password", S = "NaCl", N = 1024, r = 8, p = 16
RFC_HASH = bytes.fromhex(
    "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b3731622eaf30d92e22a3886ff109279d9830dac727afb9"
    "4a83ee6d8360cbdfa2cc0640"
)


def quick(password: str) -> Hash:
    return hash_password(password, log_n=4)


def test_the_vector_of_the_rfc_fits() -> None:
    hash = Hash(10, 8, 16, b"NaCl", RFC_HASH)
    assert hash.fits("password")
    assert not hash.fits("passwor")


@pytest.mark.parametrize("password", ["correct horse", "", "größe ☕", "x" * 1_000, "\x00", "\ud800"])
def test_a_password_fits_its_hash_and_no_other_does(password: str) -> None:
    written = str(quick(password))
    assert Hash.parse(written).fits(password)
    assert not Hash.parse(written).fits(f"{password} ")


def test_a_password_is_the_same_from_every_keyboard() -> None:
    assert quick("gr\u00f6\u00dfe").fits("gro\u0308\u00dfe")


def test_two_of_the_same_password_are_not_alike() -> None:
    assert quick("password").salt != quick("password").salt
    assert quick("password").hash != quick("password").hash


def test_nothing_of_it_is_in_what_is_written() -> None:
    assert "password" not in str(quick("password"))


def test_the_cost_is_that_which_is_advised() -> None:
    hash = hash_password("password")
    assert (hash.log_n, hash.r, hash.p) == (15, 8, 1)  # 32 MiB


@pytest.mark.parametrize(
    "written",
    [
        "",
        "password",
        "$scrypt$ln=15,r=8,p=1$c2FsdHNhbHQ$",
        "$scrypt$ln=15,r=8$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
        "$scrypt$ln=0,r=8,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
        "$scrypt$ln=24,r=8,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
        "$scrypt$ln=15,r=0,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
        "$bcrypt$ln=15,r=8,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
    ],
)
def test_what_is_no_hash_or_would_take_all_memory_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="scrypt"):
        Hash.parse(written)
