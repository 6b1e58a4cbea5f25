# SPDX-License-Identifier: LGPL-2.1-or-later
"""The figures as a table: medians, how far the rounds are apart, and whether it is enough."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

import zmq

__all__ = ["Goal", "Row", "render"]


@dataclass(frozen=True)
class Goal:
    """What a row is to reach.

    Args:
        kind: ``at most`` or ``at least`` this much of the limit; ``plus``: at most so much
            more than the limit; ``max`` or ``min``: the bare value.
        value: How much.
    """

    kind: str
    value: float

    def __str__(self) -> str:
        forms = {
            "at most": "<= {:.3g} x",
            "at least": ">= {:.3g} x",
            "plus": "<= +{:g}",
            "max": "<= {:,.10g}",
            "min": ">= {:,.10g}",
        }
        return forms[self.kind].format(self.value)

    def measure(self, ours: Sequence[float], limit: Sequence[float]) -> float:
        """What is compared with the value: a median over the rounds."""
        if self.kind in {"max", "min"}:
            return statistics.median(ours)
        if self.kind == "plus":
            return statistics.median(a - b for a, b in zip(ours, limit, strict=True))
        return statistics.median(a / b for a, b in zip(ours, limit, strict=True))

    def reached(self, ours: Sequence[float], limit: Sequence[float]) -> bool:
        """Whether it is enough."""
        found = self.measure(ours, limit)
        return found >= self.value if self.kind in {"at least", "min"} else found <= self.value


@dataclass(frozen=True)
class Row:
    """One line of the table; each list has a figure per round.

    Args:
        name: What is measured.
        unit: In what.
        goal: What is to be reached; None where a row only informs.
        ours: Our figures.
        peer: Those of fedmsg 1.1.7.
        limit: Those of the bare parts; for ``plus`` what ours is compared with.
    """

    name: str
    unit: str
    goal: Goal | None = None
    ours: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)
    limit: list[float] = field(default_factory=list)

    def cells(self) -> list[str]:
        """The texts of this line."""
        ratio, answer = "", ""
        if self.ours and all(self.limit) and self.limit:
            ratio = f"{statistics.median(a / b for a, b in zip(self.ours, self.limit, strict=True)):.2f}"
        if self.goal is not None and self.ours:
            answer = "yes" if self.goal.reached(self.ours, self.limit) else "no"
            if self.goal.kind == "plus":
                answer += f" ({self.goal.measure(self.ours, self.limit):+.2f})"
        return [
            self.name,
            self.unit,
            _median(self.ours),
            _spread(self.ours),
            _median(self.peer),
            _median(self.limit),
            ratio,
            str(self.goal or ""),
            answer,
        ]


HEADS = ["", "unit", "ours", "spread", "peer", "limit", "ours/limit", "to reach", "reached"]


def _median(figures: Sequence[float]) -> str:
    return _short(statistics.median(figures)) if figures else "-"


def _spread(figures: Sequence[float]) -> str:
    return f"{_short(min(figures))}..{_short(max(figures))}" if len(figures) > 1 else ""


def _short(value: float) -> str:
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3f}" if value < 1 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def render(rows: Sequence[Row], peer_python: str, rounds: int) -> str:
    """The whole text: where and when it was measured, and the table."""
    lines = [HEADS, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADS))]
    texts = []
    for line in lines:
        first, second, *others = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        others = [cell.strip().rjust(width) for cell, width in zip(others, widths[2:], strict=True)]
        texts.append("  ".join([first, second, *others]).rstrip())
    texts.insert(1, "-" * max(map(len, texts)))
    return "\n".join([*_surroundings(peer_python, rounds), "", *texts, "", *_WORDS]) + "\n"


_WORDS = [
    "Medians over the rounds; spread: the lowest and the highest of ours. peer: fedmsg 1.1.7. limit: the least",
    "that the job costs with pyzmq and Python's json alone, or with the bare database. Goals with an x are relative",
    "to the limit. In rows that name another system the figures of the peer are those of that system.",
]


def _surroundings(peer_python: str, rounds: int) -> list[str]:
    # Which versions the other environment has, its own Python tells best.
    code = "import platform, zmq; print(f'Python {platform.python_version()}, pyzmq {zmq.__version__}')"
    peer = subprocess.run([peer_python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("fedmsg", "pyzmq", "orjson"))
    now = datetime.now(timezone.utc)
    return [
        f"{now:%Y-%m-%d %H:%M} UTC, {_processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        f"ours, limit: Python {platform.python_version()}, {versions}, libzmq {zmq.zmq_version()}; peer: {peer}",
        f"{rounds} rounds or more, in which all take turns; {sys.platform} {platform.release()}",
    ]


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()
