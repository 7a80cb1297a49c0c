"""The store as the log and the people of a server use it: connected, under an epoch, and looked after."""

from __future__ import annotations

import re
import secrets
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from chatproto.shared.address import StoreAddress
from chatproto.shared.link import Link, StoreFacts
from chatproto.shared.resp import ConnectionGone, Reply, StoreRefusal, Then
from chatproto.shared.scripts import ABOUT, ANEW, BEGIN, BEGUN, Script, everyone_channel, server_channel
from chatproto.wire.messages import MAX_U64

__all__ = ["UNREACHABLE", "PeopleListener", "RoomsListener", "Store", "phrase"]

_log = Logger(namespace="chatproto.shared")

UNREACHABLE = "the history cannot be reached at the moment; nobody saw it"
"""What somebody is told who said something meanwhile."""

PROBE_EVERY_S = 3.0

SUBSCRIBED_AT_ONCE = 1_000

_BESIDE_THE_POINT = re.compile(r" script: [0-9a-f]{40}|, with args beginning with")
"""Where what a store says of a refusal goes on with which script it was, or with which words."""


class RoomsListener(Protocol):
    """Who keeps rooms in the store: see `chatproto.shared.following`."""

    def connected(self) -> None:
        """From now on the store can be asked, perhaps again: listen to all rooms."""

    def disconnected(self) -> None:
        """Nothing is heard any more."""

    def subscribed(self, channel: bytes) -> None:
        """Everything that is published in *channel* from now on will be heard."""

    def heard(self, channel: bytes, kind: bytes, content: bytes) -> None:
        """Something was published."""

    def begin_anew(self) -> None:
        """Another epoch has begun: nothing that was known of rooms holds."""


class PeopleListener(Protocol):
    """Who wants to know of people: see `chatproto.shared.people`."""

    def connected(self) -> None:
        """From now on the store can be asked, perhaps again."""

    def looked_at(self, room: str, changes: int, found: list[bytes]) -> None:
        """After so many changes these are in *room*: places and nicknames, one after the other."""

    def heard(self, room: str, content: bytes) -> None:
        """One more change in *room*."""

    def heard_by_all(self, content: bytes) -> None:
        """What all servers are told."""

    def heard_here(self, kind: bytes, content: bytes) -> None:
        """What this server alone is told."""

    def forgotten(self, room: str) -> None:
        """*room* is not listened to any more."""


class Store:
    """The store at *address*, asked and answering in *reactor*; connected from `open` to `close`.

    `epoch` is 0 until it was connected once. `token` names this server among those that use the store.
    `trouble` says why nothing can be kept at the moment, and is empty else.
    """

    rooms: RoomsListener
    people: PeopleListener | None = None

    def __init__(self, address: StoreAddress, reactor: Any) -> None:
        self.address = address
        self.epoch = 0
        self.token = secrets.token_hex(8)
        self.trouble = "the store is not connected yet"
        self.everyone = everyone_channel(address.database)
        self._here = server_channel(address.database, self.token)
        self._reactor = reactor
        self.is_another = False
        """Whether the store was started anew, or is another one, since the connection before this one."""
        self._lost_epoch = 0  # that is being ended
        self._facts = StoreFacts("", False)
        self._probing: IDelayedCall | None = None
        self._link = Link(
            address,
            reactor,
            channels=[self.everyone, self._here],
            opened=self._opened,
            lost=self._lost,
            heard=self._heard,
            subscribed=self._subscribed,
        )

    def open(self) -> None:
        """Connect, and stay connected."""
        self._link.start()
        self._probing = self._reactor.callLater(PROBE_EVERY_S, self._probe)

    def close(self) -> None:
        """Be done with it; what was not sent yet is not."""
        if self._probing is not None:
            self._probing.cancel()
            self._probing = None
        self._link.close()

    # --- asking ---------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether it is connected."""
        return self._link.is_open

    @property
    def n_opened(self) -> int:
        """How often it was connected."""
        return self._link.n_opened

    def run(self, then: Then, script: Script, keys: tuple[bytes, ...], *arguments: bytes | str) -> None:
        """Have the store run *script*, once, if it can be reached; *then* gets the answer."""
        self.ask(then, b"EVALSHA", script.sha, len(keys), *keys, *arguments)

    def ask(self, then: Then, *words: bytes | str | int) -> None:
        """Have the store carry out a command, once, if it can be reached; *then* gets the answer."""
        if self._link.is_open:
            self._link.commands.execute(then, *words)
        else:
            self._reactor.callLater(0, then, ConnectionGone())

    def subscribe(self, channels: list[bytes]) -> None:
        """Listen to *channels*, if it is connected."""
        if self._link.is_open and self.epoch:
            for begin in range(0, len(channels), SUBSCRIBED_AT_ONCE):
                self._link.listening.subscribe(channels[begin : begin + SUBSCRIBED_AT_ONCE])

    def unsubscribe(self, channels: list[bytes]) -> None:
        """Listen to *channels* no more."""
        if self._link.is_open and channels:
            self._link.listening.unsubscribe(channels)

    # --- how it does ----------------------------------------------------------------------------------------

    def refused(self, refusal: StoreRefusal) -> None:
        """The store has not done what it should."""
        self._has_trouble(f"the store refuses it, {phrase(refusal)}")
        if str(refusal).startswith(("READONLY", "NOSCRIPT", "MASTERDOWN", "LOADING", "UNBLOCKED")):
            # It is another than it was: what is to be known of it has to be asked anew.
            self._reactor.callLater(0, self._link.reopen, phrase(refusal))

    def did_well(self) -> None:
        """The store has kept something."""
        if self.trouble:
            self.trouble = ""
            _log.info("the history can be kept: {address}", address=str(self.address))

    def _has_trouble(self, trouble: str) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            text = "the history cannot be kept, {trouble}: {address}"
            _log.error(text, trouble=trouble, address=str(self.address))

    def _probe(self) -> None:
        self._probing = self._reactor.callLater(PROBE_EVERY_S, self._probe)
        if self._link.is_open:
            self._begin()

    # --- the epoch ------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Ask for the epoch by something that is written, so that one sees whether that can be done."""

        def has_begun(reply: Reply) -> None:
            if isinstance(reply, StoreRefusal):
                self.refused(reply)
            elif not isinstance(reply, ConnectionGone):
                self.did_well()
                self._go_by(int(reply))

        may_have_lost = not (self._facts.is_durable or self.epoch)
        words = _an_epoch(), self._facts.run, b"%d" % may_have_lost, self._here
        self.run(has_begun, BEGIN, (ABOUT,), *words)

    def has_lost(self) -> None:
        """The store has lost something that people were told of."""
        if self._lost_epoch == self.epoch:
            return
        self._lost_epoch = self.epoch
        _log.error("the store has lost messages that were kept; the epoch changes")

        def has_begun(reply: Reply) -> None:
            self._lost_epoch = 0
            if not isinstance(reply, Exception):
                self._go_by(int(reply))

        self.run(has_begun, ANEW, (ABOUT,), b"%d" % self.epoch, _an_epoch(), self.everyone)

    def _go_by(self, epoch: int) -> None:
        before, self.epoch = self.epoch, epoch
        if not before:
            self.rooms.connected()
        elif before != epoch:
            _log.warn("another epoch has begun, and everybody comes in anew")
            self.rooms.begin_anew()

    # --- the connections ------------------------------------------------------------------------------------

    def _opened(self, facts: StoreFacts) -> None:
        _log.info("the store is connected: {address}", address=str(self.address))
        self.is_another = facts.run != self._facts.run
        self._facts = facts
        self._begin()
        if self.people is not None:
            self.people.connected()
        if self.epoch:
            self.rooms.connected()

    def _lost(self, why: str) -> None:
        self.rooms.disconnected()
        self._has_trouble(f"the store is out of reach, {why}")

    def _subscribed(self, channel: bytes) -> None:
        if channel not in (self.everyone, self._here):
            self.rooms.subscribed(channel)

    def _heard(self, channel: bytes, what: bytes) -> None:
        kind, content = what[:1], what[1:]
        if channel == self.everyone:
            if kind == b"e":
                self._go_by(int(content))
            elif kind == b"o" and self.people is not None:
                self.people.heard_by_all(content)
        elif channel == self._here:
            if self.people is not None and kind != BEGUN:
                self.people.heard_here(kind, content)
        else:
            self.rooms.heard(channel, kind, content)


def phrase(refusal: Exception) -> str:
    """What the store said, as part of a sentence."""
    said = _BESIDE_THE_POINT.split(str(refusal))[0]
    kind, _, text = said.partition(" ")
    return (text if kind == "ERR" and text else said).strip().rstrip(".")


def _an_epoch() -> bytes:
    return b"%d" % (secrets.randbelow(MAX_U64) + 1)
