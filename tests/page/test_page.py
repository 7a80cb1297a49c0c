"""People talk by the page, in a real browser, with a real server."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import pytest
from live import Server, patiently
from page.cable import Cable
from page.people import Person, say
from playwright.sync_api import expect

from chatproto.wire.messages import Chat, Left, Tell, Told

pytestmark = [pytest.mark.system, pytest.mark.slow]

People = Callable[..., Person]

WITH_ACCOUNTS = """
from twisted.internet import endpoints, reactor
from chatproto import ChatFactory, Hub
hub = Hub(reactor, authenticate=lambda user, secret: secret == "secret", login_required=True)
port = endpoints.serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(ChatFactory(hub))
port.addCallback(lambda port: print("listening on 127.0.0.1 port", port.getHost().port, flush=True))
reactor.run()
"""


class TestTalking:
    def test_two_people_hear_each_other(self, person: People) -> None:
        ann, bob = person("ann"), person("bob")
        expect(ann.page.locator("#people-list li")).to_have_text([re.compile("ann"), re.compile("bob")])
        ann.type("hello")
        bob.sees("hello")
        bob.type("hi ann", "how are you?")
        ann.sees("hello", "hi ann", "how are you?")
        expect(ann.log.locator(".nick")).to_have_text(["ann", "bob", "bob"])

    def test_with_everybody_else_on_the_port_too(self, person: People, server: Server) -> None:
        ann, bob = person("ann"), server.join("bob")
        say(bob, "from frames")
        ann.sees("from frames")
        ann.type("from a page")
        assert bob.until(Chat).text == "from a page"

    def test_who_comes_and_goes_is_told_in_one_line(self, person: People, server: Server) -> None:
        ann = person("ann")
        bob = server.join("bob")
        server.join("zoe").close()
        ann.sees_note("bob came · zoe came and left")
        expect(ann.page.locator("#room-about")).to_have_text("2 people")
        bob.close()
        expect(ann.page.locator("#room-about")).to_have_text("1 person")

    def test_lines_are_kept_and_shift_enter_begins_one(self, person: People, server: Server) -> None:
        ann, bob = person("ann"), server.join("bob")
        field = ann.page.locator("#composer-text")
        field.press_sequentially("one")
        field.press("Shift+Enter")
        field.press_sequentially("two")
        assert field.get_attribute("rows") == "2"
        field.press("Enter")
        assert bob.until(Chat).text == "one\ntwo"
        ann.sees("one\ntwo")
        assert field.input_value() == ""

    def test_enter_in_an_input_method_is_the_method_s_own(self, person: People) -> None:
        ann = person("ann")
        field = ann.page.locator("#composer-text")
        field.focus()
        devtools = ann.context.new_cdp_session(ann.page)
        devtools.send("Input.imeSetComposition", {"text": "こん", "selectionStart": 2, "selectionEnd": 2})
        devtools.send(
            "Input.dispatchKeyEvent", {"type": "rawKeyDown", "key": "Enter", "windowsVirtualKeyCode": 229}
        )
        assert ann.texts == []
        devtools.send("Input.insertText", {"text": "こんにちは"})
        field.press("Enter")
        ann.sees("こんにちは")

    def test_what_one_does_is_shown_so(self, person: People, server: Server) -> None:
        ann, bob = person("ann"), server.join("bob")
        ann.type("/me waves")
        assert bob.until(Chat).text == "/me waves"
        expect(ann.log.locator(".action .text")).to_have_text("ann waves")

    def test_a_message_that_is_refused_says_why_and_can_be_taken_back(self, person: People) -> None:
        ann = person("ann")
        ann.type("x" * 5_000)
        state = ann.log.locator(".refused .state")
        expect(state).to_contain_text("Not sent: The message is longer than 4096 bytes")
        state.get_by_text("Take back").click()
        expect(ann.log.locator(".message")).to_have_count(0)
        assert ann.page.locator("#composer-text").input_value() == "x" * 5_000
        ann.type("shorter")
        ann.sees("shorter")

    def test_a_message_to_nobody_can_be_tried_again(self, person: People, server: Server) -> None:
        ann = person("ann")
        ann.type("/msg bob are you there?")
        expect(ann.log.locator(".refused")).to_have_count(1)
        bob = server.join("bob")
        ann.log.get_by_text("Try again").click()
        assert bob.until(Told).text == "are you there?"
        ann.sees("are you there?")

    def test_one_s_name_in_a_message_is_marked(self, person: People, server: Server) -> None:
        ann, bob = person("ann"), server.join("bob")
        say(bob, "Ann, look", "annual report", "thanks @ann!")
        ann.sees_last("thanks @ann!")
        expect(ann.log.locator(".for-me")).to_have_count(2)
        expect(ann.log.locator(".mention")).to_have_text(["Ann", "ann"])

    def test_names_are_completed_behind_an_at(self, person: People, server: Server) -> None:
        _barbara = server.join("barbara")
        ann = person("ann")
        field = ann.page.locator("#composer-text")
        field.press_sequentially("hi @BAR")
        field.press("Tab")
        assert field.input_value() == "hi @barbara "

    def test_times_are_those_of_the_reader_s_zone(self, person: People, server: Server) -> None:
        say(server.join("bob"), "now")
        shown = []
        for zone in ("Asia/Tokyo", "America/New_York"):
            time = person(f"in{zone[-5:]}", timezone_id=zone).log.locator(".head time")
            shown.append((time.inner_text(), time.get_attribute("datetime")))
        (tokyo, tokyo_exact), (york, york_exact) = shown
        assert tokyo != york
        assert tokyo_exact == york_exact
        assert re.fullmatch(r"\d\d:\d\d", tokyo)


class TestTextFromOthers:
    HOSTILE = (
        "<script>alert(1)</script>",
        '<img src=x onerror="alert(1)">',
        "javascript:alert(1) data:text/html,<b>x</b>",
        'https://e.example/"onmouseover="alert(1)',
        "\u202egnp.exe \u2066x \u200f y",
        "</p></div><style>*{display:none}</style>&lt;&amp;",
        "a\u0300\u0301\u0302\u0303" * 20,
    )

    def test_is_shown_as_text(self, person: People, server: Server) -> None:
        ann, bob = person("ann"), server.join("bob")
        say(bob, *self.HOSTILE)
        ann.sees_last(self.HOSTILE[-1])
        found = ann.log.locator(".message .text").evaluate_all("rows => rows.map(row => row.textContent)")
        assert found == list(self.HOSTILE)
        inside = ann.log.locator(".message .text *").evaluate_all("all => all.map(one => one.localName)")
        assert set(inside) <= {"a"}

    def test_is_shown_as_text_to_who_comes_later_and_where_it_is_searched(
        self, person: People, server: Server
    ) -> None:
        say(server.join("bob"), *(f"word {text}" for text in self.HOSTILE))
        ann = person("ann")
        ann.type("/search word")
        found = ann.page.locator("#search-found .text")
        expect(found).to_have_count(len(self.HOSTILE))
        assert found.evaluate_all("rows => rows.map(row => row.textContent)") == [
            f"word {text}" for text in reversed(self.HOSTILE)
        ]

    @pytest.mark.parametrize(
        ("text", "links"),
        [
            ("see https://a.example/x.", ["https://a.example/x"]),
            (
                "(https://a.example/x_(y)) and HTTP://B.example!",
                ["https://a.example/x_(y)", "HTTP://B.example"],
            ),
            ("https://a.example/?q=1&r=2#top, then", ["https://a.example/?q=1&r=2#top"]),
            ("https://bank.example@evil.example/", []),
            ("https:// ftp://a.example file:///etc javascript:x xhttps://a.example", []),
            ("https://a.example/\u202egnp", ["https://a.example/"]),
            ("https://münchen.example/ä", ["https://münchen.example/ä"]),
        ],
    )
    def test_has_links_that_are_safe_to_follow(
        self, person: People, server: Server, text: str, links: list[str]
    ) -> None:
        say(server.join("bob"), text)
        ann = person("ann")
        ann.sees_last(text)
        found = ann.log.locator(".text a")
        expect(found).to_have_text(links)
        for index in range(len(links)):
            link = found.nth(index)
            assert re.match("https?://", link.get_attribute("href") or "")
            assert link.get_attribute("target") == "_blank"
            assert set((link.get_attribute("rel") or "").split()) == {"noopener", "noreferrer", "nofollow"}

    def test_the_host_of_a_link_is_shown_as_it_is_asked_for(self, person: People, server: Server) -> None:
        say(server.join("bob"), "https://аpple.example/")  # with a Cyrillic first letter
        ann = person("ann")
        expect(ann.log.locator(".text a")).to_have_attribute("title", re.compile(r"https://xn--"))


class TestRooms:
    def test_are_entered_and_left(self, person: People, server: Server) -> None:
        ann, bob = person("ann"), server.join("bob", "ops")
        ann.type("/join ops")
        expect(ann.page.locator("#room-name")).to_have_text("ops")
        ann.type("hello ops")
        assert bob.until(Chat).room == "ops"
        ann.type("/leave")
        expect(ann.page.locator("#room-list .tab")).to_have_count(1)
        expect(ann.page.locator("#room-name")).to_have_text("lobby")

    def test_are_entered_by_the_form_at_the_side_and_by_their_address(self, person: People) -> None:
        ann = person("ann")
        ann.page.get_by_label("Room to enter").fill("ops & co")
        ann.page.keyboard.press("Enter")
        ann.sees_note("The name of a room cannot contain a blank")
        ann.page.get_by_label("Room to enter").fill("ops")
        ann.page.keyboard.press("Enter")
        expect(ann.page.locator("#room-name")).to_have_text("ops")
        assert ann.page.url.endswith("/#ops")
        bob = person(url=ann.page.url)
        expect(bob.page.locator("h1:visible")).to_have_text("Join ops")
        bob.enter("bob")
        expect(bob.page.locator("#room-name")).to_have_text("ops")

    def test_what_was_not_read_is_counted_and_marked_with_a_line(
        self, person: People, server: Server
    ) -> None:
        ann, bob = person("ann"), server.join("bob")
        say(bob, "before")
        ann.sees("before")
        ann.type("/join ops")
        expect(ann.page.locator("#room-name")).to_have_text("ops")
        say(bob, "one", "two, ann")
        badge = ann.page.locator("#room-list .tab", has_text="lobby").locator(".badge")
        expect(badge).to_have_text("2 unread")
        expect(badge).to_have_class(re.compile("for-me"))
        expect(ann.page).to_have_title("(2) ops · chat")
        ann.open_conversation("lobby")
        expect(badge).to_be_hidden()
        expect(ann.page).to_have_title("lobby · chat")
        rows = ann.log.locator(".message, .new-line").evaluate_all(
            "all => all.map(one => one.matches('.new-line') ? '-' : one.querySelector('.text').textContent)"
        )
        assert rows == ["before", "-", "one", "two, ann"]

    def test_alt_and_the_arrows_go_from_one_to_the_next(self, person: People) -> None:
        ann = person("ann")
        ann.type("/join ops")
        expect(ann.page.locator("#room-name")).to_have_text("ops")
        ann.page.keyboard.press("Alt+ArrowUp")
        expect(ann.page.locator("#room-name")).to_have_text("lobby")
        ann.page.keyboard.press("Alt+ArrowUp")
        expect(ann.page.locator("#room-name")).to_have_text("ops")

    def test_what_was_written_and_not_sent_stays_with_its_room(self, person: People) -> None:
        ann = person("ann")
        ann.page.locator("#composer-text").fill("for the lobby")
        ann.page.get_by_label("Room to enter").fill("ops")
        ann.page.keyboard.press("Enter")
        expect(ann.page.locator("#room-name")).to_have_text("ops")
        assert ann.page.locator("#composer-text").input_value() == ""
        ann.open_conversation("lobby")
        assert ann.page.locator("#composer-text").input_value() == "for the lobby"


class TestPrivateMessages:
    def test_are_told_and_answered_in_a_conversation_of_their_own(
        self, person: People, server: Server
    ) -> None:
        ann, bob = person("ann"), server.join("bob")
        bob.send(Tell(1, "ann", "psst"))
        tab = ann.page.locator("#person-list .tab")
        expect(tab.locator(".badge")).to_have_text("1 unread")
        ann.open_conversation("bob")
        ann.sees("psst")
        ann.type("what?")
        assert bob.until(Told).text == "what?"
        ann.sees("psst", "what?")

    def test_begin_with_a_name_in_the_list_of_people(self, person: People, server: Server) -> None:
        bob = server.join("bob")
        ann = person("ann")
        ann.page.locator("#people-list button", has_text="bob").click()
        expect(ann.page.locator("#room-name")).to_have_text("bob")
        ann.type("hello")
        assert bob.until(Told).text == "hello"

    def test_are_still_there_after_a_reload(self, person: People, server: Server) -> None:
        ann, bob = person("ann"), server.join("bob")
        bob.send(Tell(1, "ann", "psst"))
        ann.open_conversation("bob")
        ann.type("what?")
        ann.sees("psst", "what?")
        ann.page.reload()
        ann.open_conversation("bob")
        ann.sees("psst", "what?")
        expect(ann.page.locator("#person-list .badge")).to_be_hidden()


class TestHistory:
    def test_is_loaded_by_scrolling_up_and_what_is_seen_stays_where_it_is(
        self, person: People, server: Server
    ) -> None:
        say(server.join("bob"), *(f"message {n}" for n in range(1, 301)))
        ann = person("ann")
        ann.sees_last("message 300")
        assert len(ann.texts) == 100
        ann.log.evaluate("log => { log.scrollTop = 350 }")
        first = ann.log.locator(".message").first
        expect(first).to_contain_text("message 141")
        mark = ann.log.locator(".message", has_text="message 215")
        mark.scroll_into_view_if_needed()
        before = mark.bounding_box()
        ann.log.evaluate("log => { log.scrollTop -= 1 }")
        ann.page.wait_for_timeout(200)
        after = mark.bounding_box()
        assert before is not None
        assert after is not None
        assert abs(after["y"] - before["y"]) <= 2
        for _ in patiently():
            ann.log.evaluate("log => { log.scrollTop = 0 }")
            if ann.texts[0] == "message 1":
                break
        assert ann.texts == [f"message {n}" for n in range(1, 301)]
        expect(ann.log.locator(".loading")).to_have_count(0)

    def test_is_not_kept_in_the_page_without_end(self, person: People, server: Server) -> None:
        ann, bob = person("ann"), server.join("bob")
        say(bob, *(f"message {n}" for n in range(1, 901)))
        ann.sees_last("message 900")
        assert len(ann.texts) <= 400
        # All of it can still be read.
        ann.log.evaluate("log => { log.scrollTop = 0 }")
        first = ann.log.locator(".message .text").first
        for _ in patiently():
            if first.inner_text() == "message 1":
                break
            ann.log.evaluate("log => { log.scrollTop = 0 }")
        expect(first).to_have_text("message 1")
        ann.page.keyboard.press("Escape")
        ann.sees_last("message 900")

    def test_who_reads_it_is_not_moved_by_what_is_said_and_can_go_to_it(
        self, person: People, server: Server
    ) -> None:
        bob = server.join("bob")
        say(bob, *(f"message {n}" for n in range(1, 101)))
        ann = person("ann")
        ann.sees_last("message 100")
        ann.log.evaluate("log => { log.scrollTop = 600 }")
        mark = ann.log.locator(".message", has_text="message 20")
        expect(ann.page.locator("#newest")).to_have_text("Newest messages")
        before = mark.bounding_box()
        say(bob, "new one", "new two")
        expect(ann.page.locator("#newest")).to_have_text("2 new messages")
        assert mark.bounding_box() == before
        expect(ann.page).to_have_title("(2) lobby · chat")
        ann.page.locator("#newest").click()
        expect(ann.page.locator("#newest")).to_be_hidden()
        expect(ann.page).to_have_title("lobby · chat")
        expect(ann.log.locator(".message").last).to_be_in_viewport()

    def test_is_searched_and_what_is_found_is_shown_where_it_was_said(
        self, person: People, server: Server
    ) -> None:
        bob = server.join("bob")
        say(bob, *(f"message {n}" for n in range(1, 50)), "a needle", *(f"more {n}" for n in range(1, 300)))
        ann = person("ann")
        ann.page.get_by_label("Search this room").click()
        ann.page.get_by_label("Words to search for").fill("needle")
        ann.page.keyboard.press("Enter")
        expect(ann.page.locator("#search-count")).to_have_text("1 message")
        ann.page.locator("#search-found button").click()
        needle = ann.log.locator(".message", has_text="a needle")
        expect(needle).to_be_in_viewport()
        expect(ann.log.locator(".message", has_text="message 49")).to_be_in_viewport()
        # From there one reads on to the newest without a gap.
        for _ in patiently():
            if ann.texts[-1] == "more 299":
                break
            ann.log.evaluate("log => { log.scrollTop = log.scrollHeight }")
        texts = ann.texts
        assert texts[texts.index("a needle") :] == ["a needle", *(f"more {n}" for n in range(1, 300))]
        say(bob, "live again")
        ann.sees_last("live again")


class TestCommands:
    @pytest.mark.parametrize(
        ("line", "answer"),
        [
            ("/who", "In lobby: ann, bob"),
            ("/nick b@d", "A nickname cannot contain"),
            ("/nick bob", "bob is taken"),
            ("/nonsense", "There is no command /nonsense"),
            ("/msg bob", "/msg needs a name and what to say"),
            ("/join", "/join needs a room"),
            ("/kick bob", "only operators may do that"),
        ],
    )
    def test_answer(self, person: People, server: Server, line: str, answer: str) -> None:
        _bob = server.join("bob")
        ann = person("ann")
        ann.type(line)
        ann.sees_note(answer)

    def test_a_slash_can_be_said(self, person: People, server: Server) -> None:
        ann, bob = person("ann"), server.join("bob")
        ann.type("//help is a command")
        assert bob.until(Chat).text == "/help is a command"

    def test_help_shows_them_all(self, person: People) -> None:
        ann = person("ann")
        ann.type("/help")
        help = ann.page.get_by_role("dialog", name="Commands and keys")
        expect(help).to_contain_text("/msg NAME TEXT")
        ann.page.keyboard.press("Escape")
        expect(help).to_be_hidden()

    def test_nick_changes_the_name(self, person: People, server: Server) -> None:
        ann, bob = person("ann"), server.join("bob")
        ann.type("/nick anna")
        expect(ann.page.locator("#own-nick")).to_have_text("anna")
        ann.sees_note("You are anna now.")
        ann.type("it is me")
        assert bob.until(Chat).nick == "anna"
        ann.page.reload()
        expect(ann.page.locator("#own-nick")).to_have_text("anna")

    def test_quit_leaves_and_leads_to_the_door(self, person: People, server: Server) -> None:
        ann, bob = person("ann"), server.join("bob")
        ann.type("/quit")
        expect(ann.page.get_by_label("Your name here")).to_have_value("ann")
        assert bob.until(Left).reason == "left"
        ann.page.reload()
        expect(ann.page.get_by_label("Your name here")).to_be_visible()
        ann.enter("ann")

    def test_quit_takes_back_what_was_not_said_yet(self, person: People, server: Server) -> None:
        bob = server.join("bob")
        with Cable(server.port) as cable:
            ann = person("ann", port=cable.port)
            cable.cut()
            ann.sees_banner("Not connected")
            ann.type("never mind")
            expect(ann.log.locator(".waiting")).to_have_count(1)
            ann.type("/quit")
            cable.mend()
            ann.enter("anna")
            ann.type("something else")
            assert bob.until(Chat).text == "something else"


class TestTheDoor:
    def test_a_name_that_is_taken_is_said_at_the_field_and_another_one_offered(
        self, person: People, server: Server
    ) -> None:
        _ann = server.join("ann")
        me = person()
        field = me.page.get_by_label("Your name here")
        field.fill("ann")
        field.press("Enter")
        expect(me.page.get_by_role("alert")).to_contain_text("ann is taken")
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(field).to_be_focused()
        me.page.get_by_role("button", name="Enter as ann2").click()
        expect(me.page.locator("#own-nick")).to_have_text("ann2")

    def test_a_name_that_is_not_allowed_is_said_at_the_field(self, person: People) -> None:
        me = person()
        field = me.page.get_by_label("Your name here")
        field.fill("two words")
        field.press("Enter")
        expect(me.page.get_by_role("alert")).not_to_be_empty()
        expect(me.page.locator("#entry-other")).to_be_hidden()
        me.enter("word")

    def test_a_server_that_is_away_is_said_and_waited_for(self, person: People, server: Server) -> None:
        with Cable(server.port) as cable:
            me = person(port=cable.port)
            cable.cut()
            field = me.page.get_by_label("Your name here")
            field.fill("ann")
            field.press("Enter")
            expect(me.page.get_by_role("alert")).to_contain_text("Not connected")
            cable.mend()
            expect(me.page.locator("#own-nick")).to_have_text("ann")

    def test_an_account_is_asked_for_where_the_server_wants_one(self, person: People) -> None:
        with Server(command=[sys.executable, "-c", WITH_ACCOUNTS]) as server:
            me = person(port=server.port)
            expect(me.page.get_by_label("Password")).to_be_hidden()
            me.page.get_by_label("Your name here").fill("ann")
            me.page.keyboard.press("Enter")
            expect(me.page.get_by_role("alert")).to_contain_text("log in")
            me.page.get_by_label("Account").fill("root")
            me.page.get_by_label("Password").fill("wrong")
            me.page.keyboard.press("Enter")
            expect(me.page.get_by_role("alert")).to_contain_text("wrong user or secret")
            me.page.get_by_label("Password").fill("secret")
            me.page.keyboard.press("Enter")
            expect(me.page.locator("#own-nick")).to_have_text("ann")
            me.type("hello")
            me.sees("hello")

    def test_a_second_tab_is_told_that_the_name_is_in_use(self, person: People) -> None:
        ann = person("ann")
        second = ann.open_tab()
        field = second.get_by_label("Your name here")
        expect(field).to_have_value("ann")
        field.press("Enter")
        second.get_by_role("button", name="Enter as ann2").click()
        expect(second.locator("#own-nick")).to_have_text("ann2")

    def test_a_copy_of_a_tab_is_told_at_once(self, person: People) -> None:
        ann = person("ann")
        with ann.context.expect_page() as opened:
            ann.page.evaluate("() => void open(location.href)")  # a window that this one opens has a copy
        copy = opened.value
        expect(copy.get_by_role("alert")).to_contain_text("ann is taken")
        expect(copy.get_by_role("button", name="Enter as ann2")).to_be_visible()
