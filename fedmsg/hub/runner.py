# SPDX-License-Identifier: LGPL-2.1-or-later
"""The threads that work for one consumer."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from fedmsg.hub.consumer import Consumer, Interrupted, name_of
from fedmsg.hub.kept import KeptMessage

__all__ = ["Workers"]

log = logging.getLogger("fedmsg.hub")

# A worker takes so many messages at a time, at most: enough for the taking to cost little.
_ALONE = 1000
_AMONG_OTHERS = 32
# But no more than it handles in so many seconds: what it has in hand no other worker can take, and nobody
# sees waiting.
_SOON = 0.01


class _Hand:
    """What one thread has taken, and how far it is."""

    def __init__(self) -> None:
        self.batch: list[Any] = []
        self.at = 0
        self.since = 0.0
        # Whose handling was broken off, for the next start.
        self.aside: list[Any] = []


class Workers:
    """Threads that take messages from a consumer's queue and let it handle them.

    Args:
        consumer: The consumer.
        count: How many threads.
    """

    def __init__(self, consumer: Consumer, count: int) -> None:
        self.consumer = consumer
        self._most = 1 if consumer.blocking_mode else _ALONE if count == 1 else _AMONG_OTHERS
        self._ending = False
        self._cut = False
        self._abandoned = False
        # Held where what a thread has in hand changes owners.
        self._leaving = threading.Lock()
        self._hands = [_Hand() for _ in range(count)]
        # What is to be handled before anything that arrives, by one thread, while the others wait.
        self._early: Callable[[], Iterator[Any]] | None = None
        self._kept = 0
        self._begun = threading.Event()
        name = f"fedmsg-{type(consumer).__name__}"
        self._threads = [
            threading.Thread(target=self._run, args=(hand, number == 0), name=f"{name}-{number}", daemon=True)
            for number, hand in enumerate(self._hands)
        ]

    def start(self, early: Callable[[], Iterator[Any]] | None = None, kept: int = 0) -> None:
        """Start working.

        Args:
            early: Makes what is to be handled before what waits.
            kept: How many of those that wait are older than that, and come before it.
        """
        self._early = early
        self._kept = kept
        if early is None:
            self._begun.set()
        for thread in self._threads:
            thread.start()

    # ---------------------------------------------------------------- in a thread

    def _run(self, hand: _Hand, first: bool) -> None:
        inbox = self.consumer.incoming
        if first and self._early is not None:
            hand.batch, hand.at = inbox.take(self._kept, 0.0) if self._kept else [], 0
            if hand.batch and not self._finish_batch(hand):
                return
            self._handle_early(hand)
            self._begun.set()
        self._begun.wait()
        most = 1
        while not self._cut:
            hand.batch = inbox.take(self._share(most), 0.0 if self._ending else 0.5)
            hand.at = 0
            if not hand.batch:
                if self._ending:
                    return
                continue
            start = time.monotonic()
            if not self._finish_batch(hand):
                return
            most = min(2 * most, self._most) if time.monotonic() - start < _SOON else max(most // 2, 1)

    def _finish_batch(self, hand: _Hand) -> bool:
        """Handle a batch, and give back what the stop has cut off; False when the hub has left this thread behind."""
        done = self._work_through(hand, self.consumer._hub_handle)
        with self._leaving:
            if self._abandoned:
                return False
            rest, hand.batch = hand.batch[done:], []
            self.consumer.incoming.task_done(done)
            if rest:
                self.consumer.incoming.give_back(rest)
        return True

    def _share(self, most: int) -> int:
        """Say how many messages one of several workers may take without leaving another idle."""
        count = len(self._threads)
        return most if count == 1 else max(1, min(most, -(-self.consumer.incoming.qsize() // count)))

    def _work_through(self, hand: _Hand, handle: Callable[[Any], object]) -> int:
        """Handle a batch; how many messages of it are done with."""
        for number, item in enumerate(hand.batch):
            hand.at = number
            if self._cut:
                return number
            hand.since = time.monotonic()
            try:
                handle(item)
            except Interrupted as stop:
                hand.aside += [*stop.first, item]
                continue
            except BaseException:
                # A thread of a hub ends when the hub does. Nothing else ends it.
                self.consumer.log.exception("handling message %s failed", name_of(item))
            if isinstance(item, KeptMessage):
                item.origin.handled()
        return len(hand.batch)

    def _handle_early(self, hand: _Hand) -> None:
        assert self._early is not None
        try:
            for item in self._early():
                if self._ending:
                    return
                hand.batch, hand.at = [item], 0
                # These have been looked at already.
                if not self._work_through(hand, self.consumer._do_work):
                    return
        except Exception:
            self.consumer.log.exception("what %s missed can't be made up for", type(self.consumer).__name__)
        finally:
            hand.batch = []

    # ---------------------------------------------------------------- for the hub

    def end(self) -> None:
        """Let the threads end when nothing is left to do."""
        self._ending = True
        self.consumer._hub_end()
        self.consumer.incoming.wake()

    def wait(self, until: float) -> bool:
        """Wait for the threads to end; whether they have.

        Args:
            until: How long, on the clock of `time.monotonic`.
        """
        others = [thread for thread in self._threads if thread is not threading.current_thread()]
        for thread in others:
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in others)

    def has(self, thread: threading.Thread | None) -> bool:
        """Whether a thread is one of these."""
        return thread in self._threads

    def cut(self) -> None:
        """Let the threads end with the message in hand."""
        self._cut = True
        self.consumer._hub_handling.cut.set()

    def abandon(self) -> list[str]:
        """Take leave of threads whose message never ends; say which messages these are."""
        with self._leaving:
            self._abandoned = True
        stuck = []
        for thread, hand in zip(self._threads, self._hands, strict=True):
            if thread.is_alive() and thread is not threading.current_thread() and hand.batch:
                seconds = time.monotonic() - hand.since
                item = hand.batch[hand.at]
                stuck.append(f"{type(self.consumer).__name__} has worked for {seconds:.1f} s on {self._name(item)}")
        return stuck

    def rest(self) -> list[Any]:
        """Take what was not handled: what was broken off, what abandoned threads had in hand, and what waits."""
        rest = [item for hand in self._hands for item in hand.aside]
        for thread, hand in zip(self._threads, self._hands, strict=True):
            # The hub may be stopped from within a message, which then is all but done with.
            first = hand.at + (thread is threading.current_thread())
            rest += hand.batch[first:]
            del hand.batch[first:]
        return rest + self.consumer.incoming.rest()

    @staticmethod
    def _name(item: Any) -> str:
        if isinstance(item, dict):
            return f"the message {name_of(item)}"
        try:
            return f"the message {name_of({'body': item.envelope()})}"
        except Exception:  # noqa: BLE001 - it may be anything, and is only to be named
            return "a message"
