# SPDX-License-Identifier: LGPL-2.1-or-later
"""The stream: a relay with a store keeps what it passes on, in order, and serves it from any position.

``log`` is the store itself, on SQLite or PostgreSQL: ``records`` has what goes in and comes out of
it, ``tables`` its database, ``locks`` the lock of the one relay that writes, ``ids`` and
``idindex`` find a message that comes a second time, ``removal`` removes what is too old.

``server`` is the stream port and ``subscription`` its client; ``protocol`` and ``begin`` are what both
speak. The port has its socket in ``port``, the newest messages in ``window``, a client in ``readers``;
``delivering`` sends, ``opening`` finds out where a subscription begins, ``names`` has the durable ones,
``answering`` the answers to requests, which ``asking`` makes; ``jobs`` in a ``worker`` ask the store.
The client has its thread in ``receiving``, a connection in ``session``, how far it has come in
``progress``, and what it has received in ``inbox``.
"""

from __future__ import annotations
