"""Reload, a lost connection, a server that ends: people keep their place and miss nothing unnoticed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from live import Framed, Server
from page.cable import Cable
from page.people import Person, say
from playwright.sync_api import expect

from chatproto.wire.messages import Chat, Left, Tell, Told

pytestmark = [pytest.mark.system, pytest.mark.slow]

People = Callable[..., Person]


@pytest.fixture
def cable(server: Server) -> Iterator[Cable]:
    """Between a browser and the server."""
    with Cable(server.port) as cable:
        yield cable


@contextmanager
def away(ann: Person, bob: Framed, cable: Cable) -> Iterator[None]:
    """Somebody who has seen what *bob* said *before* is meanwhile without a connection."""
    say(bob, "before")
    ann.sees("before")
    cable.cut()
    ann.sees_banner("Not connected")
    yield
    cable.mend()


class TestReload:
    def test_keeps_the_name_the_rooms_and_what_was_being_written(
        self, person: People, server: Server
    ) -> None:
        ann, bob = person("ann"), server.join("bob")
        say(bob, "before")
        ann.sees("before")
        ann.type("/join ops", "in ops")
        ann.sees("in ops")
        ann.page.locator("#composer-text").fill("half a sent")
        ann.page.reload()
        expect(ann.page.locator("#own-nick")).to_have_text("ann")
        expect(ann.page.locator("#room-name")).to_have_text("ops")
        ann.sees("in ops")
        assert ann.page.locator("#composer-text").input_value() == "half a sent"
        expect(ann.page.locator("#room-list .tab")).to_have_count(2)
        ann.open_conversation("lobby")
        ann.sees("before")

    def test_shows_what_was_said_meanwhile_behind_a_line(self, person: People, server: Server) -> None:
        ann, bob = person("ann"), server.join("bob")
        say(bob, "before")
        ann.sees("before")
        ann.page.goto("about:blank")
        bob.until(Left)
        say(bob, "meanwhile", "and more")
        ann.page.goto(ann.url)
        ann.sees("before", "meanwhile", "and more")
        line = ann.log.locator(".new-line + .message .text")
        expect(line).to_have_text("meanwhile")

    def test_again_and_again_never_loses_the_name_to_oneself(self, person: People) -> None:
        ann = person("ann")
        for _ in range(8):
            ann.page.reload()
            expect(ann.page.locator("#room-about")).to_have_text("1 person")
            expect(ann.page.locator("#own-nick")).to_have_text("ann")
            expect(ann.page.locator("#entry")).to_be_hidden()

    def test_sends_what_was_not_acknowledged_and_nobody_gets_it_twice(
        self, person: People, server: Server, cable: Cable
    ) -> None:
        bob = server.join("bob")
        ann = person("ann", port=cable.port)
        cable.fall_silent()
        ann.type("from before the reload")
        expect(ann.log.locator(".message.waiting")).to_have_count(1)
        cable.cut()
        cable.mend()
        ann.page.reload()
        ann.sees("from before the reload")
        assert bob.until(Chat).text == "from before the reload"
        ann.type("and after")
        assert bob.until(Chat).text == "and after"


class TestLostConnection:
    def test_who_was_away_gets_all_that_was_said_in_order(
        self, person: People, server: Server, cable: Cable
    ) -> None:
        bob = server.join("bob")
        ann = person("ann", port=cable.port)
        said = [f"meanwhile {n}" for n in range(120)]
        with away(ann, bob, cable):
            say(bob, *said)
            ann.type("from ann")
            expect(ann.log.locator(".message.waiting")).to_have_count(1)
        ann.sees("before", *said, "from ann")
        ann.sees_no_banner()
        expect(ann.log.locator(".gap")).to_have_count(0)
        assert bob.until(Chat).text == "from ann"

    def test_who_does_not_want_to_wait_tries_at_once(self, person: People, cable: Cable) -> None:
        ann = person("ann", port=cable.port)
        cable.cut()
        # The pauses grow.
        expect(ann.page.locator(".spinner")).to_have_attribute("data-seconds", re.compile("^[4-9]|..$"))
        cable.mend()
        ann.page.get_by_role("button", name="Try now").click()
        ann.sees_no_banner()

    def test_a_dead_connection_is_noticed_when_the_network_says_so(
        self, person: People, server: Server, cable: Cable
    ) -> None:
        bob = server.join("bob")
        ann = person("ann", port=cable.port)
        cable.fall_silent()
        say(bob, "into the void")
        ann.page.evaluate("() => dispatchEvent(new Event('offline'))")
        ann.sees_banner("onnect")
        cable.mend()
        ann.page.evaluate("() => dispatchEvent(new Event('online'))")
        # The server believes the old connection to be alive, so the name is held for a while.
        cable.cut()
        cable.mend()
        ann.sees("into the void")

    def test_a_browser_that_is_offline_comes_back_when_it_is_online(
        self, person: People, server: Server, cable: Cable
    ) -> None:
        bob = server.join("bob")
        ann = person("ann", port=cable.port)
        ann.context.set_offline(True)
        cable.cut()
        ann.sees_banner("Not connected")
        say(bob, "one", "two")
        cable.mend()
        ann.context.set_offline(False)
        ann.sees("one", "two")

    def test_more_than_is_replayed_is_filled_from_the_history(
        self, person: People, server: Server, cable: Cable
    ) -> None:
        bob = server.join("bob")
        ann = person("ann", port=cable.port)
        with away(ann, bob, cable):
            say(bob, *(f"meanwhile {n}" for n in range(600)))
        ann.sees_last("meanwhile 599")
        expect(ann.log.locator(".gap")).to_have_count(0)
        numbers = [int(text.split()[1]) for text in ann.texts if text != "before"]
        assert numbers == list(range(numbers[0], 600))


class TestWhatIsLost:
    def test_is_told_where_the_server_has_it_no_more(self, person: People) -> None:
        options = ("--history=memory", "--max-room-log-messages=10")
        with Server(*options) as server, Cable(server.port) as cable:
            bob = server.join("bob")
            ann = person("ann", port=cable.port)
            with away(ann, bob, cable):
                say(bob, *(f"meanwhile {n}" for n in range(30)))
            ann.sees("before", *(f"meanwhile {n}" for n in range(20, 30)))
            ann.sees_note("20 messages are missing here: the server has them no more.")


def restarted(server: Server, *options: str) -> Server:
    """The next server, once the last one has ended politely."""
    server.stop()
    return Server(*options)


class TestServerRestarts:
    def test_people_go_on_where_they_were_and_miss_nothing(self, person: People, tmp_path: Path) -> None:
        history = f"--history={tmp_path / 'chat.sqlite'}"
        with Server(history) as server, Cable(server.port) as cable:
            ann, bob = person("ann", port=cable.port), person("bob", port=cable.port)
            ann.type("one")
            bob.sees("one")
            bob.type("/msg ann two, in private")
            expect(ann.page.locator("#person-list .badge")).to_have_text("1 unread")
            server.stop()
            ann.sees_banner("Not connected: the server is shutting down.")
            ann.type("three, while it was away")
            bob.open_conversation("lobby")
            bob.type("four, too")
            with Server(history) as again:
                cable.mend(again.port)
                for somebody in (ann, bob):
                    somebody.sees_no_banner()
                    expect(somebody.log.locator(".message")).to_have_count(3)
                    expect(somebody.log.locator(".message.waiting")).to_have_count(0)
                assert ann.texts == bob.texts
                assert sorted(ann.texts) == ["four, too", "one", "three, while it was away"]
                expect(ann.log.locator(".anew, .gap")).to_have_count(0)
                ann.type("five")
                bob.sees_last("five")

    def test_one_that_has_forgotten_everything_is_told(self, person: People) -> None:
        with Server("--history=memory") as server, Cable(server.port) as cable:
            ann, bob = person("ann", port=cable.port), person("bob", port=cable.port)
            ann.type("one", "two")
            bob.sees("one", "two")
            with restarted(server, "--history=memory") as again:
                cable.mend(again.port)
                for somebody in (ann, bob):
                    somebody.sees_note("The server began anew here. What was said in between may be missing.")
                    expect(somebody.page.locator("#room-about")).to_have_text("2 people")
                bob.type("three")
                ann.sees("one", "two", "three")
                ann.page.reload()
                ann.sees("three")
                expect(ann.log.locator(".note", has_text="began anew")).to_have_count(0)

    def test_it_is_told_to_who_reloads_only_afterwards(self, person: People) -> None:
        with Server("--history=memory") as server, Cable(server.port) as cable:
            ann = person("ann", port=cable.port)
            ann.type("one")
            ann.sees("one")
            ann.page.goto("about:blank")
            with restarted(server, "--history=memory") as again:
                cable.mend(again.port)
                ann.page.goto(ann.url)
                ann.sees_note("The server began anew since you were here.")

    def test_private_messages_that_were_not_sent_are_sent(self, person: People, tmp_path: Path) -> None:
        history = f"--history={tmp_path / 'chat.sqlite'}"
        with Server(history) as server, Cable(server.port) as cable:
            ann = person("ann", port=cable.port)
            bob = server.join("bob")
            bob.send(Tell(1, "ann", "hello"))
            ann.open_conversation("bob")
            server.stop()
            ann.type("are you back?")
            with Server(history) as again:
                bob = again.join("bob")
                cable.mend(again.port)
                assert bob.until(Told).text == "are you back?"
                ann.sees("hello", "are you back?")


def test_a_lost_connection_is_announced_once_and_so_is_its_return(person: People, cable: Cable) -> None:
    ann = person("ann", port=cable.port)
    announcer = ann.page.locator("#announcer")
    ann.page.evaluate(
        """() => {
            window.announced = []
            const note = (changes) => changes.forEach(({ addedNodes }) =>
                addedNodes.forEach((node) => announced.push(node.textContent)))
            new MutationObserver(note).observe(document.getElementById("announcer"), { childList: true })
        }"""
    )
    cable.cut()
    expect(ann.page.locator(".spinner")).to_have_attribute("data-seconds", re.compile("^[3-9]$"))
    cable.mend()
    ann.sees_no_banner()
    expect(announcer).to_contain_text("Connected again.")
    lost, found = ann.page.evaluate("() => announced")
    assert lost.startswith("Not connected: ")
    assert found == "Connected again."


def test_what_is_announced_is_what_is_new_and_not_what_was_loaded(person: People, server: Server) -> None:
    bob = server.join("bob")
    say(bob, *(f"old {n}" for n in range(150)))
    ann = person("ann")
    ann.sees_last("old 149")
    announcer = ann.page.locator("#announcer")
    expect(announcer).to_be_empty()
    ann.log.evaluate("log => { log.scrollTop = 0 }")
    expect(ann.log.locator(".message")).to_have_count(150)
    expect(announcer).to_be_empty()
    ann.page.keyboard.press("Escape")
    say(bob, "new")
    expect(announcer).to_have_text("bob: new")
    expect(announcer).to_be_empty()
    say(bob, *(f"burst {n}" for n in range(30)))
    expect(announcer).to_have_text(re.compile("burst 0.*burst 1.*burst 2.*and 27 more messages"))
