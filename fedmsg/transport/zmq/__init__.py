# SPDX-License-Identifier: LGPL-2.1-or-later
"""ZeroMQ: contexts, sockets, sources, publishers and the forwarder."""

from __future__ import annotations
