"""A short run of each fuzz target, with the same seed each time and with a new one; what they would find."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from chatproto.wire.messages import MESSAGES

FOLDER = Path(__file__).parent
TARGETS = sorted(path.stem.removeprefix("fuzz_") for path in FOLDER.glob("fuzz_*.py"))
INPUTS = 5_000

DEFECTS = (
    # The last message, or event, is lost.
    ("frames", "chat.FrameDecoder = losing_the_last(chat.FrameDecoder)"),
    ("websocket", "websocket.WebSocketDecoder = losing_the_last(websocket.WebSocketDecoder)"),
    ("handshake", "http._LINES = re.compile('(?s).*')"),
    (
        "handshake",
        "http.HeadReader.receive = lambda self, data: bytes(data).partition(b'\\r\\n\\r\\n')[0]",
    ),
    ("handshake", "handshake.accept_key = lambda key: 'x'"),
    ("handshake", "deflate.Inflater._end_message = lambda self: None"),
    ("handshake", "http._phrase = lambda status: 'a\\r\\nb'"),
    ("json", "jsonform._DECODER = json.JSONDecoder()"),
    ("json", "jsonform._fault_of = lambda value, kind: ''"),
    ("json", "jsonform._fault_of_str = lambda value: '' if isinstance(value, str) else 'is not a string'"),
    (
        "json",
        "jsonform._malformed = lambda reason: jsonform.ProtocolError(jsonform.ErrorCode.MALFORMED, 'x\\n')",
    ),
    ("json", "jsonform._SERVER_TYPES = jsonform._CLIENT_TYPES"),
    # A carriage return whose line feed comes in the next piece ends two lines.
    ("lines", "lines.LineDecoder._after_cr = property(lambda self: False, lambda self, after: None)"),
    # Half a character is taken back.
    ("lines", "lines.LineDecoder._erase_character = lambda self: self._line and self._line.pop()"),
    # What is too long begins anew.
    ("lines", "lines.LineDecoder._skipping = property(lambda self: False, lambda self, skipping: None)"),
    # Every request for an option is refused again.
    ("lines", "telnet.TelnetFilter._answered = property(lambda self: set(), lambda self, answered: None)"),
    # A command that is cut is forgotten.
    ("lines", "telnet.TelnetFilter._begun = property(lambda self: b'', lambda self, begun: None)"),
    # A subnegotiation is text.
    ("lines", "telnet.TelnetFilter._parameters = property(lambda self: None, lambda self, parameters: None)"),
    ("lines", "telnet._SIGNALS.clear()"),
    ("lines", "telnet._WINDOW_SIZE = 32"),
    # The zone of an address is taken, and any port; a long header is kept; what is behind it is lost.
    ("proxy", "proxyheader._LINE = re.compile(rb'PROXY (TCP4|TCP6) (\\S+) (\\S+) (\\d+) (\\d+)')"),
    ("proxy", "proxyheader.MOST_BYTES = 2**16"),
    ("proxy", "proxyheader._LONGEST_LINE = 2**16"),
    (
        "proxy",
        "receive = proxyheader.ProxyHeaderDecoder.receive; "
        "proxyheader.ProxyHeaderDecoder.receive = lambda self, data: receive(self, data)[:-1]",
    ),
)


def target(name: str) -> str:
    return str(FOLDER / f"fuzz_{name}.py")


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-P", *arguments], capture_output=True, text=True, check=False)


def fuzz(name: str, seed: int) -> list[str]:
    """The lines that the target prints, which must find nothing."""
    print(f"seed {seed}")
    run = python(target(name), "--inputs", str(INPUTS), "--seed", str(seed))
    assert run.returncode == 0, run.stdout + run.stderr
    first, second, *told = run.stdout.splitlines()
    assert first == f"seed {seed}"
    assert second.startswith(f"{INPUTS} inputs, ")
    return told


@cache
def told(name: str) -> list[str]:
    """What it tells of the inputs of one seed."""
    return fuzz(name, 1)


def counted(name: str) -> set[str]:
    """What it has met, where that is told in words."""
    return {word.partition(":")[0] for line in told(name) for word in line.split()}


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_breaks_a_promise(name: str) -> None:
    fuzz(name, random.SystemRandom().randrange(2**32))


@pytest.mark.parametrize("name", TARGETS)
def test_the_same_seed_makes_the_same_inputs(name: str) -> None:
    assert fuzz(name, 1) == told(name)


class TestEverythingIsMet:
    def test_of_frames(self) -> None:
        gave = {f"that-gave-{what}" for what in ("messages", "a-fault", "neither")}
        assert counted("frames") == {"malformed", "too-big", *gave, *(cls.type for cls in MESSAGES.values())}

    def test_of_json(self) -> None:
        assert counted("json") == {"malformed", "passed-over", *(cls.type for cls in MESSAGES.values())}

    def test_of_handshakes(self) -> None:
        assert counted("handshake") == {
            *("taken", "waiting", "400", "405", "426", "431", "505"),
            *("answered", "unanswered", "failed"),
            *("inflated", "faulty"),
        }

    def test_of_lines(self) -> None:
        assert counted("lines") == {
            *("lines", "too-long", "not-utf8", "are_you_there", "interrupt", "timing_mark", "nothing")
        }
        assert all(int(word.partition(":")[2]) > 50 for word in told("lines")[0].split())

    def test_of_websockets(self) -> None:
        met = {line.split(maxsplit=1)[1] for line in told("websocket")}
        assert {"text", "binary", "close", "ping", "pong", "too big", "cannot be inflated"} <= met
        source = (FOLDER.parents[1] / "chatproto/wire/websocket.pyx").read_text("utf-8")
        reasons = set(re.findall(r'(?:return|CloseCode\.[A-Z_]+,) f?"(an? [^"]+|text [^"]+)"', source))
        reasons = {
            reason.replace("{MAX_CONTROL_BYTES}", "125") for reason in reasons if "self." not in reason
        }
        assert len(reasons) > 12
        of_one_side = {
            f"a {who}'s frame that is {how}masked" for who, how in (("client", "not "), ("server", ""))
        }
        assert reasons - of_one_side <= met

    def test_of_headers_of_proxies(self) -> None:
        met = {line.split(maxsplit=1)[1] for line in told("proxy")}
        source = (FOLDER.parents[1] / "chatproto/wire/proxyheader.py").read_text("utf-8")
        faults = set(re.findall(r'_fail\("([^"]+)"\)', source))
        assert len(faults) > 6
        assert met == {"more", "taken", "taken, from IPv4", "taken, from IPv6", *faults}


@pytest.mark.parametrize(("name", "defect"), DEFECTS)
def test_a_defect_is_told_with_its_seed_and_its_input(name: str, defect: str) -> None:
    broken = (
        "import json, re, runpy, sys\n"
        "from chatproto.wire import (\n"
        "    chat, deflate, handshake, http, jsonform, lines, proxyheader, telnet, websocket\n"
        ")\n"
        "def losing_the_last(kind):\n"
        "    class Lossy:\n"
        "        def __init__(self, *limits): self._decoder = kind(*limits)\n"
        "        def __getattr__(self, name): return getattr(self._decoder, name)\n"
        "        def receive(self, data): return self._decoder.receive(data)[:-1]\n"
        "    return Lossy\n"
        f"{defect}\n"
        "sys.argv = ['fuzz', '--seed', '1', '--inputs', '9000']\n"
        f"runpy.run_path({target(name)!r}, run_name='__main__')\n"
    )
    run = python("-c", broken)
    assert run.returncode == 1, run.stdout + run.stderr
    assert "of seed 1: " in run.stderr
    if name != "json":
        assert set(run.stderr.splitlines()[-1].strip()) <= set("0123456789abcdef -")
