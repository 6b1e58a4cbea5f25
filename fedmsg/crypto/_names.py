# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which key a publisher signs with, by its name and its host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmsg.exceptions import MissingKey

__all__ = ["with_key"]


def with_key(config: Mapping[str, Any], hostname: str, *, gnupg: bool) -> dict[str, Any]:
    """Give a configuration that names the key to sign with.

    Args:
        config: The configuration, with the ``name`` of the publisher.
        hostname: The short name of this machine.
        gnupg: Whether a GnuPG key is wanted, and not a certificate.

    Raises:
        MissingKey: None is configured. A KeyError.
    """
    if gnupg:
        key = config.get("gpg_signing_key") or (config.get("gpg_keys") or {}).get(hostname)
        if not key:
            raise MissingKey(f"signing needs a key: set gpg_signing_key, or gpg_keys[{hostname!r}]")
        return {**config, "gpg_signing_key": key}
    prefix, name = config.get("cert_prefix"), config.get("name")
    if prefix or name == "relay_inbound":
        name = f"{prefix or 'shell'}.{hostname}"
    certname = (config.get("certnames") or {}).get(name)
    if not certname:
        raise MissingKey(f"signing needs a certificate: set certnames[{name!r}]")
    return {**config, "certname": certname}
