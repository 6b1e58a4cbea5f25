# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a consumer notes of the message that it is at."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fedmsg.exceptions import ConfigError, MessageError
from fedmsg.store import cursor
from fedmsg.store.cursor import Handled, StatusFile
from fedmsg.store.recovery import message_key
from tests.datagrepper_server import message

log = logging.getLogger("tests")
ONE: dict[str, Any] = {"topic": "a.b", "body": message(1, 1_700_000_001)}
TWO: dict[str, Any] = {"topic": "a.b", "body": message(2, 1_700_000_002)}


@pytest.fixture
def file(tmp_path: Path) -> Iterator[StatusFile]:
    found = StatusFile(tmp_path / "status", "Printer", log, remember=True)
    yield found
    found.close()


def read(file: StatusFile) -> Any:
    return json.loads(file.path.read_bytes())


def test_where_it_is(tmp_path: Path) -> None:
    # A script is called by its own name, and the kernel cuts that to 15 characters.
    script = tmp_path / "a-rather-long-name"
    script.write_text(
        f"#!{sys.executable}\nimport logging\nfrom fedmsg.store.cursor import StatusFile\n"
        f"print(StatusFile({str(tmp_path)!r}, 'Printer', logging.getLogger()).path)\n"
    )
    script.chmod(0o755)
    done = subprocess.run([script], capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path}/a-rather-long-n/Printer\n"


def test_before_and_after(file: StatusFile) -> None:
    file.save({"message": ONE, "status": "pre"})
    assert read(file) == {"message": ONE, "status": "pre"}
    file.save({"message": ONE, "status": "post"})
    assert read(file) == {"message": ONE, "status": "post"}
    found = file.read()
    assert found is not None
    assert (found.topic, found.body, found.status) == ("a.b", ONE["body"], "post")
    assert (found.msg_id, found.timestamp) == ("2026-1", 1_700_000_001)
    # Nothing else is left in the folder, whatever a killed process left there.
    spare = file.path.with_name(".Printer.1.spare")
    spare.write_text("half a sta")
    StatusFile(file.path.parent.parent, "Printer", log).close()
    file.close()
    assert sorted(path.name for path in file.path.parent.iterdir()) == ["Printer", "Printer.handled"]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_long_and_short_by_turns(file: StatusFile, can_exchange: bool) -> None:
    file._file._can_exchange = can_exchange
    for size in (5, 100_000, 0, 20, 20, 1):
        one = {"topic": "a.b", "body": message(size, 1_700_000_005, msg="x" * size)}
        file.save({"message": one, "status": "post"})
        assert read(file) == {"message": one, "status": "post"}


def test_a_file_that_somebody_removes_comes_again(file: StatusFile) -> None:
    for one in (ONE, TWO, ONE):
        file.save({"message": one, "status": "post"})
        assert read(file)["message"] == one
        file.path.unlink()


def test_what_a_consumer_does_to_a_message_is_not_noted(file: StatusFile) -> None:
    changed: dict[str, Any] = {"topic": "a.b", "body": message(1, 5)}
    file.save({"message": changed, "status": "pre"})
    changed["body"]["msg"] = object()
    file.save({"message": changed, "status": "post"})
    assert read(file)["message"]["body"]["msg"] == {"number": 1}
    assert message_key(ONE["body"] | {"timestamp": 5}) in (file.handled or ())


def test_what_is_no_json_is_noted_as_far_as_it_goes(file: StatusFile) -> None:
    file.save({"message": {"topic": "a.b", "body": {**ONE["body"], "msg": object()}}, "status": "pre"})
    kept = {key: ONE["body"][key] for key in ("msg_id", "timestamp", "topic")}
    assert read(file) == {"message": {"topic": "a.b", "body": kept}, "status": "pre"}
    file.save({"message": {"topic": None, "body": "text"}, "status": "post"})
    assert read(file).items() >= {"message": {"topic": None, "body": "text"}, "status": "post"}.items()


def test_several_workers_tell_of_the_message_that_is_longest_in_work(file: StatusFile) -> None:
    file.save({"message": ONE, "status": "pre"})

    def work() -> None:
        file.save({"message": TWO, "status": "pre"})
        file.save({"message": TWO, "status": "post"})

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    assert read(file) == {"message": ONE, "status": "pre"}
    assert message_key(TWO["body"]) in (file.handled or ())
    file.save({"message": ONE, "status": "post"})
    assert read(file) == {"message": ONE, "status": "post"}


def test_a_message_that_never_got_to_its_end_makes_way(file: StatusFile) -> None:
    file.save({"message": ONE, "status": "pre"})
    file.save({"message": TWO, "status": "pre"})
    assert read(file) == {"message": TWO, "status": "pre"}


BODY = message(7, 1_700_000_007)


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ({"message": {"topic": "a.b", "body": BODY}, "status": "pre"}, "pre"),
        ({"message": {"topic": "a.b", "body": BODY}}, "post"),
        ({"message": {"topic": "a.b", "body": json.dumps(BODY)}, "status": "post"}, "post"),
        ({"message": {"topic": "a.b", "body": json.dumps(BODY)}}, "post"),
    ],
)
def test_all_spellings(text: Any, state: str) -> None:
    found = cursor.parse(json.dumps(text))
    assert (found.topic, found.body, found.status) == ("a.b", BODY, state)


def test_the_topic_may_stand_in_the_body_alone() -> None:
    assert cursor.parse(json.dumps({"message": {"body": BODY}})).topic == BODY["topic"]
    assert cursor.parse(json.dumps({"message": {"body": {"timestamp": 1.5}}})) == ("", {"timestamp": 1.5}, "post", None)
    assert cursor.parse('{"message": {"body": {}}}').timestamp is None


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "\0", "null", "[]", "3", '"text"', "{}", "[" * 100_000,
        '{"message": null}', '{"message": []}', '{"message": "x"}', '{"message": {}}',
        '{"message": {"body": null}}', '{"message": {"body": []}}', '{"message": {"body": "no json"}}',
        '{"message": {"body": "[]"}}',
        '{"message": {"body": {"timestamp": 1}}, "status": "x"}',
        '{"message": {"body": {"timestamp": 1}}, "status": []}',
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_one_warning(text: str, file: StatusFile, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(MessageError):
        cursor.parse(text)
    file.path.write_text(text)
    assert file.read() is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(file.path) in caplog.text


ODD_TIMES: list[object] = [None, -1, 5, float("nan"), 1e300, 1_700_000_001_000, "1", True, {}, []]
ODD_IDS = ["none", "negative", "1970", "nan", "huge", "milliseconds", "text", "true", "dict", "list"]


@pytest.mark.parametrize("when", ODD_TIMES, ids=ODD_IDS)
def test_status_with_an_odd_time_has_the_time_of_receipt(
    file: StatusFile, when: object, caplog: pytest.LogCaptureFixture
) -> None:
    before = int(time.time())
    file.save({"message": {"topic": "a.b", "body": {**ONE["body"], "timestamp": when}}, "status": "post"})
    found = file.read()
    assert found is not None
    assert found.timestamp is not None
    assert before <= found.timestamp <= time.time()
    assert "a message has an impossible time" in caplog.text
    # The next odd one does not move it behind the last time that was right.
    file.save({"message": TWO, "status": "post"})
    file.save({"message": {"topic": "a.b", "body": {**ONE["body"], "timestamp": when}}, "status": "post"})
    found = file.read()
    assert found is not None
    assert found.timestamp == TWO["body"]["timestamp"]


def test_status_of_a_publisher_whose_clock_is_ahead_has_the_time_of_receipt(
    file: StatusFile, caplog: pytest.LogCaptureFixture
) -> None:
    now = int(time.time())
    for seconds in (-200, 200):
        body = {**ONE["body"], "timestamp": now + seconds}
        file.save({"message": {"topic": "a.b", "body": body}, "status": "post"})
        found = file.read()
        assert found is not None
        assert found.body == body
        assert found.timestamp is not None
        if seconds < 0:  # the control
            assert (found.timestamp, found.received) == (now - 200, None)
        else:
            assert now <= found.timestamp <= time.time()
    assert caplog.text == ""


@pytest.mark.parametrize("when", ODD_TIMES[1:], ids=ODD_IDS[1:])
def test_status_of_an_earlier_version_with_an_odd_time_is_read(when: object) -> None:
    found = cursor.parse(json.dumps({"message": {"topic": "a.b", "body": {**BODY, "timestamp": when}}}))
    assert found.timestamp in {None, 1_700_000_001_000}
    assert found.status == "post"


@pytest.mark.parametrize("mode", [0o666, 0o602])
def test_files_that_others_can_write_are_not_used(
    file: StatusFile, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    file.save({"message": ONE, "status": "post"})
    assert file.read() is not None
    for path in (file.path, file.path.with_name("Printer.handled")):
        path.chmod(mode)
    assert file.read() is None
    assert "others can write it" in caplog.text
    caplog.clear()
    handled = Handled(file.path.with_name("Printer.handled"), log)
    assert len(handled) == 0
    assert "others can write it" in caplog.text
    handled.add("x")
    handled.close()
    again = Handled(file.path.with_name("Printer.handled"), log)
    assert "x" in again
    again.close()


def test_status_of_another_user_is_not_used(
    file: StatusFile, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.save({"message": ONE, "status": "post"})
    if os.geteuid() == 0:
        os.chown(file.path, 65534, -1)
    else:
        user = os.geteuid() + 1
        monkeypatch.setattr(os, "geteuid", lambda: user)
    assert file.read() is None
    assert "others can write it" in caplog.text


def test_what_can_not_be_read_is_one_warning(file: StatusFile, caplog: pytest.LogCaptureFixture) -> None:
    assert file.read() is None
    assert caplog.records == []
    file.path.mkdir()
    assert file.read() is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_broken_encoding_is_no_crash(file: StatusFile) -> None:
    file.path.write_bytes(b'{"message": {"body": {"timestamp": 1, "x": "\xff"}}}')
    assert file.read() is not None


def test_no_place_for_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"status_directory: .*file"):
        StatusFile(tmp_path / "file", "Printer", log)


def test_a_disk_that_refuses_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = StatusFile(tmp_path, "Printer", log)
    file.path.parent.rmdir()
    for _ in range(3):
        file.save({"message": ONE, "status": "pre"})
    assert caplog.text.count("can't be written") == 1
    file.path.parent.mkdir()
    file.save({"message": ONE, "status": "post"})
    assert read(file)["status"] == "post"
    file.close()
    assert [path.name for path in file.path.parent.iterdir()] == ["Printer"]


KILLED = """
import itertools, logging, sys
from fedmsg.store.cursor import StatusFile
file = StatusFile(sys.argv[1], "Printer", logging.getLogger(), remember=True)
print(file.path, flush=True)
for number in itertools.count():
    body = {"msg_id": f"2026-{number}", "timestamp": 1_700_000_000 + number, "text": "x" * 10_000}
    one = {"topic": "a.b", "body": body}
    file.save({"message": one, "status": "pre"})
    file.save({"message": one, "status": "post"})
    if number == 50:
        print("now", flush=True)
"""


def key_of(number: int) -> str:
    return message_key({"msg_id": f"2026-{number}", "timestamp": 1_700_000_000 + number, "text": "x" * 10_000})


@pytest.mark.soak
def test_whenever_it_is_killed_there_is_a_whole_file(tmp_path: Path, full_size: bool) -> None:
    for turn in range(100 if full_size else 3):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, tmp_path / str(turn)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            path = Path(process.stdout.readline().strip())
            assert process.stdout.readline() == "now\n"
            process.kill()
        found = cursor.parse(path.read_bytes())
        handled = Handled(path.with_name("Printer.handled"), log)
        assert found.timestamp is not None
        number = int(found.timestamp) - 1_700_000_000
        # It is written before the file that says so is.
        assert (key_of(number) in handled) >= (found.status == "post")
        assert key_of(number - 1) in handled
        assert key_of(number + 1) not in handled
        handled.close()


# ---------------------------------------------------------------- what was handled


def test_the_last_ids_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "handled"
    handled = Handled(path, log, limit=10)
    for number in range(95):
        handled.add(f"2026-{number}")
    assert len(path.read_text().splitlines()) <= 20
    handled.close()
    handled.close()
    again = Handled(path, log, limit=10)
    assert [number for number in range(95) if f"2026-{number}" in again] == [*range(85, 95)]
    again.add("2026-85")  # once more, so that it is the last to go
    for number in range(9):
        again.add(str(number))
    assert "2026-85" in again
    assert len(again) == 10
    again.close()


def test_what_a_crash_left_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "handled"
    path.write_bytes(b"2026-1\n\xff\x00\n2026-2\n2026-")
    handled = Handled(path, log)
    handled.add("2026-3")
    handled.close()
    again = Handled(path, log)
    assert [msg_id in again for msg_id in ("2026-1", "2026-2", "2026-3", "2026-")] == [True, True, True, False]
    again.close()


@pytest.mark.parametrize("msg_id", ["x" * 300, "a\nb", "\ud800", "\0"])
def test_ids_that_no_publisher_makes_are_not_kept(tmp_path: Path, msg_id: str) -> None:
    handled = Handled(tmp_path / "handled", log)
    handled.add(msg_id)
    assert msg_id not in handled
    handled.close()
    assert (tmp_path / "handled").read_bytes() == b""
