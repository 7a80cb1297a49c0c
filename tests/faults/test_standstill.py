"""A server that stood still goes by what people said meanwhile, and not by how late it reads that."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from forms import form_named
from live import Framed, Server

from chatproto.net.front import SILENCE_S
from chatproto.wire.messages import End, Join, Ping, Pong

PROGRAM = Path(__file__).with_name("standing_server.py")
OPTIONS = ("--listen", "tcp:0:interface=127.0.0.1", "--history", "memory")


@pytest.mark.parametrize("form", ["frames", "json"])
def test_who_spoke_at_once_is_not_taken_for_silent(form: str) -> None:
    command = [sys.executable, str(PROGRAM), str(3 * SILENCE_S), *OPTIONS]
    with Server(command=command) as server:
        bystander = server.join("bystander")
        plain = server.raw()
        time.sleep(0.1 * SILENCE_S)  # to be accepted
        bystander.send(Ping(1))
        time.sleep(0.2 * SILENCE_S)  # it stands still by now
        client = Framed(plain, form_named(form))
        client.send(Join("ann"))
        bystander.until(Pong)
        client.until(End)
        client.close()
