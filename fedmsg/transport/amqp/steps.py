# SPDX-License-Identifier: LGPL-2.1-or-later
"""Asks a broker for one thing after the other, as a generator that reads from top to bottom.

A generator yields functions that take a callback, and is resumed with what that is called with. Where the broker
closes the channel instead, `Refused` is raised in it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from fedmsg.transport.amqp.problems import Refused

__all__ = ["Step", "Steps", "perform"]

#: Asks for something, and calls the function with the answer.
Step = Callable[[Callable[[Any], None]], object]
#: Yields steps, and is sent their answers.
Steps = Generator[Step, Any, Any]


class _Performance:
    """One generator on its way to its end."""

    def __init__(
        self,
        steps: Steps,
        refusal: Callable[[BaseException], Refused | None],
        failed: Callable[[BaseException], object],
    ) -> None:
        self._steps = steps
        self._refusal = refusal
        self._failed = failed
        # An answer that comes after the channel was closed belongs to no step.
        self._number = 0

    def go_on(self, number: int, answer: Any = None) -> None:
        if number == self._number:
            self._number += 1
            self._advance(partial(self._steps.send, answer))

    def closed(self, channel: Any, reason: BaseException) -> None:
        """Note that a channel of these steps was closed; without a reply of the broker the connection has ended."""
        del channel
        refused = self._refusal(reason)
        if refused is not None:
            self._number += 1
            self._advance(partial(self._steps.throw, refused))

    def _advance(self, resume: Callable[[], Step]) -> None:
        try:
            step = resume()
            number = self._number
            step(partial(self.go_on, number))
        except StopIteration:
            self._number = -1
        except Exception as error:  # noqa: BLE001 - whatever it is, the connection is of no use
            self._number = -1
            self._failed(error)


def perform(
    connection: Any,
    make: Callable[[Step], Steps],
    refusal: Callable[[BaseException], Refused | None],
    failed: Callable[[BaseException], object],
) -> None:
    """Perform steps on a connection.

    Args:
        connection: The connection.
        make: Makes the generator; it gets the step that opens a channel.
        refusal: Returns what the broker has closed a channel with.
        failed: Called with what ends the steps before their time.
    """

    def open_channel(done: Callable[[Any], None]) -> None:
        def opened(channel: Any) -> None:
            channel.add_on_close_callback(performance.closed)
            done(channel)

        connection.channel(on_open_callback=opened)

    performance = _Performance(make(open_channel), refusal, failed)
    performance.go_on(0)
