# SPDX-License-Identifier: LGPL-2.1-or-later
"""X.509 signatures under their first name; all of it is in `fedmsg.crypto.x509_ng`."""

from __future__ import annotations

from fedmsg.crypto.x509_ng import sign, validate

__all__ = ["sign", "validate"]

# In fedmsg 1.1.7 this showed which of two libraries was installed. There is one now.
_m2crypto = False
