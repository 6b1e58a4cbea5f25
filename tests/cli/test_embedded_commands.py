# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands run inside the process of somebody else, the way that other projects test with them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from fedmsg.testing import free_address, run

# What stands in for the bus is put where programs written for fedmsg 1.x put it.
EMBED = """
import io, json, sys
import fedmsg.core

published = []

def publish(self, **keywords):
    published.append(keywords)

def tail_messages(self, **keywords):
    print("asked for", json.dumps(keywords), file=sys.__stdout__)
    for message in {messages!r}:
        yield "name", "tcp://nowhere:1", message["topic"], message

fedmsg.core.FedMsgContext.publish = publish
fedmsg.core.FedMsgContext.tail_messages = tail_messages

sys.argv = {argv!r}
sys.stdin = io.StringIO({stdin!r})
sys.stdout = io.StringIO()
from fedmsg.commands.{module} import {module}
status = {module}()
print(json.dumps([status, published, sys.stdout.getvalue()]), file=sys.__stdout__)
"""


def embed(
    *argv: str, stdin: str = "", messages: list[dict[str, Any]] | None = None
) -> tuple[Any, list[dict[str, Any]], str, list[str]]:
    """Run a command inside a program.

    Returns:
        What its function returned, how it published, what it printed, and what else the program said.
    """
    config = Path("config.py").absolute()
    config.write_text(f"config = {{'relay_inbound': {free_address()!r}, 'timeout': 0}}\n", encoding="utf-8")
    values = {"argv": list(argv), "stdin": stdin, "messages": messages or [], "module": argv[0].removeprefix("fedmsg-")}
    code = EMBED
    for name, value in values.items():
        code = code.replace(f"{{{name}!r}}", repr(value)).replace(f"{{{name}}}", str(value))
    ended = run([sys.executable, "-W", "error", "-c", code], env={"FEDMSG_CONFIG": str(config)})
    assert (ended.returncode, ended.stderr) == (0, "")
    *others, last = ended.stdout.splitlines()
    status, published, printed = json.loads(last)
    return status, published, printed, others


@pytest.mark.parametrize(
    ("argv", "stdin", "published"),
    [
        (
            ["fedmsg-logger", "--message", "hello", "--modname", "git", "--topic", "push"],
            "",
            [{"topic": "push", "msg": {"log": "hello"}, "modname": "git"}],
        ),
        (
            ["fedmsg-logger"],
            "one\ntwo\n",
            [{"topic": "log", "msg": {"log": text}, "modname": "logger"} for text in ("one", "two")],
        ),
        (
            ["fedmsg-announce", "--link", "https://x.org/"],
            "It is\ndone.\n",
            [
                {
                    "topic": "announcement",
                    "msg": {"message": "It is\ndone.", "link": "https://x.org/"},
                    "modname": "announce",
                }
            ],
        ),
    ],
)
def test_how_commands_publish(argv: list[str], stdin: str, published: list[dict[str, Any]]) -> None:
    assert embed(*argv, stdin=stdin) == (None, published, "", [])


# A message may lack any field but its topic.
BARE = {"topic": "org.fedoraproject.dev.x.y"}


@pytest.mark.parametrize(
    ("flags", "printed"),
    [
        ([], f"{BARE!r}\n"),
        (["--json"], json.dumps(BARE, separators=(",", ":")) + "\n"),
        (["--pretty"], f"\n{BARE!r}\n"),
        (["--really-pretty", "--color", "never"], "\n" + json.dumps(BARE, indent=2) + "\n"),
        (["--query", "topic,msg.a"], f"{BARE['topic']}, None\n"),
        (["--exclude", "x.y"], ""),
    ],
)
def test_how_tail_listens_and_prints(flags: list[str], printed: str) -> None:
    status, published, shown, others = embed("fedmsg-tail", "--topic", "org", *flags, messages=[BARE])
    assert (status, published, shown) == (None, [], printed)
    assert others == ['asked for {"topic": "org"}']


def test_it_goes_on_to_the_standard_output_that_is_there_when_it_runs() -> None:
    messages = [{"topic": f"org.x.{number}", "msg": {}} for number in range(3)]
    _, _, shown, _ = embed("fedmsg-tail", "--query", "topic", "--count", "2", messages=messages)
    assert shown == "org.x.0\norg.x.1\n"
