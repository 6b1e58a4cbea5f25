# SPDX-License-Identifier: LGPL-2.1-or-later
"""What applications on the web have in common: how arguments are read, answers written, pages kept harmless."""

from __future__ import annotations
