# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a command runs a hub: until it is told to stop, saying how it is to whoever wants to know."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain

from fedmsg._util import plugins
from fedmsg.commands._signals import StopSignals
from fedmsg.config import settings
from fedmsg.exceptions import WorkLeft
from fedmsg.hub import Consumer, Hub, Outcome
from fedmsg.monitoring import figures, systemd

__all__ = ["run_hub"]

log = logging.getLogger("fedmsg.commands")


def run_hub(make: Callable[[], Hub], what: str, *, websocket: bool = False) -> None:
    """Run a hub until SIGTERM or SIGINT.

    Args:
        make: Makes the hub, not started yet.
        what: What it does, for the log and the service manager: ``running 3 consumers``.
        websocket: Whether it serves WebSockets, where these are configured. Others that read the same
            configuration would only be in the way of the one that does.

    Raises:
        RefusedAtStart: Consumers or producers are enabled, and none can be started.
        AddressInUse: An address is taken.
        WorkLeft: Time was up before everything was handled, and nothing is kept for the next start.
    """
    with StopSignals() as stop:
        hub = make()
        with hub, _served(hub, websocket=websocket):
            what = f"{what}, {hub.num_consumers} consumers and {hub.num_producers} producers"
            log.info("%s", what)
            systemd.notify(f"READY=1\nSTATUS={what}")
            stop.wait_and_watch(lambda: hub.running, lambda: _is_well(hub, what))
            systemd.notify("STOPPING=1")
            outcome = hub.stop()
    _report(outcome)


def _is_well(hub: Hub, what: str) -> bool:
    """Ask the loop itself, and tell the service manager how far it is."""
    if not hub.well():
        return False
    handled = sum(consumer._hub_totals()["handled"] for consumer in hub.consumers if isinstance(consumer, Consumer))
    systemd.notify(f"STATUS={what}, {handled} messages so far")
    return True


@contextmanager
def _served(hub: Hub, *, websocket: bool) -> Iterator[None]:
    """Serve what is configured beside the hub: WebSockets, figures for Prometheus."""

    def collect() -> Iterator[figures.Figure]:
        return chain(figures.of_consumers_and_producers(hub), figures.of_rejections(hub.rejections.counts))

    with ExitStack() as stack:
        if websocket and settings.get(hub.config, "moksha.livesocket.websocket.port") is not None:
            stack.enter_context(plugins.lazy("websocket").for_hub(hub))
        if settings.get(hub.config, "metrics_port") is not None:
            stack.enter_context(plugins.lazy("metrics").Exporter(hub.config, collect))
        yield


def _report(outcome: Outcome) -> None:
    left = ", ".join(f"{count} by {name}" for name, count in outcome.left.items())
    if left and outcome.kept:
        log.info("stopped; kept for the next start are messages not handled: %s", left)
    elif left:
        lines = [f"messages not handled: {left}", *outcome.stuck]
        raise WorkLeft(f"stopped with work left: {'; '.join(lines)} (set state_directory to keep them)")
    elif outcome.stuck:
        raise WorkLeft(f"stopped with work left: {'; '.join(outcome.stuck)}")
    else:
        log.info("stopped")
