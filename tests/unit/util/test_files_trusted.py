# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files that are read only when others can't have written them, and files that are exchanged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fedmsg._util import files


def test_read_trusted_reads_a_file_of_this_user(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"content")
    assert files.read_trusted(path, 100) == b"content"
    with pytest.raises(OSError, match="more than 3 bytes"):
        files.read_trusted(path, 3)


def test_read_trusted_rejects_what_others_can_write(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"content")
    path.chmod(0o606)
    with pytest.raises(PermissionError, match="others can write it"):
        files.read_trusted(path, 100)


def test_read_trusted_rejects_what_is_not_a_regular_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "target").write_bytes(b"content")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "."):
        with pytest.raises(OSError):  # noqa: PT011 - the operating system words it
            files.read_trusted(tmp_path / name, 100)


@pytest.mark.parametrize("can_exchange", [True, False])
def test_exchanged_file_is_whole_after_each_write(tmp_path: Path, can_exchange: bool) -> None:
    path = tmp_path / "state"
    file = files.ExchangedFile(path)
    file._can_exchange = can_exchange
    for size in (5, 100_000, 0, 20, 1):
        file.write(b"x" * size)
        assert path.read_bytes() == b"x" * size
    file.close()
    file.close()
    assert [one.name for one in tmp_path.iterdir()] == ["state"]
