# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where configuration files are looked for, whom they may belong to, and how they are read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fedmsg.config import _files, _parse, _trust, _words
from fedmsg.exceptions import ConfigError
from tests.requirements import is_missing, program
from tests.unit.configs import SOMEBODY, folder_open_to_all, give_away, without_rights, write


def reader() -> _files.Reader:
    return _files.Reader(insecure_ok=False)


def folder(path: str | Path, *, is_named: bool = False) -> _files.Place:
    return _files.Place("a layer", str(path), True, is_named)


def file(path: str | Path, *, is_named: bool = False) -> _files.Place:
    return _files.Place("a layer", str(path), False, is_named)


def read(place: _files.Place) -> tuple[list[Any], list[str]]:
    """Read a place; give the values of ``x`` that were found, and the problems."""
    one = reader()
    one.read(place)
    return [source.values["x"] for source in one.sources], [str(problem) for problem in one.problems]


@pytest.fixture
def _open_to_all() -> Iterator[None]:
    with folder_open_to_all():
        yield


# ---------------------------------------------------------------- places


def test_the_usual_places_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere/me")
    monkeypatch.setenv("VIRTUAL_ENV", "/somewhere/venv")
    here = os.getcwd()
    assert [(place.layer, place.path, place.is_folder) for place in _files.usual_places()] == [
        ("/etc/fedmsg.d", "/etc/fedmsg.d", True),
        ("~/.fedmsg.d", "/somewhere/me/.fedmsg.d", True),
        ("./fedmsg.d", f"{here}/fedmsg.d", True),
        ("$VIRTUAL_ENV/etc/fedmsg.d", "/somewhere/venv/etc/fedmsg.d", True),
        *(("/etc/fedmsg-config", f"/etc/fedmsg-config{end}", False) for end in (".py", ".yaml", ".yml")),
        *(("~/.fedmsg-config", f"/somewhere/me/.fedmsg-config{end}", False) for end in (".py", ".yaml", ".yml")),
        *(("./fedmsg-config", f"{here}/fedmsg-config{end}", False) for end in (".py", ".yaml", ".yml")),
    ]


@pytest.mark.parametrize("value", ["", None])
def test_without_a_virtual_environment(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is None:
        monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    else:
        monkeypatch.setenv("VIRTUAL_ENV", value)
    assert [place.layer for place in _files.usual_places() if "VIRTUAL" in place.layer] == []


def test_a_user_without_a_home() -> None:
    # A number that nobody has, and no HOME: "~" stays what it is, and must not become a folder of that name.
    code = "import os; os.environ.pop('HOME'); os.getuid = lambda: 54321; from fedmsg.config import _files; print(*["
    code += "place.path for place in _files.usual_places()])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "~" not in run.stdout
    assert "/etc/fedmsg.d" in run.stdout


# ---------------------------------------------------------------- ownership


def test_own_files_are_read() -> None:
    write("fedmsg.d/a.py", {"x": 1})
    assert read(folder("fedmsg.d")) == ([1], [])


def test_somebody_elses_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    write("fedmsg.d/a.py", "open('was-run', 'w')\nconfig = {'x': 1}")
    give_away("fedmsg.d", monkeypatch)
    found, problems = read(folder(os.path.abspath("fedmsg.d")))
    assert found == []
    assert len(problems) == 1
    assert re.fullmatch(
        r"/\S+/fedmsg\.d: it belongs to .+, who may not configure a program of .+; run 'chown \d+ /\S+/fedmsg\.d' if "
        r"you trust what is in it, or allow it with FEDMSG_ALLOW_INSECURE_CONFIG=1 or --allow-insecure-config",
        problems[0],
    )
    assert not os.path.exists("was-run")


def test_somebody_elses_file(monkeypatch: pytest.MonkeyPatch) -> None:
    write("fedmsg.d/a.py", "open('was-run', 'w')\nconfig = {'x': 1}")
    write("fedmsg.d/b.yaml", "x: 2")
    give_away("fedmsg.d/a.py", monkeypatch)
    found, problems = read(folder("fedmsg.d"))
    # As another user than root, the test is somebody else to all of them.
    assert found == ([2] if os.geteuid() == 0 else [])
    assert "may not configure" in problems[0]
    assert not os.path.exists("was-run")


@pytest.mark.parametrize("name", ["a.py", "a.yaml"])
def test_a_single_file_of_somebody_else(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(name, "")
    give_away(name, monkeypatch)
    found, problems = read(file(os.path.abspath(name)))
    assert found == []
    assert "may not configure" in problems[0]


@pytest.mark.usefixtures("_open_to_all")
def test_a_file_that_everybody_may_write() -> None:
    path = os.path.abspath(write("fedmsg.d/a.py", {"x": 1}))
    os.chmod(path, 0o646)
    found, problems = read(folder(os.path.dirname(path)))
    way_out = "allow it with FEDMSG_ALLOW_INSECURE_CONFIG=1 or --allow-insecure-config"
    assert found == []
    assert problems == [f"{path}: all users may write to it; run 'chmod o-w {path}', or {way_out}"]


@pytest.mark.usefixtures("_open_to_all")
def test_a_folder_that_everybody_may_write() -> None:
    write("fedmsg.d/a.py", {"x": 1})
    # The sticky bit, as on /tmp, keeps nobody from adding files.
    os.chmod("fedmsg.d", 0o1777)
    found, problems = read(folder("fedmsg.d"))
    assert found == []
    assert len(problems) == 1
    assert "chmod o-w fedmsg.d" in problems[0]


def test_the_group_may_write() -> None:
    write("fedmsg.d/a.py", {"x": 1})
    os.chmod("fedmsg.d", 0o775)
    os.chmod("fedmsg.d/a.py", 0o664)
    assert read(folder("fedmsg.d")) == ([1], [])


@pytest.mark.usefixtures("_open_to_all")
@pytest.mark.parametrize("name", ["fedmsg.d", ".fedmsg.d"])
def test_a_single_file_is_trusted_no_more_than_its_fedmsg_d(name: str) -> None:
    path = os.path.abspath(write(f"{name}/a.py", {"x": 1}))
    assert read(file(path, is_named=True)) == ([1], [])
    os.chmod(name, 0o777)
    found, problems = read(file(path, is_named=True))
    assert found == []
    assert f"chmod o-w {os.path.dirname(path)}'" in problems[0]


def test_any_other_folder_of_a_single_file_is_not_looked_at() -> None:
    os.mkdir("open")
    os.chmod("open", 0o1777)
    assert read(file(write("open/a.py", {"x": 1}))) == ([1], [])


@pytest.mark.usefixtures("_open_to_all")
def test_what_is_opened_is_what_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A link is judged by what it leads to."""
    write("elsewhere.py", {"x": 1})
    os.mkdir("fedmsg.d")
    os.symlink(os.path.abspath("elsewhere.py"), "fedmsg.d/a.py")
    assert read(folder("fedmsg.d")) == ([1], [])
    os.chmod("elsewhere.py", 0o666)
    assert read(folder("fedmsg.d"))[0] == []
    os.chmod("elsewhere.py", 0o644)
    give_away("elsewhere.py", monkeypatch)
    assert read(folder("fedmsg.d"))[0] == []


def give_away_link(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a link another user's, and only the link: as another user than root, be one who owns the rest."""
    if os.geteuid() == 0:
        os.chown(path, SOMEBODY, -1, follow_symlinks=False)
    else:
        fstat = os.fstat
        mine = os.lstat(path).st_ino

        def strange(descriptor: int) -> os.stat_result:
            found = fstat(descriptor)
            return os.stat_result([*found[:4], SOMEBODY, *found[5:]]) if found.st_ino == mine else found

        monkeypatch.setattr(os, "fstat", strange)


@pytest.mark.parametrize("place", [folder("fedmsg.d"), file("fedmsg.d/a.py"), file("fedmsg-config.py")])
@pytest.mark.parametrize("step", [0, 1, 2])
def test_reader_rejects_a_link_of_another_user(place: _files.Place, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever in a chain of links it stands, also in the middle of what another link leads to."""
    write("real/conf/a.py", {"x": 1})
    os.symlink("real", "third")
    if "fedmsg.d" in place.path:
        os.symlink(os.path.abspath("third/conf"), "second")
        os.symlink("second", "fedmsg.d")
        links = ["fedmsg.d", "second", "third"]
    else:
        os.symlink("./third/../third/conf/a.py", "second")
        os.symlink("second", "fedmsg-config.py")
        links = ["fedmsg-config.py", "second", "third"]
    assert read(place) == ([1], [])
    give_away_link(links[step], monkeypatch)
    found, problems = read(place)
    assert found == []
    assert [f"chown -h {os.geteuid()}" in problem and "it is a link of" in problem for problem in problems] == [True]
    one = _files.Reader(insecure_ok=True)
    one.read(place)
    assert [source.values for source in one.sources] == [{"x": 1}]


def test_reader_follows_the_link_that_it_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    write("good/a.py", {"x": "good"})
    write("evil/a.py", {"x": "evil"})
    os.symlink("good", "fedmsg.d")
    os.symlink("evil", "evil.link")
    readlink = os.readlink

    def replace_then_read(path: str, **keywords: Any) -> str:
        if os.path.lexists("evil.link"):
            os.rename("evil.link", "fedmsg.d")
        return readlink(path, **keywords)

    monkeypatch.setattr(os, "readlink", replace_then_read)
    assert read(folder("fedmsg.d")) == (["good"], [])
    assert os.path.realpath("fedmsg.d").endswith("evil")


def test_reader_ends_in_a_circle_of_links() -> None:
    os.symlink("other", "fedmsg.d")
    os.symlink("fedmsg.d", "other")
    _, problems = read(folder("fedmsg.d"))
    assert "Too many levels of symbolic links" in problems[0]


def make_config_map(path: str) -> None:
    """Make a folder as Kubernetes does: links, and all users may write."""
    write(f"{path}/..2026/a.py", {"x": 1})
    os.symlink("..2026", f"{path}/..data")
    os.symlink("..data/a.py", f"{path}/a.py")
    for inside in ("", "/..2026", "/..2026/a.py"):
        os.chmod(path + inside, 0o777)


@pytest.mark.usefixtures("_open_to_all")
@pytest.mark.parametrize("is_read_only", [True, False])
def test_reader_reads_a_config_map(is_read_only: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    make_config_map("map")
    real = os.fstatvfs

    def mounted(descriptor: int) -> os.statvfs_result:
        # What the kernel says of a mount; to make one takes rights that not every machine has.
        found = list(real(descriptor))
        found[8] = found[8] | os.ST_RDONLY if is_read_only else found[8] & ~os.ST_RDONLY
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "fstatvfs", mounted)
    found, problems = read(folder("map"))
    assert found == ([1] if is_read_only else [])
    assert ["all users may write to it; run 'chmod o-w" in problem for problem in problems] == [True] * (
        not is_read_only
    )


# A mount of its own as Kubernetes makes it, seen by this process alone; the option is ro or rw.
IN_NAMESPACE = """
mkdir mounted && mount -t tmpfs -o mode=0777 none mounted && cp -a map/. mounted && mount -o remount,$1 mounted
FEDMSG_CONFIG=$PWD/mounted exec "$2" -c 'import sys; from fedmsg.commands.config import config; config()' --query x
"""


@pytest.mark.usefixtures("_open_to_all")
@pytest.mark.parametrize(("option", "status"), [("ro", 0), ("rw", 5)])
def test_reader_reads_a_config_map_on_a_real_mount(option: str, status: int) -> None:
    make_config_map("map")
    command = [program("unshare", "util-linux"), "-m", "sh", "-c", IN_NAMESPACE, "sh", option, sys.executable]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unshare" in ended.stderr or "mount:" in ended.stderr:
        is_missing(f"the right to mount (root): {ended.stderr}")
    assert (ended.returncode, ended.stdout) == (status, "" if status else "1\n"), ended.stderr
    assert ("all users may write to it" in ended.stderr) is bool(status)


@pytest.mark.usefixtures("_open_to_all")
@pytest.mark.parametrize(
    ("mode", "is_read"), [(0o700, True), (0o766, True), (0o755, False), (0o710, False), (0o701, False)]
)
@pytest.mark.parametrize("named", ["folder", "file"])
def test_reader_reads_what_is_below_a_folder_that_only_this_user_may_enter(
    mode: int, is_read: bool, named: str
) -> None:
    make_config_map("own/deep/map")
    os.chmod("own", mode)
    found, _ = read(folder("own/deep/map") if named == "folder" else file("own/deep/map/a.py"))
    assert found == [1] * is_read


@pytest.mark.usefixtures("_open_to_all")
def test_reader_does_not_trust_a_closed_folder_of_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    make_config_map("other/map")
    os.chmod("other", 0o700)
    assert read(folder("other/map"))[0] == [1]
    other, real = os.stat("other"), os.fstat

    def status_of(descriptor: int) -> os.stat_result:
        found = real(descriptor)
        owned = list(found)
        owned[4] = SOMEBODY
        return os.stat_result(owned) if os.path.samestat(found, other) else found

    # Not by chown: another user than root could not read it then.
    monkeypatch.setattr(os, "fstat", status_of)
    assert read(folder("other/map"))[0] == []


def test_a_folder_that_is_replaced_after_the_look_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are opened below the descriptor of the folder that was looked at."""
    write("fedmsg.d/a.py", {"x": "good"})
    write("evil.d/a.py", {"x": "evil"})
    listdir = os.listdir

    def replace_then_list(path: int) -> list[str]:
        os.rename("fedmsg.d", "old.d")
        os.rename("evil.d", "fedmsg.d")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", replace_then_list)
    assert read(folder("fedmsg.d")) == (["good"], [])


def test_everything_is_read_when_insecure_is_ok(monkeypatch: pytest.MonkeyPatch) -> None:
    write("fedmsg.d/a.py", {"x": 1})
    os.chmod("fedmsg.d/a.py", 0o666)
    give_away("fedmsg.d", monkeypatch)
    one = _files.Reader(insecure_ok=True)
    one.read(folder("fedmsg.d"))
    assert [source.values for source in one.sources] == [{"x": 1}]


@pytest.mark.parametrize(("value", "allowed"), [("1", True), ("0", False), ("", False), ("yes", False), (None, False)])
def test_the_variable_that_lifts_the_rule(value: str | None, allowed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is not None:
        monkeypatch.setenv("FEDMSG_ALLOW_INSECURE_CONFIG", value)
    assert _trust.insecure_is_allowed() is allowed


# ---------------------------------------------------------------- what can't be read


@pytest.mark.usefixtures("_open_to_all")
@pytest.mark.parametrize("place", [folder("fedmsg.d"), file("fedmsg.d/a.py")], ids=["folder", "file"])
def test_a_file_that_may_not_be_read_is_told(place: _files.Place) -> None:
    os.chmod(write("fedmsg.d/a.py", {"x": 1}), 0o000)
    with without_rights():
        user = _words.user_words(os.geteuid())
        assert read(place) == ([], [f"fedmsg.d/a.py: {user} can't read it: Permission denied"])


@pytest.mark.usefixtures("_open_to_all")
def test_a_folder_that_may_not_be_read_is_told() -> None:
    write("fedmsg.d/a.py", {"x": 1})
    os.chmod("fedmsg.d", 0o000)
    with without_rights():
        user = _words.user_words(os.geteuid())
        assert read(folder("fedmsg.d")) == ([], [f"fedmsg.d: {user} can't read it: Permission denied"])
    os.chmod("fedmsg.d", 0o755)


@pytest.mark.usefixtures("_open_to_all")
def test_a_folder_that_is_out_of_sight_is_noted() -> None:
    write("home/.fedmsg.d/a.py", {"x": 1})
    os.chmod("home", 0o000)
    one = reader()
    path = os.path.abspath("home/.fedmsg.d")
    with without_rights():
        one.read(folder(path))
    os.chmod("home", 0o755)
    assert (one.sources, one.problems) == ([], [])
    assert one.notes == [f"{path} can't be looked for: Permission denied"]


def test_a_link_to_nowhere_is_told() -> None:
    os.mkdir("fedmsg.d")
    os.symlink("/nowhere", "fedmsg.d/a.py")
    user = _words.user_words(os.geteuid())
    assert read(folder("fedmsg.d")) == ([], [f"fedmsg.d/a.py: {user} can't read it: No such file or directory"])


def test_what_was_named_has_to_be_there() -> None:
    said = ["a layer names nowhere, which is not there; correct or unset it"]
    assert read(folder("nowhere", is_named=True)) == ([], said)
    assert read(file("nowhere", is_named=True)) == ([], said)
    assert read(folder("nowhere")) == ([], [])
    assert read(file("nowhere.py")) == ([], [])


def test_nothing_stays_open() -> None:
    write("fedmsg.d/a.py", {"x": 1})
    write("fedmsg.d/b.py", "broken")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        read(folder("fedmsg.d"))
        read(file(os.path.abspath("fedmsg.d/a.py")))
        read(file("fedmsg.d/b.py"))
    assert len(os.listdir("/proc/self/fd")) == before


# ---------------------------------------------------------------- what is in the files

GOOD = [
    ("a.py", "config = {'x': 1}", 1),
    ("a.py", "config = dict(x=__file__)", "a.py"),
    ("a.py", "n = 3\ndef f():\n return [n for _ in 'ab']\nconfig = {'x': f()}", [3, 3]),
    ("a.py", "# -*- coding: latin-1 -*-\nconfig = {'x': '\xe9'}", "\xe9"),
    ("a.py", "from collections import OrderedDict\nconfig = OrderedDict(x=1)", 1),
    ("a.py", "import socket\nconfig = {'x': socket.gethostname and 1}", 1),
    ("a.py", "\ufeffconfig = {'x': 1}", 1),
    # An annotation is looked at: the rules of this module's own source are not those of the file.
    ("a.py", "class C:\n a: int\nconfig = {'x': C.__annotations__['a'].__name__}", "int"),
    ("a.yaml", "x: 1", 1),
    ("a.yml", "x: [a, {b: c}]", ["a", {"b": "c"}]),
    ("a.yaml", "\ufeffx: '\xe9'", "\xe9"),
]


@pytest.mark.parametrize(("name", "text", "expected"), GOOD)
def test_a_good_file(name: str, text: str, expected: object) -> None:
    data = text.encode("latin-1" if "latin-1" in text else "utf-8")
    assert _parse.parse(data, name)["x"] == expected


@pytest.mark.parametrize("text", ["", "# nothing is set\n", "---\n"])
def test_yaml_that_says_nothing_sets_nothing(text: str) -> None:
    assert _parse.parse(text.encode(), "a.yaml") == {}


BAD = [
    ("a.py", b"config = {\n 'a': }", "a.py:2: it is not valid Python: "),
    ("a.py", b"x = 1\n", "a.py:1: it does not define config; add 'config = {...}'"),
    ("a.py", b"", "a.py:1: it does not define config; add 'config = {...}'"),
    ("a.py", b"\n\nconfig = [1]\n", "a.py:3: config is not a dict but [1]"),
    ("a.py", b"config = {}\nconfig = None\n", "a.py:2: config is not a dict but None"),
    ("a.py", b"import os as config\n", "a.py:1: config is not a dict but <module 'os'"),
    ("a.py", b"\nconfig = {1: 2}\n", "a.py:2: the key 1 is not text; write it in quotes"),
    ("a.py", b"\n\n1 / 0\n", "a.py:3: it fails with ZeroDivisionError: division by zero"),
    ("a.py", b"def f():\n  return nothing\n\nconfig = f()\n", "a.py:2: it fails with NameError: name 'nothing' is not"),
    ("a.py", b"import json\nconfig = json.loads('x')\n", "a.py:2: it fails with JSONDecodeError: "),
    ("a.py", b"import no_such_module\n", "a.py:1: it fails with ModuleNotFoundError: No module named 'no_such_module'"),
    ("a.py", b"\nraise SystemExit(3)\n", "a.py:2: it fails with SystemExit: 3"),
    (
        "a.py",
        b"\nraise RuntimeError('one\\ntwo\\x1b[2J' + 'x' * 999)\n",
        "a.py:2: it fails with RuntimeError: one\\ntwo\\x1b[2J",
    ),
    ("a.py", b"config = {'a': '\xff'}\n", "a.py:1: it is not valid Python: "),
    ("a.py", b"config = {}\0\n", "a.py:1: it is not valid Python: "),
    ("a.py", b"config = " + b"(" * 5000 + b")" * 5000, "a.py:1: it is not valid Python: "),
    ("a.yaml", b"a: 1\nb: [\n", "a.yaml:3: it is not valid YAML: "),
    ("a.yaml", b"- a\n", "a.yaml:1: the document is not a dict but ['a']"),
    ("a.yaml", b"text", "a.yaml:1: the document is not a dict but 'text'"),
    ("a.yaml", b"1: a\n", "a.yaml:1: the key 1 is not text; write it in quotes"),
    ("a.yaml", b"a: 1\nb: 2\na: 3\n", "a.yaml:3: it is not valid YAML: the key 'a' is there twice"),
    ("a.yaml", b"a: 1\n---\nb: 2\n", "a.yaml:2: it is not valid YAML: "),
    ("a.yaml", b"a: !!python/object/apply:os.getcwd []\n", "a.yaml:1: it is not valid YAML: could not determine"),
    ("a.yaml", b"a: 1\nb: \xff\n", "a.yaml:2: it is not UTF-8"),
    ("a.yaml", b"a: 1\nb: \x07\n", "a.yaml:2: it is not valid YAML: the character "),
    ("a.yaml", b"a: 2026-99-99\n", "a.yaml:1: it is not valid YAML: month must be in 1..12"),
    ("a.yaml", b"? [a, b]\n: 1\n", "a.yaml:1: it is not valid YAML: unhashable type: 'list'"),
    ("a.yaml", b"a: " + b"[" * 5000 + b"]" * 5000, "a.yaml:1: it is not valid YAML: "),
]


@pytest.mark.parametrize(
    ("name", "data", "expected"), BAD, ids=[f"{number}-{row[0]}" for number, row in enumerate(BAD)]
)
def test_a_bad_file(name: str, data: bytes, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _parse.parse(data, name)
    text = str(caught.value)
    assert text.startswith(expected)
    assert text.isprintable()
    assert len(text) < 300


def test_the_cause_of_a_failure_is_kept_for_those_who_debug() -> None:
    with pytest.raises(ConfigError) as caught:
        _parse.parse(b"1 / 0", "a.py")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_ctrl_c_in_a_file_is_not_a_fault_of_the_file() -> None:
    with pytest.raises(KeyboardInterrupt):
        _parse.parse(b"raise KeyboardInterrupt", "a.py")


# ---------------------------------------------------------------- words


def test_a_user_in_words() -> None:
    assert _words.user_words(0) == "root"
    assert _words.user_words(SOMEBODY) == f"the user {SOMEBODY}"
