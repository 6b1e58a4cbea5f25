# SPDX-License-Identifier: LGPL-2.1-or-later
"""The samples in fedmsg.d: they show every setting as it is by default, and only signing is turned on."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from fedmsg.config import _layers, settings
from tests.unit.configs import write

# What one of them does set: signing and checking are never half on.
SET = {"ssl": {"sign_messages": True, "validate_signatures": True}}
SET_AT_ALL = SET["ssl"]

# A setting that is commented out is indented by four more than the words about it.
COMMENTED_OUT = re.compile(r"^    #     ", re.MULTILINE)


def settings_by_section() -> dict[str, set[str]]:
    sections: dict[str, set[str]] = defaultdict(set)
    for row in settings.TABLE.values():
        if not row.derived:
            sections[row.section].add(row.name)
    return sections


def sample_files(repository: Path) -> list[Path]:
    return sorted((repository / "fedmsg.d").iterdir())


def values_in(path: Path) -> Any:
    """Read a file with the comment marks taken away."""
    text = COMMENTED_OUT.sub("    ", path.read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    exec(compile(text, path, "exec"), names)
    return names["config"]


def test_there_is_one_for_every_section(repository: Path) -> None:
    assert {path.name for path in sample_files(repository) if path.name != "__pycache__"} == {
        f"{section}.py" for section in settings_by_section()
    }


@pytest.mark.parametrize("section", settings_by_section())
def test_a_sample_shows_the_defaults_of_its_section(section: str, repository: Path) -> None:
    found = values_in(repository / "fedmsg.d" / f"{section}.py")
    expected = {name: settings.get({}, name) for name in settings_by_section()[section]} | SET.get(section, {})
    assert found == expected
    assert {name: type(value) for name, value in found.items()} == {n: type(value) for n, value in expected.items()}


@pytest.mark.parametrize("section", settings_by_section())
def test_what_a_sample_sets(section: str, repository: Path) -> None:
    names: dict[str, Any] = {}
    exec((repository / "fedmsg.d" / f"{section}.py").read_text(encoding="utf-8"), names)
    assert names["config"] == SET.get(section, {})


def test_a_checkout_only_turns_on_signatures(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    without = _layers.gather(_layers.Request())
    monkeypatch.chdir(repository)
    # The checkout may belong to another user than the one who tests it.
    within = _layers.gather(_layers.Request(allow_insecure=True))
    assert within.config == {**without.config, **SET_AT_ALL}
    assert (within.problems, within.notes) == ([], [])
    assert len(within.files) == len(settings_by_section())


def test_the_derived_setting_is_explained_too(repository: Path) -> None:
    assert "topic_prefix_re" in (repository / "fedmsg.d" / "base.py").read_text(encoding="utf-8")


def test_all_samples_together_are_in_order(repository: Path) -> None:
    for path in sample_files(repository):
        write(f"fedmsg.d/{path.name}", COMMENTED_OUT.sub("    ", path.read_text(encoding="utf-8")))
    loaded = _layers.gather(_layers.Request())
    assert (loaded.problems, loaded.notes) == ([], [])
    expected = {**settings.defaults(), **SET_AT_ALL}
    assert {name: loaded.config[name] for name in settings.defaults()} == expected
