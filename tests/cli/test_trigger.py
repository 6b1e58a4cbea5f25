# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg-trigger with real messages and real commands."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from fedmsg.testing import Process, free_address, run
from tests.cli.test_embedded_commands import embed
from tests.datagrepper_server import message
from tests.publisher import Publisher

TOPIC = "org.fedoraproject.dev.shop.order"
HOSTILE = """$(touch pwned) `touch pwned` ; touch pwned # ' " \\ | touch pwned\n& touch pwned\r"""


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    with contextlib.closing(Publisher(tmp_path)) as found:
        yield found


@contextlib.contextmanager
def triggering(publisher: Publisher, command: str, *arguments: str, **environ: str) -> Iterator[Process]:
    """Start a fedmsg-trigger that is connected when the block begins."""
    argv = ["fedmsg-trigger", "--command", command, *arguments]
    with Process(argv, env={**publisher.environ, **environ}) as trigger:
        publisher.wait()
        yield trigger


def said(trigger: Process, *lines: str) -> list[str]:
    """Wait for the last of these lines, and give all that were printed and are not of the log."""
    with contextlib.suppress(ChildProcessError):  # it has ended, and said all
        trigger.wait_for(lambda line: line == lines[-1])
    return [line for line in trigger.out if not line.startswith("[20")]


def members(session: int) -> list[psutil.Process]:
    """Give the processes of a session."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(process.pid) == session:
                found.append(process)
    return found


def numbered(*numbers: int, **more: Any) -> list[dict[str, Any]]:
    return [message(number, 1_700_000_000 + number, **more) for number in numbers]


def test_what_a_command_gets(publisher: Publisher) -> None:
    one = message(1, 1_700_000_001, msg={"text": HOSTILE})
    with triggering(publisher, 'echo "$FEDMSG_TOPIC|$FEDMSG_MSG_ID"; cat; echo') as trigger:
        publisher.send(one)
        env, body = said(trigger, json.dumps(one, sort_keys=True, separators=(",", ":")))
        assert env == f"{TOPIC}|2026-1"
        assert json.loads(body) == one
        assert trigger.stop() == 0
    assert trigger.err == []


def test_each_match_in_order(publisher: Publisher) -> None:
    with triggering(publisher, 'echo "$FEDMSG_MSG_ID"') as trigger:
        publisher.send(*numbered(*range(50)))
        assert said(trigger, "2026-49") == [f"2026-{number}" for number in range(50)]


def test_no_text_of_a_message_becomes_part_of_the_command(publisher: Publisher) -> None:
    with triggering(publisher, 'echo "$FEDMSG_TOPIC$FEDMSG_MSG_ID" > /dev/null; cat > /dev/null; echo done') as trigger:
        # The default of --include takes no topic with a line break.
        topic = f"{TOPIC}.{HOSTILE}".replace("\n", ";")
        for number in range(3):
            publisher.send(message(number, 1, topic=topic, msg_id=HOSTILE, msg=HOSTILE, username=HOSTILE))
        publisher.send(message(9, 1, msg_id="last"))
        trigger.wait_for(lambda line: trigger.out.count("done") == 4)
        assert trigger.stop() == 0
    assert not Path("pwned").exists()


@pytest.mark.parametrize(
    ("msg_id", "value"),
    [
        ("a\0b", "a\\x00b"),
        ("a\ud800\udc00b\udfff", "a\U00010000b\\udfff"),
        ("\ud800", "\\ud800"),
        ("é☃", "é☃"),
        ("x" * 200_000, "x" * 16_384),
        ("x" + "é" * 200_000, "x" + "é" * 8_191),
        ("", ""),
        (None, ""),
    ],
    ids=["NUL", "surrogates", "a lone surrogate", "other scripts", "long", "long in bytes", "empty", "missing"],
)
def test_ids_that_fit_into_no_environment(publisher: Publisher, msg_id: str | None, value: str) -> None:
    one = message(1, 1)
    one["msg_id"] = msg_id
    if msg_id is None:
        del one["msg_id"]
    with triggering(publisher, 'echo "<$FEDMSG_MSG_ID>"', FEDMSG_MSG_ID="that of another trigger") as trigger:
        publisher.send(one)
        assert said(trigger, f"<{value}>") == [f"<{value}>"]


def test_the_shell_is_bash(publisher: Publisher) -> None:
    with triggering(publisher, '[[ $BASH = /bin/bash ]] && words=(one two) && echo "${words[1]}"') as trigger:
        publisher.send(*numbered(1))
        assert said(trigger, "two") == ["two"]


def test_which_messages_match(publisher: Publisher) -> None:
    flags = ["--topic", "org.fedoraproject", "--include", "shop|bank", "--exclude", r"order$"]
    with triggering(publisher, 'echo "$FEDMSG_TOPIC"', *flags) as trigger:
        words = ["shop.order", "shop.paid", "bank.paid", "other.thing", "shop.last"]
        publisher.send(*(message(1, 1, topic=f"org.fedoraproject.dev.{words}") for words in words))
        publisher.send(message(1, 1, topic="com.example.dev.shop.paid"), message(1, 1, topic="org.fedoraproject.shop"))
        assert said(trigger, "org.fedoraproject.shop") == [
            "org.fedoraproject.dev.shop.paid", "org.fedoraproject.dev.bank.paid", "org.fedoraproject.dev.shop.last",
            "org.fedoraproject.shop",
        ]  # fmt: skip


def test_a_command_that_fails_is_told_and_the_next_one_runs(publisher: Publisher) -> None:
    with triggering(publisher, "echo ran; [ $FEDMSG_MSG_ID = 2026-1 ] && exit 3; kill -9 $$") as trigger:
        publisher.send(*numbered(1, 2))
        trigger.wait_for("Command returned error code 3")
        trigger.wait_for("Command returned error code -9")
        assert trigger.stop() == 0
        assert trigger.out.count("ran") == 2


def test_what_is_no_message_is_not_for_a_command(publisher: Publisher) -> None:
    with triggering(publisher, 'echo "$FEDMSG_MSG_ID"', "--log-level", "critical") as trigger:
        publisher.send_frames(b"one frame")
        publisher.send_frames(TOPIC.encode(), b"no json")
        publisher.send_frames(b"other.topic", json.dumps(message(1, 1)).encode())
        publisher.send(message(2, 1))
        assert said(trigger, "2026-2") == ["2026-2"]


@pytest.mark.parametrize(
    "command",
    [
        "true",  # does not read its input
        "exec <&-; true",  # closes it
        "read -N 10; true",  # reads a little
        "yes | head -c 2000000",  # prints more than a pipe holds
        "yes | head -c 2000000 >&2",
        "sleep 1000 & true",  # leaves something behind that has its input and output
    ],
)
def test_what_commands_do(publisher: Publisher, command: str) -> None:
    big = message(1, 1, msg="x" * 1_000_000)
    with triggering(publisher, f'echo $$; {command}\n echo "done $FEDMSG_MSG_ID"') as trigger:
        publisher.send(big, *numbered(2))
        trigger.wait_for("done 2026-1")
        trigger.wait_for("done 2026-2")
        if "&" in command and "sleep" in command:
            for session in [line for line in trigger.out if line.isdecimal()]:
                os.killpg(int(session), signal.SIGKILL)
        assert trigger.stop() == 0


# ---------------------------------------------------------------- waiting


def test_two_messages_within_the_wait_run_the_command_twice(publisher: Publisher) -> None:
    with triggering(publisher, 'echo "$FEDMSG_MSG_ID"', "--wait-for", "0.5") as trigger:
        publisher.send(*numbered(1))
        publisher.send(*numbered(2))
        assert said(trigger, "2026-2") == ["2026-1", "2026-2"]
        publisher.send(*numbered(3))
        assert said(trigger, "2026-3") == ["2026-1", "2026-2", "2026-3"]


def test_more_than_may_wait_run_at_once(publisher: Publisher) -> None:
    with triggering(
        publisher, 'echo "$FEDMSG_MSG_ID"', "--wait-for", "1000", "--max-queue-size", "3", "--log-level", "debug"
    ) as trigger:
        publisher.send(*numbered(1, 2, 3, 4))
        assert said(trigger, "2026-4") == [f"2026-{number}" for number in (1, 2, 3, 4)]
        publisher.send(*numbered(5, 6, 7))
        trigger.wait_for("3 messages wait")
        assert said(trigger, "2026-4") == [f"2026-{number}" for number in (1, 2, 3, 4)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_waits_is_run_when_it_is_stopped(publisher: Publisher, number: int) -> None:
    with triggering(publisher, 'echo "$FEDMSG_MSG_ID"', "--wait-for", "1000", "--log-level", "debug") as trigger:
        publisher.send(*numbered(1, 2, 3))
        trigger.wait_for("3 messages wait")
        assert trigger.stop(number) == 0
        assert said(trigger, "2026-3") == ["2026-1", "2026-2", "2026-3"]


def test_a_full_queue_does_not_wait(tmp_path: Path) -> None:
    with (
        contextlib.closing(Publisher(tmp_path, consumer_queue_limit=5)) as publisher,
        triggering(publisher, 'echo "$FEDMSG_MSG_ID"', "--wait-for", "1000") as trigger,
    ):
        publisher.send(*numbered(*range(20)))
        assert said(trigger, "2026-19") == [f"2026-{number}" for number in range(20)]


def test_what_is_not_run_in_time_is_reported(tmp_path: Path) -> None:
    with contextlib.closing(Publisher(tmp_path, stop_timeout=1)) as publisher:
        # The first keeps the others waiting; it takes no notice of being asked to end.
        command = "trap '' TERM; echo \"$$ $FEDMSG_MSG_ID\"; while true; do sleep 1000; done"
        with triggering(publisher, command) as trigger:
            publisher.send(*numbered(1, 2, 3))
            session = int(trigger.wait_for("2026-1").split()[0])
            assert trigger.stop() == 8
        assert trigger.out[-1].endswith("2026-1") or trigger.out[-1].startswith("[")
        assert len(trigger.err) == 1
        assert trigger.err[0].startswith("fedmsg-trigger: stopped with work left: ")
        assert f"still running for the message 2026-1 on {TOPIC}" in trigger.err[0]
        # What is dead stays in the list of processes for as long as nobody asks for its status.
        assert [one for one in members(session) if one.status() != psutil.STATUS_ZOMBIE] == []


def test_a_command_that_ends_when_it_is_told_to(tmp_path: Path) -> None:
    with (
        contextlib.closing(Publisher(tmp_path, stop_timeout=1)) as publisher,
        triggering(publisher, "echo started; sleep 1000; echo never") as trigger,
    ):
        publisher.send(*numbered(1))
        trigger.wait_for("started")
        assert trigger.stop() == 8
        assert "never" not in trigger.out


# ---------------------------------------------------------------- use


def test_without_a_command(tmp_path: Path) -> None:
    ended = run(["fedmsg-trigger"])
    assert ended.returncode == 1
    assert "You must provide a --command to run." in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    "arguments",
    [["--wait-for", "soon"], ["--wait-for", "-1"], ["--wait-for", "inf"], ["--wait-for", "nan"],
     ["--max-queue-size", "-1"], ["--max-queue-size", "1.5"], ["--include", "("], ["--exclude", "*"]],
)  # fmt: skip
def test_bad_use(arguments: list[str]) -> None:
    ended = run(["fedmsg-trigger", "--command", "true", *arguments])
    assert (ended.returncode, ended.stdout) == (2, "")
    assert arguments[0] in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_signatures_are_checked_as_configured(tmp_path: Path) -> None:
    config = {
        "validate_signatures": True,
        "ca_cert_location": str(tmp_path / "none"),
        "endpoints": {"x": free_address()},
    }
    (tmp_path / "config.py").write_text(f"config = {config!r}\n")
    ended = run(["fedmsg-trigger", "--command", "true"], env={"FEDMSG_CONFIG": str(tmp_path / "config.py")})
    assert (ended.returncode, ended.stderr.count("\n")) == (7, 1)


def test_inside_another_program() -> None:
    """As programs embed it that put their own messages in the place of the bus: it runs all, and returns."""
    messages = [{"topic": "a.b.c.d"}, {"topic": "a.b.c.e", "msg_id": "2026-1"}]
    argv = ("fedmsg-trigger", "--topic", "a.b", "--wait-for", "1000", "--command", "echo $FEDMSG_TOPIC $FEDMSG_MSG_ID")
    status, published, printed, others = embed(*argv, messages=messages)
    assert (status, published, printed) == (None, [], "")
    assert others == ['asked for {"topic": "a.b"}', "a.b.c.d", "a.b.c.e 2026-1"]
