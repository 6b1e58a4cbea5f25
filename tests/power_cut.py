# SPDX-License-Identifier: LGPL-2.1-or-later
"""The files of a program as they would be after a power cut: what was synced is there, of the rest nothing or a part.

``strace`` follows the program, and writes down each write and each sync of its files. From that the files can be made
as they were on disk at any moment.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from fedmsg.testing import wait_until
from tests import requirements

__all__ = ["Action", "files_after_cut", "recorded", "recording"]

_CALLS = "pwrite64,write,pwritev,pwritev2,ftruncate,fsync,fdatasync"
# A disk writes whole sectors.
_SECTOR = 512
_LINE = re.compile(r"(?P<thread>\d+)\s+(?P<time>[\d.]+) (?P<text>.*)")
_RESUMED = re.compile(r"<\.\.\. (?P<call>\w+) resumed>(?P<rest>.*)")
_CALL = re.compile(r"(?P<call>\w+)\(\d+<(?P<path>[^>]*)>(?:\(deleted\))?(?P<rest>.*)\) += (?P<result>-?\d+)")
_WRITE = re.compile(r', "(?P<hex>(?:\\x[0-9a-f]{2})*)", \d+(?:, (?P<offset>\d+))?$')
_VECTOR = re.compile(r'iov_base="(?P<hex>(?:\\x[0-9a-f]{2})*)"')


class Action(NamedTuple):
    """A write, a change of size, or a sync of a file.

    Attributes:
        begin: When the call was made, in seconds since the epoch.
        end: When it returned.
        path: The file, from the folder on.
        offset: Where the bytes are written; the new size where there are none.
        content: The bytes; None for another size, empty for a sync.
    """

    begin: float
    end: float
    path: Path
    offset: int
    content: bytes | None

    @property
    def is_sync(self) -> bool:
        """Whether everything that was written to the file before is on disk at its end."""
        return self.content == b""


@contextmanager
def recording(pids: Iterable[int], output: Path) -> Iterator[None]:
    """Write down what processes do with files, and what those do that they start.

    Args:
        pids: The processes.
        output: The file that it is written to.
    """
    strace = requirements.program("strace", "strace")
    command = [strace, "-f", "-y", "-xx", "-ttt", "-T", "-s", "1000000", "-e", f"trace={_CALLS}", "-o", str(output)]
    with ExitStack() as stack:
        log = stack.enter_context(output.with_suffix(".log").open("w+b"))
        following = [f"--attach={pid}" for pid in pids]
        process = stack.enter_context(subprocess.Popen([*command, *following], stderr=log))
        stack.callback(process.send_signal, signal.SIGINT)
        wait_until(
            lambda: (
                process.poll() is not None
                or Path(log.name).read_text(errors="replace").count("attached") >= len(following)
            ),
            what="strace follows them",
        )
        if process.poll() is not None:
            requirements.is_missing(f"the right to trace processes: {Path(log.name).read_text(errors='replace')}")
        yield


def recorded(output: Path, folder: Path) -> list[Action]:
    """Return what was done with the files in a folder, in order.

    Args:
        output: What `recording` has written.
        folder: The folder.
    """
    found: list[Action] = []
    unfinished: dict[str, tuple[float, str]] = {}
    with output.open() as lines:
        for line in lines:
            match = _LINE.match(line)
            if match is None:
                continue
            thread, when, text = match["thread"], float(match["time"]), match["text"]
            begin = end = when
            if (resumed := _RESUMED.match(text)) is not None:
                begin, before = unfinished.pop(thread)
                text = before + resumed["rest"]
            elif "<unfinished ...>" in text:
                unfinished[thread] = (when, text.partition(" <unfinished ...>")[0])
                continue
            if (took := re.search(r"<([\d.]+)>$", text)) is not None:
                end = begin + float(took[1])
            if (action := _action(text, begin, end)) is not None and folder in action.path.parents:
                found.append(action._replace(path=action.path.relative_to(folder)))
    return found


def _action(text: str, begin: float, end: float) -> Action | None:
    match = _CALL.match(text)
    if match is None or int(match["result"]) < 0:
        return None
    path, rest = Path(_decoded(match["path"]).decode()), match["rest"]
    if match["call"] in {"fsync", "fdatasync"}:
        return Action(begin, end, path, 0, b"")
    if match["call"] == "ftruncate":
        return Action(begin, end, path, int(rest.removeprefix(", ")), None)
    if match["call"].startswith("pwritev"):
        content = b"".join(_decoded(part["hex"]) for part in _VECTOR.finditer(rest))
        offset = re.search(r"\], \d+, (\d+)", rest)
        assert offset is not None, text[:200]
        return Action(begin, end, path, int(offset[1]), content[: int(match["result"])])
    written = _WRITE.match(rest)
    # Where `write` writes to is not known; databases do not use it for what they sync.
    if written is None or written["offset"] is None:
        return None
    return Action(begin, end, path, int(written["offset"]), _decoded(written["hex"])[: int(match["result"])])


def _decoded(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", "")) if text.startswith("\\x") else text.encode()


def files_after_cut(
    actions: Iterable[Action], before: Path, target: Path, moment: float, chance: random.Random | None
) -> None:
    """Make the files as they were on disk at a moment.

    Args:
        actions: What was done since the copy.
        before: A copy of the folder from before.
        target: Where the files are made.
        moment: When the power was cut, in seconds since the epoch.
        chance: Decides which sectors are on disk that were not synced; None for none of them.
    """
    durable: dict[Path, list[Action]] = {}
    pending: dict[Path, list[Action]] = {}
    for action in sorted(actions, key=lambda action: action.end):
        if action.end > moment:
            break
        waiting = pending.setdefault(action.path, [])
        if action.is_sync:
            done = [one for one in waiting if one.end <= action.begin]
            durable.setdefault(action.path, []).extend(done)
            pending[action.path] = waiting[len(done) :]
        else:
            waiting.append(action)
    shutil.copytree(before, target)
    for path in {*durable, *pending}:
        # What is not a file of before was made since, and its name may not be on disk.
        made = target / path
        if not made.is_dir() and (made.exists() or durable.get(path)):
            made.touch()
            with made.open("r+b") as file:
                for action in durable.get(path, []):
                    _apply(file.fileno(), action, None)
                for action in pending.get(path, []) if chance is not None else []:
                    _apply(file.fileno(), action, chance)


def _apply(descriptor: int, action: Action, chance: random.Random | None) -> None:
    if action.content is None:
        if chance is None or chance.random() < 0.5:
            os.ftruncate(descriptor, action.offset)
        return
    step = len(action.content) if chance is None else _SECTOR
    for start in range(0, len(action.content), step):
        if chance is None or chance.random() < 0.5:
            os.pwrite(descriptor, action.content[start : start + step], action.offset + start)
