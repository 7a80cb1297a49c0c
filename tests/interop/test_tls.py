"""The same over TLS, where nobody but the two sees the frames."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from interop.conversation import Meeting
from interop.kinds import Pairing, each
from net.certificate import write_certificate


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The paths of a certificate for localhost, and of its key."""
    folder: Path = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    write_certificate(certificate, key)
    return str(certificate), str(key)


@each()
def test_messages_go_both_ways_and_both_sides_hear_the_end(
    meeting: Meeting, pairing: Pairing, tls: tuple[str, str]
) -> None:
    data = random.Random(5).randbytes(300_000)
    for closes, hears in ((0, 1), (1, 0)):
        with meeting.talking(pairing, tls=tls) as talk:
            for sender, receiver in talk.directions:
                sender.send("grüß dich")
                sender.send(data)
                receiver.receives("grüß dich")
                receiver.receives(data)
            talk.directions[closes][0].send(data)
            talk.directions[closes][0].close(4000, "done")
            talk.directions[closes][1].receives(data)
            talk.directions[hears][0].hears_close(4000, "done")
            assert talk.directions[closes][0].expect("closed")["is_clean"] in (True, None)
