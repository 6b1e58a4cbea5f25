# SPDX-License-Identifier: LGPL-2.1-or-later
"""The documentation is whole and true: it builds, lists what there is, and its examples run."""

from __future__ import annotations

import ast
import html
import importlib.metadata
import os
import re
import socket
import subprocess
import sys
import unittest
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import fedmsg.meta
from fedmsg.config import settings
from fedmsg.hub import moksha
from fedmsg.testing import Bus, HubRunner, Process, run
from tests.structure import source

DOCS = source.REPOSITORY / "docs"
PAGES = [path for path in source.files() if path.suffix == ".rst"]
COMMANDS = sorted(
    entry.name for entry in importlib.metadata.distribution("fedmsg").entry_points if entry.group == "console_scripts"
)

# Whichever test comes first builds the pages, which takes a while on a busy machine.
pytestmark = pytest.mark.timeout(300)

# Groups of entry points and modules, whose names look like settings.
NO_SETTINGS = {"moksha.consumer", "moksha.producer", "moksha.stream", "moksha.hub", "moksha.common"}

every_page = pytest.mark.parametrize("page", PAGES, ids=source.relative)
every_command = pytest.mark.parametrize("command", COMMANDS)


def blocks(page: Path, language: str) -> Iterator[tuple[str, str]]:
    """Give the code blocks of a language: caption and text."""
    text = page.read_text(encoding="utf-8")
    pattern = rf"^( *)\.\. code-block:: {language}\n((?:\1   :.*\n)*)\n((?:\1   .*\n|\n)+)"
    for found in re.finditer(pattern, text, re.MULTILINE):
        caption = re.search(r":caption: (.*)", found[2])
        indent = len(found[1]) + 3
        yield (caption[1] if caption else ""), "\n".join(line[indent:] for line in found[3].splitlines()).strip() + "\n"


@cache
def help_of(command: str) -> str:
    """Give what ``--help`` prints, without any configuration."""
    # Asked outside of a test's surroundings at times, so it names its own.
    done = run([command, "--help"], env={"FEDMSG_CONFIG": os.devnull, "COLUMNS": "88", "NO_COLOR": "1"})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the pages; a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-n",
        "-d",
        folder / "doctrees",
    ]
    for builder in ("html", "man"):
        done = subprocess.run(
            [*command, "-b", builder, DOCS, folder / builder], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
    return folder


def text_of(page: Path) -> str:
    """Give the words of a built page."""
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


def test_settings_are_in_the_reference(site: Path) -> None:
    text = text_of(site / "html" / "reference" / "settings.html")
    assert [name for name, row in settings.TABLE.items() if name not in text or row.help not in text] == []


@every_command
def test_command_is_in_the_reference(site: Path, command: str) -> None:
    text = text_of(site / "html" / "reference" / "commands" / f"{command}.html")
    assert help_of(command).strip() in text


@every_command
def test_command_has_a_man_page(site: Path, command: str) -> None:
    page = (site / "man" / f"{command}.1").read_text(encoding="utf-8")
    flags = re.findall(r"--[a-z-]+", help_of(command))
    assert flags
    assert [flag for flag in flags if flag not in page.replace("\\-", "-")] == []


def test_no_page_for_a_command_that_is_not_there() -> None:
    assert sorted(page.stem for page in (DOCS / "reference" / "commands").glob("fedmsg-*.rst")) == COMMANDS


def test_extras_are_told(site: Path) -> None:
    text = text_of(site / "html" / "howto" / "extras.html").split()
    extras = importlib.metadata.distribution("fedmsg").metadata.get_all("Provides-Extra") or []
    assert [extra for extra in extras if extra.replace("-", "_") not in text] == []


@every_page
def test_python_parses(page: Path) -> None:
    for _, code in blocks(page, "python"):
        ast.parse(code)


@every_page
def test_settings_that_are_named_are_known(page: Path) -> None:
    named = set(
        re.findall(
            r"``((?:zmq|moksha|stomp)[._]\w+|(?:crl|ca_cert)_\w+|\w+_high_water_mark)``", page.read_text("utf-8")
        )
    )
    assert named - set(settings.TABLE) - NO_SETTINGS == set()


@every_page
def test_flags_in_examples_are_known(page: Path) -> None:
    unknown = []
    for _, block in blocks(page, "console"):
        for command, arguments in re.findall(r"\b(fedmsg-[a-z]+)\b([^|&;>\n]*)", block):
            flags = set(re.findall(r"(?<![\w-])--[a-z-]+", arguments))
            if command in COMMANDS:
                unknown += [f"{command} {flag}" for flag in flags if flag not in help_of(command)]
    assert unknown == []


@every_page
def test_configuration_samples_are_sound(page: Path, tmp_path: Path) -> None:
    for language, suffix in (("yaml", ".yaml"), ("python", ".py")):
        for caption, text in blocks(page, language):
            if "/etc/fedmsg.d/" in caption:
                sample = tmp_path / f"sample{suffix}"
                sample.write_text(text, encoding="utf-8")
                done = run(["fedmsg-config", "--check", "--config-filename", str(sample)])
                assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", re.findall(r"``((?:docs|fedmsg\.d|LICENSE)[\w./-]*)``", PAGES[0].read_text("utf-8")))
def test_readme_names_files_that_exist(path: str) -> None:
    assert "_build" in path or (source.REPOSITORY / path).exists()


# ---------------------------------------------------------------- the examples, on a real bus


@pytest.fixture
def bus() -> Iterator[Bus]:
    """Give a bus with a running relay."""
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
    (_, program), _ = blocks(DOCS / "howto" / "asyncio.rst", "python")
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
    """Give a PATH on which a shell finds our commands first."""
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


def test_every_module_of_moksha_is_told() -> None:
    text = (DOCS / "howto" / "moving-consumers.rst").read_text(encoding="utf-8")
    assert [name for name in moksha._MODULES if name != "moksha" and f"``{name}``" not in text] == []
