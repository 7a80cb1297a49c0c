"""Bytes to messages and back, and nothing else: no Twisted, no clock, no socket."""
