"""`python -m chatproto.history`: out of a history and into one again, copies, and whether all is well."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rooms.pumped import PumpedLog

from chatproto.history.__main__ import HistoryRefused, back_up, check, export, import_lines, main
from chatproto.history.file import HistoryUnusable, place_of
from chatproto.history.ids import KnownIds
from chatproto.limits import HistoryLimits
from chatproto.wire.messages import Chat


class Folder:
    """Where the histories of a test lie."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.logs: list[PumpedLog] = []

    def __getitem__(self, name: str) -> str:
        return str(self.path / name)

    def open(self, name: str = "history", **bounds: float) -> PumpedLog:
        history = HistoryLimits(**bounds)  # type: ignore[arg-type]
        log = PumpedLog(self[name], history=history, wall_clock=lambda: 1_700_000_000.0)
        self.logs.append(log)
        return log

    def say(self, *said: tuple[str, str], name: str = "history") -> None:
        log = self.open(name)
        for room, text in said:
            log.say(room, text)
        log.close_now()

    def all(self, name: str, *rooms: str) -> dict[str, list[Chat]]:
        log = self.open(name)
        found = {room: log.all(room) for room in rooms}
        log.close_now()
        return found


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    folder = Folder(tmp_path)
    yield folder
    for log in folder.logs:
        log.close_now()


SAID = [("a", "one"), ("b", "größe ☕\nline"), ("a", "two"), ("c", "\U0001f600" * 100)]


class TestExport:
    def test_messages_come_as_they_were_said(self, folder: Folder) -> None:
        folder.say(*SAID)
        head, *messages = export(folder["history"])
        assert head.keys() == {"history", "version", "epoch"}
        assert [(line["room"], line["seq"], line["text"]) for line in messages] == [
            ("a", 1, "one"),
            ("a", 2, "two"),
            ("b", 1, "größe ☕\nline"),
            ("c", 1, "\U0001f600" * 100),
        ]
        assert {line["time"] for line in messages} == {1_700_000_000_000}
        assert {line["nick"] for line in messages} == {"ann"}

    def test_a_server_may_go_on_meanwhile(self, folder: Folder) -> None:
        log = folder.open()
        for number in range(2_500):
            log.append("a", "ann", "ann", 0, f"text {number}", 1)
        log.settle()
        lines = export(folder["history"])
        found = [next(lines)]
        log.say("a", "later")
        found += lines
        assert [line["seq"] for line in found[1:]] == list(range(1, 2_502))

    def test_what_comes_out_goes_in_again(self, folder: Folder) -> None:
        folder.say(*SAID)
        lines = [json.dumps(line) for line in export(folder["history"])]
        assert import_lines(folder["other"], lines) == 4
        assert folder.all("other", "a", "b", "c") == folder.all("history", "a", "b", "c")
        assert [json.dumps(line) for line in export(folder["other"])] == lines
        assert folder.open("other").epoch == folder.open("history").epoch

    def test_numbers_go_on_where_messages_were_removed(self, folder: Folder) -> None:
        log = folder.open(max_history_room_messages=2)
        for room, count in (("a", 5), ("b", 1)):
            for _ in range(count):
                log.say(room)
        log.pump.until(lambda: log.look("a") == (4, 5))
        log.close_now()
        with closing(sqlite3.connect(folder["history"])) as file, file:
            file.execute("INSERT INTO rooms VALUES (3, 'c', 7)")
        import_lines(folder["other"], map(json.dumps, export(folder["history"])))
        other = folder.open("other")
        assert [other.look(room) for room in "abc"] == [(4, 5), (1, 1), (8, 7)]
        assert [other.say(room).seq for room in "abc"] == [6, 2, 8]

    @settings(max_examples=15)
    @given(
        said=st.lists(
            st.tuples(
                st.sampled_from(["a", "größe", "c"]),
                st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30),
            ),
            max_size=20,
        )
    )
    def test_whatever_was_said_comes_out_and_goes_in(
        self, tmp_path_factory: pytest.TempPathFactory, said: list[tuple[str, str]]
    ) -> None:
        folder = Folder(tmp_path_factory.mktemp("history"))
        folder.say(*said)
        lines = list(export(folder["history"]))
        assert import_lines(folder["other"], map(json.dumps, lines)) == len(said)
        assert list(export(folder["other"])) == lines
        assert check(folder["other"])[2] == []


def message(**changed: Any) -> dict[str, Any]:
    return {"room": "a", "seq": 1, "time": 1, "nick": "ann", "text": "x"} | changed


class TestImport:
    def lines(self, *found: object) -> list[str]:
        return [line if isinstance(line, str) else json.dumps(line) for line in found]

    def test_messages_without_numbers_get_the_next(self, folder: Folder) -> None:
        folder.say(("a", "one"))
        later = [{"room": room, "time": 2 * 10**12, "nick": "bob", "text": "x"} for room in ("a", "b", "a")]
        assert import_lines(folder["history"], self.lines(*later)) == 3
        found = folder.all("history", "a", "b")
        assert [(chat.seq, chat.nick) for chat in found["a"]] == [(1, "ann"), (2, "bob"), (3, "bob")]
        assert [chat.seq for chat in found["b"]] == [1]

    def test_what_is_imported_can_be_searched_for(self, folder: Folder) -> None:
        import_lines(folder["history"], self.lines(message(text="Größe")))
        log = folder.open()
        log.look("a")
        assert list(log.answer(log.search("a", ["grosse"], 9)).seqs) == [1]

    def test_a_server_need_not_read_all_of_it_to_begin(self, folder: Folder) -> None:
        later = ({"room": "a", "time": n, "nick": "bob", "text": "x"} for n in range(20_000))
        import_lines(folder["history"], map(json.dumps, later))
        steps = 0

        def step() -> None:
            nonlocal steps
            steps += 1

        with closing(sqlite3.connect(folder["history"])) as connection:
            connection.set_progress_handler(step, 100)
            KnownIds(1_000).load(connection)
        assert steps < 20

    def test_what_was_said_before_keeps_its_id(self, folder: Folder) -> None:
        log = folder.open()
        receipts = [log.say("a", "x", id=id) for id in range(1, 3_000)]
        log.close_now()
        later = {"room": "a", "time": 1_700_000_000_001, "nick": "bob", "text": "x"}
        import_lines(folder["history"], self.lines(later))
        log = folder.open()
        assert [log.say("a", "x", id=id) for id in (1, 2_000, 2_999)] == [
            receipts[id - 1] for id in (1, 2_000, 2_999)
        ]

    def test_a_room_may_begin_later(self, folder: Folder) -> None:
        import_lines(folder["history"], self.lines(message(seq=5), message(seq=6)))
        assert folder.open().look("a") == (5, 6)

    def test_an_epoch_that_is_there_stays(self, folder: Folder) -> None:
        folder.say(("a", "one"))
        epoch = folder.open().epoch
        folder.logs[-1].close_now()
        head = {"history": "chatproto", "version": 1, "epoch": 99}
        import_lines(folder["history"], self.lines(head, message(room="b")))
        assert folder.open().epoch == epoch

    def test_empty_lines_mean_nothing(self, folder: Folder) -> None:
        assert import_lines(folder["history"], ["\n", json.dumps(message()), "  "]) == 1

    @pytest.mark.parametrize(
        "line",
        [
            "nonsense",
            '{"room": "a"',
            "[]",
            "7",
            {},
            message(room=7),
            message(room=""),
            message(room="two words"),
            message(seq=0),
            message(seq=-1),
            message(seq=True),
            message(seq=1.0),
            message(seq="1"),
            message(seq=2**40),
            message(seq=3),
            message(time=-1),
            message(time=2**53),
            message(time=None),
            message(nick=""),
            message(nick="a\nb"),
            message(nick=None),
            message(text=""),
            message(text="\x07"),
            message(text="\ud800"),
            message(text="x" * 70_000),
            message(text=["x"]),
            {"room": "a", "removed": 9},
            {"room": "b", "removed": 0},
            {"room": "b", "removed": 2**40},
            {"history": "other", "version": 1, "epoch": 1},
            {"history": "chatproto", "version": 2, "epoch": 1},
            {"history": "chatproto"},
        ],
        ids=repr,
    )
    def test_what_makes_no_sense_is_said_with_its_line_and_nothing_is_imported(
        self, folder: Folder, line: object
    ) -> None:
        good = message(seq=1, time=5)
        with pytest.raises(HistoryRefused, match=r"^line 3: [^\n]*[^.\n]$"):
            import_lines(folder["history"], self.lines(good, message(room="b"), line))
        assert not [name for name in os.listdir(folder.path) if not name.endswith("-lock")]
        folder.say(("a", "one"))
        before = list(export(folder["history"]))
        with pytest.raises(HistoryRefused, match=r"^line 2: "):
            import_lines(folder["history"], self.lines(message(room="b"), line if line != {} else "[]"))
        assert list(export(folder["history"])) == before

    def test_a_number_that_is_there_is_refused(self, folder: Folder) -> None:
        folder.say(("a", "one"))
        with pytest.raises(HistoryRefused, match="the next message of that room would be 2, not 1"):
            import_lines(folder["history"], self.lines(message()))

    def test_a_message_that_is_older_than_the_one_before_is_refused(self, folder: Folder) -> None:
        folder.say(("a", "one"))
        with pytest.raises(HistoryRefused, match="older than the message before it"):
            import_lines(folder["history"], self.lines(message(seq=2)))
        with pytest.raises(HistoryRefused, match="line 2"):
            import_lines(folder["new"], self.lines(message(time=9), message(seq=2, time=8)))

    def test_a_history_in_use_is_not_imported_into(self, folder: Folder) -> None:
        log = folder.open()
        with pytest.raises(HistoryUnusable, match="another server is writing to it"):
            import_lines(folder["history"], self.lines(message()))
        assert log.say("a").seq == 1

    def test_a_file_that_is_no_history_is_left_as_it_is(self, folder: Folder) -> None:
        Path(folder["text"]).write_text("dear diary")
        with pytest.raises(HistoryUnusable):
            import_lines(folder["text"], self.lines(message()))
        assert Path(folder["text"]).read_text() == "dear diary"


class TestBackup:
    def test_a_copy_is_the_same(self, folder: Folder) -> None:
        folder.say(*SAID)
        back_up(folder["history"], folder["copy"])
        assert list(export(folder["copy"])) == list(export(folder["history"]))
        assert check(folder["copy"]) == (4, 3, [])
        assert os.stat(folder["copy"]).st_mode & 0o077 == 0

    def test_a_copy_is_made_while_the_server_is_writing(self, folder: Folder) -> None:
        log = folder.open()
        for number in range(2_000):
            log.append("a", "ann", "ann", 0, f"text {number}", 1)
        log.pump.until(lambda: log.owed < 2_000)
        back_up(folder["history"], folder["copy"])
        log.settle()
        messages, _, faults = check(folder["copy"])
        assert faults == []
        assert 0 < messages <= 2_000
        assert [line["seq"] for line in export(folder["copy"]) if "seq" in line] == list(
            range(1, messages + 1)
        )
        assert log.say("a").seq == 2_001

    def test_a_server_can_go_on_with_a_copy(self, folder: Folder) -> None:
        folder.say(*SAID)
        back_up(folder["history"], folder["copy"])
        assert folder.open("copy").say("a").seq == 3

    def test_nothing_is_overwritten(self, folder: Folder) -> None:
        folder.say(*SAID)
        Path(folder["copy"]).write_text("precious")
        with pytest.raises(HistoryRefused, match="there is a file already"):
            back_up(folder["history"], folder["copy"])
        assert Path(folder["copy"]).read_text() == "precious"

    def test_what_cannot_be_made_leaves_nothing(self, folder: Folder) -> None:
        folder.say(*SAID)
        with pytest.raises(HistoryRefused, match="the copy could not be made, no such file or directory"):
            back_up(folder["history"], folder["missing/copy"])
        with pytest.raises(HistoryUnusable, match=r"no such file|cannot be opened"):
            back_up(folder["nowhere"], folder["copy"])
        assert sorted(os.listdir(folder.path)) == ["history", "history-lock"]


class TestCheck:
    def broken(self, folder: Folder, *statements: str) -> list[str]:
        """What is found after the file was tampered with."""
        folder.say(*SAID, ("a", "three"))
        with closing(sqlite3.connect(folder["history"])) as file, file:
            for statement in statements:
                file.execute(statement)
        return check(folder["history"])[2]

    def test_all_is_well(self, folder: Folder) -> None:
        assert self.broken(folder) == []
        assert check(folder["history"]) == (5, 3, [])

    def test_an_empty_history_is_well(self, folder: Folder) -> None:
        folder.say()
        assert check(folder["history"]) == (0, 0, [])

    @pytest.mark.parametrize("seq", [1, 2])
    def test_a_hole_is_found(self, folder: Folder, seq: int) -> None:
        faults = self.broken(folder, f"DELETE FROM messages WHERE place = {place_of(1, seq)}")
        assert faults == ["messages are missing in the room 'a'"]

    def test_time_that_goes_back_is_found(self, folder: Folder) -> None:
        faults = self.broken(folder, f"UPDATE messages SET time_ms = 1 WHERE place = {place_of(1, 2)}")
        assert faults == ["time goes back in the room 'a'"]

    def test_messages_of_no_room_are_found(self, folder: Folder) -> None:
        assert self.broken(folder, "DELETE FROM rooms WHERE name = 'b'") == ["1 messages are in no room"]

    def test_words_that_are_not_indexed_are_found(self, folder: Folder) -> None:
        faults = self.broken(
            folder, f"INSERT INTO words (words, rowid, body) VALUES ('delete', {place_of(1, 2)}, 'two')"
        )
        assert faults == ["message 2 of the room 'a' cannot be searched for"]

    def test_a_damaged_page_is_found(self, folder: Folder) -> None:
        folder.say(*[("a", "x" * 1_000)] * 200)
        with open(folder["history"], "r+b") as file:
            file.seek(-3 * 4_096, os.SEEK_END)
            file.write(b"\xa5" * 4_096)
        try:
            faults = check(folder["history"])[2]
        except HistoryUnusable as unusable:
            faults = [str(unusable)]
        assert faults


def run(*arguments: str, typed: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "chatproto.history", *arguments],
        input=typed,
        capture_output=True,
        check=False,
        env=os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    )


class TestCommand:
    def test_a_history_goes_through_a_pipe(self, folder: Folder) -> None:
        folder.say(*SAID)
        exported = run("export", folder["history"])
        assert (exported.returncode, exported.stderr) == (0, b"")
        imported = run("import", folder["other"], typed=exported.stdout)
        assert (imported.returncode, imported.stdout, imported.stderr) == (
            0,
            b"4 messages are imported\n",
            b"",
        )
        assert list(export(folder["other"])) == list(export(folder["history"]))

    def test_and_through_a_file(self, folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
        folder.say(*SAID)
        assert main(["export", folder["history"], folder["lines"]]) == 0
        assert main(["export", folder["history"], folder["lines"]]) == 1
        assert capsys.readouterr().err == f"file exists: {folder['lines']}\n"
        assert main(["import", folder["other"], folder["lines"]]) == 0
        assert main(["backup", folder["other"], folder["copy"]]) == 0
        capsys.readouterr()
        assert main(["check", folder["copy"]]) == 0
        assert capsys.readouterr().out == "4 messages in 3 rooms; all is well\n"

    def test_a_fault_is_told_and_is_the_status(
        self, folder: Folder, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder.say(*SAID)
        with closing(sqlite3.connect(folder["history"])) as file, file:
            file.execute("DELETE FROM messages WHERE text = 'one'")
        assert main(["check", folder["history"]]) == 1
        assert capsys.readouterr().out == (
            "messages are missing in the room 'a'\n3 messages in 3 rooms; 1 faults\n"
        )

    @pytest.mark.parametrize(
        "arguments",
        [
            lambda folder: ["export", folder["missing"]],
            lambda folder: ["export", folder["text"]],
            lambda folder: ["import", folder["text"], folder["text"]],
            lambda folder: ["import", folder["new"], folder["text"]],
            lambda folder: ["import", folder["new"], folder["missing"]],
            lambda folder: ["import", folder["new"], folder["noise"]],
            lambda folder: ["backup", folder["missing"], folder["copy"]],
            lambda folder: ["backup", folder["text"], folder["copy"]],
            lambda folder: ["check", folder["missing"]],
            lambda folder: ["check", folder["text"]],
            lambda folder: ["check", str(folder.path)],
        ],
    )
    def test_what_cannot_be_done_is_one_sentence(
        self,
        folder: Folder,
        arguments: Callable[[Folder], list[str]],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        Path(folder["text"]).write_text("dear diary")
        Path(folder["noise"]).write_bytes(b"\xff\xfe" * 100)
        assert main(arguments(folder)) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        assert "Traceback" not in captured.err
        assert sorted(name for name in os.listdir(folder.path) if "-lock" not in name) == ["noise", "text"]

    def test_a_reader_that_has_seen_enough_is_no_error(self, folder: Folder) -> None:
        folder.say(*[("a", "x" * 1_000)] * 300)
        command = f"{sys.executable} -m chatproto.history export {folder['history']} | head -n 1"
        shown = subprocess.run(command, shell=True, capture_output=True, check=False)
        assert shown.stdout.count(b"\n") == 1
        assert shown.stderr == b""
