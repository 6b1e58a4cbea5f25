# SPDX-License-Identifier: LGPL-2.1-or-later
"""Optional libraries on first use, and plugins by group."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from fedmsg._util import plugins
from fedmsg.encoding import _speed
from tests.unit.fresh import python

GROUP = "fedmsg.test_plugins"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the import path, as pip would install into."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def install(site: Path, distribution: str, entries: str, **modules: str) -> None:
    """Lay out a distribution: its metadata with entry points, and its modules."""
    info = site / f"{distribution}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{entries}\n")
    for name, text in modules.items():
        (site / f"{name}.py").write_text(text)


def test_lazy_imports_on_first_use() -> None:
    code = "import sys; from fedmsg._util import plugins; print('orjson' in sys.modules); print(plugins.lazy('speed'))"
    before, after = python(code)
    assert before == "False"
    assert "fedmsg.encoding._speed" in after


def test_lazy_gives_the_same_module_again() -> None:
    assert plugins.lazy("speed") is _speed
    assert plugins.lazy("speed") is _speed


def test_lazy_knows_only_its_table() -> None:
    with pytest.raises(KeyError):
        plugins.lazy("os")


def test_a_missing_library_is_one_line_that_says_how_to_get_it() -> None:
    code = """
import sys
sys.modules["orjson"] = None  # what the import system makes of this is "not installed"
from fedmsg import exceptions
from fedmsg._util import plugins
try:
    plugins.lazy("speed")
except exceptions.MissingExtra as error:
    print(error, error.extra, error.exit_status, error.__cause__.name)
"""
    assert python(code) == ["fast decoding needs fedmsg[speed]: pip install 'fedmsg[speed]' speed 5 orjson"]


@pytest.mark.parametrize("module", ["fedmsg.encoding._plain", "sqlite3"])
def test_a_missing_module_of_ours_or_of_python_is_no_missing_extra(tmp_path: Path, module: str) -> None:
    # A library that is there, but can't find a part of Python, and one that finds everything.
    (tmp_path / "orjson.py").write_text("import sqlite3")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import fedmsg.encoding
sys.modules[{module!r}] = None
del fedmsg.encoding._plain
from fedmsg._util import plugins
try:
    plugins.lazy("speed")
except ImportError as error:
    print(type(error).__name__, error.name)
"""
    assert python(code) == [f"ModuleNotFoundError {module}"]


def test_load_gives_the_objects_in_the_order_of_their_names(site: Path) -> None:
    install(site, "second", "b = plugin_b:Thing", plugin_b="class Thing: pass")
    install(site, "first", "c = plugin_c\na = plugin_c:VALUE.real", plugin_c="VALUE = 7")
    loaded = plugins.load(GROUP)
    assert [name for name, _ in loaded] == ["a", "b", "c"]
    assert loaded[0][1] == 7
    assert loaded[1][1].__name__ == "Thing"
    assert loaded[2][1].__name__ == "plugin_c"


def test_load_without_plugins() -> None:
    assert plugins.load("fedmsg.no_such_group") == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import no_such_module_anywhere", "ModuleNotFoundError("),
        ("1 / 0", "ZeroDivisionError("),
        ("raise SystemExit(3)", "SystemExit(3)"),
        ("x = (", "SyntaxError("),
        ("", "AttributeError("),
    ],
)
def test_a_failing_plugin_is_named_and_not_loaded(
    site: Path, caplog: pytest.LogCaptureFixture, text: str, reason: str
) -> None:
    name = f"plugin_{reason.partition('(')[0].lower()}"
    install(site, "mixed", f"bad = {name}:Thing\ngood = json:dumps", **{name: text})
    with caplog.at_level(logging.INFO, logger="fedmsg"):
        loaded = plugins.load(GROUP)
    assert [entry for entry, _ in loaded] == ["good"]
    [record] = caplog.records
    assert record.levelname == "ERROR"
    assert not record.exc_info
    assert record.getMessage().startswith(f"The plugin bad = {name}:Thing of {GROUP} is not loaded: {reason}")


def test_the_traceback_of_a_failing_plugin_is_there_for_who_debugs(
    site: Path, caplog: pytest.LogCaptureFixture
) -> None:
    install(site, "traced", "bad = plugin_traced", plugin_traced="1 / 0")
    with caplog.at_level(logging.DEBUG, logger="fedmsg"):
        assert plugins.load(GROUP) == []
    assert "plugin_traced.py" in caplog.text


def test_who_interrupts_is_obeyed(site: Path) -> None:
    install(site, "interrupted", "bad = plugin_interrupted", plugin_interrupted="raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        plugins.load(GROUP)


def test_a_broken_list_of_entry_points_costs_only_its_own_distribution(
    site: Path, caplog: pytest.LogCaptureFixture
) -> None:
    install(site, "broken", "this is no entry point")
    install(site, "whole", "good = json:dumps")
    with caplog.at_level(logging.INFO, logger="fedmsg"):
        loaded = plugins.load(GROUP)
    assert [name for name, _ in loaded] == ["good"]
    [record] = caplog.records
    assert record.getMessage().startswith("The entry_points.txt of broken is not loaded: ")
