"""Certificates: noticed by themselves when they are renewed, and never worse than before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from net.certificate import write_certificate
from server.memory import ReactorInMemory
from twisted.internet.ssl import CertificateOptions
from twisted.logger import capturedLogs, formatEvent

from chatproto.server import certificates as certificates_module
from chatproto.server.certificates import CHECK_EVERY_S, CertbotDirectory
from chatproto.server.service import ChatService


@pytest.fixture
def live(tmp_path: Path) -> Path:
    write_certificate(tmp_path / "fullchain.pem", tmp_path / "privkey.pem")
    return tmp_path


def said(events: Sequence[dict[str, Any]]) -> list[str]:
    return [formatEvent(event) for event in events]


def test_a_renewed_one_is_noticed_within_a_minute(live: Path) -> None:
    reactor = ReactorInMemory()
    ChatService([f"tls:{live}:unix:/a"], reactor=reactor, status="off").startService()
    # Other files, as a renewal makes: one that is written over within a tick of the clock looks the same.
    for name in ("fullchain.pem", "privkey.pem"):
        (live / name).rename(live / f"old-{name}")
    write_certificate(live / "fullchain.pem", live / "privkey.pem")
    with capturedLogs() as events:
        reactor.advance(CHECK_EVERY_S)
    assert any(f"the certificate in {live} was renewed: for localhost, " in line for line in said(events))


def test_nothing_is_read_where_nothing_has_changed(live: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = CertbotDirectory(str(live))
    monkeypatch.setattr(CertbotDirectory, "_read", lambda self: pytest.fail("it was read"))
    with capturedLogs() as events:
        directory.renew()
    assert not events


def test_a_broken_pair_is_told_of_once_and_tried_again_when_it_changes(live: Path) -> None:
    directory = CertbotDirectory(str(live))
    before = directory.words()
    key = (live / "privkey.pem").read_text()
    (live / "privkey.pem").write_text("nonsense")
    with capturedLogs() as events:
        directory.renew()
        directory.renew()
    assert said(events) == [
        f"{live}/privkey.pem has no key that can be read; the certificate from before stays"
    ]
    assert directory.words() == before
    (live / "privkey.pem").write_text(key)
    with capturedLogs() as events:
        directory.renew()
    assert len(events) == 1


def test_a_key_with_a_password_is_no_key(live: Path) -> None:
    # It would ask at the terminal, and a server has none.
    (live / "privkey.pem").write_text(
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAg=\n"
        "-----END ENCRYPTED PRIVATE KEY-----\n"
    )
    with pytest.raises(ValueError, match=r"privkey\.pem has no key that can be read$"):
        CertbotDirectory(str(live))


def test_the_whole_chain_is_sent(live: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    write_certificate(other / "certificate", other / "key")
    with (live / "fullchain.pem").open("a") as chain:
        chain.write((other / "certificate").read_text())
    loaded: list[object] = []

    class Noted(CertificateOptions):
        def __init__(self, **given: Any) -> None:
            loaded.extend(given["extraCertChain"])
            super().__init__(**given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certificates_module, "CertificateOptions", Noted)
        CertbotDirectory(str(live))
    assert len(loaded) == 1
