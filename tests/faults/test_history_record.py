"""Whoever judges the durable history notices when it breaks its promise, on a real server too."""

from __future__ import annotations

import signal
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from faults.history_record import Record, Said
from faults.history_rounds import Rounds

from chatproto.wire.messages import Ack, Chat

PROGRAM = Path(__file__).with_name("history_defects.py")
LISTEN = ("--listen", "tcp:0:interface=127.0.0.1:backlog=1024")

MOST_ROUNDS = 10
"""In which a defect must have been noticed."""


def chat(seq: int, text: str, room: str = "a") -> Chat:
    return Chat(room, seq, 1_000 + seq, "ann", text)


@pytest.fixture
def record() -> Record:
    """Ann has said five things, of which the first two are acknowledged and the next two were seen."""
    record = Record()
    for number in range(1, 6):
        said = Said("a", "ann", number, f"text{number}")
        record.will_say(said)
        if number < 3:
            record.was_acknowledged(said, Ack(number, number, 1_000 + number))
        elif number < 5:
            record.was_seen(chat(number, said.text))
    return record


class TestRecord:
    """Each message of the history is a number: `1` stands for the text `text1`."""

    @pytest.mark.parametrize("texts", [[1, 2, 3, 4], [1, 2, 3, 4, 5]])
    def test_a_history_that_has_it_all_is_right(self, record: Record, texts: Sequence[int]) -> None:
        record.was_found("a", [chat(seq, f"text{text}") for seq, text in enumerate(texts, 1)])
        record.check()

    @pytest.mark.parametrize(
        ("texts", "fault"),
        [
            ([1, 2, 3], "lost"),
            ([], "lost"),
            ([1, 2, 4, 3], "used twice"),
            ([2, 1, 3, 4], "used twice"),
            ([1, 2, 3, 5, 4], "used twice"),
            ([1, 2, 3, 3], "there twice"),
            ([1, 2, 3, 6], "nobody said"),
        ],
    )
    def test_what_is_not_as_it_was_told_is_noticed(
        self, record: Record, texts: Sequence[int], fault: str
    ) -> None:
        def find() -> None:
            record.was_found("a", [chat(seq, f"text{text}") for seq, text in enumerate(texts, 1)])
            record.check()

        with pytest.raises(AssertionError, match=fault):
            find()

    def test_a_hole_is_noticed(self, record: Record) -> None:
        with pytest.raises(AssertionError, match="a hole"):
            record.was_found("a", [chat(1, "text1"), chat(3, "text2")])

    def test_another_time_is_noticed(self, record: Record) -> None:
        second = Chat("a", 2, 1_001, "ann", "text2")
        record.was_found("a", [chat(1, "text1"), second, chat(3, "text3"), chat(4, "text4")])
        with pytest.raises(AssertionError, match="used twice"):
            record.check()

    def test_another_receipt_is_noticed(self, record: Record) -> None:
        said = Said("a", "ann", 9, "text9")
        record.was_acknowledged(said, Ack(9, 7, 1_007))
        record.was_acknowledged(said, Ack(9, 7, 1_007))
        with pytest.raises(AssertionError, match="another receipt"):
            record.was_acknowledged(said, Ack(9, 8, 1_008))

    def test_what_was_refused_and_is_there_is_noticed(self, record: Record) -> None:
        said = Said("a", "ann", 6, "text6")
        record.will_say(said)
        record.was_refused(said)
        record.was_found("a", [chat(number, f"text{number}") for number in range(1, 6)])
        with pytest.raises(AssertionError, match="refused"):
            record.was_found("a", [chat(6, "text6")])

    def test_another_epoch_is_noticed(self, record: Record) -> None:
        record.opened(5)
        with pytest.raises(AssertionError, match="anew"):
            record.opened(6)

    def test_what_changed_later_is_noticed(self, record: Record) -> None:
        chats = [chat(seq, f"text{seq}") for seq in range(1, 5)]
        record.was_found("a", chats)
        record.check_again("a", chats)
        with pytest.raises(AssertionError, match="changed"):
            record.check_again("a", chats[1:])

    def test_a_piece_with_a_hole_is_noticed(self, record: Record) -> None:
        record.was_found("a", [chat(seq, f"text{seq}") for seq in range(1, 5)])
        record.check_run("a", [])
        record.check_run("a", ["text2", "text3"])
        for texts in (["text2", "text4"], ["text3", "text2"], ["text2", "text2"], ["text2", "x"], ["x"]):
            with pytest.raises(AssertionError):
                record.check_run("a", texts)


def run(rounds: Rounds) -> None:
    for _ in range(MOST_ROUNDS):
        rounds.round()
    rounds.finish()


@pytest.mark.parametrize(
    ("defect", "fault"),
    [
        ("acknowledges_before_it_commits", "lost|used twice|and gets|another receipt|status=2"),
        ("forgets_ids_over_a_restart", "another receipt"),
        ("leaves_out_a_number", "a hole|and gets"),
        ("begins_anew", "anew"),
        ("tells_in_another_order", "and gets"),
    ],
)
def test_a_defect_of_a_server_is_noticed(tmp_path: Path, defect: str, fault: str) -> None:
    command = [sys.executable, str(PROGRAM), defect, *LISTEN]
    rounds = Rounds(tmp_path / "chat.sqlite", command=command, n_speakers=20)
    with pytest.raises(AssertionError, match=fault):
        run(rounds)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        (
            "DELETE FROM messages WHERE place = (SELECT max(place) FROM messages)",
            "lost|used twice|and gets|another receipt|status=2",
        ),
        ("DELETE FROM messages WHERE place = (SELECT place FROM messages LIMIT 1 OFFSET 3)", "changed"),
        ("UPDATE messages SET text = 'x' WHERE place = (SELECT min(place) FROM messages)", "changed"),
        ("UPDATE messages SET id = 0", "another receipt"),
    ],
    ids=["newest deleted", "old one deleted", "altered", "ids forgotten"],
)
def test_a_file_that_was_tampered_with_is_noticed(tmp_path: Path, statement: str, fault: str) -> None:
    path = tmp_path / "chat.sqlite"
    rounds = Rounds(path, n_speakers=20)
    rounds.round()
    rounds.round(signal.SIGTERM)
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        assert file.execute(statement).rowcount > 0
    with pytest.raises(AssertionError, match=fault):
        rounds.finish()
