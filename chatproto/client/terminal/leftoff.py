"""Where one had left off in each room, from one run of the program to the next."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["LeftOff", "state_path"]

MAX_SERVERS = 100
MAX_ROOMS = 200


def state_path() -> Path:
    """The file, by the XDG base directory specification."""
    folder = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return Path(folder) / "chatproto" / "left-off.json"


class LeftOff:
    """The newest message that was seen in each room of the server at *place*, in the file at *path*.

    A file that cannot be read counts as empty, and one that cannot be written is let be.
    """

    def __init__(self, path: Path, place: str) -> None:
        self._path = path
        self._place = place
        self._rooms = _rooms_of(_read(path), place)

    def seen(self, room: str, epoch: int) -> int:
        """The sequence number, 0 where it is not known or the server counts anew."""
        known = self._rooms.get(room)
        return known[1] if known is not None and known[0] == epoch else 0

    def save(self, seen: dict[str, int], epoch: int) -> None:
        """Remember what was seen in these rooms."""
        servers = _read(self._path)
        rooms = _rooms_of(servers, self._place)
        for room, seq in seen.items():
            rooms.pop(room, None)
            rooms[room] = (epoch, seq)
        servers.pop(self._place, None)
        servers[self._place] = dict(list(rooms.items())[-MAX_ROOMS:])
        newest = dict(list(servers.items())[-MAX_SERVERS:])
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Several may end at the same time: each writes a whole file and puts it in place.
            with tempfile.NamedTemporaryFile("w", dir=self._path.parent, delete=False) as file:
                json.dump(newest, file)
            os.replace(file.name, self._path)


def _read(path: Path) -> dict[str, Any]:
    try:
        read = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def _rooms_of(servers: dict[str, Any], place: str) -> dict[str, tuple[int, int]]:
    rooms = servers.get(place)
    if not isinstance(rooms, dict):
        return {}
    return {
        room: (known[0], known[1])
        for room, known in rooms.items()
        if isinstance(known, list) and len(known) == 2 and all(isinstance(number, int) for number in known)
    }
