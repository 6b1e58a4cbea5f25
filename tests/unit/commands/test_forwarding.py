# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a relay or gateway does while it forwards."""

from __future__ import annotations

import gc
import weakref

from fedmsg.commands import _forwarding


class Cycle:
    """Freed by garbage collection alone."""

    def __init__(self) -> None:
        self.me = self


def test_what_was_made_before_is_not_looked_through_while_it_forwards() -> None:
    # The next collection is far away.
    gc.collect()
    before = weakref.ref(Cycle())
    with _forwarding._frozen():
        after = weakref.ref(Cycle())
        gc.collect()
        assert (before() is None, after() is None) == (False, True)
    gc.collect()
    assert before() is None
