# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg-tail in words: --terse, --cowsay, --users and --packages on a real bus."""

from __future__ import annotations

import getpass
import os
import pty
import re
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fedmsg.testing import Bus, Process, command_path

SHOP = """
name: shop
messages:
  - topic: order
    title: Order
    subtitle: "{msg.user} ordered a {msg.item}"
    link: "https://shop.example.org/{msg.item}"
    usernames: "{msg.user}"
    packages: "{msg.item}"
"""
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]")
ME = getpass.getuser()

HOSTILE: list[Any] = [
    {"user": "\x1b]0;pwned\x07", "item": "\x9b31m\u202e\r\n"},
    {"user": {"name": ["deep", {"er": "\x1b"}]}, "item": 5},
    {"log": {"\x1b": [None, True, 1e300, 10**400, {"a": []}]}, "\n": "\n\n"},
    {"long": "x\x1b" * 500_000},
    {str(number): {"x": [number]} for number in range(10_000)},
    {"user": None, "item": ""},
    {},
]


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Bus]:
    """Give a bus on which the messages of a shop are declared."""
    (tmp_path / "shop.yaml").write_text(SHOP)
    with Bus({"meta_processors": [str(tmp_path)]}) as bus:
        bus.start_relay()
        yield bus


def publish(bus: Bus, *messages: tuple[str, str, Any]) -> None:
    with bus.context() as context:
        for modname, topic, msg in messages:
            context.publish(topic=topic, modname=modname, msg=msg)


def last_line(tail: Process, text: str) -> None:
    """Stop a tail as soon as it has shown a line."""
    tail.wait_for(text)
    assert tail.stop() == 0


def test_terse(bus: Bus) -> None:
    with bus.tail("--terse") as tail:
        publish(
            bus,
            ("logger", "log", {"log": "hello"}),
            ("shop", "order", {"user": "ann", "item": "lamp"}),
            ("other", "thing.happened", {"who": "bob", "n": 5}),
            ("shop", "order", {"nothing": "else"}),
            ("announce", "announcement", {"message": "that is all", "link": None}),
        )
        last_line(tail, "that is all")
    assert tail.out == [
        "", f"logger.log -- hello ({ME}) ",
        "", "Order -- ann ordered a lamp https://shop.example.org/lamp",
        "", f"other.thing.happened -- other thing happened by {ME}: n=5, who=bob ",
        "", f"Order -- shop order by {ME}: nothing=else ",
        "", "announce.announcement -- that is all ",
    ]  # fmt: skip
    # Plain, though a declared processor failed on one of them; that is in the log.
    assert "\x1b" not in "".join(tail.out)
    assert re.search(r"subtitle raised: .*KeyError\('msg\.user'\)", "".join(tail.err))


def test_hostile_messages_are_a_harmless_line_each(bus: Bus) -> None:
    topics = [("logger", "log"), ("shop", "order"), ("announce", "x"), ("other", "y")]
    messages = [(modname, topic, msg) for modname, topic in topics for msg in HOSTILE]
    with bus.tail("--terse") as tail:
        publish(bus, *messages, ("logger", "log", {"log": "that is all"}))
        last_line(tail, "that is all")
    assert tail.out[::2] == [""] * (len(messages) + 1)
    assert len(tail.out) == 2 * (len(messages) + 1)
    assert all(line and len(line) < 20_000 and not UNSAFE.search(line) for line in tail.out[1::2])
    assert not UNSAFE.search("".join(tail.err))


@pytest.mark.parametrize(
    ("flags", "shown"),
    [
        (["--users", "ann"], [("ann", "lamp"), ("ann", "bulb")]),
        (["--users", "bob, ann"], [("ann", "lamp"), ("bob", "lamp"), ("ann", "bulb")]),
        (["--packages", "lamp,end"], [("ann", "lamp"), ("bob", "lamp")]),
        (["--users", "ann", "--packages", "lamp,end"], [("ann", "lamp")]),
    ],
)
def test_which_messages_are_shown(bus: Bus, flags: list[str], shown: list[tuple[str, str]]) -> None:
    def order(user: str, item: str, note: str = "") -> tuple[str, str, Any]:
        return "shop", "order", {"user": user, "item": item, "note": note}

    with Process(["fedmsg-tail", "--query", "msg.user,msg.item,msg.note", *flags], env=bus.environ) as tail:
        # What is ordered for a greeting is shown whatever the flags are, as is the last order.
        tail.wait_for("greeting", meanwhile=lambda: publish(bus, order("ann", "end", "greeting")))
        publish(bus, order("ann", "lamp"), order("bob", "lamp"), ("other", "x", {}), order("ann", "bulb"))
        publish(bus, order("ann", "end", "the last"))
        last_line(tail, "the last")
    lines = [line for line in tail.out if "greeting" not in line and "the last" not in line]
    assert lines == [f"{user}, {item}, " for user, item in shown]


def test_cowsay(bus: Bus, tmp_path: Path) -> None:
    cow = tmp_path / "bin" / "cowsay"
    cow.parent.mkdir()
    cow.write_text("#!/bin/sh\nprintf 'moo: '\ncat\n")
    cow.chmod(0o755)
    path = {"PATH": f"{cow.parent}{os.pathsep}{os.environ['PATH']}"}
    with Process(["fedmsg-tail", "--cowsay", "--count", "1"], env={**bus.environ, **path}) as tail:
        tail.wait_for(
            "moo", meanwhile=lambda: publish(bus, ("logger", "log", {"log": "$(touch pwned)\x1b`touch pwned`"}))
        )
        assert tail.wait() == 0
    assert tail.out == ["", f"moo: logger.log -- $(touch pwned)\\x1b`touch pwned` ({ME}) "]
    assert not Path("pwned").exists()


def on_terminal(bus: Bus, *messages: tuple[str, str, Any], **environ: str) -> list[str]:
    """Give the lines that are shown on a terminal, of which the last one has "that is all" in it."""
    main, side = pty.openpty()
    with subprocess.Popen(
        [command_path("fedmsg-tail"), "--terse"],
        stdin=side, stdout=side, stderr=subprocess.DEVNULL, env={**os.environ, **bus.environ, **environ},
        start_new_session=True,
    ) as tail:  # fmt: skip
        os.close(side)
        try:
            text = ""
            while "greeting" not in text:
                publish(bus, ("x", "greeting", {}))
                if select.select([main], [], [], 0.05)[0]:
                    text += os.read(main, 4096).decode()
            publish(bus, *messages, ("logger", "log", {"log": "that is all"}))
            while "that is all" not in text:
                text += os.read(main, 4096).decode()
        finally:
            tail.kill()
            os.close(main)
    return [line for line in text.split("\r\n") if line and "greeting" not in line]


def test_on_a_terminal_there_are_columns_in_colour(bus: Bus) -> None:
    orders = [("shop", "order", {"user": user, "item": "lamp"}) for user in ("ann", "\x1b[2J")]
    first, second, _ = on_terminal(bus, *orders)
    assert first == "\x1b[36mOrder     \x1b[39m  ann ordered a lamp  \x1b[34mhttps://shop.example.org/lamp\x1b[39m"
    assert "  \\x1b[2J ordered a lamp  " in second


def test_on_a_terminal_without_colours_there_are_columns(bus: Bus) -> None:
    assert on_terminal(bus, ("shop", "order", {"user": "ann", "item": "lamp"}), NO_COLOR="1")[0] == (
        "Order       ann ordered a lamp  https://shop.example.org/lamp"
    )


def test_a_broken_declaration_does_not_stop_it(bus: Bus, tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("name: [")
    with bus.tail("--terse") as tail:
        publish(bus, ("shop", "order", {"user": "ann", "item": "lamp"}))
        last_line(tail, "ann ordered a lamp")
    (line,) = [line for line in tail.err if "broken.yaml" in line]
    assert line.endswith("the processor is not loaded")
