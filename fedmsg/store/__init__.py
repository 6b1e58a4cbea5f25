# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is kept on disk: messages for the next start, logs of messages, positions."""

from __future__ import annotations
