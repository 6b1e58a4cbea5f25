# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg-config, as a process where that makes a difference."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

import fedmsg.commands.config
from fedmsg import testing
from fedmsg._util import yaml
from fedmsg.config import settings
from tests import inside
from tests.unit.configs import SOMEBODY, folder_open_to_all, write


@pytest.fixture(autouse=True)
def _no_virtual_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)


@pytest.fixture
def _open_to_all() -> Iterator[None]:
    with folder_open_to_all():
        yield


def run(*arguments: str, **keywords: Any) -> CompletedProcess[str]:
    return inside.run(["fedmsg-config", *arguments], **keywords)


def outcome(*arguments: str, **keywords: Any) -> tuple[int, str, str]:
    ended = run(*arguments, **keywords)
    return ended.returncode, ended.stdout, ended.stderr


# ---------------------------------------------------------------- everything


def test_without_files_it_prints_the_defaults() -> None:
    status, out, err = outcome()
    assert (status, err) == (0, "")
    assert json.loads(out) == {**settings.defaults(), "topic_prefix_re": r"org\.fedoraproject\.[^\W\d_]+"}
    # For people: indented, in the order of the table, other letters escaped as 1.1.7 does.
    assert out.startswith('{\n  "topic_prefix": "org.fedoraproject",\n  "environment": "dev",\n')


def test_without_defaults_and_files_it_prints_nothing_much() -> None:
    assert outcome("--disable-defaults") == (0, "{}\n", "")


def test_disable_defaults_leaves_what_is_configured() -> None:
    write("fedmsg.d/a.py", {"timeout": 7, "x": "\xe9", "endpoints": {"a": "tcp://h:1"}})
    expected = {"timeout": 7, "x": "\xe9", "endpoints": {"a": ["tcp://h:1"]}}
    assert outcome("--disable-defaults") == (0, json.dumps(expected, indent=2) + "\n", "")


def test_yaml() -> None:
    write("fedmsg.d/a.py", "config = {'timeout': 7, 'own': (1, {2}), 'store': object, 'text': 'no'}")
    status, out, err = outcome("--disable-defaults", "--format", "yaml")
    assert (status, err) == (0, "")
    assert yaml.load(out) == {"timeout": 7, "own": [1, [2]], "store": "<class 'object'>", "text": "no"}


def test_yaml_can_be_read_back_as_configuration() -> None:
    write("my.yaml", run("--format", "yaml").stdout)
    again = run("--config-filename", "my.yaml")
    assert json.loads(again.stdout) == json.loads(run().stdout)


def test_config_filename_replaces_all_files(tmp_path: Path) -> None:
    write("fedmsg.d/a.py", {"here": 1})
    path = write(tmp_path / "other.py", {"there": 1})
    assert outcome("--config-filename", path, "--disable-defaults") == (0, '{\n  "there": 1\n}\n', "")


def test_fedmsg_config_is_obeyed(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "there: 1")
    status, out, _ = outcome("--disable-defaults", env={"FEDMSG_CONFIG": str(tmp_path)})
    assert (status, json.loads(out)) == (0, {"there": 1})


# ---------------------------------------------------------------- one value

CONFIG = {
    "endpoints": {"a": "tcp://127.0.0.1:4001", "b.x": ["tcp://127.0.0.1:4002", "tcp://127.0.0.1:4003"]},
    "n": {"x": {"y": [1, {"z": 2}]}},
    "t": True,
    "f": 1.5,
    "none": None,
    "e": [],
    "empty": "",
    "s": "a\xe9b",
    "num": 3,
    "ll": [[1, 2], {"a": 1}, None, True, "x"],
    "dd.ee": {"ff.gg": 4},
    "dd": {"ee": {"hh": 5}},
}

FOUND = [
    ("timeout", "2\n"),
    ("topic_prefix", "org.fedoraproject\n"),
    ("t", "true\n"),
    ("f", "1.5\n"),
    ("num", "3\n"),
    ("s", "a\xe9b\n"),
    ("empty", "\n"),
    ("endpoints.a", "tcp://127.0.0.1:4001\n"),
    ("n.x", '{\n  "y": [\n    1,\n    {\n      "z": 2\n    }\n  ]\n}\n'),
    ("n.x.y", '1\n{"z": 2}\n'),
    ("e", ""),
    ("ll", '[1, 2]\n{"a": 1}\nnull\ntrue\nx\n'),
    ("certnames", "{}\n"),
    # Keys with dots in them, which 1.1.7 can't find.
    ("fedmsg.consumers.gateway.port", "9940\n"),
    ("endpoints.b.x", "tcp://127.0.0.1:4002\ntcp://127.0.0.1:4003\n"),
    ("dd.ee.ff.gg", "4\n"),
    ("dd.ee.hh", "5\n"),
]


@pytest.mark.parametrize(("key", "expected"), FOUND, ids=[key for key, _ in FOUND])
def test_query(key: str, expected: str) -> None:
    write("fedmsg.d/a.py", CONFIG)
    assert outcome("--query", key) == (0, expected, "")


@pytest.mark.parametrize(
    "key", ["nope.x", "nope", "crl_location", "none", "n.x.y.0", "num.x", ".n", "n.", "timeout,num", "dd.ee.ii", "."]
)
def test_query_of_what_is_not_there(key: str) -> None:
    write("fedmsg.d/a.py", CONFIG)
    assert outcome("--query", key) == (1, "", f"Key `{key}` does not exist in config\n")


def test_an_empty_query_is_none() -> None:
    write("fedmsg.d/a.py", {"x": 1})
    assert outcome("--query", "", "--disable-defaults") == (0, '{\n  "x": 1\n}\n', "")


@pytest.mark.parametrize(
    ("key", "format_", "expected"),
    [
        ("s", "json", '"a\\u00e9b"\n'),
        ("n.x.y", "json", '[\n  1,\n  {\n    "z": 2\n  }\n]\n'),
        ("s", "yaml", '"a\\xE9b"\n'),
        ("n.x.y", "yaml", "- 1\n- z: 2\n"),
        ("t", "yaml", "true\n"),
    ],
)
def test_query_with_a_format(key: str, format_: str, expected: str) -> None:
    write("fedmsg.d/a.py", CONFIG)
    assert outcome("--query", key, "--format", format_) == (0, expected, "")


def test_letters_that_the_terminal_has_not_are_escaped() -> None:
    write("fedmsg.d/a.py", "config = {'s': 'a\\xe9\\ud800'}")
    ended = testing.run(["fedmsg-config", "--query", "s"], env={"PYTHONIOENCODING": "ascii"})
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "a\\xe9\\ud800\n", "")


# ---------------------------------------------------------------- --origin


def origin(*arguments: str) -> dict[str, str]:
    """Give the rows of --origin: the key and what is said of it."""
    status, out, err = outcome("--origin", *arguments)
    assert (status, err) == (0, "")
    return {line.partition(" ")[0]: line.partition(" ")[2].strip() for line in out.splitlines()}


def test_origin_of_everything() -> None:
    one = os.path.abspath(write("fedmsg.d/a.py", {"endpoints": {"a": "tcp://h:1"}, "x": 1}))
    two = os.path.abspath(write(f"{os.environ['HOME']}/.fedmsg-config.py", {"endpoints": {"b": "tcp://h:2"}}))
    rows = origin()
    assert rows["timeout"] == "default"
    assert rows["x"] == f"./fedmsg.d  {one}"
    assert rows["endpoints.a"] == f"./fedmsg.d  {one}"
    assert rows["endpoints.b"] == f"~/.fedmsg-config  {two}"
    assert rows["topic_prefix_re"] == "made from topic_prefix"
    assert {key.partition(".")[0] for key in rows} >= {name.partition(".")[0] for name in settings.TABLE}


def test_origin_of_one_key() -> None:
    path = os.path.abspath(write("my.py", {"endpoints": {"a": "tcp://h:1"}, "x": {"y": 1}}))
    named = ("--config-filename", path)
    assert origin("--query", "x", *named) == {"x": f"--config-filename  {path}"}
    assert origin("--query", "x.y", *named) == {"x.y": f"--config-filename  {path}"}
    assert origin("--query", "timeout", *named) == {"timeout": "default"}
    assert origin("--query", "crl_location", *named) == {"crl_location": "default"}
    assert outcome("--origin", "--query", "nope", *named) == (1, "", "Key `nope` does not exist in config\n")


@pytest.mark.parametrize(("format_", "read"), [("json", json.loads), ("yaml", yaml.load)])
def test_origin_for_programs(format_: str, read: Any) -> None:
    path = os.path.abspath(write("my.yaml", "x: 1"))
    found = read(run("--origin", "--format", format_, env={"FEDMSG_CONFIG": path}).stdout)
    assert found["x"] == {"layer": "FEDMSG_CONFIG", "file": path}
    assert found["timeout"] == {"layer": "default", "file": None}


# ---------------------------------------------------------------- a stranger's folder


@pytest.mark.parametrize("owner", ["stranger", "root"] if os.geteuid() == 0 else ["root"])
def test_root_runs_no_configuration_through_the_link_of_a_stranger(owner: str, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere/a.py", "open('/dev/stderr', 'w').write('was run ')\nconfig = {'x': 1}")
    os.symlink(tmp_path / "elsewhere", "fedmsg.d")
    if owner == "stranger":
        os.chown("fedmsg.d", SOMEBODY, -1, follow_symlinks=False)
    ended = testing.run(["fedmsg-config", "--query", "x"])
    assert (ended.returncode, "was run" in ended.stderr) == ((5, False) if owner == "stranger" else (0, True))
    assert ("it is a link of" in ended.stderr) is (owner == "stranger")


# ---------------------------------------------------------------- --check


def test_check_of_nothing() -> None:
    assert outcome("--check") == (0, "The configuration is in order. Read: no file; the defaults apply\n", "")


def test_check_of_good_files() -> None:
    path = os.path.abspath(write("fedmsg.d/a.py", {"timeout": 3}))
    assert outcome("--check") == (0, f"The configuration is in order. Read: {path}\n", "")


@pytest.mark.usefixtures("_open_to_all")
def test_check_lists_all_problems_with_their_files() -> None:
    write("fedmsg.d/a.py", {"timeout": "x", "endpoints": {"a": "h:1", "b": "tcp://h"}, "relay_inbound": "tcp://h:1"})
    write("fedmsg.d/b.yaml", "active: perhaps\nenviroment: prod\n")
    write("fedmsg.d/c.py", "config = {\n 'a': }")
    write("fedmsg.d/d.py", "1 / 0")
    os.chmod(write("fedmsg.d/e.py", "open('was-run', 'w')"), 0o666)
    status, out, err = outcome("--check")
    assert (status, out) == (5, "")
    here = os.path.abspath("fedmsg.d")
    starts = [
        f"{here}/b.yaml: nothing reads the key 'enviroment'; did you mean 'environment'?",
        f"{here}/c.py:2: it is not valid Python: ",
        f"{here}/d.py:1: it fails with ZeroDivisionError: division by zero",
        f"{here}/e.py: all users may write to it; run 'chmod o-w {here}/e.py', ",
        f"{here}/a.py: timeout is 'x': could not convert string to float: 'x'; write a number of seconds, such as 2",
        f'{here}/b.yaml: active is \'perhaps\': "perhaps" must be a boolean ("True" or "False"); write True or False',
        f"{here}/a.py: endpoints: a: 'h:1' does not begin with a transport; write 'tcp://h:1'",
        f"{here}/a.py: endpoints: b: 'tcp://h' does not end in a port; write 'tcp://host:1234'",
    ]
    lines = err.splitlines()
    assert len(lines) == len(starts), err
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(f"fedmsg-config: {start}")
    assert not os.path.exists("was-run")


def test_check_survives_a_value_of_the_wrong_type() -> None:
    write("fedmsg.d/a.py", {"endpoints": ["tcp://h:1"]})
    status, _, err = outcome("--check")
    assert status == 5
    assert err.startswith("fedmsg-config: The 'endpoints' config value must be a dict.")
    assert err.count("\n") == 1


def test_a_misspelt_key_is_no_error() -> None:
    write("fedmsg.d/a.py", {"enviroment": "prod"})
    status, out, err = outcome("--check")
    assert status == 0
    assert "in order" in out
    assert "did you mean 'environment'?" in err


# ---------------------------------------------------------------- --explain


def test_explain_one_setting() -> None:
    assert outcome("--explain", "--query", "timeout") == (
        0,
        f"timeout (number, seconds; default: 2)\n    {settings.TABLE['timeout'].help}\n",
        "",
    )


def test_explain_everything_even_with_a_broken_configuration() -> None:
    write("fedmsg.d/a.py", "broken")
    status, out, err = outcome("--explain")
    assert (status, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines() if not line.startswith(" ")] == list(settings.TABLE)


def test_explain_somebody_elses_setting() -> None:
    status, out, err = outcome("--explain", "--query", "nope")
    assert (status, out) == (2, "")
    assert err == "fedmsg-config: 'nope' is not a setting of fedmsg itself; a plugin may have it\n"


# ---------------------------------------------------------------- errors

BROKEN = [
    ("config = {\n 'a': }", ":2: it is not valid Python: "),
    ("x = 1", ":1: it does not define config; add 'config = {...}'"),
    ("config = 3", ":1: config is not a dict but 3"),
    ("\n1 / 0", ":2: it fails with ZeroDivisionError: division by zero"),
    (
        "config = {'timeout': 'x'}",
        ": timeout is 'x': could not convert string to float: 'x'; write a number of seconds",
    ),
    ("config = {'endpoints': []}", ": endpoints is []"),
]


@pytest.mark.parametrize("arguments", [(), ("--query", "timeout"), ("--origin",)])
@pytest.mark.parametrize(("text", "reason"), BROKEN)
def test_a_broken_configuration_is_one_line(text: str, reason: str, arguments: tuple[str, ...]) -> None:
    path = os.path.abspath(write("fedmsg.d/a.py", text))
    status, out, err = outcome(*arguments)
    assert (status, out) == (5, "")
    assert err.startswith("fedmsg-config: ")
    assert f"{path}{reason}" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("--bogus",), 2),
        (("--format", "xml"), 2),
        (("--origin", "--check"), 2),
        (("stray",), 2),
        (("--config-filename", "/nowhere"), 5),
        (("--config-filename", "/"), 5),
    ],
)
def test_bad_use_is_one_line(arguments: tuple[str, ...], status: int) -> None:
    found, out, err = outcome(*arguments)
    assert (found, out) == (status, "")
    assert err.startswith("fedmsg-config: ")
    assert err.count("\n") == 1


def test_a_file_that_is_not_there_is_named() -> None:
    assert outcome("--config-filename", "/nowhere") == (5, "", "fedmsg-config: '/nowhere' is not a file.\n")


@pytest.mark.usefixtures("_open_to_all")
def test_nobody_elses_code_is_run() -> None:
    """A folder that others can write to, as a user finds it by ``cd /tmp``."""
    write("fedmsg.d/a.py", "open('was-run', 'w').close()\nconfig = {'x': 1}")
    os.chmod("fedmsg.d", 0o777)
    status, out, err = outcome("--query", "x")
    assert (status, out) == (5, "")
    assert f"chmod o-w {os.path.abspath('fedmsg.d')}" in err
    assert err.count("\n") == 1
    assert not os.path.exists("was-run")
    assert outcome("--query", "x", "--allow-insecure-config") == (0, "1\n", "")
    assert outcome("--query", "x", env={"FEDMSG_ALLOW_INSECURE_CONFIG": "1"}) == (0, "1\n", "")


def test_a_defect_has_a_status_of_its_own() -> None:
    write("fedmsg.d/a.py", "class Odd:\n def __repr__(self): raise RuntimeError('odd')\nconfig = {'x': Odd()}")
    status, out, err = outcome()
    assert (status, out) == (70, "")
    assert err.count("\n") == 1
    status, _, err = outcome("--debug")
    assert status == 70
    assert "Traceback" in err


def test_a_value_that_contains_itself_is_one_line() -> None:
    write("fedmsg.d/a.py", "x = []\nx.append(x)\nconfig = {'x': x}")
    status, out, err = outcome()
    assert (status, out) == (5, "")
    assert err == "fedmsg-config: the configuration has a value that contains itself, which can't be printed\n"


def test_a_reader_that_leaves_is_no_error() -> None:
    write("fedmsg.d/a.py", "config = {'x': ['line'] * 100000}")
    command = testing.command_path("fedmsg-config")
    ended = subprocess.run(
        ["bash", "-c", f"{command} --query x | head -1; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (ended.stdout, ended.stderr) == ("line\n0\n", "")


def test_ctrl_c_ends_it_without_a_traceback() -> None:
    write("fedmsg.d/a.py", "import signal\nsignal.raise_signal(signal.SIGINT)\nconfig = {}")
    assert outcome() == (130, "", "")


def test_help_tells_every_flag() -> None:
    status, out, err = outcome("--help")
    assert (status, err) == (0, "")
    flags = "--query --origin --check --explain --format --disable-defaults --config-filename --allow-insecure-config"
    for flag in flags.split():
        assert flag in out


# ---------------------------------------------------------------- called as a function, as 1.1.7's tests do


@pytest.mark.parametrize(
    ("argv", "status", "out", "err"),
    [
        (["--query", "timeout"], None, "2\n", ""),
        (["--query", "nope"], 1, "", "Key `nope` does not exist in config\n"),
        (["--disable-defaults"], None, "{}\n", ""),
    ],
)
def test_the_function_reads_the_command_line(
    argv: list[str], status: int | None, out: str, err: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["fedmsg-config", *argv])
    written, complained = io.StringIO(), io.StringIO()
    with redirect_stdout(written), redirect_stderr(complained):
        found = None
        try:
            fedmsg.commands.config.config()
        except SystemExit as ended:
            found = ended.code
    assert (found, written.getvalue(), complained.getvalue()) == (status, out, err)


def test_the_version() -> None:
    ended = testing.run(["fedmsg-config", "--version"])
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("fedmsg-config 2.")


@pytest.mark.parametrize(
    ("output", "status", "said"), [("&-", 0, ""), ("/dev/full", 8, "it can't write any more: No ")]
)
def test_an_output_that_takes_nothing(output: str, status: int, said: str) -> None:
    ended = testing.run(["/bin/sh", "-c", f"exec {testing.command_path('fedmsg-config')} >{output}"])
    assert ended.returncode == status
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) == bool(said)
