"""Which peers there are, what each can do, and who talks with whom."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from interop.browser import Browser
from interop.peer import Peer, Program

HERE = Path(__file__).parent
PEERS = HERE / "peers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of peer. What its interface cannot do or tell is said here, and not asked of it."""

    name: str
    start: Callable[[], Peer]
    connects: bool = True
    serves: bool = True
    fragments: bool = True
    pings: bool = True
    compresses: bool = True
    sets_compression: bool = True
    """Whether it takes parameters; otherwise it is on or off."""
    compresses_what_it_sends: bool = True
    always_offers_compression: bool = False
    closes_with_any_code: bool = True
    """Otherwise with 1000 and from 3000 on."""
    closes_without_code: bool = False
    tells_status: bool = True
    """As a client, of a refusal."""
    tells_body: bool = True
    """The same."""
    missing: str = ""
    """Why it cannot be run here."""
    is_system: bool = False


def _python(module: str, *arguments: str) -> Callable[[], Peer]:
    command = [sys.executable, "-m", f"interop.peers.{module}", *arguments]
    return partial(Peer, partial(Program, command))


def _node(script: str, *options: str, **environment: str) -> Callable[[], Peer]:
    command = ["node", *options, str(PEERS / script)]
    return partial(Peer, partial(Program, command, environment=environment))


@cache
def _node_version() -> tuple[int, ...]:
    if not shutil.which("node"):
        return ()
    shown = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(map(int, re.findall(r"\d+", shown)))


def _npm_missing(package: str) -> str:
    if not _node_version():
        return "there is no node here"
    if not (HERE / "node_modules" / package).exists():
        return f"npm's {package} is not here: run `npm ci` in tests/interop"
    return ""


def _builtin_missing() -> str:
    """Why there is no client without packages, nor the package that it was made from."""
    missing = _npm_missing("undici")
    if not missing or not _node_version() or _node_version() >= (20, 10):
        return "" if _node_version() else missing
    return f"node has a WebSocket of its own from 20.10 on, and {missing}"


LAYERS = ("layer", "resource")

KINDS = {
    kind.name: kind
    for kind in (
        Kind(name="layer", start=_python("with_layer")),
        Kind(name="resource", start=_python("with_layer", "resource"), connects=False),
        Kind(name="websockets", start=_python("with_websockets")),
        Kind(name="wsproto", start=_python("with_wsproto")),
        Kind(
            name="aiohttp",
            start=_python("with_aiohttp"),
            fragments=False,
            sets_compression=False,
            tells_body=False,
        ),
        Kind(name="picows", start=_python("with_picows"), compresses=False),
        Kind(
            name="picows.websockets",
            start=_python("with_websockets", "picows"),
            sets_compression=False,
            tells_body=False,
        ),
        Kind(
            name="ws",
            start=_node("with_ws.mjs"),
            closes_without_code=True,
            is_system=True,
            missing=_npm_missing("ws"),
        ),
        Kind(
            name="node",
            start=_node(
                "with_node.mjs",
                *(["--experimental-websocket"] if (20, 10) <= _node_version() < (22,) else []),
                NODE_TLS_REJECT_UNAUTHORIZED="0",  # its WebSocket cannot be told whom to trust
            ),
            serves=False,
            fragments=False,
            pings=False,
            sets_compression=False,
            compresses_what_it_sends=False,
            always_offers_compression=True,
            closes_with_any_code=False,
            closes_without_code=True,
            tells_status=False,
            tells_body=False,
            is_system=True,
            missing=_builtin_missing(),
        ),
        Kind(
            name="chromium",
            start=partial(Peer, partial(Browser, shutil.which("chromium") or "")),
            serves=False,
            fragments=False,
            pings=False,
            sets_compression=False,
            always_offers_compression=True,
            closes_with_any_code=False,
            closes_without_code=True,
            tells_status=False,
            tells_body=False,
            is_system=True,
            missing="" if shutil.which("chromium") else "there is no chromium here",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Pairing:
    """A client and a server; one of them is the layer."""

    client: Kind
    server: Kind

    def __str__(self) -> str:
        return f"{self.client.name}-to-{self.server.name}"

    @property
    def peer(self) -> Kind:
        """The one that is not the layer."""
        return self.server if self.client.name in LAYERS else self.client

    def param(self, *more: object, mode: str = "") -> Any:
        """Parameters for pytest, with the marks that their programs need."""
        marks = []
        if self.peer.is_system:
            marks.append(pytest.mark.system)
        if self.peer.missing:
            marks.append(pytest.mark.skip(reason=self.peer.missing))
        return pytest.param(self, *more, marks=marks, id=f"{self}-{mode}" if mode else str(self))


PEER_KINDS = [kind for kind in KINDS.values() if kind.name not in LAYERS]

PAIRINGS = [
    *(Pairing(kind, KINDS[layer]) for layer in LAYERS for kind in PEER_KINDS if kind.connects),
    *(Pairing(KINDS["layer"], kind) for kind in PEER_KINDS if kind.serves),
]


def each(pairings: Iterable[Pairing] = PAIRINGS) -> pytest.MarkDecorator:
    """Run a test for each of these."""
    return pytest.mark.parametrize("pairing", [pairing.param() for pairing in pairings])
