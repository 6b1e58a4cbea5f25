# SPDX-License-Identifier: LGPL-2.1-or-later
"""RabbitMQ as the bus: publishing and consuming, beside the client library alone."""

from __future__ import annotations

from tests.bench.harness import Bench, progress
from tests.bench.table import Goal, Row
from tests.brokers import RabbitMQ

COUNT = 20_000


def measure(bench: Bench) -> list[Row]:
    """Measure the rows of this group."""
    rows = {
        "publish": Row("RabbitMQ: confirmed, pipelined", "msg/s", Goal("at least", 0.8)),
        "consume": Row("RabbitMQ: consumed by a hub", "msg/s", Goal("at least", 0.8)),
    }
    with RabbitMQ() as node:
        programs = {who: bench.program("broker") for who in ("ours", "limit")}
        for who, program in programs.items():
            program.do("open_as", who=who, url=node.url)
        for number in range(bench.rounds):
            progress(f"amqp: round {number + 1}")
            for who, program in programs.items():
                for what, row in rows.items():
                    program.begin(what, count=bench.size(COUNT))
                    figures: list[float] = getattr(row, who)
                    figures.append(program.result(600))
    return [*rows.values()]
