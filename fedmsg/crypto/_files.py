# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files that are read once and watched for change, and files that are replaced as a whole."""

from __future__ import annotations

import os
import tempfile
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
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
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
