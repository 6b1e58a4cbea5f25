# SPDX-License-Identifier: LGPL-2.1-or-later
"""How many subscribers there were is remembered, for one address, where there is a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmsg.transport.zmq.attendance import Attendance

ADDRESS = "tcp://127.0.0.1:4001"


def test_it_is_remembered_for_one_address(tmp_path: Path) -> None:
    config = {"state_directory": str(tmp_path)}
    for address, count in ((ADDRESS, 3), ("tcp://0.0.0.0:9940", 700)):
        Attendance(config, address).note(count)
    assert Attendance(config, ADDRESS).expected() == 3
    assert Attendance(config, "tcp://0.0.0.0:9940").expected() == 700
    assert Attendance(config, "tcp://127.0.0.1:4002").expected() == 0
    # Nothing is left over from writing them.
    assert len(list(tmp_path.iterdir())) == 2


def test_the_last_number_counts(tmp_path: Path) -> None:
    attendance = Attendance({"state_directory": str(tmp_path)}, ADDRESS)
    for count in (1, 2, 2, 0, 5):
        attendance.note(count)
        assert attendance.expected() == count


@pytest.mark.parametrize("variable", ["RUNTIME_DIRECTORY", "STATE_DIRECTORY"])
def test_the_folder_that_systemd_keeps(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, f"{tmp_path}:/somewhere/else")
    Attendance({}, ADDRESS).note(2)
    assert len(list(tmp_path.iterdir())) == 1
    assert Attendance({}, ADDRESS).expected() == 2


def test_without_a_folder_nothing_is_remembered(tmp_path: Path) -> None:
    Attendance({}, ADDRESS).note(2)
    assert Attendance({}, ADDRESS).expected() == 0
    assert list(Path.cwd().iterdir()) == list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "7",
        "{}",
        '{"address": "tcp://127.0.0.1:4001"}',
        "\udcff",
        '{"address": "tcp://127.0.0.1:4001", "subscribers": 3' + " " * 5000 + "}",
    ],
)
def test_a_broken_file_is_told_of_and_counts_for_nothing(
    content: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = {"state_directory": str(tmp_path)}
    Attendance(config, ADDRESS).note(3)
    (path,) = tmp_path.iterdir()
    path.write_text(content, encoding="utf-8", errors="surrogateescape")
    assert Attendance(config, ADDRESS).expected() == 0
    assert len(caplog.messages) == 1
    assert str(path) in caplog.messages[0]


@pytest.mark.parametrize("value", ['"3"', "null", "[3]", "1.5"])
def test_what_is_no_number_counts_for_nothing(value: str, tmp_path: Path) -> None:
    config = {"state_directory": str(tmp_path)}
    Attendance(config, ADDRESS).note(3)
    (path,) = tmp_path.iterdir()
    path.write_text(f'{{"address": "{ADDRESS}", "subscribers": {value}}}')
    assert Attendance(config, ADDRESS).expected() == 0


def test_a_folder_that_can_not_be_written_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    attendance = Attendance({"state_directory": str(tmp_path / "missing")}, ADDRESS)
    for count in (1, 2, 3):
        attendance.note(count)
    assert attendance.expected() == 0
    assert len(caplog.messages) == 1
    assert "can't be written" in caplog.messages[0]
