# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the IRC bot is made of, each module one subject; :mod:`fedmsg.consumers.ircbot` puts it together."""

from __future__ import annotations
