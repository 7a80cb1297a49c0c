"""A small disk that can be filled up, and files that become unwritable."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

__all__ = ["SmallDisk", "small_disk", "unwritable"]

PIECE_BYTES = 65_536


class SmallDisk:
    """A file system of its own at *folder*."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.is_full = False
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Leave not a byte."""
        self.is_full = True
        piece = bytes(PIECE_BYTES)
        file = os.open(self._ballast, os.O_WRONLY | os.O_CREAT)
        try:
            while piece:
                with suppress(OSError):
                    while os.write(file, piece) == len(piece):
                        pass
                piece = piece[: len(piece) // 2]
        finally:
            os.close(file)

    def free(self) -> None:
        """Give the space back."""
        self.is_full = False
        self._ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[SmallDisk]:
    """A disk of so many MiB; skips the test where nothing may be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "none", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def unwritable(*paths: str) -> Iterator[None]:
    """Files that nobody may write, not even root; skips the test where that cannot be."""
    if subprocess.run(["chattr", "+i", *paths], capture_output=True, check=False).returncode:
        pytest.skip("this file system has no such attribute, or one may not set it")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", *paths], check=True)
