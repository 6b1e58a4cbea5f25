# SPDX-License-Identifier: LGPL-2.1-or-later
"""The helpers for tests tell what went wrong, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fedmsg.testing import Bus, Process, command_path, envelopes, free_address, free_port, run, wait_until
from tests import open_files

SPEAK = "import sys; print('out', flush=True); print('err', file=sys.stderr, flush=True); "
READY = (
    "import os, socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); "
    "s.connect(os.environ['NOTIFY_SOCKET']); s.send(b'STATUS=fine'); s.send(b'READY=1'); "
)
PAUSE = "import signal; signal.pause()"


def python(code: str) -> list[str]:
    """Give what runs some code."""
    return [sys.executable, "-c", code]


def test_ports_are_free_and_differ() -> None:
    assert len({free_port() for _ in range(50)}) == 50
    assert free_address().startswith("tcp://127.0.0.1:")


def test_ports_of_processes_that_run_at_the_same_time_differ() -> None:
    code = "from fedmsg.testing import free_port; print(*[free_port() for _ in range(100)], flush=True); input()"
    with Process(python(code), stdin=True) as first, Process(python(code), stdin=True) as second:
        ports = [set(process.wait_for(str.strip).split()) for process in (first, second)]
    assert [len(one) for one in ports] == [100, 100]
    assert not ports[0] & ports[1]


def test_a_port_that_is_taken_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        assert taken.getsockname()[1] not in {free_port() for _ in range(600)}


def test_wait_until_returns_what_is_true() -> None:
    values: list[int] = []
    assert wait_until(lambda: values[2:], meanwhile=lambda: values.append(7)) == [7]
    with pytest.raises(TimeoutError, match=r"not true after 0\.02 s: the sun is green"):
        wait_until(lambda: False, 0.02, what=lambda: "the sun is green")


def test_a_command_is_found_beside_this_python() -> None:
    assert Path(command_path("fedmsg-relay")).is_file()
    assert Path(command_path("sh")).name == "sh"
    with pytest.raises(FileNotFoundError, match=r"no-such-command is not installed in .*pip install"):
        command_path("no-such-command")


def test_run() -> None:
    ended = run(python("import os, sys; print(input(), os.environ['A']); sys.exit(3)"), stdin="é", env={"A": "b"})
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "é b\n", "")
    assert run(python("import os; print(os.getcwd())"), cwd="/").stdout == "/\n"
    assert run(python(r"import os; os.write(1, b'\xff')")).stdout == "\ufffd"


def test_what_a_process_leaves_behind_is_reported() -> None:
    leave = "import subprocess; child = subprocess.Popen(['sleep', '60']); print(child.pid, flush=True)"
    process = Process(python(leave))
    left = int(process.wait_for(str.strip))
    try:
        with pytest.raises(ChildProcessError, match="has left a process behind"):
            process.close(0.05)
    finally:
        os.kill(left, signal.SIGKILL)
    # Its output is at its end now.
    process.close()


def test_run_has_a_time_limit() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        run(python(PAUSE), timeout=0.1)


def test_what_a_process_says() -> None:
    with Process(python(SPEAK + PAUSE)) as process:
        assert process.wait_for("ou") == "out"
        assert process.wait_for(lambda line: line == "err", stream="err") == "err"
        assert process.memory() > 1000
        assert process.stop() == -signal.SIGTERM
        assert (process.out, process.err) == (["out"], ["err"])


def test_what_a_process_does_not_say() -> None:
    with Process(python(SPEAK + PAUSE)) as process:
        process.wait_for("err", stream="err")
        with pytest.raises(TimeoutError, match=r"no line with 'more'.*out=\['out'\] err=\['err'\]"):
            process.wait_for("more", timeout=0.1)


def test_the_end_of_a_process_ends_the_wait() -> None:
    with Process(python(SPEAK + "sys.exit(7)")) as process:
        with pytest.raises(ChildProcessError, match=r"it ended with 7: out=\['out'\] err=\['err'\]"):
            process.wait_for("more")
        # What it said before is still found.
        assert process.wait_for("out") == "out"


def test_something_is_done_meanwhile() -> None:
    with Process(python("while True: print('heard', input(), flush=True)"), stdin=True) as process:
        stdin = process.popen.stdin
        assert stdin is not None
        said: list[int] = []

        def say() -> None:
            said.append(len(said))
            stdin.write(b"%d\n" % len(said))
            stdin.flush()

        process.wait_for("heard 3", meanwhile=say)
        assert len(said) >= 3


def test_readiness() -> None:
    with Process(python(READY + PAUSE)) as process:
        assert process.wait_ready() is process
    with Process(python(READY + "s.send(b'WATCHDOG=1\\nSTATUS=x'); print('sent', flush=True); " + PAUSE)) as process:
        process.wait_for("sent")
        assert process.notifications() == ["STATUS=fine", "READY=1", "WATCHDOG=1", "STATUS=x"]
        assert process.notifications() == []


def test_a_process_that_does_not_get_ready() -> None:
    with Process(python(PAUSE)) as process, pytest.raises(TimeoutError, match="not ready after"):
        process.wait_ready(0.1)
    with Process(python(SPEAK + "sys.exit(7)")) as process, pytest.raises(ChildProcessError, match="it ended with 7"):
        process.wait_ready()


def test_a_process_that_does_not_stop_is_killed() -> None:
    stubborn = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
    )
    with Process(python(stubborn)) as process:
        process.wait_for("ready")
        with pytest.raises(subprocess.TimeoutExpired):
            process.stop(timeout=0.1)
        assert process.popen.returncode == -signal.SIGKILL


def test_a_process_ends_with_its_block_and_closes_twice() -> None:
    before = open_files.descriptors()
    with Process(python(PAUSE), stdin=True) as process:
        pass
    process.close()
    assert process.popen.returncode == -signal.SIGKILL
    assert open_files.descriptors() == before


def test_a_bus() -> None:
    with Bus({"environment": "stg"}) as bus:
        relay = bus.start_relay()
        with bus.tail("--json") as tail:
            assert tail.out == []
            assert bus.run("fedmsg-logger", "--message", "hello").returncode == 0
            with bus.context() as context:
                context.publish("update", {"n": 1}, modname="test")
            tail.wait_for('"n":1')
            heard = [(envelope["topic"], envelope["msg"]) for envelope in envelopes(tail.out)]
        assert heard == [
            ("org.fedoraproject.stg.logger.log", {"log": "hello"}),
            ("org.fedoraproject.stg.test.update", {"n": 1}),
        ]
        assert bus.stop_relay() == 0
        assert (bus.relay, relay.popen.returncode) == (None, 0)
        again = bus.start_relay()
        path = Path(bus.environ["FEDMSG_CONFIG"])
        assert path.exists()
    bus.close()
    assert again.popen.returncode == -signal.SIGKILL
    assert not path.exists()


def test_a_bus_whose_relay_can_not_start() -> None:
    with Bus({"relay_inbound": "nonsense"}) as bus, pytest.raises(ChildProcessError, match="'nonsense' is no address"):
        bus.start_relay()
