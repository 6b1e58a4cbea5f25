# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where plugins for ``fedmsg.meta`` look for the classes that their tests are built on."""

from __future__ import annotations
