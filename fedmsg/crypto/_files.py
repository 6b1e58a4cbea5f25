# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files that are read once and watched for change, and files that are replaced as a whole."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["Stamp", "replace", "stamp"]

#: What changes when a file does.
Stamp = tuple[int, int, int, int]


def stamp(path: str | Path) -> Stamp:
    """Give what tells this content of a file from its next.

    Raises:
        OSError: There is no such file.
    """
    found = os.stat(path)
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_ctime_ns


def replace(path: str | Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file as a whole: whoever reads it meanwhile sees the old content or the new one.

    Args:
        path: The file.
        content: What it shall contain.
        mode: Its permissions.

    Raises:
        OSError: It can't be written; nothing is left behind.
    """
    path = Path(path)
    # As the module tempfile would make it; to import that costs every program 5 ms.
    name = path.parent / f".{path.name}.{os.urandom(8).hex()}"
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, mode)
        os.rename(name, path)
    except BaseException:
        os.unlink(name)
        raise
