# SPDX-License-Identifier: LGPL-2.1-or-later
"""The project as a whole: what lies at its top, how it is packaged, what its files may not name."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from fedmsg._util import plugins
from tests.structure import source
from tests.structure.test_floors import INSTALLED_AS, WRAPPERS

TOP = {
    ".ci", ".gitignore", "LICENSE", "Makefile", "README.rst",
    "docs", "fedmsg", "fedmsg.d", "pyproject.toml", "setup.py", "tests",
}  # fmt: skip

# Places of one workplace or one machine, which mean nothing to anybody else. Each has a
# bracket in it so that this file does not name what it forbids.
ELSEWHERE = re.compile(
    r"(?<![\w.])/wor[k](?![\w-])|\.\./share[d]|(?<![\w/.])share[d]/(?:spec|tools|hooks)|(?<![\w)\]])\.librar[y]\b"
    r"|/tmp/(?:de[v]|pee[r]|brie[f])\b|\bissue[s]? (?:show|#?\d)|/hom[e]/\w|files\.pythonhoste[d]"
)


def distribution() -> importlib.metadata.Distribution:
    """Give the installed distribution, which an editable install keeps up to date."""
    return importlib.metadata.distribution("fedmsg")


def console_scripts() -> dict[str, importlib.metadata.EntryPoint]:
    """Give the commands that the distribution installs."""
    return {entry.name: entry for entry in distribution().entry_points if entry.group == "console_scripts"}


def test_top_level() -> None:
    assert {source.relative(path).split("/")[0] for path in source.files()} == TOP


@pytest.mark.parametrize("path", source.files(), ids=source.relative)
def test_no_file_names_a_place_elsewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8", errors="replace")
    found = [f"line {text.count(chr(10), 0, match.start()) + 1}: {match[0]}" for match in ELSEWHERE.finditer(text)]
    assert found == []


def test_the_version_has_one_home() -> None:
    version = distribution().version
    homes = [
        source.relative(path)
        for path in source.files()
        # The last measurements say which version they are of.
        if path.name != "bench.txt" and version in path.read_text(encoding="utf-8", errors="replace")
    ]
    assert homes == ["setup.py"]


def test_the_licence_is_the_whole_text() -> None:
    text = (source.REPOSITORY / "LICENSE").read_text(encoding="utf-8")
    assert " ".join(text.split()[:7]) == "GNU LESSER GENERAL PUBLIC LICENSE Version 2.1,"
    assert "END OF TERMS AND CONDITIONS" in text
    # Older and newer setuptools write it under different names.
    metadata = distribution().metadata
    written = [*(metadata.get_all("License") or []), *(metadata.get_all("License-Expression") or [])]
    assert written == ["LGPL-2.1-or-later"]


def test_types_are_announced() -> None:
    assert (source.PACKAGE / "py.typed").exists()
    assert "py.typed" in (source.REPOSITORY / "setup.py").read_text(encoding="utf-8")


def test_extras() -> None:
    users = "all commands consumers crypto crypto_ng daemon datagrepper datanommer irc metrics speed sql srv statscache"
    found = {name.replace("-", "_") for name in distribution().metadata.get_all("Provides-Extra") or []}
    assert found == {*users.split(), "docs", "test"}


def requirements(extra: str = "") -> set[str]:
    """Give what the basic install needs, or what an extra brings."""
    wanted = f'extra == "{extra.replace("_", "-")}"' if extra else ""
    return {
        re.split(r"[<>=!~ ;\[]", requirement)[0].lower()
        for requirement in distribution().requires or []
        if requirement.partition(";")[2].strip() == wanted
    }


def test_basic_install_is_small() -> None:
    assert requirements() == {"click", "kitchen", "pygments", "pyyaml", "pyzmq", "six"}


@pytest.mark.parametrize("feature", sorted(plugins._TABLE))
def test_the_extra_that_a_feature_asks_for_brings_its_library(feature: str) -> None:
    row = plugins._TABLE[feature]
    libraries = {INSTALLED_AS.get(name, name) for name, wrappers in WRAPPERS.items() if row.module in wrappers}
    assert row.module in source.modules()
    assert libraries
    assert libraries - requirements() <= requirements(row.extra)


@pytest.mark.parametrize("name", sorted(console_scripts()))
def test_command_is_importable(name: str) -> None:
    assert callable(console_scripts()[name].load())


def test_every_command_module_is_installed() -> None:
    modules = {
        name for name in source.modules()
        if name.startswith("fedmsg.commands.") and not name.rpartition(".")[2].startswith("_")
    }  # fmt: skip
    assert {entry.module for entry in console_scripts().values()} == modules


@pytest.mark.parametrize("path", [path for path in source.files() if path.parent.name == ".ci"], ids=source.relative)
def test_ci_script_parses(path: Path) -> None:
    assert path.stat().st_mode & 0o111, "not executable"
    shell = path.read_text(encoding="utf-8").splitlines()[0].rpartition("/")[2].removeprefix("env ")
    run = subprocess.run([shell, "-n", path], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize("target", ["help", "demo", "test", "lint", "bench", "soak", "docs", "clean"])
def test_make_target(target: str) -> None:
    text = (source.REPOSITORY / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:.*## ", text, re.MULTILINE)


def test_readme_begins_with_the_two_commands() -> None:
    text = (source.REPOSITORY / "README.rst").read_text(encoding="utf-8")
    assert 0 < text.index("make demo") < text.index("make test") < text.index("pip install")


def test_a_source_distribution_has_everything(repository: Path, tmp_path: Path) -> None:
    where = ["egg_info", "--egg-base", str(tmp_path), "sdist", "--dist-dir", str(tmp_path)]
    subprocess.run([sys.executable, "setup.py", "-q", *where], cwd=repository, check=True, capture_output=True)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    assert {source.relative(path) for path in source.files()} <= packed
