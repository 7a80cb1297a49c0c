"""Which requests do not open a WebSocket, and what is answered to them, over real sockets."""

from __future__ import annotations

from typing import Any

from net.loopback import TurnClock
from net.websocket.applications import Applications, Deciding, Giving, Recorder, dropping
from net.websocket.memory import request_bytes
from net.websocket.sockets import Response, WebSocketCase
from twisted.internet.defer import Deferred, fail, succeed

from chatproto.websocket import Accepted, Refused, WebSocketLimits

REFUSALS: dict[str, tuple[bytes, int, str]] = {
    "no host": (request_bytes(without="Host"), 400, "Host"),
    "two hosts": (request_bytes("Host: another.example"), 400, "more than once"),
    "no key": (request_bytes(without="Sec-WebSocket-Key"), 400, "Sec-WebSocket-Key"),
    "a key of 15 bytes": (
        request_bytes("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA", without="Sec-WebSocket-Key"),
        400,
        "16 bytes",
    ),
    "no word upgrade": (request_bytes("Connection: keep-alive", without="Connection"), 400, "Upgrade"),
    "a body": (request_bytes("Content-Length: 3") + b"abc", 400, "body"),
    "another site's page": (request_bytes("Origin: http://evil.example"), 403, "Pages from there"),
    "a sandboxed page": (request_bytes("Origin: null"), 403, "Pages from there"),
    "another method": (request_bytes(start="POST /path HTTP/1.1"), 405, "GET"),
    "no upgrade": (request_bytes(without="Upgrade"), 426, "This is a WebSocket."),
    "an upgrade to something else": (
        request_bytes("Upgrade: h2c", without="Upgrade"),
        426,
        "This is a WebSocket.",
    ),
    "another version": (
        request_bytes("Sec-WebSocket-Version: 8", without="Sec-WebSocket-Version"),
        426,
        "version 13",
    ),
    "an old HTTP": (request_bytes(start="GET /path HTTP/1.0"), 505, "HTTP/1.1"),
}
"""What is asked, and the status and a piece of the body that answer it."""


class Refusals(WebSocketCase):
    async def asked_of(self, factory: Any, data: bytes | None = None, **options: Any) -> Response:
        """What is answered to one request."""
        port, _ = await self.serve(factory, **options)
        return await self.asked(self.connect(port), request_bytes() if data is None else data)

    async def test_what_is_no_good_opening_handshake_is_refused_and_the_application_is_not_asked(
        self,
    ) -> None:
        applications = Applications()
        port, _ = await self.serve(applications)
        for name, (data, status, said) in REFUSALS.items():
            response = await self.asked(self.connect(port), data)
            assert response.status == status, (name, response)
            assert said in response.body, (name, response)
            assert response.headers["content-type"].startswith("text/plain"), name
        assert applications.requests == []

    async def test_a_refused_version_is_told_the_right_one(self) -> None:
        response = await self.asked_of(Applications(), REFUSALS["another version"][0])
        assert response.headers["sec-websocket-version"] == "13"
        assert response.headers["upgrade"].lower() == "websocket"

    async def test_a_refused_method_is_told_the_right_one(self) -> None:
        response = await self.asked_of(Applications(), REFUSALS["another method"][0])
        assert response.headers["allow"] == "GET"

    async def test_head_is_refused_without_a_body(self) -> None:
        port, _ = await self.serve(Applications())
        end = self.connect(port)
        end.send(request_bytes(start="HEAD /path HTTP/1.1"))
        await self.until_received(end, b"\r\n\r\n")
        assert end.received.startswith(b"HTTP/1.1 405 ")
        assert end.received.endswith(b"\r\n\r\n")

    async def test_the_application_refuses_with_what_it_likes(self) -> None:
        headers = [("WWW-Authenticate", 'Basic realm="x"'), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]

        def refuse(request: object) -> None:
            raise Refused(401, "Log in, grüße.\n", headers)

        port, _ = await self.serve(Deciding(refuse))
        end = self.connect(port)
        response = await self.asked(end, request_bytes())
        assert (response.status, response.body) == (401, "Log in, grüße.\n")
        assert response.headers["www-authenticate"] == 'Basic realm="x"'
        assert end.received.lower().count(b"set-cookie: ") == 2

    async def test_the_application_may_refuse_later_and_in_any_way(self) -> None:
        async def refuse(request: object) -> None:
            raise Refused(404)

        decisions: list[Any] = [
            refuse,
            lambda request: fail(Refused(404)),
        ]
        for decide in decisions:
            response = await self.asked_of(Deciding(decide))
            assert (response.status, response.body) == (404, "")

    async def test_none_refuses(self) -> None:
        for nothing in (None, succeed(None)):
            assert (await self.asked_of(Giving(nothing))).status == 403

    async def test_an_answer_that_is_no_refusal_at_all_is_given_all_the_same(self) -> None:
        def answer(request: object) -> None:
            raise Refused(200, "in good health\n")

        response = await self.asked_of(Deciding(answer))
        assert (response.status, response.body) == (200, "in good health\n")

    async def test_an_answer_without_a_body_has_none(self) -> None:
        for status in (204, 304):

            def answer(request: object, status: int = status) -> None:
                raise Refused(status)

            port, _ = await self.serve(Deciding(answer))
            end = self.connect(port)
            end.send(request_bytes())
            await self.until_received(end, b"\r\n\r\n")
            assert end.received.startswith(b"HTTP/1.1 %d " % status)
            assert b"content-length" not in end.received.lower()
            assert end.received.endswith(b"\r\n\r\n")

    async def test_an_application_that_raises_is_a_mistake_of_the_servers(self) -> None:
        def mistake(request: object) -> None:
            raise ZeroDivisionError("the secret is 42")

        async def late_mistake(request: object) -> None:
            raise ZeroDivisionError("the secret is 42")

        wrong: list[Any] = [
            mistake,
            late_mistake,
            lambda request: Accepted(Recorder(), "never.offered"),
            lambda request: Accepted(Recorder(), headers=[("Connection", "close")]),
            lambda request: Accepted(Recorder(), headers=[("X-Split", "a\r\nb")]),
        ]
        for decide in wrong:
            response = await self.asked_of(Deciding(decide))
            assert (response.status, response.body) == (500, "")
            assert len(self.flushLoggedErrors(ZeroDivisionError, ValueError)) == 1

    async def test_an_application_that_is_none_is_a_mistake_of_the_servers(self) -> None:
        async def forgotten(request: object) -> Recorder:
            return Recorder()

        never_awaited = forgotten(None)
        for nothing in ("a str", never_awaited):
            given: Deferred[Any] = succeed(nothing)
            response = await self.asked_of(Giving(given))
            assert response.status == 500
            assert len(self.flushLoggedErrors(TypeError)) == 1
        never_awaited.close()

    async def test_one_that_raises_when_it_starts_is_refused_and_told_that_it_ended(self) -> None:
        def mistake(application: Recorder) -> None:
            raise ZeroDivisionError

        application = Recorder(negotiationStarted=mistake)
        port, _ = await self.serve(Giving(application))
        end = self.connect(port)
        assert (await self.asked(end, request_bytes())).status == 500
        end.close()
        await self.ended(application)
        assert application.told == ["negotiationStarted", "connectionLost"]
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1

    async def test_one_that_drops_the_connection_when_it_starts_is_told_that_it_ended(self) -> None:
        for way in ("loseConnection", "abortConnection"):
            application = dropping(way)
            port, _ = await self.serve(Giving(application))
            end = self.connect(port)
            end.send(request_bytes())
            assert await self.until_end(end) == b""
            await self.ended(application)
            assert application.told == ["negotiationStarted", "connectionLost"]

    async def test_there_are_at_most_so_many_connections(self) -> None:
        applications = Applications()
        port, _ = await self.serve(applications, limits=WebSocketLimits(max_connections=2))
        peers = [await self.opened(port) for _ in range(2)]
        response = await self.asked(self.connect(port), request_bytes())
        assert (response.status, "too many" in response.body) == (503, True)
        peers[0].end.close()
        await self.until(lambda: applications.made[0].end)
        await self.opened(port)
        assert len(applications.requests) == 3

    async def test_there_are_no_more_of_them_when_decisions_take_their_time(self) -> None:
        decisions = [Deferred[Any]() for _ in range(4)]
        waiting = iter(decisions)
        port, layer = await self.serve(
            Deciding(lambda request: next(waiting)), limits=WebSocketLimits(max_connections=2)
        )
        ends = [self.connect(port) for _ in range(4)]
        for end in ends:
            end.send(request_bytes())
            await self.turns(10)
        for decision in decisions:
            decision.callback(Recorder())
        statuses = sorted([(await self.asked(end)).status for end in ends])
        assert statuses == [101, 101, 503, 503]
        assert len(layer.connections) <= 4

    async def test_nobody_comes_in_after_shut_down_not_even_who_was_being_decided_on(self) -> None:
        decision = Deferred[Any]()
        port, layer = await self.serve(Giving(decision))
        end = self.connect(port)
        end.send(request_bytes())
        await self.turns(10)
        await layer.shut_down()
        if not decision.called:
            decision.callback(Recorder())
        answer = await self.asked(end) if self.as_resource else None
        assert answer is None or answer.status == 503
        if answer is None:
            assert await self.until_end(end) == b""
        assert (await self.asked(self.connect(port), request_bytes())).status == 503
        assert len(layer.connections) == 1 - self.as_resource


class RefusalsByFactory(Refusals):
    """Without twisted.web there is more to refuse."""

    async def test_a_head_that_is_too_long_is_refused(self) -> None:
        limits = WebSocketLimits(max_handshake_bytes=500, max_headers=10)
        for data in (request_bytes("X-Long: " + "a" * 500), b"G" * 600, request_bytes(*["X: a"] * 20)):
            response = await self.asked_of(Applications(), data, limits=limits)
            assert response.status == 431

    async def test_what_is_not_http_is_refused(self) -> None:
        for data in (
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n",
            b"hello\r\n\r\n",
            b"GET / HTTP/1.1\nHost: a\n\n",
        ):
            response = await self.asked_of(Applications(), data)
            assert response.status == 400

    async def test_whoever_takes_too_long_is_refused_and_dropped(self) -> None:
        clock = TurnClock()
        port, layer = await self.serve(
            Applications(), reactor=clock, limits=WebSocketLimits(handshake_timeout_s=3)
        )
        end = self.connect(port)
        end.send(request_bytes()[:-1])
        await self.until(lambda: len(layer.connections))
        await self.turns(10)
        clock.advance(2.8)
        await self.turns(10)
        assert end.read() == 0
        assert not end.at_end
        clock.advance(0.5)
        assert (await self.asked(end)).status == 408
        await self.until_end(end)
        end.close()
        await self.emptied(layer)
        assert clock.getDelayedCalls() == []

    async def test_a_refusal_ends_the_connection_and_what_still_comes_is_thrown_away(self) -> None:
        port, layer = await self.serve(Applications())
        end = self.connect(port)
        end.send(request_bytes(without="Upgrade") + b"x" * 10_000)
        response = parsed_end = await self.asked(end)
        assert (response.status, parsed_end.headers["connection"]) == (426, "close, Upgrade")
        await self.until_end(end)
        assert not end.was_reset
        end.close()
        await self.emptied(layer)


class RefusalsByResource(Refusals):
    """In a site of twisted.web."""

    as_resource = True

    async def test_other_requests_on_the_same_connection_are_the_sites(self) -> None:
        port, _ = await self.serve(Applications())
        end = self.connect(port)
        response = await self.asked(end, request_bytes(without="Upgrade"))
        assert response.status == 426
        end.received.clear()
        assert (await self.asked(end, b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n")).body == "a page"
        end.received.clear()
        assert (await self.asked(end, request_bytes())).status == 101


del Refusals  # it is only there to be derived from
