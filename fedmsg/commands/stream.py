# SPDX-License-Identifier: LGPL-2.1-or-later
"""``fedmsg-stream``: shows the stream of a relay, and tends it."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

import click

from fedmsg import encoding
from fedmsg._util import plugins
from fedmsg._util.text import as_list, one_line, safe_block, safe_line
from fedmsg.commands import _formats, _groups, _process
from fedmsg.config import load_config, settings
from fedmsg.exceptions import ConfigError, TransportError, UsageError
from fedmsg.stream import asking, removal
from fedmsg.stream.begin import place_of, seconds_of

if TYPE_CHECKING:
    from fedmsg.stream.log import StreamLog

__all__ = ["main", "stream"]

_PROG = "fedmsg-stream"
_POSITION_MAX = 2**63 - 1
_COUNT = click.IntRange(min=1, max=_POSITION_MAX)
_Function = TypeVar("_Function", bound=Callable[..., Any])

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
_ADDRESS = click.option(
    "--stream", "address", metavar="ADDRESS", help="The stream port of the relay; default: the first of relay_stream."
)
_TIMEOUT = click.option(
    "--timeout", default=5.0, show_default=True, type=click.FloatRange(min=0.1, max=3600), metavar="SECONDS",
    help="How long to wait for the relay's answer.",
)  # fmt: skip
_STORE = click.option("--store", metavar="URL", help="The database with the stream; default: relay_store.")


class _Request(NamedTuple):
    """What the group knows: where the configuration is."""

    files: tuple[str, ...] | None
    allow_insecure: bool

    def config(self, **flags: str | None) -> dict[str, Any]:
        """Load the configuration; flags that were given win."""
        config = load_config(filenames=self.files, allow_insecure=self.allow_insecure)
        if not settings.of(config).zmq_enabled:
            raise ConfigError(f"{_PROG} needs ZeroMQ, and zmq_enabled is False; set it to True")
        return {**config, **{key: value for key, value in flags.items() if value is not None}}


def _asks(function: _Function) -> _Function:
    """Add the flags of a command that asks the relay."""
    for option in (_JSON, _TIMEOUT, _ADDRESS):
        function = option(function)
    return function


@click.group(cls=_groups.WholeHelp, context_settings={"help_option_names": ["--help"]})
@click.option("--config-filename", metavar="FILE", help="Read this file, not those in the usual places.")
@click.option("--allow-insecure-config", is_flag=True, help="Read files whatever their owner and mode.")
@click.option("--debug", is_flag=True, expose_value=False, help="Show where a failure comes from.")
@click.version_option(package_name="fedmsg", message="%(prog)s %(version)s")
@click.pass_context
def stream(context: click.Context, config_filename: str | None, *, allow_insecure_config: bool) -> None:
    """Show the stream of a relay, and tend it.

    info, subscriptions and get ask the relay at its stream port; remove and prune open its store, whether or
    not the relay runs.
    """
    context.obj = _Request((config_filename,) if config_filename else None, allow_insecure_config)


# ---------------------------------------------------------------- what asks the relay


def _first_address(config: Mapping[str, Any]) -> str:
    """Return where to ask: durable subscriptions belong to the relay at the first address."""
    found = as_list(settings.get(config, "relay_stream"))
    if not found:
        raise ConfigError("relay_stream is not set: set it to an address such as tcp://127.0.0.1:4002")
    return found[0]


@stream.command()
@_asks
@click.pass_obj
def info(request: _Request, address: str | None, *, timeout: float, as_json: bool) -> None:
    """Show positions, messages, bytes, messages per second, and retention."""
    config = request.config(relay_stream=address)
    found = asking.info(config, _first_address(config), timeout)
    if as_json:
        _print_json(found)
        return
    rows = [
        ("stream", safe_line(found["stream"])),
        ("positions", _span(found["first"], found["newest"])),
        ("messages", str(found["messages"])),
        ("bytes", f"{found['bytes']} ({_size(found['bytes'])})"),
        ("per second", f"{_number(found.get('per_second')):.1f}"),
        ("retention", _retention(found.get("retention"))),
        ("subscriptions", f"{_number(found.get('subscriptions')):.0f} open"),
    ]
    if (away := _number(found.get("store_away"))) > 0:
        rows.append(("store", f"does not answer, for {away:.0f} s"))
    _print_table(rows)


@stream.command()
@_asks
@click.pass_obj
def subscriptions(request: _Request, address: str | None, *, timeout: float, as_json: bool) -> None:
    """List the durable subscriptions: cursor, lag, when they were last seen, and from where."""
    config = request.config(relay_stream=address)
    rows = asking.subscriptions(config, _first_address(config), timeout)
    if as_json:
        _print_json({"subscriptions": rows})
    elif not rows:
        _write("There is no durable subscription.")
    else:
        shown = [
            (safe_line(row["name"]), str(row["cursor"]), str(row["lag"]), _clock(row["seen"]),
             safe_line(row["address"]), _state(row))
            for row in rows
        ]  # fmt: skip
        _print_table([("NAME", "CURSOR", "LAG", "LAST SEEN", "FROM", "STATE"), *shown], right=(1, 2))


@stream.command()
@click.argument("wanted", metavar="POSITION|MSG_ID")
@_asks
@click.pass_obj
def get(request: _Request, wanted: str, address: str | None, *, timeout: float, as_json: bool) -> None:
    """Print one message; digits are a position. Status 1 when it is not there."""
    place = place_of(wanted)
    if place == 0:
        raise UsageError("0 is no position: positions begin with 1")
    config = request.config(relay_stream=address)
    found = asking.get(config, _first_address(config), place, timeout)
    topic, options = found.topic.decode(errors="replace"), found.options
    try:
        envelope = encoding.decode(found.body)
    except ValueError:
        envelope = None
    if as_json:
        text = {} if envelope is not None else {"body": found.body.decode(errors="replace")}
        _print_json({**options, "topic": topic, "envelope": envelope, **text})
        return
    stored = _clock(options.get("stored"))
    _print_table([("position", str(options.get("position"))), ("stored", stored), ("topic", safe_line(topic))])
    if isinstance(envelope, dict):
        _write(_formats.choose({"really_pretty": True, "color": "never"})(envelope))
    else:
        _write("\n" + safe_block(found.body.decode(errors="replace")))


# ---------------------------------------------------------------- what opens the store


def _open(config: Mapping[str, Any]) -> StreamLog:
    url = config.get("relay_store")
    if not url:
        raise ConfigError("relay_store is not set: set it to the store of the relay, or name that with --store")
    opened: StreamLog = plugins.lazy("stream").StreamLog(url, create=False)
    return opened


@stream.command()
@click.argument("name")
@_STORE
@_asks
@click.pass_obj
def remove(
    request: _Request, name: str, store: str | None, address: str | None, *, timeout: float, as_json: bool
) -> None:
    """Remove a durable subscription with its cursor.

    Status 1 when there is none of this name, or it is being read.
    """
    config = request.config(relay_stream=address, relay_store=store)
    with _open(config) as log:
        cursor = log.cursor(name)
        if cursor is None:
            _fail(f"there is no durable subscription {name!r}")
        row = _ask_relay(config, log, name, timeout)
        if row is not None and row["connected"]:
            _fail(f"{name!r} is being read, by a client at {row['address']}: stop that first")
        if not log.remove_cursor(name):
            _fail(f"there is no durable subscription {name!r}")
    # The relay may not have stored the newest one.
    position = max(cursor.position, 0 if row is None else row["cursor"])
    if as_json:
        _print_json({"removed": name, "cursor": position})
    else:
        _write(f"Removed {safe_line(name)}, whose cursor was {position}.")


def _ask_relay(config: Mapping[str, Any], log: StreamLog, name: str, timeout: float) -> dict[str, Any] | None:
    """Return what the relay knows of a durable subscription; None where no relay runs, or it knows nothing.

    Raises:
        TransportError: A relay has the store, and does not answer.
    """
    if log.acquire(0):
        # No relay runs, and none begins before the store is closed: it waits for this lock.
        return None
    places = as_list(settings.get(config, "relay_stream"))
    for place in places:
        try:
            if asking.info(config, place, timeout)["stream"] != log.stream:
                continue
            rows = asking.subscriptions(config, place, timeout, name=name)
        except TransportError:
            continue
        return rows[0] if rows else None
    raise TransportError(
        f"a relay has the store, but does not answer at {', '.join(places)}: whether {name!r} is being read is not"
        " known; set relay_stream to its stream port, or name that with --stream"
    )


@stream.command()
@click.option("--before", metavar="TIME", help="Remove what was stored before: 2026-05-01T12:00, or an age as 7d.")
@click.option("--until", type=_COUNT, metavar="POSITION", help="Remove up to this position, included.")
@click.option("--keep-messages", type=_COUNT, metavar="N", help="Keep so many of the newest messages.")
@click.option("--keep-bytes", type=_COUNT, metavar="N", help="Keep so many bytes of the newest messages.")
@_STORE
@_JSON
@click.pass_obj
def prune(
    request: _Request,
    before: str | None,
    *,
    until: int | None,
    keep_messages: int | None,
    keep_bytes: int | None,
    store: str | None,
    as_json: bool,
) -> None:
    """Remove the oldest messages: those beyond retention, or what the flags name.

    A running relay removes what is beyond retention by itself. Readers that have not come so far go on with the
    first message there is.
    """
    config = request.config(relay_store=store)
    now = time.time()
    limits: dict[str, Any] = {
        "age": _age(before, now) if before is not None else 0,
        "max_bytes": keep_bytes or 0,
        "messages": keep_messages or 0,
        "until": until or 0,
    }
    if not any(limits.values()):
        limits = removal.retention(config)
        if not any(limits.values()):
            raise UsageError("retention has no limit, so that nothing is to be removed: name one, such as --before 7d")
    with _open(config) as log:
        # Busy publishers may be quicker than this is.
        newest = log.newest()
        removed = _in_steps(lambda: log.prune(**limits) if log.first() <= newest else 0)
        left = log.statistics()
    if as_json:
        _print_json({"removed": removed, **{key: left[key] for key in ("first", "newest", "messages", "bytes")}})
    else:
        _write(f"Messages removed: {removed}; kept: {_span(left['first'], left['newest'])}, {_size(left['bytes'])}.")


def _age(before: str, now: float) -> float:
    """Return how many seconds ago a time was; it is not 0, which stands for no limit."""
    try:
        return max(0.001, now - seconds_of(before, now))
    except UsageError as error:
        raise UsageError(f"--before: {error}") from error


def _in_steps(step: Callable[[], int]) -> int:
    """Remove until nothing is left to remove, half of the time at most: the relay writes in between."""
    removed = 0
    while True:
        begun = time.monotonic()
        count = step()
        if not count:
            return removed
        removed += count
        time.sleep(time.monotonic() - begun)


# ---------------------------------------------------------------- output


def _fail(text: str) -> NoReturn:
    """End with one line, and the status of an answer that is no."""
    print(f"{_PROG}: {one_line(text)}", file=sys.stderr)
    sys.exit(1)


def _write(text: str) -> None:
    """Print text; the command ends silently where the reader of the output has gone."""
    try:
        print(text)
    except OSError as error:
        # Here: click would make a failure of it.
        _process.end_quietly_when_output_is_gone(error)
        raise


def _print_json(value: Mapping[str, Any]) -> None:
    # All but this is escaped by the json module, so that no terminal obeys it.
    _write(json.dumps(value, sort_keys=True).replace("\x7f", "\\u007f"))


def _print_table(rows: Iterable[tuple[str, ...]], right: tuple[int, ...] = ()) -> None:
    """Print rows in columns, some of them with their texts at the right side."""
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (
            text.rjust(width) if number in right else text.ljust(width)
            for number, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        _write("  ".join(cells).rstrip())


def _number(value: object) -> float:
    """Return a number in an answer; 0 where there is none."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else 0.0


def _span(first: int, newest: int) -> str:
    if not newest:
        return "none yet"
    return f"{first} to {newest}" if first <= newest else f"none, the newest was {newest}"


def _size(count: float) -> str:
    units = iter(("B", "KiB", "MiB", "GiB", "TiB"))
    unit = next(units)
    while count >= 1024 and (larger := next(units, None)) is not None:
        count, unit = count / 1024, larger
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def _retention(limits: object) -> str:
    """Return in words what is kept."""
    if not isinstance(limits, dict):
        return "not known"
    age, size, messages = (_number(limits.get(key)) for key in ("age", "max_bytes", "messages"))
    parts = [_duration(age)] * bool(age) + [_size(size)] * bool(size) + [f"{messages:.0f} messages"] * bool(messages)
    return ", ".join(parts) or "no limit"


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:g} {unit}" if seconds % length == 0 else f"{seconds / length:.1f} {unit}"
    return f"{seconds:g} seconds"


def _clock(seconds: object) -> str:
    """Return a time of an answer, in local time."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(_number(seconds)))
    except (OverflowError, ValueError, OSError):
        return "not known"


def _state(row: Mapping[str, Any]) -> str:
    waiting = f", {row['waiting']} waiting" if row["waiting"] else ""
    return f"connected{waiting}" if row["connected"] else "away"


def main() -> Any:
    """Run the command: the entry point of ``fedmsg-stream``."""
    return _groups.run(stream, _PROG)
