# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg-logger as a shell script uses it, on a real bus."""

from __future__ import annotations

import fcntl
import itertools
import json
import signal
import socket
import termios
from collections.abc import Iterator
from typing import IO, Any

import pytest

from fedmsg.testing import Bus, Process, wait_until

WITHOUT_RELAY = 3
POSSIBLY_LOST = 4
WORK_LEFT = 8

TOO_BIG = 50_000

_numbers = itertools.count()


class Listener:
    """A bus with a relay, and a fedmsg-tail that hears everything on it."""

    def __init__(self, bus: Bus, tail: Process) -> None:
        self.bus = bus
        self._tail = tail

    def hear(self, *arguments: str, stdin: str | bytes = b"") -> tuple[Any, list[dict[str, Any]]]:
        """Run fedmsg-logger, and give how it ended and the messages that came of it."""
        self.heard()
        ended = self.bus.run("fedmsg-logger", *arguments, stdin=stdin)
        return ended, self.heard()

    def heard(self) -> list[dict[str, Any]]:
        """Give the messages since the last call."""
        mark = f"end of part {next(_numbers)}"
        with self.bus.context() as context:
            context.publish(topic="mark", msg={"mark": mark}, modname="test")
        self._tail.wait_for(mark)
        messages = [json.loads(line) for line in self._tail.out]
        del self._tail.out[:]
        return messages[:-1]

    def wait_for(self, text: str) -> None:
        """Wait until a message with this text has come by."""
        self._tail.wait_for(text)


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    with Bus({"max_message_size": TOO_BIG}) as bus:
        bus.start_relay()
        with bus.tail("--json") as tail:
            yield Listener(bus, tail)


def one_line(text: str) -> str:
    """Give the only line of a text without its end."""
    assert text.count("\n") == 1, text
    return text.rstrip("\n")


@pytest.mark.parametrize(
    ("arguments", "topic", "msg"),
    [
        (["--message", "hello"], "logger.log", {"log": "hello"}),
        (["--message", "  kept as it is\n "], "logger.log", {"log": "  kept as it is\n "}),
        (["--message", "héllo ☃ \U0001f600"], "logger.log", {"log": "héllo ☃ \U0001f600"}),
        (["--message", "x", "--topic", "a.b", "--modname", "git"], "git.a.b", {"log": "x"}),
        (["--message", "x", "--cert-prefix", "other", "--post-init-sleep", "9"], "logger.log", {"log": "x"}),
        (["--message", '{"a": [1, null]}', "--json-input"], "logger.log", {"a": [1, None]}),
        (["--message", "[1]", "--json-input"], "logger.log", [1]),
        (["--message", "5", "--json-input"], "logger.log", 5),
    ],
)
def test_a_message(listener: Listener, arguments: list[str], topic: str, msg: Any) -> None:
    ended, messages = listener.hear(*arguments)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert [(message["topic"], message["msg"]) for message in messages] == [(f"org.fedoraproject.dev.{topic}", msg)]


def test_a_message_that_is_not_utf_8(listener: Listener) -> None:
    ended, messages = listener.hear("--message", "caf\udce9")
    assert ended.returncode == 0
    assert [message["msg"] for message in messages] == [{"log": "caf\ufffd"}]


@pytest.mark.parametrize("arguments", [[], ["--message", ""]])
def test_lines(listener: Listener, arguments: list[str]) -> None:
    ended, messages = listener.hear(*arguments, stdin="one\n  two \t\n\nthree\r\nlast")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert [(message["i"], message["msg"]["log"]) for message in messages] == [
        (1, "one"),
        (2, "two"),
        (3, ""),
        (4, "three"),
        (5, "last"),
    ]


def test_no_line_is_no_message(listener: Listener) -> None:
    ended, messages = listener.hear(stdin="")
    assert (ended.returncode, ended.stdout, ended.stderr, messages) == (0, "", "", [])


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_lines_that_are_not_utf_8(listener: Listener, monkeypatch: pytest.MonkeyPatch, locale: str) -> None:
    monkeypatch.setenv("LC_ALL", locale)
    ended, messages = listener.hear(stdin="ok é\nold ".encode() + b"\xe9\n\xff\xfe\nafter\n")
    assert ended.returncode == 0
    assert [message["msg"]["log"] for message in messages] == ["ok é", "old \ufffd", "\ufffd\ufffd", "after"]
    # Once, and with the place.
    assert "line 2 is not UTF-8" in one_line(ended.stdout)


@pytest.mark.parametrize(
    ("stdin", "msgs"),
    [
        ('{"a": 1}', [{"a": 1}]),
        ('{"a":\n\n 1}\n', [{"a": 1}]),
        ("\n\n[1,\n2]", [[1, 2]]),
        ('{"a": 1}\n\n{"b": "é"}\n', [{"a": 1}, {"b": "é"}]),
        ('"text"\n5\n', ["text", 5]),
    ],
)
def test_json_from_standard_input(listener: Listener, stdin: str, msgs: list[Any]) -> None:
    ended, messages = listener.hear("--json-input", stdin=stdin)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert [message["msg"] for message in messages] == msgs


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("arguments", "stdin", "sent", "said"),
    [
        (["--json-input"], "", 0, "standard input is empty"),
        (["--json-input"], " \n\n", 0, "standard input is empty"),
        (["--json-input"], "{'a': 1}\n", 0, "standard input is not JSON: Expecting property name"),
        (["--json-input"], "\n\n{\n bad", 0, "line 4 column 2"),
        (["--json-input"], '{"a": 1}\n{"b": 2}\n\nbad\n{"c": 3}\n', 2, "line 4 is not JSON: "),
        (["--json-input"], '{"a": 1}\n{\n"b": 2}\n', 1, "1 were handed over before it"),
        (["--json-input"], DEEP, 0, "standard input is not JSON: "),
        (["--json-input", "--message", "{bad"], "", 0, "--message is not JSON: "),
        (["--json-input", "--message", DEEP], "", 0, "--message is not JSON: "),
        (["--json-input"], "[" * 300 + "]" * 300, 0, "line 1 can't be sent: "),
        ([], "fits\n" + "x" * TOO_BIG + "\n", 1, "line 2 can't be sent: "),
        (["--message", "x" * TOO_BIG], "", 0, "the message can't be sent: "),
        (["--nonsense"], "", 0, "--nonsense"),
        (["stray"], "", 0, "stray"),
        (["--timeout", "soon"], "", 0, "--timeout"),
    ],
)
def test_bad_input(listener: Listener, arguments: list[str], stdin: str, sent: int, said: str) -> None:
    ended, messages = listener.hear(*arguments, stdin=stdin)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert said in one_line(ended.stderr)
    assert len(one_line(ended.stderr)) < 500
    assert len(messages) == sent


def test_a_line_goes_out_when_it_is_there(listener: Listener) -> None:
    for arguments, first, second in (([], "typed", "later"), (["--json-input"], '{"a": "typed"}', '{"a": "later"}')):
        with Process(["fedmsg-logger", *arguments], env=listener.bus.environ, stdin=True) as logger:
            stdin = logger.popen.stdin
            assert stdin is not None
            for text in (first, second):
                stdin.write(f"{text}\n".encode())
                stdin.flush()
                listener.wait_for(json.loads(text)["a"] if arguments else text)
            stdin.close()
            assert logger.wait() == 0
    listener.heard()


def wait_until_read(stdin: IO[bytes]) -> None:
    """Wait until the reader of a pipe has taken all that is in it."""
    left = bytearray(4)

    def is_empty() -> bool:
        fcntl.ioctl(stdin.fileno(), termios.FIONREAD, left)
        return not any(left)

    wait_until(is_empty, what="the pipe is empty")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_between_two_lines(listener: Listener, number: int) -> None:
    with Process(["fedmsg-logger"], env=listener.bus.environ, stdin=True) as logger:
        stdin = logger.popen.stdin
        assert stdin is not None
        stdin.write(b"a whole line\nhalf a li")
        stdin.flush()
        listener.wait_for("a whole line")
        # What it takes after it has sent the first line, it takes while it reads.
        stdin.write(b"ne")
        stdin.flush()
        wait_until_read(stdin)
        assert logger.stop(number) == 0
        assert logger.out == logger.err == []
    assert [message["msg"]["log"] for message in listener.heard()] == ["a whole line"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_before_the_message_was_sent(number: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        with (
            Bus({"relay_inbound": [address], "timeout": 50}) as bus,
            Process(["fedmsg-logger", "--message", "x"], env=bus.environ) as logger,
        ):
            silent.settimeout(20)
            with silent.accept()[0]:
                assert logger.stop(number) == WORK_LEFT
            assert len(logger.err) == 1
            assert "stopped before the message was sent" in logger.err[0]


@pytest.mark.parametrize("arguments", [["--message", "x"], ["--json-input"], []])
def test_no_relay(arguments: list[str]) -> None:
    with Bus({"timeout": 0.3}) as bus:
        ended = bus.run("fedmsg-logger", *arguments, stdin='{"a": 1}\n{"b": 2}\n')
    assert (ended.returncode, ended.stdout) == (WITHOUT_RELAY, "")
    assert one_line(ended.stderr).startswith("fedmsg-logger: nothing listens at tcp://127.0.0.1:")


def test_the_flag_says_how_long_to_wait_for_a_relay() -> None:
    with Bus({"timeout": 50}) as bus:
        ended = bus.run("fedmsg-logger", "--message", "x", "--timeout", "0.1")
    assert ended.returncode == WITHOUT_RELAY
    assert "within 0.1 s" in ended.stderr


def test_the_relay_dies_under_it() -> None:
    with Bus() as bus:
        relay = bus.start_relay()
        with (
            bus.tail("--json") as tail,
            Process(["fedmsg-logger"], env=bus.environ, stdin=True) as logger,
        ):
            assert logger.popen.stdin is not None
            logger.popen.stdin.write(b"the last one\n")
            logger.popen.stdin.flush()
            tail.wait_for("the last one")
            relay.popen.kill()
            logger.wait_for("about 1 messages may be lost")
            logger.popen.stdin.close()
            assert logger.wait() == POSSIBLY_LOST
            assert len(logger.err) == 1
            assert "about 1 messages may be lost" in logger.err[0]
            assert bus.config["relay_inbound"][0] in logger.err[0]


def test_a_piped_file_is_delivered_whole_and_in_order(listener: Listener) -> None:
    lines = [f"line {number}" for number in range(5_000)]
    ended, messages = listener.hear(stdin="\n".join(lines))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [message["msg"]["log"] for message in messages] == lines


def test_a_relay_that_starts_late_is_waited_for() -> None:
    with (
        Bus({"timeout": 20}) as bus,
        Process(["fedmsg-logger", "--message", "patient"], env=bus.environ) as logger,
    ):
        bus.start_relay()
        assert logger.wait() == 0


@pytest.mark.parametrize("arguments", [["--message", "café"], []])
def test_logger_sends_utf_8_under_an_ascii_locale(
    listener: Listener, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}.items():
        monkeypatch.setenv(name, value)
    ended, messages = listener.hear(*arguments, stdin="café\n".encode())
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [message["msg"] for message in messages] == [{"log": "café"}]
