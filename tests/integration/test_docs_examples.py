# SPDX-License-Identifier: LGPL-2.1-or-later
"""The examples of the documentation run, on a real bus."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import sys
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fedmsg.meta
from fedmsg.testing import Bus, HubRunner, Process, run, wait_until
from tests.stream_relays import StreamBus, running, sqlite_url
from tests.structure import source
from tests.structure.pages import DOCS, blocks


@pytest.fixture
def bus() -> Iterator[Bus]:
    """Return a bus with a running relay."""
    with Bus() as bus:
        bus.start_relay()
        yield bus


def test_tutorial_programs(bus: Bus) -> None:
    # The publisher again and again, until the listener has connected.
    with Process([sys.executable, str(DOCS / "tutorial" / "listener.py")], env=bus.environ) as listener:
        line = listener.wait_for(
            "shop", meanwhile=lambda: run([sys.executable, str(DOCS / "tutorial" / "shop.py")], env=bus.environ)
        )
    assert line == "org.fedoraproject.dev.shop.order.placed 1017"


def test_tutorial_programs_that_miss_nothing(tmp_path: Path) -> None:
    orders, packer = ([sys.executable, str(DOCS / "tutorial" / name)] for name in ("orders.py", "packer.py"))
    shown = {"orders.py": "", "packer.py": ""}
    for _, block in blocks(DOCS / "tutorial.rst", "console"):
        command, _, output = block.partition("\n")
        if command.startswith("$ python ") and output:
            shown[command.removeprefix("$ python ")] = output
    with running(StreamBus(sqlite_url(tmp_path))) as bus:
        # Nobody listens.
        assert run(orders, env=bus.environ).stdout == shown["orders.py"]
        with Process(packer, env=bus.environ) as process:
            process.wait_for("packing 1019")
            assert process.out == shown["packer.py"].splitlines()
            process.popen.send_signal(signal.SIGINT)
            process.wait()
        bus.stop_relay()
        bus.start_relay()
        assert run(orders, env=bus.environ).returncode == 0
        with Process(packer, env=bus.environ) as process:
            # The last one of before may come twice, if it was not finished yet.
            process.wait_for(lambda _: process.out[-2:] == shown["packer.py"].splitlines())
            assert process.out[:-2] in ([], ["packing 1019"])


def test_tutorial_shell_commands(bus: Bus) -> None:
    lines = [
        line.removeprefix("$ ")
        for _, block in blocks(DOCS / "tutorial.rst", "console")
        for line in block.splitlines()
        if line.startswith("$ ") and "fedmsg-logger" in line
    ]
    *spoken, into_silence = lines
    with bus.tail("--json") as tail:
        for line in spoken:
            done = run(["/bin/bash", "-c", line], env={**bus.environ, "PATH": path_with_commands()})
            assert (done.returncode, done.stderr) == (0, ""), line
        tail.wait_for('{"log":"5"}')
    assert any('"msg":{"host":"web1","load":0.7}' in line for line in tail.out)
    bus.stop_relay()
    assert run(["/bin/bash", "-c", into_silence], env={**bus.environ, "PATH": path_with_commands()}).returncode == 3


def test_readme_python(bus: Bus) -> None:
    (_, publish), (_, listen), _ = blocks(source.REPOSITORY / "README.rst", "python")
    with Process([sys.executable, "-c", listen], env=bus.environ) as listener:
        listener.wait_for(
            "org.fedoraproject.dev.shop.order.placed {'order': 1017}",
            meanwhile=lambda: run([sys.executable, "-c", publish], env=bus.environ),
        )


def test_readme_consumer(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "packing"}
    exec([text for _, text in blocks(source.REPOSITORY / "README.rst", "python")][2], names)
    with HubRunner(names["Packer"]) as hub:
        hub.publish("org.fedoraproject.dev.shop.order.placed", {"order": 1017})
        hub.wait_until_handled()
    assert capsys.readouterr().out == "packing 1017\n"


def test_forking_server_example(bus: Bus, tmp_path: Path) -> None:
    page = DOCS / "howto" / "forking-servers.rst"
    (tmp_path / "app.py").write_text(next(text for caption, text in blocks(page, "python") if caption == "app.py"))
    address = str(tmp_path / "http")
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--bind", f"unix:{address}"]
    with (
        bus.tail("--json") as tail,
        Process([*command, "app:application"], env=bus.environ, cwd=tmp_path) as server,
        socket.socket(socket.AF_UNIX) as client,
    ):
        server.wait_for("Booting worker", stream="err")
        client.connect(address)
        client.sendall(b"GET /tea HTTP/1.0\r\n\r\n")
        assert b" 204 " in client.recv(4096)
        tail.wait_for('"msg":{"path":"/tea"}')
        assert server.stop() == 0, server.report()


def test_asyncio_example(bus: Bus) -> None:
    _, program = next(blocks(DOCS / "howto" / "asyncio.rst", "python"))
    with bus.context() as context, Process([sys.executable, "-c", program], env=bus.environ) as listener:
        listener.wait_for(
            "org.fedoraproject.dev.shop.order.placed {'order': 1018}",
            meanwhile=lambda: context.publish("order.placed", {"order": 1018}, modname="shop"),
        )


def test_demo() -> None:
    done = run([sys.executable, str(source.REPOSITORY / "tests" / "demo.py")])
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b[" in done.stdout
    assert done.stdout.rstrip().endswith("have stopped.")


def path_with_commands() -> str:
    """Return a PATH on which a shell finds our commands first."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


def test_the_plugin_of_the_howto(monkeypatch: pytest.MonkeyPatch) -> None:
    code = dict(blocks(DOCS / "howto" / "words.rst", "python"))
    names: dict[str, Any] = {"__name__": "howto"}
    exec(code["shop_words.py"] + code["test_shop_words.py"], names)
    monkeypatch.setattr(fedmsg.meta, "processors", [names["ShopProcessor"](str)])
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(names["TestOrder"]).run(result)
    assert result.errors + result.failures == []
    assert result.testsRun - len(result.skipped) == 4


def test_the_consumer_of_the_howto(tmp_path: Path) -> None:
    code = dict(blocks(DOCS / "howto" / "consumer.rst", "python"))
    for name in ("shop_biller.py", "test_shop_biller.py", "shop_clock.py", "test_shop_clock.py"):
        (tmp_path / name).write_text(code[name], encoding="utf-8")
    done = run([sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"], cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout


def test_the_durable_consumer_of_the_howto(tmp_path: Path) -> None:
    code = dict(blocks(DOCS / "howto" / "durable-consumer.rst", "python"))
    (command,) = (
        line.removeprefix("$ ")
        for _, block in blocks(DOCS / "howto" / "durable-consumer.rst", "console")
        for line in block.splitlines()
    )
    (tmp_path / "shop_ledger.py").write_text(code["shop_ledger.py"], encoding="utf-8")

    def book(context: Any, *totals: int) -> None:
        for total in totals:
            context.publish(topic="order.placed", modname="shop", msg={"total": total})

    def booked() -> list[int]:
        with contextlib.closing(sqlite3.connect(tmp_path / "ledger.db")) as database:
            return [total for (total,) in database.execute("SELECT total FROM bookings ORDER BY rowid")]

    with running(StreamBus(sqlite_url(tmp_path))) as bus, bus.confirming() as context:
        book(context, 1, 2)
        for more in ((3, 4), (5, 6)):
            with Process(command.split(), env=bus.environ, cwd=tmp_path).wait_ready() as hub:
                book(context, more[0])
                wait_until(lambda: more[0] in booked())  # noqa: B023 - called in this round
                hub.popen.kill()
            book(context, more[1])
        with Process(command.split(), env=bus.environ, cwd=tmp_path).wait_ready() as hub:
            wait_until(lambda: booked() == [1, 2, 3, 4, 5, 6], what=lambda: str(booked()))
            assert hub.stop() == 0
