# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a process has open, for tests that nothing is left behind."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

__all__ = ["descriptors", "open_now"]


def descriptors(pid: int | None = None) -> int:
    """Count the open file descriptors of a process, without those by which `fedmsg.testing` reserves ports."""
    reserved = {
        f"socket:[{line.split()[6]}]"
        for line in Path("/proc/net/unix").read_text().splitlines()
        if "@fedmsg-testing-ports-" in line
    }
    count = 0
    for path in Path(f"/proc/{pid or os.getpid()}/fd").iterdir():
        # That of this folder is gone by now.
        with suppress(FileNotFoundError):
            count += os.readlink(path) not in reserved
    return count


def open_now() -> str:
    """Describe what this process has open: its descriptors and threads."""
    links = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    names = [Path(f"/proc/self/task/{task}/comm").read_text().strip() for task in os.listdir("/proc/self/task")]
    return f"{sorted(links)}; {sorted(names)}; {sorted(thread.name for thread in threading.enumerate())}"
