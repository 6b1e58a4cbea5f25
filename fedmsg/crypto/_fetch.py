# SPDX-License-Identifier: LGPL-2.1-or-later
"""The one module that imports requests: fetches certificates and lists of revoked ones."""

from __future__ import annotations

import requests
from requests.adapters import HTTPAdapter

__all__ = ["fetch"]

_TIMEOUT = 30
_RETRIES = 3
# A bus with thousands of certificates has a CRL of a few hundred kilobytes.
_LARGEST = 64 * 1024 * 1024


def fetch(address: str) -> bytes:
    """Get what is served at an https address.

    Raises:
        requests.exceptions.RequestException: It can't be had.
    """
    with requests.Session() as session:
        session.mount("https://", HTTPAdapter(max_retries=_RETRIES))
        # A redirection to plain http has no adapter of its own that would mind; this is one that refuses.
        session.adapters.pop("http://")
        with session.get(address, timeout=_TIMEOUT, stream=True) as response:
            response.raise_for_status()
            content: bytes = response.raw.read(_LARGEST + 1, decode_content=True)
    if len(content) > _LARGEST:
        raise requests.exceptions.InvalidSchema(f"{address} serves more than {_LARGEST} bytes")
    return content
