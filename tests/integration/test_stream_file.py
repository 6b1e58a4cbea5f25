# SPDX-License-Identifier: LGPL-2.1-or-later
"""The file of a stream on SQLite: one lock whatever leads to it, and no confirm for what would be gone with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fedmsg.exceptions import NotConfirmed, StoreError
from fedmsg.stream.log import StreamLog
from fedmsg.testing import Process
from tests.stream_relays import StreamBus, publish, running, sqlite_url, stored_in
from tests.unit.stream.messages import everything, some


@pytest.mark.parametrize("link", ["file", "folder", "none"])
def test_file_has_one_lock_whatever_leads_to_it(link: str, tmp_path: Path) -> None:
    folder, other = tmp_path / "store", tmp_path / "link"
    folder.mkdir()
    url = sqlite_url(folder)
    if link == "file":
        other.symlink_to(folder / "stream.db")
        url = sqlite_url(tmp_path, "link")
    elif link == "folder":
        other.symlink_to(folder)
        url = sqlite_url(other)
    with StreamLog(sqlite_url(folder)) as one, StreamLog(url) as two:
        assert one.stream == two.stream
        assert one.acquire(0)
        assert not two.acquire(0)
        # Another file has another lock.
        with StreamLog(sqlite_url(tmp_path, "another.db")) as another:
            assert another.acquire(0)


def test_second_relay_waits_at_a_link_too(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "stream.db")
    with (
        running(StreamBus(sqlite_url(tmp_path))) as bus,
        StreamBus(sqlite_url(tmp_path, "link.db")) as second,
        Process(["fedmsg-relay"], env=second.environ) as waiting,
    ):
        waiting.wait_for("another relay has the stream; waiting")
        assert bus.stop_relay() == 0
        waiting.wait_ready()
        assert waiting.stop() == 0


def test_lock_whose_file_was_removed_is_taken_anew(tmp_path: Path) -> None:
    url, lock = sqlite_url(tmp_path), tmp_path / "stream.db.lock"
    with StreamLog(url) as one, StreamLog(url) as two:
        assert one.acquire(0)
        lock.unlink()
        # The owner comes first.
        one.append(some(1, 1))
        assert not two.acquire(0)
        lock.unlink()
        # Another one comes first.
        two.append(some(2, 2))
        with pytest.raises(StoreError, match="in use by another relay"):
            one.append(some(3, 3))
        two.close()
        one.append(some(4, 4))
        assert len(everything(one)) == 3


def away(path: Path) -> None:
    """Move a file away."""
    path.rename(path.with_suffix(".away"))


def replaced(path: Path) -> None:
    """Put a copy in the place of a file, as who restores a backup does."""
    away(path)
    path.write_bytes(path.with_suffix(".away").read_bytes())


@pytest.mark.parametrize("lose", [away, replaced])
def test_relay_whose_file_has_gone_confirms_nothing_until_it_is_back(
    lose: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "stream.db"
    with running(StreamBus(sqlite_url(tmp_path))) as bus:
        assert bus.relay is not None
        publish(bus, [1])
        lose(path)
        with bus.confirming(timeout=1) as context, pytest.raises(NotConfirmed) as caught:
            context.publish(topic="t", modname="m", msg={"n": 2})
        assert caught.value.sent
        bus.relay.wait_for("its file was removed or replaced while it was in use; put it back")
        assert path.exists() == (lose is replaced)
        os.replace(path.with_suffix(".away"), path)
        with bus.confirming() as context:
            assert context.republish(caught.value.envelope) == 2
        assert bus.stop_relay() == 0
    assert bus.numbers() == [1, 2]
    assert [entry.position for entry in stored_in(bus.url)] == [1, 2]
