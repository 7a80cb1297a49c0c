"""Chromium, with a page in it that is a peer."""

from __future__ import annotations

import queue
import subprocess
import tempfile
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from live import PATIENCE_S

PEERS = Path(__file__).parent / "peers"
PAGE = b"""<!doctype html>
<meta charset="utf-8">
<title>A peer</title>
<body></body>
<script type="module" src="/page.mjs"></script>
"""

# Chromium runs as whoever runs the tests, perhaps root, and talks to nobody but them.
SWITCHES = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
    "--ignore-certificate-errors",  # those of the tests are signed by nobody
]


class Browser:
    """Chromium with the page from a server here, which carries commands to it and events back."""

    def __init__(self, chromium: str, told: Callable[[str | None], None]) -> None:
        commands: queue.Queue[str | None] = queue.Queue()

        class Site(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1  # an answer goes out in one piece

            def do_GET(self) -> None:
                if self.path == "/commands":
                    command = commands.get()
                    self._answer("application/json", f"[{command or ''}]".encode())
                elif self.path == "/":
                    self._answer("text/html", PAGE)
                elif self.path in ("/page.mjs", "/websocket_api.mjs"):
                    self._answer("text/javascript", (PEERS / self.path[1:]).read_bytes())
                else:
                    self.send_error(404)

            def do_POST(self) -> None:
                told(self.rfile.read(int(self.headers["Content-Length"])).decode())
                self._answer("text/plain", b"")

            def _answer(self, kind: str, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                self.wfile.flush()

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._commands = commands
        self._told = told
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        self._profile = tempfile.TemporaryDirectory(prefix="chatproto-chromium-", ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            [chromium, *SWITCHES, f"--user-data-dir={self._profile.name}", self.origin],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def say(self, command: str) -> None:
        """Give the page one command."""
        self._commands.put(command)

    def close(self) -> None:
        """End Chromium."""
        self._process.terminate()
        self._process.wait(PATIENCE_S)
        self._commands.put(None)
        self._server.shutdown()
        self._server.server_close()
        self._profile.cleanup()
        self._told(None)
