"""What operators did outlives the server, whatever happens to it or to its disk."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from rooms.pumped import PATIENCE_S, Pump
from twisted.internet.defer import Deferred

from chatproto.rooms.ledger import Act, Ledger, LedgerUnusable
from chatproto.rooms.moderation import Action, Kind, Rule, Target
from chatproto.testing import ChatInMemory
from chatproto.wire.messages import Error, Join, Login, Moderate, Notice

BAN = Rule(Action.BAN, "lobby", Target(Kind.NICK, "bob"), 60_000, "größe\n☕")
LOCK = Rule(Action.BAN, "tea", Target(Kind.ALL))
EVERYWHERE = Rule(Action.MUTE, "", Target(Kind.ADDRESS, "192.0.2.0/24"))


def act(target: str = "bob") -> Act:
    return Act("1970-01-01T00:00:00.000Z", "op", "ban", target, "lobby", 60, "größe\n☕")


class Kept:
    """A ledger in a folder, and the part of a reactor that it needs."""

    def __init__(self, folder: Path) -> None:
        self.rules_path = folder / "chat.rules"
        self.audit_path = folder / "audit"
        self.pump = Pump()
        self.ledger = self.open()

    def open(self) -> Ledger:
        return Ledger(self.pump, str(self.rules_path), str(self.audit_path))

    def wait(self, answer: Deferred[str]) -> str:
        found: list[str] = []
        answer.addCallback(found.append)
        self.pump.until(lambda: found)
        return found[0]

    def keep(self, *rules: Rule, target: str = "bob") -> str:
        return self.wait(self.ledger.keep(act(target), rules))

    def audited(self) -> list[str]:
        """The targets in the audit log."""
        return [json.loads(line)["target"] for line in self.audit_path.read_text().splitlines()]


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def test_rules_are_as_they_were_when_it_is_opened_again(kept: Kept) -> None:
    assert kept.ledger.rules == []
    assert kept.keep(BAN, LOCK, EVERYWHERE) == ""
    assert kept.open().rules == [BAN, LOCK, EVERYWHERE]
    assert kept.keep(LOCK) == ""
    assert kept.open().rules == [LOCK]
    assert kept.keep() == ""
    assert kept.open().rules == []


def test_each_act_is_one_line_that_nothing_in_it_breaks(kept: Kept) -> None:
    kept.keep(BAN)
    kept.keep(BAN, target="\x1b[2J\n{}\u2028")
    assert kept.audited() == ["bob", "\x1b[2J\n{}\u2028"]
    text = kept.audit_path.read_text()
    assert text.isascii()
    assert all(line.isprintable() for line in text.splitlines())
    assert json.loads(text.splitlines()[0]) == {
        "time": "1970-01-01T00:00:00.000Z",
        "operator": "op",
        "act": "ban",
        "target": "bob",
        "room": "lobby",
        "seconds": 60,
        "reason": "größe\n☕",
    }


def test_both_are_private_and_nothing_is_made_before_it_is_needed(kept: Kept) -> None:
    assert not kept.rules_path.exists()
    kept.keep()
    assert not kept.rules_path.exists()
    kept.keep(BAN)
    assert [path.stat().st_mode & 0o777 for path in (kept.rules_path, kept.audit_path)] == [0o600] * 2


def test_many_acts_at_once_are_kept_in_their_order(kept: Kept) -> None:
    answers = [kept.ledger.keep(act(str(number)), [BAN] * (number % 3)) for number in range(50)]
    assert {kept.wait(answer) for answer in answers} == {""}
    assert kept.audited() == [str(number) for number in range(50)]
    assert len(kept.open().rules) == 49 % 3


def test_it_is_closed_when_all_is_written(kept: Kept) -> None:
    kept.ledger.keep(act(), [BAN])
    closed: list[object] = []
    kept.ledger.close().addCallback(closed.append)
    assert closed == []
    kept.pump.until(lambda: closed)
    assert kept.open().rules == [BAN]
    Ledger(kept.pump).close().addCallback(closed.append)
    assert len(closed) == 2


def test_its_thread_ends_when_it_is_closed(kept: Kept) -> None:
    before = set(threading.enumerate())
    kept.keep(BAN)
    (thread,) = set(threading.enumerate()) - before
    kept.ledger.close()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_without_files_there_is_nothing_to_keep(tmp_path: Path, kept: Kept) -> None:
    assert kept.wait(Ledger(kept.pump).keep(act(), [BAN])) == ""
    assert [path.name for path in tmp_path.iterdir()] == ["audit"]


def test_an_audit_log_that_was_moved_away_is_begun_anew(kept: Kept) -> None:
    kept.keep(target="one")
    kept.audit_path.rename(f"{kept.audit_path}.1")
    kept.keep(target="two")
    assert kept.audited() == ["two"]


def test_half_a_line_of_a_crash_spoils_no_other(kept: Kept) -> None:
    kept.keep(target="one")
    with kept.audit_path.open("a") as file:
        file.write('{"time": "1970')
    kept.keep(target="two")
    lines = kept.audit_path.read_text().splitlines()
    assert [json.loads(line)["target"] for line in (lines[0], lines[2])] == ["one", "two"]


def test_rules_that_somebody_else_has_changed_are_not_written_over(kept: Kept) -> None:
    kept.keep(BAN)
    other = kept.open()
    assert kept.wait(other.keep(act(), [LOCK])) == ""
    trouble = kept.keep(EVERYWHERE)
    assert trouble.startswith("the rules cannot be written, another program has changed them")
    assert kept.open().rules == [LOCK]
    assert len(kept.audited()) == 3


def test_what_cannot_be_written_is_said_and_leaves_what_was_there(kept: Kept, tmp_path: Path) -> None:
    kept.keep(BAN)
    (tmp_path / "chat.rules-new").mkdir()  # in the way
    assert kept.keep(LOCK).startswith("the rules cannot be written, is a directory")
    assert kept.open().rules == [BAN]
    (tmp_path / "chat.rules-new").rmdir()
    assert kept.keep(LOCK) == ""
    assert kept.open().rules == [LOCK]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk_is_said(tmp_path: Path) -> None:
    pump = Pump()
    ledger = Ledger(pump, None, "/dev/full")
    found: list[str] = []
    ledger.keep(act(), []).addCallback(found.append)
    pump.until(lambda: found)
    assert found == ["the audit log cannot be written, no space left on device"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "they are damaged"),
        ("{", "they are damaged"),
        ("[]", "they are not this program's"),
        (
            '{"moderation": "chatproto", "version": 2, "rules": []}',
            "a newer version of this program made them",
        ),
        ('{"moderation": "chatproto", "version": 1}', "they are damaged"),
        ('{"moderation": "chatproto", "version": 1, "rules": [{"action": "ban"}]}', "a rule without 'kind'"),
    ],
)
def test_rules_that_cannot_be_read_are_refused_in_a_sentence(kept: Kept, text: str, reason: str) -> None:
    kept.rules_path.write_text(text)
    with pytest.raises(LedgerUnusable, match=rf"^the rules cannot be used, {reason}: {kept.rules_path}$"):
        kept.open()
    assert kept.rules_path.read_text() == text


def test_an_audit_log_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnusable, match="the audit log cannot be used, no such file or directory"):
        Ledger(Pump(), None, str(tmp_path / "missing" / "audit"))


class TestWithAHub:
    def chat(self, ledger: Ledger) -> ChatInMemory:
        return ChatInMemory(authenticate=lambda user, secret: True, operators=["op"], ledger=ledger)

    def test_bans_hold_after_a_restart_and_end_when_they_were_to(self, kept: Kept) -> None:
        chat = self.chat(kept.ledger)
        op = chat.connect()
        op.ask(Login("op", "x"), Join("op"), Moderate(2, "", "bob", 60, "spam"))
        kept.pump.until(lambda: op.got(Notice)[1:])
        assert op.got(Notice)[-1] == Notice("bob was banned from lobby for 60 s: spam")
        again = self.chat(kept.open())
        bob = again.join("bob")
        assert bob.got(Error)[0].text == "you are banned from lobby until 1970-01-01 00:01 UTC: spam"
        again.pass_time(60)
        assert again.join("bob").session.members

    def test_an_act_takes_effect_at_once_and_is_answered_when_it_is_kept(self, kept: Kept) -> None:
        chat = self.chat(kept.ledger)
        op, bob = chat.connect(), chat.join("bob")
        op.ask(Login("op", "x"), Join("op"), Moderate(2, "", "bob", 0, ""))
        assert bob.session.members == {}
        assert len(op.got(Notice)) == 1
        kept.pump.until(lambda: op.got(Notice)[1:])

    def test_an_operator_is_told_when_it_cannot_be_kept(self, kept: Kept, tmp_path: Path) -> None:
        (tmp_path / "chat.rules-new").mkdir()
        chat = self.chat(kept.ledger)
        op = chat.connect()
        op.ask(Login("op", "x"), Join("op"), Moderate(2, "", "bob", 0, ""))
        kept.pump.until(lambda: op.got(Notice)[1:])
        said = op.got(Notice)[-1].text
        assert said == "bob was banned from lobby; but the rules cannot be written, is a directory"
        assert chat.join("bob").session.members == {}
