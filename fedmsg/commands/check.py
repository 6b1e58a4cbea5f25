# SPDX-License-Identifier: LGPL-2.1-or-later
"""``fedmsg-check``: asks a running daemon for its status.

What it prints is read by scripts, so the words are those of fedmsg 1.x.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import click
import zmq

from fedmsg._util.text import one_line
from fedmsg.config import load_config, settings
from fedmsg.exceptions import FedmsgError
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
def check(timeout: int, consumers: tuple[str, ...], producers: tuple[str, ...]) -> None:
    """Check whether consumers and producers of a running daemon are active.

    Prints the daemon's report. The exit status is 1 when one that is named is missing or not initialized, or when no
    report comes. The daemon is the one that reports at moksha.monitoring.socket.
    """
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


def _fail(text: str) -> NoReturn:
    """End with one line and status 1."""
    raise click.ClickException(text)


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
