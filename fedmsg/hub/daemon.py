# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs a hub as a daemon: until a stop signal, with what is served beside it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from fedmsg._util import plugins
from fedmsg._util.signals import StopSignals
from fedmsg.config import conf, settings
from fedmsg.exceptions import WorkLeft
from fedmsg.hub import moksha
from fedmsg.hub.hub import Hub, Outcome
from fedmsg.monitoring import systemd

__all__ = ["main", "run_hub"]

log = logging.getLogger("fedmsg.commands")


def run_hub(make: Callable[[], Hub], what: str, *, websocket: bool = False) -> None:
    """Run a hub until SIGTERM or SIGINT.

    Args:
        make: Makes the hub, not started yet.
        what: What it does, for the log and the service manager: ``running``.
        websocket: Whether it serves WebSockets, where these are configured. Other daemons may have the
            same configuration, and only one of them can serve its port.

    Raises:
        WorkLeft: Time was up before everything was handled, and nothing is spooled for the next start.
    """
    with StopSignals() as stop:
        hub = make()
        hub.on_stop_request = stop.request
        with hub, _served(hub, websocket=websocket):
            what = f"{what}, {hub.num_consumers} consumers and {hub.num_producers} producers"
            log.info("%s", what)
            systemd.notify(f"READY=1\nSTATUS={what}")
            systemd.wait_and_watch(stop.wait, lambda: hub.running, lambda: _is_well(hub, what))
            systemd.notify("STOPPING=1")
            outcome = hub.stop()
    _report(outcome)


def main(
    argv: Any = None,  # noqa: ARG001 - the signature is moksha's
    options: Mapping[str, Any] | None = None,
    consumers: Iterable[Any] | None = None,
    producers: Iterable[Any] | None = None,
    framework: bool = True,  # noqa: ARG001 - the same
) -> None:
    """Run a hub as ``moksha.hub.main`` does, until SIGTERM, SIGINT or ``reactor.stop``.

    The options are the configuration, where None is `fedmsg.config.conf`; without classes of consumers and of
    producers, it runs the installed ones.
    """
    config = conf.copy() if options is None else dict(options)
    run_hub(lambda: Hub({**settings.defaults(), **config}, consumers, producers), "running")


moksha.MODULES["moksha.hub"]["main"] = main


def _is_well(hub: Hub, what: str) -> bool:
    """Ask the loop itself, and notify the service manager of the progress."""
    if not hub.well():
        return False
    systemd.notify(f"STATUS={what}, {hub.handled} messages so far")
    return True


@contextmanager
def _served(hub: Hub, *, websocket: bool) -> Iterator[None]:
    """Serve what is configured beside the hub: WebSockets, metrics for Prometheus."""
    with ExitStack() as stack:
        if websocket and settings.get(hub.config, "moksha.livesocket.websocket.port") is not None:
            stack.enter_context(plugins.lazy("websocket").for_hub(hub))
        if settings.get(hub.config, "metrics_port") is not None:
            stack.enter_context(plugins.lazy("metrics").Exporter(hub.config, hub.metrics))
        yield


def _report(outcome: Outcome) -> None:
    left = ", ".join(f"{count} by {name}" for name, count in outcome.left.items())
    if left and outcome.kept:
        log.info("stopped; messages kept for the next start: %s", left)
    elif left:
        lines = [f"messages not handled: {left}", *outcome.stuck]
        raise WorkLeft(f"stopped with work left: {'; '.join(lines)} (set state_directory to keep them)")
    elif outcome.stuck:
        raise WorkLeft(f"stopped with work left: {'; '.join(outcome.stuck)}")
    else:
        log.info("stopped")
