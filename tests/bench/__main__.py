# SPDX-License-Identifier: LGPL-2.1-or-later
"""Measures ours, fedmsg 1.1.7 and the bare parts in one run: ``python -m tests.bench [GROUP ...]``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from tests.bench import (
    aio,
    amqp,
    gateway,
    grepper,
    history,
    hub,
    idle,
    meta,
    publish,
    relay,
    replay,
    signed,
    startup,
    stats,
    stop,
    stream,
    stream_bus,
    stream_growth,
    tail,
    trigger,
)
from tests.bench.harness import REPOSITORY, Bench, BenchError
from tests.bench.table import render

GROUPS = {
    "publish": publish.measure,
    "tail": tail.measure,
    "signed": signed.measure,
    "relay": relay.measure,
    "gateway": gateway.measure,
    "hub": hub.measure,
    "startup": startup.measure,
    "idle": idle.measure,
    "stop": stop.measure,
    "meta": meta.measure,
    "aio": aio.measure,
    "replay": replay.measure,
    "stream": stream.measure,
    "stream-bus": stream_bus.measure,
    "stream-growth": stream_growth.measure,
    "amqp": amqp.measure,
    "trigger": trigger.measure,
    "history": history.measure,
    "grepper": grepper.measure,
    "stats": stats.measure,
}

#: What the documentation shows.
SHOWN = REPOSITORY / "docs" / "explanation" / "bench.txt"


def main() -> int:
    """Measure, print the table, and keep it for the documentation when it is whole.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "groups", nargs="*", metavar="GROUP", help=f"one of {', '.join(GROUPS)}; all when none is given"
    )
    parser.add_argument("--rounds", type=int, default=5, help="how many rounds, at least three (%(default)s)")
    parser.add_argument("--share", type=float, default=1.0, help="measure less: 0.1 for a tenth, for a first look")
    arguments = parser.parse_args()
    if unknown := set(arguments.groups) - set(GROUPS):
        parser.error(f"no such group: {', '.join(sorted(unknown))}")

    peer = Path(os.environ.get("FEDMSG_PEER_VENV", REPOSITORY / ".venv-peer"))
    if not (peer / "bin" / "fedmsg-relay").exists():
        parser.error(f"fedmsg 1.1.7 is not in {peer}: run `make bench`, which puts it there")
    # Ended from outside, it ends what it has started.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    rows = []
    try:
        for name in arguments.groups or GROUPS:
            with Bench(peer, max(3, arguments.rounds), arguments.share) as bench:
                rows += GROUPS[name](bench)
    except BenchError as error:
        print(f"no figures, because the run failed: {error}", file=sys.stderr)
        return 1
    text = render(rows, str(peer / "bin" / "python"), max(3, arguments.rounds))
    print(text, end="")
    if not arguments.groups and arguments.share == 1:
        SHOWN.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
