"""Two connections to a store, of which one may go while the other is on its way."""

from __future__ import annotations

from OpenSSL import SSL
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from chatproto.shared.address import StoreAddress
from chatproto.shared.link import Link


def test_one_that_goes_while_the_other_is_on_its_way_tells_why() -> None:
    reactor = MemoryReactorClock()
    lost: list[str] = []
    link = Link(
        StoreAddress(path="/s"),
        reactor,
        channels=[],
        opened=lambda facts: None,
        lost=lost.append,
        heard=lambda channel, what: None,
        subscribed=lambda channel: None,
    )
    link.start()

    def connect() -> Protocol:
        protocol: Protocol = reactor.unixClients.pop()[1].buildProtocol(None)
        protocol.makeConnection(StringTransport())
        return protocol

    first = connect()
    first.connectionLost(Failure(SSL.Error([("SSL routines", "", "certificate verify failed")])))
    assert not lost
    connect()
    assert lost == ["TLS, certificate verify failed"]
    link.close()
