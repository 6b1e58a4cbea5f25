# SPDX-License-Identifier: LGPL-2.1-or-later
"""Our commands and library, and those of fedmsg 1.1.7, behind the same methods.

Processes of both sides read the ``fedmsg.d`` in the folder that they run in. Nothing here
looks into fedmsg 1.1.7: it is started, spoken to and listened to.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

from fedmsg.testing import Process, run

PROGRAMS = Path(__file__).with_name("programs")

#: The names of the sides, for parametrized tests.
NAMES = ("ours", "peer")

GREETING = "are you there?"

# What fedmsg 1.1.7 puts in front of whatever its fedmsg-tail prints.
_LOG_PREFIX = re.compile(r"^\[[^]]*\]\[fedmsg\.commands +INFO\] ")
# What else it logs there, such as that a signature is not valid.
_LOG_OF_OTHERS = re.compile(r"^\[[^]]*\]\[fedmsg\.(?!commands)")
# How Python writes floats that have no literal.
_NUMBERS = {"nan": math.nan, "inf": math.inf, "__builtins__": {}}


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Make a folder one whose ``fedmsg.d`` holds a configuration."""
    (folder / "fedmsg.d").mkdir(parents=True)
    (folder / "fedmsg.d" / "bus.py").write_text(f"config = {dict(config)!r}\n")


def shown(process: Process) -> list[str]:
    """The lines that a ``fedmsg-tail`` of either side has printed, without what is put in front of them."""
    return [_LOG_PREFIX.sub("", line) for line in list(process.out) if not _LOG_OF_OTHERS.match(line)]


def envelopes(process: Process) -> list[dict[str, Any]]:
    """The envelopes that a ``fedmsg-tail`` of either side has printed without a format flag."""
    return [eval(line, dict(_NUMBERS)) for line in shown(process)]


def canonical(value: Any) -> str:
    """A value as text that is equal for equal values, NaN included."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


class Speaker:
    """A process that publishes what it is told, a message for each line.

    Args:
        process: The process, with a pipe to its standard input.
        topic: The full topic of what it publishes.
        is_logger: Whether a line is text to be logged, and not a message as JSON.
    """

    def __init__(self, process: Process, topic: str, *, is_logger: bool) -> None:
        self.process = process
        self.topic = topic
        self._is_logger = is_logger

    def say(self, *messages: Any) -> None:
        """Have messages published."""
        pipe = self.process.popen.stdin
        assert pipe is not None
        for message in messages:
            line = message if self._is_logger else json.dumps(message)
            pipe.write(f"{line}\n".encode())
        pipe.flush()

    def finish(self) -> None:
        """Have it end, and see that it found nothing to complain of."""
        assert self.process.popen.stdin is not None
        self.process.popen.stdin.close()
        # 1.1.7 takes its time, and on a busy machine more of it.
        assert self.process.wait(60) == 0, self.process.report()

    def __enter__(self) -> Speaker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.close()


class Side:
    """One side: where its commands are, and in what it differs.

    Args:
        folder: The folder with its commands and its Python.
    """

    name: ClassVar[str]
    #: Whether the very first message of a publisher arrives.
    waits: ClassVar[bool]

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _argv(self, command: str, arguments: tuple[str, ...]) -> list[str]:
        program = [str(self.folder / "python"), str(PROGRAMS / command)] if command.endswith(".py") else None
        return [*(program or [str(self.folder / command)]), *arguments]

    @staticmethod
    def _environ(folder: Path) -> dict[str, str]:
        # A PYTHONPATH from outside could make one side import the other's modules, and the rest
        # bring in a configuration of this machine's user. What a test sets is for both sides.
        return {"PYTHONPATH": str(folder), "FEDMSG_CONFIG": os.environ.get("FEDMSG_CONFIG", ""), "HOME": str(folder)}

    def start(self, folder: Path, command: str, *arguments: str, stdin: bool = False) -> Process:
        """Start a command, or one of the programs beside this file, in a folder with a configuration."""
        return Process(self._argv(command, arguments), env=self._environ(folder), cwd=folder, stdin=stdin)

    def run(
        self, folder: Path, command: str, *arguments: str, stdin: str | bytes = b"", timeout: float = 30.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command or a program to its end, in a folder with a configuration."""
        return run(self._argv(command, arguments), env=self._environ(folder), cwd=folder, stdin=stdin, timeout=timeout)

    def ask(self, folder: Path, program: str, *arguments: str) -> list[str]:
        """Run a program that can't fail, and give the lines that it printed."""
        ended = self.run(folder, program, *arguments, timeout=100.0)  # some read thousands of messages
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.splitlines()

    def relay(self, folder: Path) -> Process:
        """Start a relay."""
        return self.start(folder, "fedmsg-relay")

    def gateway(self, folder: Path) -> Process:
        """Start a gateway."""
        return self.start(folder, "fedmsg-gateway")

    def tail(self, folder: Path, *arguments: str) -> Process:
        """Start a ``fedmsg-tail``."""
        return self.start(folder, "fedmsg-tail", *arguments)

    def logger(self, folder: Path, topic: str) -> Speaker:
        """Start a ``fedmsg-logger``."""
        process = self.start(folder, "fedmsg-logger", "--modname", "interop", "--topic", topic, stdin=True)
        return Speaker(process, f"org.fedoraproject.dev.interop.{topic}", is_logger=True)

    def library(self, folder: Path, topic: str, **settings: Any) -> Speaker:
        """Start an application that publishes with ``fedmsg.publish``.

        Args:
            folder: The folder with the configuration.
            topic: The topic of what it publishes.
            settings: For ``fedmsg.init``; those for publishing through the relay when there are none.
        """
        told = json.dumps(settings or {"active": True, "name": "relay_inbound"})
        process = self.start(folder, "publish.py", told, topic, stdin=True)
        return Speaker(process, f"org.fedoraproject.dev.interop.{topic}", is_logger=False)

    def bound(self, folder: Path, topic: str, name: str) -> Speaker:
        """Start an application that publishes at its own address, ``endpoints[name]``."""
        return self.library(folder, topic, name=name, post_init_sleep=20.0 if self.waits else 0.0)

    def listen(self, folder: Path, **arguments: Any) -> Process:
        """Start an application that prints what ``fedmsg.tail_messages`` gives it, as JSON."""
        return self.start(folder, "listen.py", json.dumps(arguments))

    def announce(self, folder: Path, text: str, link: str) -> None:
        """Run a ``fedmsg-announce``."""
        ended = self.run(folder, "fedmsg-announce", "--link", link, stdin=text)
        assert ended.returncode == 0, ended.stderr


class Ours(Side):
    """This fedmsg."""

    name = "ours"
    waits = True


class Peer(Side):
    """fedmsg 1.1.7: what is published before the connection stands is lost without a word."""

    name = "peer"
    waits = False
