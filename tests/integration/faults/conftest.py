# SPDX-License-Identifier: LGPL-2.1-or-later
"""Full size or short, and the table of figures that a run at full size ends with."""

from __future__ import annotations

import os
from typing import Any, Protocol

import pytest

_COLUMNS = ("what", "sent", "arrived", "lost", "exits", "memory before", "memory after", "remarks")
_rows: list[dict[str, Any]] = []


class Figures(Protocol):
    """How a test hands in a row of the table; memory is in KiB."""

    def __call__(self, what: str, **values: Any) -> None:
        """Add a row."""


@pytest.fixture(scope="session")
def figures() -> Figures:
    """Give the function that adds a row to the table of figures."""

    def add(what: str, **values: Any) -> None:
        unknown = set(values) - {column.replace(" ", "_") for column in _COLUMNS}
        assert not unknown, f"no such column: {unknown}"
        _rows.append({"what": what, **values})

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table after a run at full size."""
    if not _rows or os.environ.get("FEDMSG_SOAK") != "1":
        return
    table = [[_cell(row.get(column.replace(" ", "_"))) for column in _COLUMNS] for row in _rows]
    widths = [max(len(line[i]) for line in [list(_COLUMNS), *table]) for i in range(len(_COLUMNS))]
    terminalreporter.section("figures")
    for line in [list(_COLUMNS), ["-" * width for width in widths], *table]:
        cells = [
            cell.ljust(width) if i in {0, 7} else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        terminalreporter.write_line("  ".join(cells).rstrip())


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else str(value)
