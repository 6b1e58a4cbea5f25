# SPDX-License-Identifier: LGPL-2.1-or-later
"""The stream: a relay with a store keeps what it passes on, in order, and hands it on from any position.

``log`` is the store itself, on SQLite or PostgreSQL: ``records`` has what goes in and comes out of
it, ``tables`` its database, ``locks`` the lock of the one relay that writes, ``ids`` and
``idindex`` find a message that comes a second time, ``removal`` removes what is too old.
"""

from __future__ import annotations
