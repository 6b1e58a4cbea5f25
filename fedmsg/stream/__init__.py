# SPDX-License-Identifier: LGPL-2.1-or-later
"""The stream: a relay with a store keeps what it passes on, and hands it to those who ask, history and live."""

from __future__ import annotations
