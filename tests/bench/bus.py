# SPDX-License-Identifier: LGPL-2.1-or-later
"""A relay, or the bare proxy, with a plain publisher before it and a plain subscriber behind."""

from __future__ import annotations

import time

from tests.bench.harness import Bench, BenchError, expect

__all__ = ["Bus"]


class Bus:
    """Through a relay of one of the contenders, from a feeder to a sink.

    Args:
        bench: The surroundings.
        who: Whose relay.

    Attributes:
        relay: The relay's process.
        feeder: Sends plain messages to it.
        sink: Receives what it passes on.
        config: The configuration file of its commands.
    """

    def __init__(self, bench: Bench, who: str) -> None:
        self.who = who
        self.inbound, self.outbound = bench.address(), bench.address()
        self.config = bench.configuration(who, self.inbound, self.outbound)
        self.relay = bench.relay(who, self.inbound, self.outbound)
        self.feeder, self.sink = bench.program("feeder"), bench.program("sink")
        self.feeder.do("connect", address=self.inbound)
        self.sink.do("connect", address=self.outbound)
        deadline = time.monotonic() + 20
        while not self.sink.do("greeted", patience=0.05):
            self.feeder.do("greet")
            if time.monotonic() > deadline:
                raise BenchError(f"the relay of {who} passes nothing on")
        # What is still under way ends with this silence; after it nothing but what is counted comes.
        while self.sink.do("greeted", patience=0.2):
            pass

    def check(self, first: int, count: int, arrived: int) -> int:
        """Check what the sink has collected.

        Args:
            first: The number of the first message that was sent.
            count: How many were sent.
            arrived: How many came.

        Returns:
            How many have other bytes than they were sent with. Only the relay of 1.1.7 may
            do that, which reads messages and writes them anew; only it may lose some, too.

        Raises:
            BenchError: Something is wrong with them.
        """
        checked = self.sink.do("check_sent", first=first)
        if self.who != "peer" or arrived == count:
            expect("" if arrived == count else f"{arrived} of {count} messages arrived", self.who)
            expect(checked["problem"], self.who)
        if self.who != "peer":
            expect(f"{checked['changed']} messages were changed" if checked["changed"] else "", self.who)
        return int(checked["changed"])

    def close(self) -> None:
        """End all of it."""
        self.feeder.close()
        self.sink.close()
        self.relay.kill()
        self.relay.wait()
