"""The chat as a Twisted application of its own: `twistd -ny examples/chat.tac`."""

from twisted.application.service import Application

from chatproto import ChatService, Limits

application = Application("chat")
chat = ChatService(["tcp:9000:interface=127.0.0.1"], limits=Limits(max_rooms=100), default_room="lounge")
chat.setServiceParent(application)
