# SPDX-License-Identifier: LGPL-2.1-or-later
"""Monitoring across the two sides: whoever reads the one's reports reads the other's too."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fedmsg.testing import Process, free_address, free_port, wait_until
from tests.interop.sides import NAMES, Side, write_config

KEY = "moksha.monitoring.socket"
WORDS = re.compile(r"^(?:All consumers|No consumers|Error:|\").*$", re.MULTILINE)

# The keys that readers of 1.x know.
CONSUMER = set("name module topic initialized exceptions jsonify backlog headcount_in headcount_out times".split())
PRODUCER = set("name module initialized exceptions frequency now last_ran".split())

QUESTIONS = [
    "-c DummyConsumer -p MonitoringProducer",
    "",
    "-c DummyConsumer -c Nobody",
    "-p Nobody -c MonitoringProducer",
]

Answer = tuple[int, str, str]
Hubs = dict[tuple[str, str], Path]

# A report comes every five seconds, and two sides start.
pytestmark = pytest.mark.timeout(120)


def set_up(folder: Path, address: str, **more: Any) -> None:
    """Make a folder with a configuration for a daemon, and for who checks it."""
    write_config(
        folder,
        {
            "endpoints": {"relay_outbound": [free_address()]},
            "relay_inbound": [free_address()],
            "fedmsg.consumers.dummy.enabled": True,
            "zmq_enabled": True,
            "sign_messages": False,
            "validate_signatures": False,
            KEY: address,
            **more,
        },
    )


@pytest.fixture(scope="module")
def hubs(sides: dict[str, Side], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hubs]:
    """Start a hub of each side for each kind of address, and give their folders."""
    folders: Hubs = {}
    with ExitStack() as stack:
        for name in NAMES:
            for kind in ("tcp", "ipc"):
                folder = folders[name, kind] = tmp_path_factory.mktemp(f"{name}-{kind}")
                address = free_address() if kind == "tcp" else f"ipc://{folder}/monitoring"
                set_up(folder, address, **{f"{KEY}.mode": "0660"})
                stack.enter_context(sides[name].start(folder, "fedmsg-hub"))
        yield folders


@pytest.fixture(scope="module")
def answers(hubs: Hubs, sides: dict[str, Side]) -> dict[tuple[str, str, str, str], Answer]:
    """Let both sides ask every hub, all at the same time, for a report comes only every five seconds.

    Returns:
        Status and output, by the hub's side and address, the side that asks and the question.
    """
    with ExitStack() as stack:
        asking = {
            (*hub, name, question): stack.enter_context(
                side.start(folder, "fedmsg-check", "--timeout", "60", *question.split())
            )
            for hub, folder in hubs.items()
            for name, side in sides.items()
            for question in (QUESTIONS if hub[1] == "tcp" else QUESTIONS[:1])
        }
        return {key: (each.wait(90), "\n".join(each.out), "\n".join(each.err)) for key, each in asking.items()}


def report_in(out: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(out.partition("\n")[2])
    return report


@pytest.mark.parametrize("kind", ["tcp", "ipc"])
@pytest.mark.parametrize("name", NAMES, ids="hub-{}".format)
def test_both_check_a_hub(answers: dict[tuple[str, str, str, str], Answer], name: str, kind: str) -> None:
    shown = []
    for side in NAMES:
        status, out, err = answers[name, kind, side, QUESTIONS[0]]
        assert (status, err, WORDS.findall(out)) == (0, "", ["All consumers and producers are active!"])
        report = report_in(out)
        (consumer,), (producer,) = report["consumers"], report["producers"]
        assert set(consumer) >= CONSUMER
        assert set(producer) >= PRODUCER
        assert (consumer["name"], consumer["module"]) == ("DummyConsumer", "fedmsg.consumers.dummy")
        assert (producer["name"], producer["module"]) == ("MonitoringProducer", "moksha.hub.monitoring")
        assert (producer["frequency"], producer["now"]) == (5, False)
        shown.append(out)
    # They may have heard the same report, or two that follow each other.
    assert len({re.sub(r'"last_ran": .*', "", out) for out in shown}) == 1


@pytest.mark.parametrize("question", QUESTIONS)
def test_both_say_the_same(answers: dict[tuple[str, str, str, str], Answer], question: str) -> None:
    said = {
        (status, *WORDS.findall(out), *err.splitlines())
        for (_, kind, _, asked), (status, out, err) in answers.items()
        if kind == "tcp" and asked == question
    }
    assert len(said) == 1


def test_the_file_has_the_mode(hubs: Hubs) -> None:
    for name in NAMES:
        path = hubs[name, "ipc"] / "monitoring"
        wait_until(path.exists)
        wait_until(lambda path=path: stat.S_IMODE(path.stat().st_mode) == 0o660)  # type: ignore[misc] # bound at once


@pytest.mark.parametrize(
    "configured", [{KEY: None}, {KEY: free_address(), "zmq_enabled": True}], ids=["no address", "silence"]
)
def test_both_fail_the_same_way(sides: dict[str, Side], tmp_path: Path, configured: dict[str, Any]) -> None:
    write_config(tmp_path, {"endpoints": {}, **configured})
    done = {side.name: side.run(tmp_path, "fedmsg-check", "--timeout", "1") for side in sides.values()}
    ours, peers = done["ours"], done["peer"]
    assert (ours.returncode, ours.stdout, ours.stderr) == (peers.returncode, peers.stdout, peers.stderr)


def test_ours_checks_a_relay_of_the_peer(sides: dict[str, Side], tmp_path: Path) -> None:
    set_up(tmp_path, free_address())
    with sides["peer"].start(tmp_path, "fedmsg-relay"):
        done = sides["ours"].run(tmp_path, "fedmsg-check", "-c", "RelayConsumer", "--timeout", "30")
    assert done.returncode == 0, done.stderr


def test_the_peer_checks_a_relay_of_ours(sides: dict[str, Side], tmp_path: Path) -> None:
    set_up(tmp_path, free_address())
    with sides["ours"].start(tmp_path, "fedmsg-relay"):
        done = sides["peer"].run(
            tmp_path, "fedmsg-check", "-c", "RelayConsumer", "-p", "MonitoringProducer", "--timeout", "30"
        )
    assert done.returncode == 0, done.stderr
    (row,) = report_in(done.stdout)["consumers"]
    assert set(row) >= CONSUMER


def test_a_stale_file_of_the_peer_is_replaced(sides: dict[str, Side], tmp_path: Path) -> None:
    set_up(tmp_path, f"ipc://{tmp_path}/monitoring")
    path = tmp_path / "monitoring"
    with sides["peer"].start(tmp_path, "fedmsg-hub") as hub:
        wait_until(path.is_socket)
        stale = path.stat().st_ino
        # Here one may see that a daemon of ours does not take it away, and works without it.
        with sides["ours"].start(tmp_path, "fedmsg-hub") as unwatched:
            unwatched.wait_for(f"{KEY}: ipc://{path} can't be bound: Address already in use")
            unwatched.wait_ready()
            assert unwatched.stop() == 0, unwatched.report()
        assert path.stat().st_ino == stale
        hub.popen.kill()
        hub.wait()
    assert path.is_socket()
    with sides["ours"].start(tmp_path, "fedmsg-hub") as hub:
        hub.wait_ready()
        assert sides["peer"].run(tmp_path, "fedmsg-check", "-p", "MonitoringProducer").returncode == 0
        assert hub.stop() == 0, hub.report()
    assert not path.exists()


@pytest.mark.parametrize("name", NAMES, ids="hub-{}".format)
def test_an_exporter_of_somebody_else_reads_it(hubs: Hubs, name: str) -> None:
    """moksha-monitor-exporter makes figures for Prometheus of the reports, whoever sends them."""
    port, environ = free_port(), {**os.environ, "PYTHONWARNINGS": "ignore"}
    application = "moksha_monitor_exporter.moksha_monitor_exporter"
    config = (hubs[name, "tcp"] / "fedmsg.d" / "bus.py").read_text()
    target = eval(config.partition("=")[2])[KEY].rpartition(":")[2]
    url = f"http://127.0.0.1:{port}/metrics?target=127.0.0.1&port={target}"
    wanted = [
        r'^moksha_monitor_exporter_consumers_headcount_in{.*name="DummyConsumer".*} 0\.0$',
        r'^moksha_monitor_exporter_consumers_backlog{module="fedmsg.consumers.dummy",.*} 0\.0$',
        r'^moksha_monitor_exporter_producers_last_ran{module="moksha.hub.monitoring",name="MonitoringProducer"} \d',
        r"^moksha_monitor_exporter_up 1\.0$",
    ]

    def has_all() -> bool:
        with urllib.request.urlopen(url, timeout=30) as answer:
            text = answer.read().decode()
        return all(re.search(line, text, re.MULTILINE) for line in wanted)

    command = [sys.executable, "-m", "flask", "--app", application, "run", "--port", str(port)]
    with Process(command, env=environ) as exporter:
        exporter.wait_for("Press CTRL+C", stream="err")
        wait_until(has_all, 60)
