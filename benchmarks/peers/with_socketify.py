"""Echo and broadcast on socketify, which is uWebSockets (C++): `with_socketify.py echo|broadcast PORT`."""

from __future__ import annotations

import sys
from typing import Any

from socketify import App, AppListenOptions, OpCode

task, port = sys.argv[1:]
app = App()


def on_open(socket: Any) -> None:
    socket.subscribe("all")


def on_message(socket: Any, message: bytes, opcode: OpCode) -> None:
    if task == "echo":
        socket.send(message, opcode)
    else:
        app.publish("all", message, opcode)


app.ws(
    "/*",
    {
        "idle_timeout": 120,
        "max_payload_length": 32 * 1024 * 1024,
        "max_backpressure": 64 * 1024 * 1024,
        "open": on_open,
        "message": on_message,
    },
)
app.listen(AppListenOptions(port=int(port), host="127.0.0.1"))
app.run()
