"""WebSockets for Twisted, server and client, without any chat in them (RFC 6455, RFC 7692).

Everything for users is in `chatproto.websocket`.
"""
