# SPDX-License-Identifier: LGPL-2.1-or-later
"""The queue on disk behind the one in memory."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fedmsg.exceptions import ConfigError
from fedmsg.store.overflow import Overflow
from fedmsg.transport.base import Delivery


class Kind:
    """A consumer."""


def opened(folder: Path) -> Overflow:
    return Overflow(str(folder), Kind)


def deliveries(*numbers: int) -> list[Delivery]:
    return [
        Delivery("tcp://127.0.0.1:1", b"org.test", json.dumps({"topic": "org.test", "msg": n}).encode(), name="shop")
        for n in numbers
    ]


def said(items: list[Any]) -> list[int]:
    return [json.loads(item.data)["msg"] for item in items]


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_overflow_returns_what_was_put_in_its_order(tmp_path: Path) -> None:
    overflow = opened(tmp_path)
    overflow.put(deliveries(*range(2500)))
    assert (len(overflow), len(files(tmp_path)), overflow.is_full) == (2500, 3, False)
    first = overflow.take(700)
    overflow.put(deliveries(2500))
    assert said(first + overflow.take(10_000)) == list(range(2501))
    assert overflow.is_empty


def test_overflow_keeps_where_messages_came_from(tmp_path: Path) -> None:
    overflow = opened(tmp_path)
    overflow.put(deliveries(1))
    (found,) = overflow.take(5)
    assert (found.address, found.name, found.frame, found.topic()) == (
        "tcp://127.0.0.1:1",
        "shop",
        b"org.test",
        "org.test",
    )
    assert found.since > 0
    assert found.envelope()["msg"] == 1


def test_overflow_removes_a_file_when_all_its_messages_are_finished(tmp_path: Path) -> None:
    overflow = opened(tmp_path)
    overflow.put(deliveries(1, 2))
    one, two = overflow.take(5)
    two.ack()
    assert len(files(tmp_path)) == 1
    one.nack(ValueError())
    assert files(tmp_path) == []


def test_overflow_that_was_left_is_read_again(tmp_path: Path) -> None:
    overflow = opened(tmp_path)
    overflow.put(deliveries(*range(1500)))
    overflow.take(10)
    # As after a kill.
    again = opened(tmp_path)
    assert len(again) == 1500
    again.put(deliveries(1500))
    assert said(again.take(5000)) == list(range(1501))


def test_overflow_that_is_closed_keeps_what_is_not_finished(tmp_path: Path) -> None:
    overflow = opened(tmp_path)
    overflow.put(deliveries(*range(1500)))
    taken = overflow.take(10)
    for item in taken[:7]:
        item.ack()
    assert overflow.close(taken[7:]) == 0
    again = opened(tmp_path)
    assert said(again.take(5000)) == list(range(7, 1500))


def test_overflow_without_anything_left_leaves_nothing(tmp_path: Path) -> None:
    overflow = opened(tmp_path)
    overflow.put(deliveries(1))
    for item in overflow.take(5):
        item.ack()
    overflow.close([])
    assert files(tmp_path) == []


def test_overflow_skips_a_line_that_a_crash_has_cut_off(tmp_path: Path) -> None:
    overflow = opened(tmp_path)
    overflow.put(deliveries(1, 2))
    (path,) = files(tmp_path)
    path.write_bytes(path.read_bytes()[:-10])
    again = opened(tmp_path)
    (found,) = again.take(5)
    assert said([found]) == [1]
    found.ack()
    assert (files(tmp_path), again.is_empty) == ([], True)


def test_overflow_names_a_folder_that_can_not_be_read(tmp_path: Path) -> None:
    overflow = opened(tmp_path)
    overflow.put(deliveries(1))
    (path,) = files(tmp_path)
    path.rename(path.with_name("other.jsonl"))
    with pytest.raises(ConfigError, match="state_directory"):
        opened(tmp_path)


FULL = """
import resource, sys
from pathlib import Path
from tests.unit.store.test_overflow import deliveries, files, opened, said

folder = Path(sys.argv[1])
overflow = opened(folder)
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, resource.RLIM_INFINITY))
overflow.put(deliveries(*range(30)))
assert overflow.is_full
# What is on disk is whole.
written = [line for path in files(folder) for line in path.read_text().splitlines(keepends=True)]
assert 0 < len(written) < 30 and all(line.endswith("}\\n") for line in written)
overflow.put(deliveries(30))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
overflow._retry_at = 0
assert not overflow.is_full
assert said(overflow.take(100)) == list(range(31))
"""


def test_overflow_of_a_full_disk_goes_on_when_there_is_room(tmp_path: Path, repository: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    command = [sys.executable, "-c", FULL, str(tmp_path)]
    ran = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stderr.count("Traceback")) == (0, 0), ran.stderr
