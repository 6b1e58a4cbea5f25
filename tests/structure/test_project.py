# SPDX-License-Identifier: LGPL-2.1-or-later
"""The project as a whole: what lies at its top, how it is packaged, what its files may not name."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tarfile
from pathlib import Path

from fedmsg._util import plugins
from tests.structure import source
from tests.structure.test_floors import INSTALLED_AS, WRAPPERS

TOP = {
    ".ci", ".gitignore", "LICENSE", "Makefile", "README.rst",
    "docs", "fedmsg", "fedmsg.d", "pyproject.toml", "setup.py", "tests",
}  # fmt: skip

# Places of one workplace or one machine, which have no meaning in another place. Each has a
# bracket in it so that this file does not name what it forbids.
ELSEWHERE = re.compile(
    r"(?<![\w.])/wor[k](?![\w-])|\.\./share[d]|(?<![\w/.])share[d]/(?:spec|tools|hooks)|(?<![\w)\]])\.librar[y]\b"
    r"|/tmp/(?:de[v]|pee[r]|brie[f])\b|\bissue[s]? (?:show|#?\d)|/hom[e]/\w|files\.pythonhoste[d]"
)


def distribution() -> importlib.metadata.Distribution:
    """Return the installed distribution, which an editable install keeps up to date."""
    return importlib.metadata.distribution("fedmsg")


def console_scripts() -> dict[str, importlib.metadata.EntryPoint]:
    """Return the commands that the distribution installs."""
    return {entry.name: entry for entry in distribution().entry_points if entry.group == "console_scripts"}


def test_top_level() -> None:
    assert {source.relative(path).split("/")[0] for path in source.files()} == TOP


def test_no_file_names_a_place_elsewhere() -> None:
    found = [
        f"{source.relative(path)}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}"
        for path in source.files()
        for text in [path.read_text(encoding="utf-8", errors="replace")]
        for match in ELSEWHERE.finditer(text)
    ]
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
    users = """all amqp commands consumers crypto crypto_ng daemon datagrepper datanommer irc metrics speed sql srv
        statscache"""
    found = {name.replace("-", "_") for name in distribution().metadata.get_all("Provides-Extra") or []}
    assert found == {*users.split(), "docs", "test"}


def requirements(extra: str = "") -> set[str]:
    """Return what the basic install needs, or what an extra brings."""
    wanted = f'extra == "{extra.replace("_", "-")}"' if extra else ""
    return {
        re.split(r"[<>=!~ ;\[]", requirement)[0].lower()
        for requirement in distribution().requires or []
        if requirement.partition(";")[2].strip() == wanted
    }


# The first releases without a known vulnerability.
FIRST_SAFE = {
    "cryptography": "46.0.7", "dnspython": "2.6.1", "flask": "3.1.3", "gunicorn": "23.0", "orjson": "3.9.15",
    "requests": "2.33.0",
}  # fmt: skip


def test_no_requirement_allows_a_release_with_a_known_vulnerability() -> None:
    def as_numbers(version: str) -> tuple[int, ...]:
        return tuple(map(int, version.split(".")))

    lowest: dict[str, str] = {}
    for line in distribution().requires or []:
        name, bound = re.split(r"[<>=!~ ;\[]", line)[0].lower(), re.search(r">=([\d.]+)", line)
        lowest[name] = min(lowest.get(name, "99"), bound[1] if bound else "0", key=as_numbers)
    assert {name: lowest[name] for name in FIRST_SAFE if as_numbers(lowest[name]) < as_numbers(FIRST_SAFE[name])} == {}


def test_basic_install_is_small() -> None:
    assert requirements() == {"click", "kitchen", "pygments", "pyyaml", "pyzmq", "six"}


def test_the_extra_that_a_feature_asks_for_brings_its_library() -> None:
    bad = []
    for feature, row in plugins._TABLE.items():
        loaded = {row.module} | {found.target for found in source.imports() if found.importer == row.module}
        libraries = {INSTALLED_AS.get(name, name) for name, wrappers in WRAPPERS.items() if loaded & {name, *wrappers}}
        missing = libraries - requirements() - requirements(row.extra)
        if row.module not in {*source.modules(), *WRAPPERS} or not libraries or missing:
            bad.append((feature, row.module, missing))
    assert bad == []


def test_commands_are_importable() -> None:
    assert [name for name, script in console_scripts().items() if not callable(script.load())] == []


def test_every_command_module_is_installed() -> None:
    modules = {
        name for name in source.modules()
        if name.startswith("fedmsg.commands.") and not name.rpartition(".")[2].startswith("_")
    }  # fmt: skip
    rooms = {entry.module for entry in console_scripts().values()}
    assert {module for module in rooms if module.startswith("fedmsg.commands.")} == modules


def test_ci_scripts_parse() -> None:
    for path in source.files():
        if path.parent.name == ".ci":
            assert path.stat().st_mode & 0o111, f"{path} is not executable"
            shell = path.read_text(encoding="utf-8").splitlines()[0].rpartition("/")[2].removeprefix("env ")
            run = subprocess.run([shell, "-n", path], capture_output=True, text=True, check=False)
            assert (run.returncode, run.stderr) == (0, "")


def test_make_has_a_line_of_help_for_each_target() -> None:
    targets = "help demo demo-history check test test-all lint format bench soak coverage docs clean".split()
    text = (source.REPOSITORY / "Makefile").read_text(encoding="utf-8")
    assert [target for target in targets if not re.search(rf"^{target}:.*## ", text, re.MULTILINE)] == []


def test_readme_begins_with_the_two_commands() -> None:
    text = (source.REPOSITORY / "README.rst").read_text(encoding="utf-8")
    assert 0 < text.index("make demo") < text.index("make test") < text.index("pip install")


def test_a_source_distribution_has_everything(repository: Path, tmp_path: Path) -> None:
    where = ["egg_info", "--egg-base", str(tmp_path), "sdist", "--dist-dir", str(tmp_path)]
    subprocess.run([sys.executable, "setup.py", "-q", *where], cwd=repository, check=True, capture_output=True)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    assert {source.relative(path) for path in source.files()} <= packed
