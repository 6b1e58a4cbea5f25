# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg-tail as people and pipes use it, on real sockets."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from fedmsg.testing import Bus, Process, command_path, run
from tests.publisher import Publisher

HELLO: dict[str, Any] = {
    "topic": "org.fedoraproject.dev.logger.log",
    "msg": {"log": "hello"},
    "timestamp": 1700000000,
    "msg_id": "2023-abc",
    "i": 1,
    "username": "root",
    "signature": "sig",
    "certificate": "cert",
}
HEARTBEAT: dict[str, Any] = {"topic": "org.fedoraproject.dev.x._heartbeat", "msg": {}}
ODD: dict[str, Any] = {
    "topic": "org.fedoraproject.dev.x.odd",
    "msg": {"é": "☃\U0001f600", "s": "\x1b]0;pwned\x07\x7f\x9b31m\u202e", "n": [10**30, 1e300, -0.0, None]},
    "unknown": {"kept": True},
}

PRETTY = """
{'i': 1,
 'msg': {'log': 'hello'},
 'msg_id': '2023-abc',
 'timestamp': 'Tue Nov 14 22:13:20 2023',
 'topic': 'org.fedoraproject.dev.logger.log',
 'username': 'root'}"""

UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    with contextlib.closing(Publisher(tmp_path)) as found:
        yield found


@contextlib.contextmanager
def tailing(publisher: Publisher, *arguments: str, **environ: str) -> Iterator[Process]:
    """Start a fedmsg-tail that is connected when the block begins."""
    with Process(["fedmsg-tail", *arguments], env={**publisher.environ, **environ}) as tail:
        publisher.wait()
        yield tail


def printed(publisher: Publisher, *arguments: str, messages: list[dict[str, Any]], count: int, **environ: str) -> str:
    """Give what is printed for messages, of which so many are shown; the last one has to be among them."""
    with tailing(publisher, "--count", str(count), *arguments, **environ) as tail:
        publisher.send(*messages)
        assert tail.wait() == 0
        assert tail.err == []
        return "\n".join(tail.out)


def one_line(lines: list[str]) -> str:
    """Give the only line."""
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], repr(HELLO)),
        (["--query", "msg.log,topic"], f"hello, {HELLO['topic']}"),
        (["--pretty", "--query", "topic"], str(HELLO["topic"])),
        (["--json", "--query", "username"], "root"),
        (
            ["--pretty"],
            PRETTY,
        ),
    ],
)
def test_formats_of_1_x(publisher: Publisher, arguments: list[str], text: str) -> None:
    assert printed(publisher, *arguments, messages=[HELLO], count=1, TZ="UTC") == text


def test_really_pretty_is_coloured_in_a_pipe_too(publisher: Publisher) -> None:
    text = printed(publisher, "--really-pretty", messages=[HELLO], count=1)
    assert '\x1b[33m"log"\x1b[39;49;00m' in text
    assert "signature" not in text
    assert "certificate" not in text


@pytest.mark.parametrize(("arguments", "environ"), [(["--color", "never"], {}), ([], {"NO_COLOR": "1"})])
def test_really_pretty_without_colour(publisher: Publisher, arguments: list[str], environ: dict[str, str]) -> None:
    text = printed(publisher, "--really-pretty", *arguments, messages=[HELLO], count=1, **environ)
    assert text.startswith("\n{\n  ")
    assert json.loads(text) == {key: value for key, value in HELLO.items() if key not in {"signature", "certificate"}}


def test_json_is_what_was_received(publisher: Publisher) -> None:
    lines = printed(publisher, "--json", messages=[HELLO, ODD], count=2).split("\n")
    assert [json.loads(line) for line in lines] == [HELLO, ODD]


@pytest.mark.parametrize(
    "arguments", [[], ["--json"], ["--pretty"], ["--really-pretty", "--color", "never"], ["--query", "msg.s,msg,topic"]]
)
def test_no_control_character_reaches_the_terminal(publisher: Publisher, arguments: list[str]) -> None:
    text = printed(publisher, *arguments, messages=[ODD], count=1)
    assert "pwned" in text
    assert not UNSAFE.search(text)


@pytest.mark.parametrize(
    ("arguments", "messages", "shown"),
    [
        ([], [HEARTBEAT, HELLO, HEARTBEAT, ODD], [HELLO, ODD]),
        (["--include", "logger"], [ODD, HELLO], [HELLO]),
        (["--exclude", "logger"], [HELLO, HEARTBEAT, ODD], [ODD]),
        (["--exclude", "nothing", "--include", "heart"], [HELLO, HEARTBEAT], [HEARTBEAT]),
        (["--topic", "org.fedoraproject.dev.x"], [HELLO, ODD], [ODD]),
        (["--topic", "org.fedoraproject.dev.logger.lo"], [ODD, HELLO], [HELLO]),
    ],
)
def test_which_messages_are_shown(
    publisher: Publisher, arguments: list[str], messages: list[dict[str, Any]], shown: list[dict[str, Any]]
) -> None:
    lines = printed(publisher, "--json", *arguments, messages=messages, count=len(shown)).split("\n")
    assert [json.loads(line) for line in lines] == shown


def test_the_topic_is_what_is_subscribed_to(publisher: Publisher) -> None:
    with Process(["fedmsg-tail", "--topic", "org.x"], env=publisher.environ):
        assert publisher.wait() == b"org.x"


def test_an_empty_result_prints_nothing(publisher: Publisher) -> None:
    messages = [{"topic": "t", "msg": {"log": text}} for text in ("", "full")]
    assert printed(publisher, "--query", "msg.log", messages=messages, count=1) == "full"


def test_an_output_that_lacks_characters_gets_escapes(publisher: Publisher) -> None:
    text = printed(publisher, "--query", "msg.é", messages=[ODD], count=1, PYTHONIOENCODING="ascii")
    assert text == "\\u2603\\U0001f600"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("busy", [False, True])
def test_it_ends_with_0_when_it_is_told_to(publisher: Publisher, number: int, busy: bool) -> None:
    with tailing(publisher) as tail:
        publisher.send(HELLO)
        tail.wait_for("hello")
        if busy:
            publisher.send(*[HELLO] * 20_000)
        assert tail.stop(number) == 0
        assert tail.err == []


def test_hang_up_reloads_nothing_and_says_so(publisher: Publisher) -> None:
    with tailing(publisher) as tail:
        tail.popen.send_signal(signal.SIGHUP)
        assert "SIGHUP: nothing is reloaded" in tail.wait_for("SIGHUP", stream="err")
        publisher.send(HELLO)
        tail.wait_for("hello")
        assert tail.stop() == 0


def test_a_reader_that_leaves_is_no_error(publisher: Publisher) -> None:
    command = f"{command_path('fedmsg-tail')} --query msg.log | head -n 1"
    with subprocess.Popen(
        ["bash", "-c", f"{command}; echo ${{PIPESTATUS[0]}}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **publisher.environ},
        text=True,
    ) as pipe:
        publisher.wait()
        publisher.send(HELLO)
        assert pipe.stdout is not None
        assert pipe.stdout.readline() == "hello\n"
        # The first message after the reader has left is the one that tells.
        while pipe.poll() is None:
            publisher.send(HELLO)
            with contextlib.suppress(subprocess.TimeoutExpired):
                pipe.wait(0.05)
        assert pipe.communicate() == ("0\n", "")


def test_messages_are_flushed_one_by_one(publisher: Publisher) -> None:
    with tailing(publisher, "--json", PYTHONUNBUFFERED="") as tail:
        for number in range(3):
            publisher.send({"topic": "t", "msg": {"n": number}})
            assert json.loads(tail.wait_for(f'"n":{number}'))["msg"] == {"n": number}


FRAMES: list[tuple[bytes, ...]] = [
    (b"one",),
    (b"one", b"{}", b"three"),
    (b"\xff", b'{"topic": "\xff", "msg": {}}'),
    (b"t", b"\xff\xfe"),
    (b"t", b""),
    (b"t", b"null"),
    (b"t", b"[]"),
    (b"t", b"{bad"),
    (b"t", b'{"topic": "other", "msg": {}}'),
    (b"t", b'{"msg": {}}'),
    (b"t", b'{"topic": "t"}'),
    (b"t", b'{"topic": "t", "msg": {}, "timestamp": null}'),
    (b"t", b'{"topic": "t", "msg": {}, "signature": 5}'),
    (b"t", b'{"topic": "t", "msg": {}, "i": "1"}'),
    (b"t", b"[" * 100_000),
    (b"t", b'{"topic": "t", "msg": ' + b"9" * 5_000 + b"}"),
    (b"t\x1b[2J", b'{"topic": "\x1b[2J", "msg": {}}'),
]


@pytest.mark.soak
@pytest.mark.timeout(7_200)
def test_bad_frames_end_nothing(publisher: Publisher, full_size: bool) -> None:
    blocks = 2_000 if full_size else 4
    memory = []
    with tailing(publisher, "--json") as tail:
        for number in range(blocks):
            for _ in range(30):
                for frames in FRAMES:
                    publisher.send_frames(*frames)
            # Not faster than they are read, or ZeroMQ would leave some out.
            publisher.send({"topic": "t", "msg": {"block": number}})
            tail.wait_for(f'"block":{number}')
            del tail.out[:]
            memory.append(tail.memory())
        assert tail.stop() == 0
    # The first block is what fills caches.
    assert memory[-1] - memory[0] < 2_000
    # Told of on standard error, not among the data, and not for each.
    assert 5 < len(tail.err) < 60 + blocks
    assert all("rejected a message from tcp://127.0.0.1:" in line for line in tail.err)
    assert not UNSAFE.search("".join(tail.err))


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--exclude", "("], 2, "--exclude: '(' is not a regular expression: "),
        (["--include", "*"], 2, "--include: '*' is not a regular expression: "),
        (["--count", "0"], 2, "--count"),
        (["--count", "many"], 2, "--count"),
        (["--color", "blue"], 2, "--color"),
        (["--nonsense"], 2, "--nonsense"),
        (["\x1b[31m"], 2, "\\x1b[31m"),
        (["--validate"], 7, "ca_cert_location"),
        (["--config-filename", "/nowhere/at.all.py"], 5, "/nowhere/at.all.py"),
    ],
)
def test_what_can_not_be_done_is_one_line(publisher: Publisher, arguments: list[str], status: int, said: str) -> None:
    ended = run(["fedmsg-tail", *arguments], env=publisher.environ)
    assert (ended.returncode, ended.stdout) == (status, "")
    assert said in one_line(ended.stderr.splitlines())


def test_zmq_can_not_be_switched_off(tmp_path: Path) -> None:
    with contextlib.closing(Publisher(tmp_path, zmq_enabled=False)) as publisher:
        ended = run(["fedmsg-tail"], env=publisher.environ)
    assert ended.returncode == 5
    assert "zmq_enabled" in one_line(ended.stderr.splitlines())


def test_no_validate_wins_over_the_configuration(tmp_path: Path) -> None:
    with contextlib.closing(Publisher(tmp_path, validate_signatures=True)) as publisher:
        assert run(["fedmsg-tail"], env=publisher.environ).returncode == 7
        assert printed(publisher, "--no-validate", messages=[HELLO], count=1) == repr(HELLO)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("config = {'endpoints': {}", 1),
        ("\nconfig = {'a': undefined}", 2),
        ("endpoints = {}\n", 1),
        ("import sys\nsys.exit(3)", 2),
    ],
)
def test_a_broken_configuration_is_one_line(text: str, line: int) -> None:
    path = Path("broken.py").absolute()
    path.write_text(text)
    ended = run(["fedmsg-tail"], env={"FEDMSG_CONFIG": str(path)})
    assert (ended.returncode, ended.stdout) == (5, "")
    assert f"{path}:{line}: " in one_line(ended.stderr.splitlines())


@pytest.mark.xdist_group("default-ports")  # one after the other
def test_without_any_configuration_it_listens_to_this_machine() -> None:
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.bind("tcp://127.0.0.1:4001")
        with Process(["fedmsg-tail", "--count", "1"]) as tail:
            assert socket.poll(20_000)
            socket.send_multipart([HELLO["topic"].encode(), json.dumps(HELLO).encode()])
            assert tail.wait() == 0
            assert tail.out == [repr(HELLO)]


def test_it_waits_for_a_bus_that_is_not_there_yet() -> None:
    with (
        Bus() as bus,
        Process(["fedmsg-tail", "--query", "msg.log", "--count", "1"], env=bus.environ) as tail,
    ):
        bus.start_relay()
        with bus.context() as context:
            tail.wait_for("late", meanwhile=lambda: context.publish(topic="log", msg={"log": "late"}))
        assert tail.wait() == 0


class Terminal:
    """A terminal that a command runs on, as long as the block lasts."""

    def __init__(self, command: list[str], environ: dict[str, str]) -> None:
        self._main, side = pty.openpty()
        self.process = subprocess.Popen(
            command, stdin=side, stdout=side, stderr=side, env={**os.environ, **environ}, start_new_session=True
        )
        os.close(side)
        self.text = ""

    def read_until(self, text: str) -> None:
        """Read until a text has been shown."""
        while text not in self.text:
            self.text += os.read(self._main, 1024).decode()

    def hang_up(self) -> None:
        """Take the terminal away, as a closed window does."""
        os.close(self._main)

    def close(self) -> None:
        """Kill what still runs."""
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError):
            os.close(self._main)


@pytest.mark.parametrize("settings", [{}, {"validate_signatures": False}])
def test_on_a_terminal_it_says_that_nothing_is_checked(tmp_path: Path, settings: dict[str, Any]) -> None:
    with (
        contextlib.closing(Publisher(tmp_path, **settings)) as publisher,
        contextlib.closing(
            Terminal([command_path("fedmsg-tail"), "--query", "msg.log"], publisher.environ)
        ) as terminal,
    ):
        publisher.wait()
        publisher.send(HELLO, HELLO)
        terminal.read_until("hello\r\nhello\r\n")
    assert terminal.text.count("\n") == 3
    assert "validate_signatures" in terminal.text.splitlines()[0]


def test_a_terminal_that_is_closed_takes_it_along(publisher: Publisher) -> None:
    with contextlib.closing(Terminal([command_path("fedmsg-tail")], publisher.environ)) as terminal:
        publisher.wait()
        publisher.send(HELLO)
        terminal.read_until("hello")
        terminal.hang_up()
        terminal.process.send_signal(signal.SIGHUP)
        # The signal may come when it is ending already, for want of a reader.
        assert terminal.process.wait(20) in {0, -signal.SIGHUP}


def test_it_stays_small(publisher: Publisher) -> None:
    code = (
        "import sys; sys.argv = ['fedmsg-tail', '--count', '1']; from fedmsg.commands.tail import tail; tail()\n"
        "print(sorted({'kitchen', 'six', 'yaml', 'pygments', 'orjson'} & set(sys.modules)))"
    )
    with Process([sys.executable, "-c", code], env=publisher.environ) as process:
        publisher.wait()
        publisher.send(HELLO)
        assert process.wait() == 0
        assert process.out[-1] in {"[]", "['orjson']"}


@pytest.mark.parametrize("stdout", ["reader leaves", "reader stays"])
def test_tail_ends_when_its_reader_has_gone(publisher: Publisher, stdout: str) -> None:
    """Without waiting for another message."""
    command = [command_path("fedmsg-tail"), "--json"]
    reader, writer = os.pipe()
    with subprocess.Popen(command, stdout=writer, stderr=subprocess.PIPE, env=os.environ | publisher.environ) as tail:
        os.close(writer)
        try:
            publisher.wait()
            publisher.send(HELLO)
            assert json.loads(os.read(reader, 65536)) == HELLO
            if stdout == "reader stays":
                with pytest.raises(subprocess.TimeoutExpired):
                    tail.wait(1)
                tail.terminate()
            else:
                os.close(reader)
            assert tail.wait(20) == 0
            assert tail.stderr is not None
            assert tail.stderr.read() == b""
        finally:
            tail.kill()
            if stdout == "reader stays":
                os.close(reader)
