"""Subprotocols, refusals and origins."""

from __future__ import annotations

import pytest
from interop.conversation import Meeting
from interop.kinds import KINDS, PAIRINGS, Pairing, each

REFUSAL = (403, "Not today: überfüllt.\n")


@each()
def test_a_subprotocol_of_the_client_s_is_chosen_by_the_server(meeting: Meeting, pairing: Pairing) -> None:
    terms = {"subprotocols": ["chat.v9", "chat.v1"]}, {"subprotocols": ["chat.v1", "chat.v0"]}
    with meeting.met(pairing, client=terms[0], server=terms[1]) as talk:
        assert talk.client.expect("open")["subprotocol"] == "chat.v1"
        assert talk.server.expect("open")["subprotocol"] == "chat.v1"
        talk.client.send("as agreed")
        talk.server.receives("as agreed")
        assert talk.wire.header("server", "Sec-WebSocket-Protocol") == "chat.v1"


@each()
def test_without_a_subprotocol_there_is_none(meeting: Meeting, pairing: Pairing) -> None:
    with meeting.met(pairing, server={"subprotocols": ["chat.v1"]}) as talk:
        assert talk.client.expect("open")["subprotocol"] is None
        assert talk.server.expect("open")["subprotocol"] is None
        assert talk.wire.header("server", "Sec-WebSocket-Protocol") is None


@each()
def test_a_refusal_reaches_the_client_with_its_status_and_body(meeting: Meeting, pairing: Pairing) -> None:
    status, body = REFUSAL
    with meeting.met(pairing, server={"refusal": REFUSAL}) as talk:
        told = talk.client.expect("refused")
        assert told["status"] == (status if pairing.client.tells_status else None)
        assert told["body"] == (body if pairing.client.tells_body else None)
        assert talk.wire.head("server").startswith(f"HTTP/1.1 {status} ")
        assert talk.server.events.empty()


@each([pairing for pairing in PAIRINGS if pairing.client is KINDS["chromium"]])
def test_a_page_from_elsewhere_is_refused(meeting: Meeting, pairing: Pairing) -> None:
    """What Chromium sends as Origin is not the server's, and not in its list."""
    with meeting.met(pairing, server={"origins": ["http://127.0.0.1:1"]}) as talk:
        talk.client.expect("refused")
        assert talk.wire.head("server").startswith("HTTP/1.1 403 ")
        assert talk.wire.header("client", "Origin") == meeting.origin(pairing.client)


@pytest.mark.parametrize("pairing", [Pairing(KINDS["chromium"], KINDS["resource"]).param()])
def test_a_page_of_the_server_s_own_is_accepted(meeting: Meeting, pairing: Pairing) -> None:
    """A page and a WebSocket from one site of `twisted.web`; nothing is said about origins."""
    with meeting.visited(pairing) as server:
        server.expect("open")
        server.receives("from a page of this site")
        server.close(1000, "welcome")
        assert server.expect("closed")["is_clean"]
