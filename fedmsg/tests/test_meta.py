# SPDX-License-Identifier: LGPL-2.1-or-later
"""The test base classes of `fedmsg.testing`, under the name that plugins import them by."""

from __future__ import annotations

from fedmsg.testing.meta import Base, ConglomerateBase, Unspecified, UnspecifiedType, skip_on

__all__ = ["Base", "ConglomerateBase", "Unspecified", "UnspecifiedType", "skip_on"]
