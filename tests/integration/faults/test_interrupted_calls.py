# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each blocking call of the library, interrupted at any instruction: the process still ends at once."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.faults import interrupted
from tests.integration.faults.conftest import Figures

HITS_PER_PROCESS = 100


def seconds_to_end(call: str, hits: int, seed: int) -> float:
    """Run the program; returns how long it took to end once it was done."""
    arguments = [sys.executable, "-m", interrupted.__name__, call, str(hits), str(seed)]
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert process.stdout.readline() == "done\n", process.stderr.read()
            start = time.monotonic()
            assert process.wait(interrupted.END_TIMEOUT) == 0, process.stderr.read()
            return time.monotonic() - start
        finally:
            process.kill()


@pytest.mark.soak
@pytest.mark.parametrize("call", interrupted.CALLS)
def test_process_ends_after_interrupts(call: str, figures: Figures, full_size: bool) -> None:
    processes = 100 if full_size else 1
    longest = max(seconds_to_end(call, HITS_PER_PROCESS, seed) for seed in range(processes))
    figures(
        f"{call}: interrupted {HITS_PER_PROCESS} times in each of {processes} processes",
        sent=processes, arrived=processes, lost=0, exits=processes, remarks=f"ended within {longest:.2f} s",
    )  # fmt: skip
