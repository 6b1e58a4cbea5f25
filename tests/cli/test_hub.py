# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg-hub as a process: what it runs, what it refuses, how it ends and what it keeps."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from fedmsg.commands.hub import HubCommand
from fedmsg.core import FedMsgContext
from fedmsg.testing import Process, command_path, free_address, free_port, run

PROGRAMS = Path(__file__).parent / "programs"


class Shop:
    """A shop that publishes, and hubs that listen to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = free_address()
        self.settings: dict[str, Any] = {"environment": "dev", "endpoints": {"shop": [self.address]}}

    def environ(self, **settings: Any) -> dict[str, str]:
        """Write a configuration, and give the environment that makes a hub use it."""
        path = self.folder / "hub.json.py"
        path.write_text(f"config = { {**self.settings, **settings}!r}\n")
        return {"FEDMSG_CONFIG": str(path), "PYTHONPATH": str(PROGRAMS)}

    def hub(self, *consumers: str, **settings: Any) -> Process:
        """Start a hub with consumers of ours, which it need not find by itself."""
        names = ",".join(f"shop_consumers:{name}" for name in consumers)
        enabled = {f"shop.{name.lower()}": True for name in consumers}
        process = Process(["fedmsg-hub", "--with-consumers", names], env=self.environ(**enabled, **settings))
        try:
            return process.wait_ready()
        except BaseException:
            process.close()
            raise

    def run(self, *arguments: str, **settings: Any) -> Any:
        """Run a hub that is expected to end by itself."""
        return run(["fedmsg-hub", *arguments], env=self.environ(**settings))

    def opened(self) -> FedMsgContext:
        """Begin to publish; the first message waits for the hub."""
        return FedMsgContext(name="shop", **{**self.settings, "post_init_sleep": 20})


def sell(context: FedMsgContext, *numbers: int) -> None:
    """Publish messages with these numbers."""
    for number in numbers:
        context.publish(topic="sold", modname="shop", msg={"number": number})


def heard(hub: Process) -> list[int]:
    """Give the numbers that a consumer has printed."""
    return [int(line.removeprefix("heard ")) for line in hub.out if line.startswith("heard ")]


def one_line(ended: Any) -> str:
    """Give the one line that a command said at its end."""
    *_, last = ended.stderr.splitlines()
    assert last.startswith("fedmsg-hub: "), ended.stderr
    assert "Traceback" not in last
    return str(last)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


# ---------------------------------------------------------------- what runs


def test_consumers_that_are_asked_for_are_run(shop: Shop) -> None:
    with shop.hub("Printer") as hub, shop.opened() as context:
        hub.wait_for("running, 1 consumers and 0 producers")
        sell(context, 1, 2, 3)
        hub.wait_for("heard 3")
        assert hub.stop() == 0
        assert heard(hub) == [1, 2, 3]
        assert any("  enabled by config  - shop_consumers:Printer" in line for line in hub.out)


def test_hub_does_not_run_a_named_consumer_that_a_file_switches_off(shop: Shop) -> None:
    with Process(
        ["fedmsg-hub", "--with-consumers", "shop_consumers:Printer,shop_consumers:Picky"],
        env=shop.environ(**{"shop.picky": True, "shop.file": "/nowhere", "shop.printer": False}),
    ) as hub:
        hub.wait_ready()
        hub.wait_for("shop_consumers:Printer is not run: shop.printer is False; set it to True")
        hub.wait_for("running, 1 consumers and 0 producers")
        assert hub.stop() == 0


def test_installed_consumers_and_producers_are_found(shop: Shop, tmp_path: Path) -> None:
    installed = tmp_path / "installed" / "shop-1.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: shop\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(
        "[moksha.consumer]\nprinter = shop_consumers:Printer\nbroken = shop_consumers:Broken\n"
        "[moksha.producer]\nclock = shop_consumers:Clock\n"
    )
    environ = shop.environ(**{"shop.printer": True, "shop.broken": True})
    environ["PYTHONPATH"] += f":{installed.parent}"
    with Process(["fedmsg-hub"], env=environ) as hub, shop.opened() as context:
        hub.wait_ready()
        hub.wait_for("running, 1 consumers and 1 producers")
        sell(context, 17)
        hub.wait_for("heard 17")
        hub.wait_for("tick 2")
        hub.wait_for("shop_consumers:Broken can't be started")
        assert hub.stop() == 0


def test_with_nothing_enabled_it_says_so_and_runs_on(shop: Shop) -> None:
    with Process(["fedmsg-hub"], env=shop.environ()) as hub:
        hub.wait_ready()
        hub.wait_for("no consumer and no producer is enabled")
        assert hub.stop() == 0


def test_web_pages_are_served_where_that_is_wanted(shop: Shop) -> None:
    port = free_port()
    with Process(["fedmsg-hub", "--websocket-server-port", str(port)], env=shop.environ()) as hub:
        hub.wait_ready()
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 ")
        assert hub.stop() == 0


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("shop_consumers:Missing", "Missing"),
        ("no_such_module:Printer", "no_such_module"),
        ("shop_consumers", "shop_consumers"),
        ("shop_consumers:Printer,:", "':'"),
    ],
)
def test_a_class_that_is_not_there_is_status_2_and_one_line(shop: Shop, name: str, said: str) -> None:
    ended = shop.run("--with-consumers", name, **{"shop.printer": True})
    assert ended.returncode == 2
    line = one_line(ended)
    assert "--with-consumers" in line
    assert said in line


@pytest.mark.parametrize("port", ["0", "70000", "many"])
def test_what_is_no_port_is_status_2(shop: Shop, port: str) -> None:
    ended = shop.run("--websocket-server-port", port)
    assert ended.returncode == 2
    assert "--websocket-server-port" in ended.stderr


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"endpoints": {"shop": ["nonsense"]}}, "'nonsense' is no address"),
        ({"consumer_queue_limit": 0}, "consumer_queue_limit"),
        ({"consumer_queue_policy": "sometimes"}, "consumer_queue_policy"),
        ({"moksha.workers_per_consumer": 0}, "moksha.workers_per_consumer"),
    ],
)
def test_an_impossible_configuration_is_status_5_and_one_line(shop: Shop, settings: dict[str, Any], said: str) -> None:
    ended = shop.run(**settings)
    assert ended.returncode == 5
    assert said in one_line(ended)


def test_dead_letters_need_a_place_to_be_in(shop: Shop) -> None:
    ended = shop.run("--retry-dead-letters")
    assert ended.returncode == 5
    assert "dead_letter_directory" in one_line(ended)


def test_a_taken_address_is_status_6_and_one_line(shop: Shop) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = f"tcp://127.0.0.1:{holder.getsockname()[1]}"
        ended = shop.run(zmq_subscribe_method="bind", zmq_subscribe_endpoints=taken)
    assert ended.returncode == 6
    assert taken in one_line(ended)


def test_when_no_consumer_starts_it_is_status_7(shop: Shop) -> None:
    ended = shop.run("--with-consumers", "shop_consumers:Broken", **{"shop.broken": True})
    assert ended.returncode == 7
    assert "shop_consumers:Broken: ZeroDivisionError: broken from the start" in one_line(ended)


def test_checking_that_can_not_be_done_is_status_7(shop: Shop) -> None:
    settings = {"shop.printer": True, "validate_signatures": True, "ca_cert_location": "/nowhere/ca.crt"}
    ended = shop.run("--with-consumers", "shop_consumers:Printer", **settings)
    assert ended.returncode == 7
    assert "/nowhere/ca.crt" in one_line(ended)


# ---------------------------------------------------------------- how many files


def test_a_low_limit_of_open_files_is_raised(shop: Shop) -> None:
    script = 'ulimit -S -n 256; exec "$0" "$@"'
    with Process(["/bin/sh", "-c", script, command_path("fedmsg-hub")], env=shop.environ()) as hub:
        hub.wait_ready()
        limits = Path(f"/proc/{hub.popen.pid}/limits").read_text()
        (line,) = (line for line in limits.splitlines() if line.startswith("Max open files"))
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        # The hard limit is that of the shell: as many endpoints may be listened to as it allows.
        assert line.split()[3:5] == ["4096", "unlimited" if hard == resource.RLIM_INFINITY else str(max(hard, 4096))]
        assert hub.stop() == 0


def test_a_limit_that_is_not_granted_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    HubCommand.set_rlimit_nofiles(object.__new__(HubCommand), 2**40)
    (record,) = caplog.records
    assert (record.levelname, record.name) == ("WARNING", "fedmsg.commands")
    assert str(2**40) in record.getMessage()


# ---------------------------------------------------------------- how it ends


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_busy_one_handles_what_it_has_and_ends_with_0(shop: Shop, number: int) -> None:
    with shop.hub("Printer") as hub, shop.opened() as context:
        sell(context, *range(3000))
        hub.wait_for("heard 100")
        assert hub.stop(number) == 0
        # It may have received fewer than were sent; of these none is left out.
        assert heard(hub) == list(range(len(heard(hub))))
        assert hub.err == []


def test_a_busy_one_survives_a_hang_up(shop: Shop) -> None:
    with shop.hub("Printer") as hub, shop.opened() as context:
        sell(context, *range(500))
        hub.popen.send_signal(signal.SIGHUP)
        hub.wait_for("SIGHUP: a running process reloads nothing")
        sell(context, *range(500, 1000))
        hub.wait_for("heard 999")
        assert hub.stop() == 0
        assert heard(hub) == list(range(1000))


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def test_what_is_left_is_counted_by_name_and_status_8(shop: Shop, pipe: Path) -> None:
    with shop.hub("Stuck", stop_timeout=0.5, **{"shop.pipe": str(pipe)}) as hub, shop.opened() as context:
        sell(context, 1, 2, 3)
        hub.wait_for("heard 1")
        assert hub.stop() == 8
        line = hub.err[-1]
    assert "Stuck" in line
    assert "has worked for" in line
    assert "set state_directory to keep them" in line


@pytest.mark.parametrize("how", ["state_directory", "STATE_DIRECTORY"])
def test_what_is_left_is_kept_and_handled_first_next_time(
    shop: Shop, pipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    state = tmp_path / "state"
    settings: dict[str, Any] = {"stop_timeout": 0.5, "shop.pipe": str(pipe), "moksha.blocking_mode": True}
    if how == "state_directory":
        settings["state_directory"] = str(state)
    else:
        # As systemd sets it; the first of several is meant.
        monkeypatch.setenv("STATE_DIRECTORY", f"{state}:/nowhere")
    with shop.hub("Stuck", **settings) as hub, shop.opened() as context:
        sell(context, 1)
        hub.wait_for("heard 1")
        assert hub.stop() == 0
        hub.wait_for("Stuck has worked for")
        hub.wait_for("messages kept for the next start: 1 by Stuck")
    with shop.hub("Stuck", **settings) as hub:
        hub.wait_for("first handles 1 messages spooled by the last run")
        hub.wait_for("heard 1")
        pipe.write_bytes(b"go on")
        assert hub.stop() == 0
    assert list(state.rglob("*.jsonl")) == []


def test_messages_that_fail_are_kept_and_can_be_tried_again(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = {"shop.file": str(tmp_path / "file"), "dead_letter_directory": str(tmp_path / "dead")}
    with shop.hub("Picky", **settings) as hub, shop.opened() as context:
        sell(context, 1, 2, 3, 4)
        hub.wait_for("heard 4")
        assert hub.stop() == 0
        assert heard(hub) == [2, 4]
    (letters,) = (tmp_path / "dead").rglob("*.jsonl")
    rows = [json.loads(line) for line in letters.read_text().splitlines()]
    assert [row["reason"] for row in rows] == ["ZeroDivisionError: odd"] * 2
    (tmp_path / "file").unlink()
    environ = shop.environ(**{"shop.picky": True, **settings})
    command = ["fedmsg-hub", "--with-consumers", "shop_consumers:Picky", "--retry-dead-letters"]
    with Process(command, env=environ) as hub:
        hub.wait_ready()
        hub.wait_for("heard 3")
        assert hub.stop() == 0
        assert heard(hub) == [1, 3]


def test_in_the_background(shop: Shop, tmp_path: Path) -> None:
    pidfile, log = tmp_path / "hub.pid", tmp_path / "hub.log"
    handler = {"class": "logging.FileHandler", "filename": str(log), "formatter": "bare"}
    logging = {"handlers": {"file": handler}, "loggers": {"fedmsg": {"handlers": ["file"], "level": "INFO"}}}
    settings = {"daemon": True, "pidfile": str(pidfile), "logging": logging}
    started = shop.run(**settings, **{"fedmsg.consumers.dummy.enabled": True})
    assert (started.returncode, started.stdout, started.stderr) == (0, "", "")
    with shop.opened() as context:
        # Waits until it listens.
        sell(context, 1)
    pid = int(pidfile.read_text(encoding="ascii"))
    descriptor = os.pidfd_open(pid)
    try:
        assert os.getsid(pid) != os.getsid(0)
        os.kill(pid, signal.SIGTERM)
        assert select.select([descriptor], [], [], 20)[0], "it goes on"
    except BaseException:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        raise
    finally:
        os.close(descriptor)
    assert not pidfile.exists()
    text = log.read_text(encoding="utf-8")
    assert "running, 1 consumers and 0 producers" in text
    assert text.splitlines()[-1].endswith("stopped")
