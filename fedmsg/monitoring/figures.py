# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a daemon has done since it started, as figures for :mod:`fedmsg.monitoring.prometheus`.

They are read from counters that only grow, never from the monitoring report, which starts
again at zero whenever somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

__all__ = ["Figure", "of_consumers_and_producers", "of_rejections"]


class Figure(NamedTuple):
    """One figure.

    Attributes:
        name: What it counts, such as ``consumer_handled``; the rest of the name is made from it.
        text: The same in words.
        value: How many.
        labels: What tells it from others of its name.
        grows: Whether it only grows; otherwise it is how many there are now.
    """

    name: str
    text: str
    value: float
    labels: Mapping[str, str]
    grows: bool = True


# Kinds of `totals()` that are known, in words. Others are counters with no more to say about them.
_CONSUMER = {
    "received": "Messages that came in for the consumer",
    "handled": "Messages that the consumer handled",
    "failed": "Messages whose handling raised an exception, after all tries",
    "refused": "Messages that were malformed or not valid",
    "dropped": "Messages left out because the queue was full",
    "retried": "Further tries of messages whose handling had failed",
    "dead": "Messages that went to the dead letters",
    "replayed": "Messages missing in a gap that replay has filled",
    "lost": "Messages missing in a gap that replay could not fill",
    "waiting": "Messages that wait for the consumer",
}
_PRODUCER = {
    "polls": "Calls of the producer's poll()",
    "failures": "Calls of poll() that raised an exception",
}
_NOW = frozenset({"waiting", "backlog"})


def of_consumers_and_producers(hub: Any) -> Iterator[Figure]:
    """Give the figures of all consumers and producers.

    Args:
        hub: Something with ``consumers`` and ``producers``, ours or derived from ours.
    """
    yield from _of("consumer", hub.consumers, _CONSUMER)
    yield from _of("producer", hub.producers, _PRODUCER)


def _of(role: str, ones: Iterable[Any], texts: Mapping[str, str]) -> Iterator[Figure]:
    for one in ones:
        labels = {role: type(one).__name__, "module": type(one).__module__}
        for kind, value in one._hub_totals().items():
            text = texts.get(kind, f"The total of {kind}")
            yield Figure(f"{role}_{kind}", text, value, labels, grows=kind not in _NOW)


def of_rejections(counts: Mapping[str, int]) -> Iterator[Figure]:
    """Give the figures of refused messages.

    Args:
        counts: How many were refused, by kind.
    """
    for kind, value in list(counts.items()):
        yield Figure("refused", "Messages that were refused, by reason", value, {"reason": kind})
