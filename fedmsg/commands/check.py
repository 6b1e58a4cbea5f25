# SPDX-License-Identifier: LGPL-2.1-or-later
"""``fedmsg-check``: asks a running daemon for its status.

What it prints is read by scripts, so the words are those of fedmsg 1.x.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import click
import zmq

from fedmsg._util.text import as_list, one_line
from fedmsg.config import load_config, settings
from fedmsg.exceptions import FedmsgError, QueryError
from fedmsg.stream import asking
from fedmsg.transport import choice
from fedmsg.transport.zmq import sockets

__all__ = ["check"]

_KEY = "moksha.monitoring.socket"


@click.command(name="fedmsg-check")
@click.option(
    "--timeout", default=10, type=click.IntRange(min=0), metavar="SECONDS",
    help="How long to wait for the daemon's next report; one comes every 5 seconds. The default is 10.",
)  # fmt: skip
@click.option("-c", "--consumer", "consumers", multiple=True, metavar="NAME", help="A consumer that has to be there.")
@click.option("-p", "--producer", "producers", multiple=True, metavar="NAME", help="A producer that has to be there.")
@click.option("--stream", is_flag=True, help="Check the stream of the relay at relay_stream instead.")
@click.option(
    "--max-lag", type=click.IntRange(min=0), metavar="N",
    help="With --stream: how many messages a durable subscription may be behind; with --broker: may wait in a queue.",
)  # fmt: skip
@click.option(
    "--durable", "durables", multiple=True, metavar="NAME",
    help="With --stream: a durable subscription that has to be there; the others do not count then.",
)  # fmt: skip
@click.option("--broker", is_flag=True, help="Check the broker at broker_url instead, and the queues of consumers.")
@click.option("--remove", metavar="NAME", help="With --broker: remove the queue of this consumer or durable reader.")
def check(  # noqa: PLR0917 a parameter for each flag
    timeout: int,
    consumers: tuple[str, ...],
    producers: tuple[str, ...],
    stream: bool,
    max_lag: int | None,
    durables: tuple[str, ...],
    broker: bool,
    remove: str | None,
) -> None:
    """Check whether consumers and producers of a running daemon are active.

    Prints the daemon's report. The exit status is 1 when one that is named is missing or not initialized, or when no
    report comes. The daemon is the one that reports at moksha.monitoring.socket.

    With --stream it checks durable subscriptions: the status is 1 when one is behind by more than --max-lag, or one
    that is named is missing, and 3 when the relay does not answer.

    With --broker it checks RabbitMQ: the login, the exchange, and the queue of each --consumer. The status is 1 when
    a queue is missing, or more than --max-lag messages wait in one, and 3 when the broker does not answer.
    """
    if remove is not None and not broker:
        raise click.UsageError("--remove goes with --broker")
    if broker:
        if stream or producers or durables:
            raise click.UsageError("--broker goes without --stream, --producer and --durable")
        _check_broker(max(1, timeout), consumers, max_lag, remove)
        return
    if stream and (consumers or producers):
        raise click.UsageError("--stream goes without --consumer and --producer")
    if not stream and (max_lag is not None or durables):
        raise click.UsageError("--max-lag and --durable go with --stream, --max-lag with --broker too")
    if stream:
        _check_stream(timeout, max_lag, durables)
    else:
        _check_report(timeout, consumers, producers)


def _check_stream(timeout: int, max_lag: int | None, durables: tuple[str, ...]) -> None:
    """Check the lag of durable subscriptions, all of them or those that are named."""
    try:
        rows = {row["name"]: row for row in _subscriptions(max(1, timeout), durables)}
    except FedmsgError as error:
        _fail(one_line(str(error)), error.exit_status if not isinstance(error, QueryError) else 1)
    lags = {name: f"is {row['lag']} messages behind" for name, row in rows.items() if _exceeds(row["lag"], max_lag)}
    _fail_where(
        [name for name in durables if name not in rows], "Some durable subscriptions are missing!",
        lags, "Some durable subscriptions are too far behind!",
    )  # fmt: skip
    click.echo("All durable subscriptions are well!" if max_lag is not None or durables else "The relay answers.")
    _print([*rows.values()])


def _check_broker(timeout: int, consumers: tuple[str, ...], max_lag: int | None, remove: str | None) -> None:
    """Check the queues of consumers, or remove one."""
    config = load_config()
    transport = choice.of(config)
    if not transport.status:
        _fail('No broker has been configured: please set "broker_url"')
    try:
        if remove is not None:
            transport.load("remove")(config, remove, timeout)
            click.echo(f'"{one_line(remove)}" is removed.')
            return
        found = transport.load("status")(config, consumers, timeout)
    except FedmsgError as error:
        _fail(one_line(str(error)), error.exit_status if not isinstance(error, QueryError) else 1)
    rows = {row["name"]: row for row in found["queues"]}
    there = {name: rows[name]["ready"] for name in consumers if name in rows}
    lengths = {name: f"has {count} messages waiting" for name, count in there.items() if _exceeds(count, max_lag)}
    _fail_where(
        [name for name in consumers if name not in rows], "Some consumers have no queue!",
        lengths, "Some queues are too long!",
    )  # fmt: skip
    click.echo("All queues are well!" if consumers else "The broker answers.")
    _print(found)


def _subscriptions(timeout: int, durables: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    config = load_config()
    address = next(iter(as_list(settings.get(config, "relay_stream"))), None)
    if address is None:
        _fail('No stream port has been configured: please set "relay_stream"')
    if not durables:
        yield from asking.subscriptions(config, address, timeout)
    for name in filter(None, durables):
        yield from asking.subscriptions(config, address, timeout, name=name)


def _check_report(timeout: int, consumers: tuple[str, ...], producers: tuple[str, ...]) -> None:
    """Wait for the report of a daemon, and look for the names in it."""
    try:
        report, text = _wait_for_report(timeout)
    except FedmsgError as error:
        _fail(one_line(str(error)))
    if consumers or producers:
        wanted = [*_states(report, "consumers", consumers), *_states(report, "producers", producers)]
        for name, state in wanted:
            if state:
                click.echo(f'"{name}" is not {state}!', err=True)
        states = {state for _, state in wanted}
        if "active" in states:
            _fail("Some consumers and/or producers are missing!")
        if "initialized" in states:
            _fail("Some consumers and/or producers are uninitialized!")
        click.echo("All consumers and producers are active!")
    else:
        click.echo("No consumers or producers specified so all will be shown.")
    click.echo(text)


def _print(found: object) -> None:
    """Print what was found, without a character that a terminal obeys."""
    click.echo(json.dumps(found, indent=2, sort_keys=True).replace("\x7f", "\\u007f"))


def _exceeds(count: int, most: int | None) -> bool:
    return most is not None and count > most


def _fail_where(missing: Sequence[str], if_missing: str, behind: Mapping[str, str], if_behind: str) -> None:
    """Name what is missing, and say of others how far they are behind; end with an error where there is any."""
    for name in missing:
        click.echo(f'"{one_line(name)}" is not there!', err=True)
    for name, lag in behind.items():
        click.echo(f'"{one_line(name)}" {lag}!', err=True)
    if missing:
        _fail(if_missing)
    if behind:
        _fail(if_behind)


def _fail(text: str, status: int = 1) -> NoReturn:
    """End with one line and a status."""
    click.echo(f"Error: {text}", err=True)
    click.get_current_context().exit(status)


def _states(report: Mapping[str, Any], kind: str, names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield for each name what it is not: active, initialized, or nothing at all."""
    rows = [row for row in report[kind] if isinstance(row, dict)]
    for name in names:
        found = [row.get("initialized") is True for row in rows if row.get("name") == name]
        yield name, "" if found and all(found) else "initialized" if found else "active"


def _wait_for_report(timeout: int) -> tuple[dict[str, Any], str]:
    """Return the next report, read and as it is to be printed."""
    config = load_config()
    endpoint = settings.of(config).monitoring_socket
    if not endpoint:
        _fail(f'No monitoring endpoint has been configured: please set "{_KEY}"')
    deadline = time.monotonic() + timeout
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, settings.of(config).max_message_size)
        socket.subscribe(b"")
        sockets.connect(socket, endpoint, _KEY)
        while socket.poll(int(1000 * max(0, min(deadline - time.monotonic(), 3600)))):
            found = _read(socket.recv_multipart()[-1])
            if found is not None:
                return found
    _fail(f"Failed to receive message from the monitoring endpoint ({endpoint}) in {timeout} seconds.")


def _read(frame: bytes) -> tuple[dict[str, Any], str] | None:
    """Read a report; None for what is none."""
    try:
        report = json.loads(frame)
        text = json.dumps(report, indent=2, sort_keys=True)
    except (ValueError, RecursionError):
        return None
    if isinstance(report, dict) and all(isinstance(report.get(kind), list) for kind in ("consumers", "producers")):
        return report, text
    return None
