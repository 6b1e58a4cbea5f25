# SPDX-License-Identifier: LGPL-2.1-or-later
"""Both sides make the same of the same configuration files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.interop.sides import Side

ENDPOINTS = {"app": ["tcp://127.0.0.1:3001", "tcp://127.0.0.1:3002"], "other.host": "tcp://127.0.0.1:3003"}

Files = dict[str, dict[str, Any]]

BUS: Files = {
    "bus.py": {
        "endpoints": ENDPOINTS,
        "relay_inbound": "tcp://127.0.0.1:2999",
        "environment": "stg",
        "topic_prefix": "org.example",
        "timeout": 7,
        "own": {"key": [1, {"deep": None}]},
    }
}
SEVERAL: Files = {
    "a.py": {"endpoints": ENDPOINTS, "certnames": {"x": "1"}, "own": {"deep": {"a": 1, "l": [1]}, "t": "a"}},
    "b.py": {"endpoints": {"b": ["tcp://127.0.0.1:1"]}, "environment": "prod", "own": {"deep": {"b": 1, "l": [2]}}},
    "c.py": {"certnames": {"x": "2", "y": "3"}, "own": {"t": {"now": "a dict"}}},
    "notes.txt": {"environment": "dev", "topic_prefix": "not.read"},
}
# conf of fedmsg 1.1.7 reads the files of a folder in no order, so these don't contradict each other.
DISJOINT: Files = {
    "a.py": {"endpoints": ENDPOINTS},
    "b.py": {"certnames": {"x": "1"}, "own": {"deep": {"a": 1}}},
    "notes.txt": {"environment": "stg", "topic_prefix": "not.read"},
}
PREFIX: Files = {"a.py": {"endpoints": {}, "topic_prefix": "a.b", "topic_prefix_re": "^a[.]b", "active": True}}
BAD: Files = {
    "a.py": {
        "io_threads": "many", "zmq_enabled": "perhaps", "post_init_sleep": -1, "high_water_mark": -5,
        "certnames": "text", "timeout": "x", "environment": 7, "routing_nitpicky": 3, "endpoints": [1],
    }
}  # fmt: skip
WORDS: Files = {
    "a.py": {
        "zmq_enabled": " TRUE ", "zmq_strict": "false", "io_threads": "3", "post_init_sleep": "1", "timeout": 2.7,
        "irc_method": "msg", "certnames": None, "high_water_mark": 10.0, "unknown": "kept",
    }
}  # fmt: skip
LOGGING: Files = {"a.py": {"logging": {"loggers": {"mine": {"level": "DEBUG"}}}}}


def write(folder: Path, files: Files) -> None:
    (folder / "fedmsg.d").mkdir()
    for name, config in files.items():
        (folder / "fedmsg.d" / name).write_text(f"config = {config!r}\n")


@pytest.mark.parametrize(
    "files",
    [{}, BUS, DISJOINT, PREFIX, WORDS, LOGGING, BAD],
    ids=["nothing", "bus", "several files", "own prefix", "words", "logging", "bad"],
)
def test_conf(sides: dict[str, Side], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: Files) -> None:
    write(tmp_path, files)
    monkeypatch.setenv("FEDMSG_CONFIG", str(tmp_path / "fedmsg.d"))
    ours, peer = (side.ask(tmp_path, "configuration.py", "conf") for side in sides.values())
    assert ours == peer
    assert ("ValueError" in ours[0]) == (files is BAD)


@pytest.mark.parametrize("files", [BUS, SEVERAL, PREFIX], ids=["bus", "several files", "own prefix"])
@pytest.mark.parametrize("named", [False, True], ids=["usual places", "named files"])
def test_load_config(sides: dict[str, Side], tmp_path: Path, files: Files, named: bool) -> None:
    write(tmp_path, files)
    names = [str(tmp_path / "fedmsg.d" / name) for name in files if name.endswith(".py")] if named else []
    ours, peer = (json.loads(side.ask(tmp_path, "configuration.py", "load", *names)[0]) for side in sides.values())
    # fedmsg 1.1.7 leaves out keys for which it finds a default only where it uses them.
    assert {key: ours[key] for key in peer} == peer
    assert ours.get("own") == peer.get("own")


@pytest.mark.parametrize(
    "query",
    [
        "environment", "endpoints", "endpoints.app", "own.deep.l", "certnames.x", "zmq_linger", "active",
        "persistent_store", "environment.nope", "own..deep",
    ],
)  # fmt: skip
def test_query(sides: dict[str, Side], tmp_path: Path, query: str) -> None:
    write(tmp_path, SEVERAL)
    ours, peer = (side.run(tmp_path, "fedmsg-config", "--query", query) for side in sides.values())
    assert (ours.returncode, ours.stdout, ours.stderr) == (peer.returncode, peer.stdout, peer.stderr)


def test_the_whole_configuration(sides: dict[str, Side], tmp_path: Path) -> None:
    write(tmp_path, SEVERAL)
    ours, peer = (json.loads(side.run(tmp_path, "fedmsg-config").stdout) for side in sides.values())
    assert {key: ours[key] for key in peer} == peer
    arguments = ["--disable-defaults", "--config-filename", "fedmsg.d/a.py"]
    ours, peer = (json.loads(side.run(tmp_path, "fedmsg-config", *arguments).stdout) for side in sides.values())
    assert ours == peer == {**SEVERAL["a.py"], "endpoints": {**ENDPOINTS, "other.host": [ENDPOINTS["other.host"]]}}
