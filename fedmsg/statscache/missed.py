# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads what plugins have missed: from the stream, else from the history here, else from a datagrepper."""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from fedmsg import crypto
from fedmsg._util import plugins
from fedmsg.config import settings
from fedmsg.crypto.utils import fix_datagrepper_message
from fedmsg.exceptions import FedmsgError, MessageError
from fedmsg.hub.hooks import Origin
from fedmsg.statscache import configuration
from fedmsg.store.history import Datagrepper, Topics
from fedmsg.stream.begin import Begin
from fedmsg.stream.progress import StoredPosition
from fedmsg.stream.subscription import Subscription
from fedmsg.transport.zmq import addresses

__all__ = ["position", "read"]

log = logging.getLogger("fedmsg.statscache")

Past = Iterator[tuple[dict[str, Any], Origin]]

_DELAY_MIN_S = 0.5
_DELAY_MAX_S = 60.0
_TICK_S = 1.0
_BATCH = 1000


def position(slots: Sequence[Any]) -> StoredPosition | Begin | None:
    """Return how far the plugin is that is furthest in its stream; where to begin, where all are new."""
    found = [slot.progress for slot in slots if slot.progress.stream]
    if found:
        last = max(found, key=lambda progress: (progress.time or 0.0, progress.position))
        return StoredPosition(last.stream, last.position, time=last.time or 0.0)
    starts = [slot.since for slot in slots if slot.since is not None]
    return Begin(since=max(0.0, min(starts))) if starts else None


def read(config: Mapping[str, Any], slots: Sequence[Any], stopping: threading.Event, *, is_durable: bool) -> Past:
    """Yield what plugins have missed, again from where it broke off when it fails, until the stop.

    Args:
        config: The configuration.
        slots: The plugins, with how far they are.
        stopping: Set when the hub stops.
        is_durable: Whether messages come from the stream of a relay.
    """
    source = partial(_from_stream, config, slots, stopping) if is_durable else _source(config, slots)
    if source is None:
        return
    tries, start = 0, time.monotonic()
    while not stopping.is_set():
        try:
            for found in source():
                tries = 0
                yield found
        except FedmsgError as error:
            delay = min(_DELAY_MIN_S * 2.0 ** min(tries, 30), _DELAY_MAX_S)
            log.warning("what was missed can't be read at present, and is asked for again in %g s: %s", delay, error)
            tries += 1
            stopping.wait(delay)
        else:
            log.info("what was missed was read in %.1f s", time.monotonic() - start)
            return


# ---------------------------------------------------------------- the stream


def _from_stream(config: Mapping[str, Any], slots: Sequence[Any], stopping: threading.Event) -> Past:
    """Yield what the stream has for the plugins that are behind the others."""
    goal = position(slots)
    if not isinstance(goal, StoredPosition):
        return
    same = [slot for slot in slots if slot.progress.stream == goal.stream and slot.progress.position < goal.position]
    others = [slot for slot in slots if slot.progress.stream != goal.stream and slot.since is not None]
    if not same and not others:
        return
    begin: dict[str, Any] = {"after": min(slot.progress.position for slot in same)} if same else {}
    if others:
        # By the time of storing, which is later than that of publishing.
        begin = {"since": max(0.0, min(slot.since for slot in others))} if not same else {"after": 0}
    where = addresses.as_list(settings.of(config).relay_stream)
    with Subscription(config, where[:1], "", **begin) as subscription:
        while not stopping.is_set():
            for delivery in subscription.poll(_BATCH):
                try:
                    envelope = delivery.envelope()
                except MessageError as error:
                    subscription.rejections.add(delivery.address, error)
                    continue
                yield envelope, Origin(delivery.stream, delivery.position or 0, delivery.stored, is_past=True)
            if subscription.idle and (subscription.position or 0) >= goal.position:
                return
            subscription.wait(_TICK_S)


# ---------------------------------------------------------------- a history


def _source(config: Mapping[str, Any], slots: Sequence[Any]) -> Callable[[], Past] | None:
    """Return what yields the history; None where there is none, or nothing was missed."""
    starts = [slot.since for slot in slots if slot.since is not None]
    if not starts:
        return None
    view = settings.of(config)
    clean = partial(crypto.as_signed, config=dict(config)) if view.validate_signatures else fix_datagrepper_message
    if configuration.has_history_here(config):
        read_from: Callable[[float], Iterator[dict[str, Any]]] = partial(_from_history, config)
    elif view.statscache_endpoint:
        read_from = partial(_from_datagrepper, view.statscache_endpoint, clean)
    else:
        log.info("what was missed is not counted: there is no stream, no history here, and no datagrepper to ask")
        return None
    last = min(starts)

    def found() -> Past:
        nonlocal last
        for message in read_from(last):
            arrival = message.pop("stored", None)
            moment = message.get("timestamp")
            if isinstance(moment, (int, float)):
                last = max(last, min(moment, time.time()))
            yield clean(message), Origin(stored=arrival, is_past=True)

    return found


def _from_history(config: Mapping[str, Any], start: float) -> Iterator[dict[str, Any]]:
    """Yield what the local database of the history has since a time, in the order of time."""
    history = plugins.lazy("history")
    history.open_once(history.database_url(config))
    with history.used():
        for record in history.records(dt.datetime.fromtimestamp(start, dt.timezone.utc).replace(tzinfo=None), None):
            record.pop("original", None)
            yield record


def _from_datagrepper(url: str, clean: Callable[[Any], Any], start: float) -> Iterator[dict[str, Any]]:
    """Yield what a datagrepper has since a time, in the order of time."""
    yield from Datagrepper(url, Topics(""), log=log, clean=clean).read(start, time.time())
