# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg-trigger on the stream of a relay: where it begins, and what a durable one acknowledges."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fedmsg.testing import Process, wait_until
from tests.integration.test_hub_durable import cursor, publish, wait_for_cursor
from tests.stream_relays import StreamBus, running, sqlite_url

TOPIC = "org.fedoraproject.dev.m.t"


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[StreamBus]:
    with running(StreamBus(sqlite_url(tmp_path))) as made:
        yield made


def trigger(bus: StreamBus, command: str, *arguments: str) -> Process:
    """Start a fedmsg-trigger; ``$n`` is the number of the message."""
    argv = ["fedmsg-trigger", "--topic", TOPIC, "--command", f"""n=$(grep -o '"n":[0-9]*'); n=${{n#*:}}; {command}"""]
    return Process([*argv, *arguments], env=bus.environ)


def numbers(process: Process) -> list[int]:
    """Return the numbers that the commands have printed."""
    return [int(line) for line in process.out if line.isdigit()]


def wait_for(process: Process, wanted: Sequence[int]) -> None:
    """Wait until the commands have printed these numbers, and no others."""
    wait_until(lambda: len(numbers(process)) >= len(wanted), what=lambda: f"{wanted}; there are {numbers(process)}")
    assert numbers(process) == wanted


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("--first",), [0, 1, 2, 3, 4]),
        (("--after", "3"), [3, 4]),
        (("--since", "1h"), [0, 1, 2, 3, 4]),
        (("--last", "2"), [3, 4]),
        (("--first", "--durable", "mine"), [0, 1, 2, 3, 4]),
    ],
)
def test_trigger_begins_in_the_stream_and_goes_on_with_new_messages(
    bus: StreamBus, arguments: tuple[str, ...], wanted: list[int]
) -> None:
    publish(bus, range(5))
    with trigger(bus, "echo $n", *arguments) as process:
        wait_for(process, wanted)
        publish(bus, [5])
        wait_for(process, [*wanted, 5])
        assert process.stop() == 0, process.report()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("--first", "--last", "2"), 2, "--last and --first: only one of them"),
        (("--after", "99"), 1, "the newest position of the stream is 0"),
        (("--until", "now", "--first"), 2, "--until"),
    ],
)
def test_trigger_can_not_begin_just_anywhere(
    bus: StreamBus, arguments: tuple[str, ...], status: int, words: str
) -> None:
    with trigger(bus, "echo $n", *arguments) as process:
        assert process.wait() == status
        assert any(words in line for line in process.err), process.report()


def test_durable_trigger_goes_on_where_the_last_run_has_stopped(bus: StreamBus) -> None:
    publish(bus, range(3))
    with trigger(bus, "echo $n", "--first", "--durable", "mine") as process:
        wait_for(process, [0, 1, 2])
        wait_for_cursor(bus, 3, "mine")
        assert process.stop() == 0
    publish(bus, range(3, 6))
    with trigger(bus, "echo $n", "--first", "--durable", "mine") as process:
        wait_for(process, [3, 4, 5])
        # What does not match moves the cursor too.
        publish(bus, [6], "other.t")
        publish(bus, range(7, 9))
        wait_for(process, [3, 4, 5, 7, 8])
        wait_for_cursor(bus, 9, "mine")


def test_message_whose_command_runs_when_a_durable_trigger_is_killed_comes_again(
    bus: StreamBus, tmp_path: Path
) -> None:
    publish(bus, range(4))
    gate = tmp_path / "gate"
    command = f"echo $n; while [ $n = 2 ] && [ ! -e {gate} ]; do sleep 0.05; done"
    with trigger(bus, command, "--first", "--durable", "mine") as process:
        wait_for(process, [0, 1, 2])
        wait_for_cursor(bus, 2, "mine")
        process.popen.kill()
        # The command outlives the trigger.
        gate.touch()
        process.wait()
    with trigger(bus, command, "--durable", "mine") as process:
        wait_for(process, [2, 3])
        wait_for_cursor(bus, 4, "mine")


def test_durable_trigger_passes_over_a_command_that_fails(bus: StreamBus) -> None:
    publish(bus, range(3))
    with trigger(bus, "echo $n; exit $n", "--first", "--durable", "mine") as process:
        wait_for(process, [0, 1, 2])
        wait_for_cursor(bus, 3, "mine")
        assert process.stop() == 0
    assert any("Command returned error code 2" in line for line in process.out)


def test_durable_trigger_leaves_what_waits_to_the_next_run(bus: StreamBus, tmp_path: Path) -> None:
    publish(bus, range(5))
    gate = tmp_path / "gate"
    command = f"echo $n; while [ $n = 1 ] && [ ! -e {gate} ]; do sleep 0.05; done"
    with trigger(bus, command, "--first", "--durable", "mine") as process:
        wait_for(process, [0, 1])
        process.popen.send_signal(signal.SIGTERM)
        gate.touch()
        assert process.wait() == 0
        assert any("3 messages are left to the next run as mine" in line for line in process.out), process.report()
    assert cursor(bus, "mine") == 2
    with trigger(bus, command, "--durable", "mine") as process:
        wait_for(process, [2, 3, 4])


def test_message_whose_command_a_durable_trigger_has_ended_comes_again(bus: StreamBus) -> None:
    publish(bus, range(3))
    with trigger(bus, "echo $n; [ $n = 0 ] || sleep 60", "--first", "--durable", "mine") as process:
        wait_for(process, [0, 1])
        assert process.stop() == 8
        assert "the command was still running for the message" in process.err[-1]
    assert cursor(bus, "mine") == 1
    with trigger(bus, "echo $n", "--durable", "mine") as process:
        wait_for(process, [1, 2])


def test_second_trigger_of_a_name_takes_over(bus: StreamBus) -> None:
    with trigger(bus, "echo $n", "--first", "--durable", "mine") as first:
        publish(bus, [0])
        wait_for(first, [0])
        wait_for_cursor(bus, 1, "mine")
        with trigger(bus, "echo $n", "--durable", "mine") as second:
            second.wait_for("has the name mine: waiting")
            first.popen.kill()
            publish(bus, [1])
            wait_for(second, [1])
