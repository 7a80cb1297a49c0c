"""Rooms shared by many servers: the log and the people are in a Redis or Valkey store."""
