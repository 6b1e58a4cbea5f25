# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an import costs: a fresh interpreter reports what it loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.structure import source

# Named although the first test covers most of them, because each was too dear once. Two of them
# are of the standard library.
DEAR = {
    "argparse", "click", "cryptography", "flask", "kitchen", "logging.config", "orjson",
    "pygments", "requests", "six", "sqlalchemy", "yaml",
}  # fmt: skip

# What an application does: it imports the roof, and then publishes with what it configured.
applications = pytest.mark.parametrize("statement", ["import fedmsg", "import fedmsg.core, fedmsg.config"])


def loaded_by(statement: str) -> set[str]:
    """Run a statement in a fresh interpreter and return the modules that it had loaded in the end."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import sys\n{statement}\nprint(*sys.modules)"],
        capture_output=True, text=True, check=False, cwd=source.REPOSITORY,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


@applications
def test_an_application_loads_only_pyzmq_and_the_standard_library(statement: str) -> None:
    more = loaded_by(statement) - loaded_by("import zmq")
    assert {name for name in more if name.split(".")[0] not in {*sys.stdlib_module_names, "fedmsg", "zmq"}} == set()


@applications
def test_an_application_does_not_load_what_is_dear(statement: str) -> None:
    # A site with .pth files may load some of them into every interpreter.
    assert (loaded_by(statement) - loaded_by("")) & DEAR == set()


@pytest.mark.parametrize("command", ["hub", "logger", "relay", "tail"])
def test_a_command_does_not_load_what_it_may_not_need(command: str) -> None:
    # An idle relay stays small, kitchen and six alone being 9 MiB, and a logger is quick.
    unneeded = {"kitchen", "six", "yaml", "pygments", "orjson", "sqlalchemy", "requests", "argparse", "logging.config"}
    assert (loaded_by(f"import fedmsg.commands.{command}") - loaded_by("")) & unneeded == set()


@pytest.mark.parametrize("command", ["announce", "config", "logger", "tail", "trigger"])
def test_a_command_loads_the_bus_only_when_it_runs(command: str) -> None:
    # So --help is quick, and what only prints its flags needs no ZeroMQ.
    assert loaded_by(f"import fedmsg.commands.{command}") & {"zmq", "fedmsg.core", "fedmsg.meta"} == set()


# A hub whose one consumer stops it, so that it has gone its whole way and handled nothing.
IDLE_HUB = """
import os, signal
import fedmsg.commands.hub
from fedmsg.consumers import FedmsgConsumer

class Leaver(FedmsgConsumer):
    config_key = "leaver.enabled"

    def __init__(self, hub):
        super().__init__(hub)
        os.kill(os.getpid(), signal.SIGTERM)

sys.stdout = sys.stderr
sys.argv = ["fedmsg-hub", "--with-consumers", "__main__:Leaver"]
try:
    fedmsg.commands.hub.hub()
except SystemExit as end:
    assert end.code == 0, end.code
sys.stdout = sys.__stdout__
"""

# What parts of a hub are made of that are there only where they are wanted.
FOR_SOME_HUBS = {"irc", "jaraco", "orjson", "prometheus_client", "requests", "sqlalchemy", "websockets"}


def test_an_idle_hub_does_not_load_what_it_may_not_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"leaver.enabled": True, "endpoints": {"nobody": ["ipc://nobody"]}}
    (tmp_path / "hub.py").write_text(f"config = {config!r}\n")
    monkeypatch.setenv("FEDMSG_CONFIG", str(tmp_path / "hub.py"))
    loaded = {name.split(".")[0] for name in loaded_by(IDLE_HUB) - loaded_by("")}
    assert "fedmsg" in loaded
    assert loaded & (FOR_SOME_HUBS | {"argparse", "cryptography", "kitchen", "pygments", "six", "yaml"}) == set()
    # Of the standard library, what takes megabytes. Looking for plugins takes email.
    assert loaded & {"asyncio", "concurrent", "http", "multiprocessing", "sqlite3", "ssl"} == set()


# Forks from an interpreter that has loaded what is not ours, which takes most of the time; each child imports one
# module first. Warnings are errors here too, and a hidden cycle shows itself.
IMPORT_EACH_FIRST = """
import importlib, os, sys, traceback
libraries, modules = sys.argv[1].split(), sys.argv[2].split()
for library in libraries:
    importlib.import_module(library)
failed = False
for module in modules:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            importlib.import_module(module)
            status = 0
        except BaseException:
            print(module, traceback.format_exc())
        finally:
            sys.stdout.flush()
            os._exit(status)
    failed = os.waitpid(child, 0)[1] != 0 or failed
sys.exit(failed)
"""

LIBRARIES = "zmq click yaml kitchen six cryptography requests sqlalchemy pygments asyncio http.server logging.config"


def test_each_room_can_be_imported_first() -> None:
    rooms = [name for name in sorted(source.modules()) if name.count(".") < 2 and "._" not in name]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT_EACH_FIRST, LIBRARIES, " ".join(rooms)],
        capture_output=True, text=True, check=False, cwd=source.REPOSITORY,
    )  # fmt: skip
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
