"""Asking a server over HTTP how it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

from live import PATIENCE_S, unix_socket
from prometheus_client.parser import text_string_to_metric_families


@dataclass
class Answer:
    """What came of a request."""

    status: int
    headers: dict[str, str]
    body: str


def ask(
    place: int | Path,
    path: str,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Ask whoever listens at a port of this machine, or on a Unix socket."""
    host, port = ("127.0.0.1", place) if isinstance(place, int) else ("localhost", 80)
    connection = HTTPConnection(host, port, timeout=PATIENCE_S)
    if isinstance(place, Path):
        connection.sock = unix_socket(place)
    try:
        connection.request(method, path, headers=dict(headers or {}))
        response = connection.getresponse()
        body = response.read().decode()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, body)
    finally:
        connection.close()


def figures(place: int | Path) -> dict[str, float]:
    """What `/metrics` has: `chat_connections{face="lines"}` and its value."""
    answer = ask(place, "/metrics")
    assert answer.status == 200
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(answer.body):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found
