# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg-config: what is configured, where it comes from, and whether it is in order."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

from fedmsg import utils
from fedmsg._util import plugins
from fedmsg._util.text import one_line
from fedmsg.commands import _options, _process, _shared
from fedmsg.commands._options import flag
from fedmsg.config import _layers, _words, settings
from fedmsg.exceptions import ConfigError, UsageError

__all__ = ["config"]

_PROG = "fedmsg-config"

_MISSING = object()
# Imported for --check alone: it needs most rooms.
_PREFLIGHT = "fedmsg.commands._preflight"
# The exit status when programs would start, but not work.
_WOULD_NOT_WORK = 1

_FLAGS: list[_options.Declaration] = [
    flag("--query", dest="query", metavar="KEY", help="Print one value: a key, or keys with dots between."),
    flag("--origin", action="store_true", help="Print which layer and file each value comes from."),
    flag("--check", action="store_true", help="Print what is wrong, with the file that it stands in."),
    flag("--explain", action="store_true", help="Print what the settings mean."),
    flag("--format", dest="format", choices=["json", "yaml"], help="How values are written."),
    flag("--disable-defaults", action="store_true", help="Leave out what is not configured anywhere."),
    flag("--config-filename", metavar="FILE", help="The file to read instead of those in the usual places."),
    flag("--allow-insecure-config", action="store_true", help="Read files whatever their owner and mode."),
    flag("--debug", action="store_true", help="Print the traceback of an error."),
    flag("--version", action="version", version=_shared.version, help="Show the version and exit."),
]


def config() -> None:
    """Print the configuration as fedmsg sees it, or a part of it.

    Without a flag, all of it is printed as JSON.

    A --query of foo.bar.baz looks up config["foo"]["bar"]["baz"]. A text is printed as it is, a list with
    one item per line, anything else as JSON. When there is no such value the exit status is 1.

    --check does what the programs do at their start: it looks at every value, and at the files, folders and keys
    that are named. What is wrong is printed, a line each. The exit status is 5 when a program would not start,
    1 when it would start but not work.
    """
    with _process.reporting(_PROG, debug="--debug" in sys.argv):
        line = _options.CommandLine(_PROG, config.__doc__, _FLAGS, ())
        try:
            _run(line.parse(sys.argv[1:])({}))
        except KeyboardInterrupt:
            # Not 0 as for a daemon: a script that asked has no loaded.
            sys.exit(130)


def _run(flags: dict[str, Any]) -> None:
    if sum(flags[name] for name in ("origin", "check", "explain")) > 1:
        raise UsageError("--origin, --check and --explain go one at a time")
    if flags["explain"]:
        _explain(flags["query"])
        return
    files = (flags["config_filename"],) if flags["config_filename"] else ()
    loaded = _layers.gather(
        _layers.Request(files, {}, flags["disable_defaults"], allow_insecure=flags["allow_insecure_config"])
    )
    if flags["check"]:
        _check(loaded)
        return
    for note in loaded.notes:
        print(f"{_PROG}: {note}", file=sys.stderr)
    _layers.reject(loaded.problems)
    if flags["origin"]:
        _origins(loaded, flags["query"], flags["format"])
    elif flags["query"]:
        _print_one(_find(loaded.config, flags["query"]), flags["format"])
    else:
        _write(_structured(loaded.config, flags["format"]))


def _find(values: dict[str, Any], key: str) -> Any:
    """Look up a value, or end with status 1."""
    value = _look_up(values, key)
    if value is None or value is _MISSING:
        _missing(key)
    return value


def _missing(key: str) -> None:
    print(f"Key `{key}` does not exist in config", file=sys.stderr)
    sys.exit(1)


def _look_up(values: Any, key: str) -> Any:
    """Follow a key with dots; a key of the configuration may itself have dots in it."""
    if not isinstance(values, dict):
        return _MISSING
    if key in values:
        return values[key]
    parts = key.split(".")
    for length in range(len(parts) - 1, 0, -1):
        head = ".".join(parts[:length])
        if head in values:
            found = _look_up(values[head], ".".join(parts[length:]))
            if found is not _MISSING:
                return found
    return _MISSING


def _structured(value: Any, format_: str | None) -> str:
    """Write a value as JSON or YAML."""
    if format_ != "yaml":
        return _words.to_json(value)
    text: str = plugins.lazy("yaml").dump(_words.plain(value))
    return text.removesuffix("\n").removesuffix("\n...")


def _print_one(value: Any, format_: str | None) -> None:
    """Print a value, for a shell script unless a format is asked for: text as it is, a list with one item per line."""
    if format_:
        _write(_structured(value, format_))
    elif isinstance(value, (list, tuple)):
        for item in value:
            _write(_item(item))
    else:
        _write(value if isinstance(value, str) else _words.to_json(value))


def _item(value: Any) -> str:
    plain = _words.plain(value)
    return plain if isinstance(plain, str) else json.dumps(plain)


def _write(text: str) -> None:
    # A lone surrogate, or a letter that the encoding of the terminal has not.
    # Without standard output there is nothing to print to.
    encoding = (sys.stdout and sys.stdout.encoding) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))


def _origins(loaded: _layers.Loaded, query: str | None, format_: str | None) -> None:
    """Print where values come from, in the order of the table."""
    # A default that is None is not in the configuration.
    values = dict.fromkeys(name for name in settings.TABLE if name in loaded.origins) | loaded.config
    rows = dict(_layers.lines({name: loaded.origins[name] for name in values}))
    if query:
        if _look_up(values, query) is _MISSING:
            _missing(query)
        rows = _rows_of(rows, query)
    if format_:
        found = {key: {"layer": origin.layer, "file": origin.path} for key, origin in rows.items()}
        _write(_structured(found, format_))
        return
    width = max(map(len, rows), default=0)
    for key, origin in rows.items():
        _write(f"{key:{width}}  {origin.layer}{f'  {origin.path}' if origin.path else ''}")


def _rows_of(rows: dict[str, _layers.Origin], query: str) -> dict[str, _layers.Origin]:
    """Pick the rows of a key: its own, those inside it, or else that of the dict which it is in."""
    inside = {key: origin for key, origin in rows.items() if key == query or key.startswith(f"{query}.")}
    around = [key for key in rows if query.startswith(f"{key}.")]
    return inside or {query: rows[max(around, key=len)]}


def _check(loaded: _layers.Loaded) -> None:
    """Print what is wrong, one line each; the exit status shows whether programs would start."""
    for line in (*loaded.notes, *_unread(loaded)):
        _complain(line)
    for problem in loaded.problems:
        _complain(str(problem))
    stops, found = bool(loaded.problems), bool(loaded.problems)
    for one in utils.load_class(_PREFLIGHT + ":problems")(_layers.accepted(loaded.config)):
        stops, found = stops or one.stops, True
        name = next((name for name in loaded.origins if re.match(rf"{re.escape(name)}\b", one.key)), None)
        source = f"{_layers.source_of(loaded.origins[name])}: " if name else ""
        _complain(f"{source}{one.key}: {one.text}")
    if found:
        sys.exit(ConfigError.exit_status if stops else _WOULD_NOT_WORK)
    read = ", ".join(loaded.files) or "no file; the defaults apply"
    _write(f"The configuration is in order. Read: {read}")


def _complain(line: str) -> None:
    print(f"{_PROG}: {one_line(line)}", file=sys.stderr)


def _unread(loaded: _layers.Loaded) -> Iterator[str]:
    """Name the keys that nothing is known to read, but for those that are taken for misspelt ones."""
    noted = " ".join(loaded.notes)
    for name in utils.load_class(_PREFLIGHT + ":unread_keys")(loaded.config):
        if repr(name) not in noted:
            source = _layers.source_of(loaded.origins[name])
            yield f"{source}: {name}: neither fedmsg nor an installed consumer is known to read this key"


def _explain(query: str | None) -> None:
    rows = {query: settings.TABLE[query]} if query in settings.TABLE else {} if query else settings.TABLE
    if query and not rows:
        raise UsageError(f"{query!r} is not a setting of fedmsg itself; a plugin may have it")
    for name, row in rows.items():
        default = "made from topic_prefix" if row.derived else _item(row.default)
        unit = f", {row.unit}" if row.unit else ""
        _write(f"{name} ({row.type}{unit}; default: {default})\n    {row.help}")
