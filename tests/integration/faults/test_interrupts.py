# SPDX-License-Identifier: LGPL-2.1-or-later
"""A signal handler raises in the middle of publishing: no half message ever gets out."""

from __future__ import annotations

import signal

import pytest

from fedmsg.core import FedMsgContext
from fedmsg.testing import wait_until
from tests.integration.faults.conftest import Figures
from tests.integration.faults.ground import doubled, interrupts, publishing, surroundings


def publish_under_interrupts(context: FedMsgContext, wanted: int) -> tuple[set[int], int]:
    """Publish until so many interrupts have hit.

    Returns:
        The numbers for which ``publish`` returned, and how many there were.
    """
    confirmed: set[int] = set()
    number = hits = 0
    with interrupts() as alarm:
        while hits < wanted:
            try:
                alarm.raises = True
                # Each after another while. Should one get lost in a destructor, the next comes in half a second.
                signal.setitimer(signal.ITIMER_REAL, 0.0005 + 0.0000007 * (hits % 1000), 0.5)
                while True:
                    number += 1
                    context.publish("cut", {"n": number, "filler": "x" * 200}, modname="test")
                    confirmed.add(number)
            except KeyboardInterrupt:
                alarm.raises = False
                hits += 1
    return confirmed, number


# Python swallows what a signal handler raises while a destructor runs, and says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("way", ["active", "bound"])
@pytest.mark.soak
def test_no_half_message_gets_out(way: str, figures: Figures, full_size: bool) -> None:
    hits = 50_000 if full_size else 1000
    with surroundings(way) as (witness, settings), FedMsgContext(**settings) as context:
        wait_until(lambda: witness.bodies("hello"), meanwhile=lambda: context.publish("hello", modname="test"))
        # Another thread, which no signal handler disturbs, goes on as if nothing were.
        with publishing(context, "other", pause=0.002) as other:
            confirmed, tried = publish_under_interrupts(context, hits)
        # Counting does not read them again and again, which takes long when there are a million.
        witness.wait_for(len(confirmed), "cut", 300)
        wait_until(lambda: confirmed <= set(witness.numbers("cut")), what="all confirmed messages arrived")
        witness.wait_for(len(other), "other")
        assert context.lost == 0
    assert {len(frames) for frames in witness.frames} == {2}
    arrived = witness.numbers("cut")
    assert doubled(arrived) == []
    # A message under which publish was interrupted may have got out, as a whole, or not at all.
    assert set(arrived) <= set(range(1, tried + 1))
    assert sorted(witness.numbers("other")) == other
    figures(
        f"{hits} interrupts while publishing, {way}",
        sent=len(confirmed),
        arrived=len(set(arrived) & confirmed),
        lost=0,
        exits=0,
    )
