# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg.commands._shared: the flags that every command has, and when the command line is read."""

from __future__ import annotations

from typing import Any

import pytest

from fedmsg.commands import _options, _shared
from fedmsg.config import settings
from fedmsg.exceptions import UsageError


def late(monkeypatch: pytest.MonkeyPatch, arguments: str) -> _shared.LateFlags:
    monkeypatch.setattr("sys.argv", ["greet", *arguments.split()])
    own: list[_options.Declaration] = [
        (["--whom"], {"dest": "whom", "default": "all"}),
        (["--add"], {"dest": "added", "action": "append"}),
    ]
    return _shared.LateFlags(_options.CommandLine("greet", "Greet.", own, _shared.declarations()))


def test_each_setting_with_a_flag_has_it() -> None:
    names = [name for flags, _ in _shared.declarations() for name in flags]
    assert set(names) >= {row.flag for row in settings.TABLE.values() if row.flag}
    assert names == sorted(set(names), key=names.index)


@pytest.mark.parametrize("row", [row for row in settings.TABLE.values() if row.flag], ids=lambda row: str(row.name))
def test_the_flag_of_a_setting_says_what_the_setting_says(row: settings.Setting[Any]) -> None:
    keys = next(keys for names, keys in _shared.declarations() if names == [row.flag])
    assert (keys["dest"], keys["help"]) == (row.name, row.help)


def test_the_command_line_is_read_when_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = late(monkeypatch, "--nonsense")
    assert flags.complete({"x": 1}) == {"x": 1, "whom": "all", "added": None}
    with pytest.raises(UsageError):
        len(flags)


def test_a_mapping_of_what_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = late(monkeypatch, "--whom you --timeout 3 --add a --allow-insecure-config")
    assert dict(flags) == {"whom": "you", "timeout": 3, "allow_insecure_config": True}
    assert len(flags) == 3
    assert flags["timeout"] == 3
    assert flags.complete({"timeout": 3, "added": ["z"]}) == {"whom": "you", "timeout": 3, "added": ["z", "a"]}


@pytest.mark.parametrize(
    ("arguments", "level"),
    [("", None), ("--log-level info", "INFO"), ("--debug", "DEBUG"), ("--debug --log-level error", "DEBUG")],
)
def test_what_is_no_configuration(monkeypatch: pytest.MonkeyPatch, arguments: str, level: str | None) -> None:
    flags = late(monkeypatch, arguments)
    assert dict(flags) == {}
    assert flags.log_level == level
    assert flags.complete({}) == {"whom": "all", "added": None}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--timeout soon", "write a number of seconds, such as 2"),
        ("--io-threads 0", "0 is less than 1; write a whole number"),
        ("--high-water-mark 99999999999", "99999999999 is more than"),
        ("--linger 1.5", "'1.5'"),
    ],
)
def test_a_value_that_the_setting_does_not_take(monkeypatch: pytest.MonkeyPatch, arguments: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        dict(late(monkeypatch, arguments))
    assert arguments.partition(" ")[0] in str(caught.value)
    assert said in str(caught.value)
