# SPDX-License-Identifier: LGPL-2.1-or-later
"""The old name of `fedmsg.meta`: importing it imports that very module."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from fedmsg import meta
from fedmsg.meta import announce, base, default, logger

if TYPE_CHECKING:
    from fedmsg.meta import *  # noqa: F403 for type checkers
else:
    # Two modules would have two lists of processors, one of which stays empty.
    sys.modules[__name__] = meta
    for _module in (announce, base, default, logger):
        sys.modules[_module.__name__.replace("fedmsg.meta", __name__)] = _module
