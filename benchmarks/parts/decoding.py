"""Messages of 64 bytes decoded and built, with no socket near."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from measuring import Measuring
from rounds import Run, Subject, Table, compare
from servers import Failed, on_core

_PARSERS = Path(__file__).resolve().parent.parent / "peers" / "parsers.py"


def _subject(measuring: Measuring, title: str, name: str, what: str) -> Subject:
    is_ours = name.startswith("chatproto") or not measuring.peers.versions
    python = sys.executable if is_ours else str(measuring.peers.python)
    command = [python, str(_PARSERS), name, str(measuring.seconds / 2)]

    def measure() -> Run:
        with on_core(measuring.server_core):
            done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise Failed((done.stderr.strip().splitlines() or ["it ended"])[-1])
        cpu_us = json.loads(done.stdout)[what] / 1e3
        return Run(cpu_us=cpu_us, per_s=1e6 / cpu_us)

    return Subject(title, measure)


def measure(measuring: Measuring) -> Iterator[Table]:
    """By the public Python interface of each."""
    websocket = {"chatproto, WebSocket": "chatproto_websocket"}
    frames = {"chatproto, chat frames": "chatproto_frames", "Int32StringReceiver and struct": "int32"}
    if measuring.peers.versions:
        websocket |= {"websockets": "websockets", "wsproto": "wsproto"}
    for what, done in (("decode_ns", "decoded"), ("build_ns", "built")):
        for title, subjects in (("WebSocket messages", websocket), ("messages of the chat", frames)):
            yield compare(
                "decoding",
                f"{title} of 64 bytes, {done}",
                "messages",
                [_subject(measuring, title, name, what) for title, name in subjects.items()],
                measuring.rounds,
            )
