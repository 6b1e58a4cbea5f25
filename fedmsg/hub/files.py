# SPDX-License-Identifier: LGPL-2.1-or-later
"""Small files that are replaced as a whole, and the name of the folder that a process has for them."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

__all__ = ["process_name", "replace"]


def replace(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write a small file as a whole: whoever reads it meanwhile sees the old content or the new one.

    Where it is written for every message, it isn't forced to the disk: what counts is that the end
    of this process, whatever the moment, leaves a whole file.

    Args:
        path: The file.
        content: What it shall contain.
        durable: Whether it has to be there also after the power was cut.

    Raises:
        OSError: It can't be written.
    """
    name = f"{path.parent}/.{path.name}.{os.getpid()}.{threading.get_ident():x}"
    try:
        # One that a killed process with the same numbers left is overwritten.
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o640)
        try:
            written = os.write(descriptor, content)
            while written < len(content):
                written += os.write(descriptor, content[written:])
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(name, path)
    except OSError:
        with suppress(OSError):
            os.unlink(name)
        raise


def process_name() -> str:
    """Name this process as the kernel does, which is what fedmsg 1.x named its folders by."""
    try:
        name = Path("/proc/self/comm").read_text(encoding="utf-8", errors="replace").removesuffix("\n")
    except OSError:
        # As the kernel would cut it.
        name = os.path.basename(sys.argv[0])[:15]
    name = name.replace("/", "_").replace("\0", "_")
    return "fedmsg" if name in {"", ".", ".."} else name
