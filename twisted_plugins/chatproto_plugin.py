"""Makes `chat` one of the commands of twistd and twist."""

from twisted.application.service import ServiceMaker

chat = ServiceMaker(
    "chatproto",
    "chatproto.server.tap",
    "A chat server: WebSockets, length-prefixed frames, and lines for nc and telnet on one port.",
    "chat",
)
