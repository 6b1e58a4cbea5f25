# SPDX-License-Identifier: LGPL-2.1-or-later
"""What programs that work with statistics call."""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from fedmsg._util import plugins
from fedmsg.statscache.database import create_tables, init_model
from fedmsg.statscache.plugins.base import BasePlugin
from fedmsg.statscache.plugins.schedule import Schedule
from fedmsg.store.history import Datagrepper, Topics

__all__ = ["create_tables", "datagrep", "find_stats_consumer", "init_model", "init_plugins", "made_again"]

log = logging.getLogger("fedmsg.statscache")

GROUP = "statscache.plugin"
_UTC = dt.timezone.utc
_read: dict[int, tuple[Any, list[Any]]] = {}


def init_plugins(config: Mapping[str, Any]) -> list[Any]:
    """Return an instance of each plugin that is installed; one that is broken is logged, and left out.

    Of two with the same ident the first one is used, and of ours and another one that.
    """
    made: dict[str, Any] = {}
    found = [(name, kind) for name, loaded in plugins.load(GROUP) for kind in _classes(loaded)]
    for name, kind in sorted(found, key=_is_ours):
        try:
            one = _made(kind, config)
            other = made.setdefault(one.ident, one)
        except Exception as error:  # noqa: BLE001 - a plugin of others
            log.error(
                "The plugin %s of %s (%s) is not used: %s: %s",
                name, GROUP, getattr(kind, "__qualname__", kind), type(error).__name__, error,
            )  # fmt: skip
            continue
        if other is not one and type(other) is not type(one):
            level = logging.INFO if _is_ours((name, kind)) else logging.ERROR
            log.log(level, "The plugin %s of %s is not used: another one is named %s", name, GROUP, one.ident)
    return list(made.values())


def _is_ours(found: tuple[str, Any]) -> bool:
    return str(getattr(found[1], "__module__", "")).startswith("fedmsg.")


def _classes(loaded: Any) -> list[Any]:
    """Return the classes that an entry point names, one or a collection."""
    if isinstance(loaded, type) or not isinstance(loaded, Iterable):
        return [loaded]
    if not isinstance(loaded, Iterator):
        return list(loaded)
    # A generator can be read once, and plugins are made more than once.
    if id(loaded) not in _read:
        _read[id(loaded)] = loaded, list(loaded)
    return _read[id(loaded)][1]


def _made(kind: Any, config: Mapping[str, Any]) -> Any:
    interval = getattr(kind, "interval", None)
    return kind(Schedule(interval) if interval is not None else None, config)


def made_again(plugin: BasePlugin) -> Callable[[], Any]:
    """Return a function that makes another instance of a plugin, for the same table."""
    kind, config, model = type(plugin), plugin.config, plugin.model
    schedule = plugin.schedule

    def make() -> Any:
        try:
            return kind(schedule, config, model=model)
        except TypeError:
            # One with a constructor of its own.
            return kind(schedule, config)

    return make


def find_stats_consumer(hub: Any) -> Any:
    """Return the consumer of a hub that keeps statistics.

    Raises:
        ValueError: It has none.
    """
    for consumer in hub.consumers:
        if hasattr(consumer, "counting") and type(consumer).__name__ == "StatsConsumer":
            return consumer
    raise ValueError("this hub keeps no statistics: statscache.consumer.enabled is not set")


def datagrep(
    start: dt.datetime,
    stop: dt.datetime,
    profile: bool = False,
    quantum: int = 100,
    endpoint: str = "https://apps.fedoraproject.org/datagrepper/raw",
) -> Iterator[list[dict[str, Any]]]:
    """Yield the messages between two times, the oldest first, in lists.

    Args:
        start: The first time; in UTC where it has no zone.
        stop: The last time.
        profile: Whether to log how long each list took.
        quantum: How many messages are in a list, at most.
        endpoint: The address of the datagrepper.

    Raises:
        HttpError: It does not answer, also when it is asked again.
        ValueError: ``quantum`` is not positive.
    """
    if quantum < 1:
        raise ValueError("quantum has to be positive")
    first, last = (one.replace(tzinfo=one.tzinfo or _UTC).timestamp() for one in (start, stop))
    found: list[dict[str, Any]] = []
    began = time.monotonic()
    for message in Datagrepper(endpoint, Topics(""), log=log).read(first, last):
        found.append(message)
        if len(found) == quantum:
            if profile:
                log.info("%d messages of %s took %.2f s", quantum, endpoint, time.monotonic() - began)
            yield found
            found, began = [], time.monotonic()
    if found:
        yield found
