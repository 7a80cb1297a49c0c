"""The durable history: a `RoomLog` in one SQLite file, and `python -m chatproto.history`."""
