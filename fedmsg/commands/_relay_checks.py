# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a relay does with each message when it does not pass all of them on unread."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

from fedmsg import _wire, crypto, encoding
from fedmsg.config import settings
from fedmsg.exceptions import GpgBinaryError, MessageError, MissingKey, RefusedAtStart, ValidationError
from fedmsg.transport.zmq.forwarder import Check

__all__ = ["checking", "signing"]


def checking(config: Mapping[str, Any]) -> Check:
    """Make what lets a message pass when it is well formed and validly signed.

    Raises:
        RefusedAtStart: Signatures can't be checked.
    """
    is_valid = crypto.checker(config)
    limit: int = settings.get(config, "max_message_size")

    def check(frame: bytes, body: bytes) -> bytes:
        _wire.check_size(len(frame) + len(body), limit)
        envelope = _wire.parse(frame, body)
        if not is_valid(envelope):
            raise ValidationError(envelope)
        if _wire.has_duplicate_keys(body, envelope):
            raise MessageError("a key of it appears twice", "json")
        return body

    return check


def signing(config: Mapping[str, Any], check: Check | None) -> Check:
    """Make what signs a message that is well formed.

    Raises:
        RefusedAtStart: Messages can't be signed.
    """
    certname = (config.get("certnames") or {}).get("signing_relay")
    hostname = socket.gethostname().split(".", 1)[0]
    if crypto.uses_gnupg(config):
        signer = crypto.Signer.for_publisher(config, hostname)
    elif not certname:
        raise MissingKey(
            "The signing relay requires that the certificate name is in the "
            '"certnames" dictionary using the "signing_relay" key'
        )
    else:
        signer = crypto.Signer({**config, "certname": certname})
    limit: int = settings.get(config, "max_message_size")

    def sign(frame: bytes, body: bytes) -> bytes:
        if check is not None:
            check(frame, body)
        _wire.check_size(len(frame) + len(body), limit)
        envelope = _wire.parse(frame, body)
        try:
            signed = encoding.dumps(signer.sign(envelope)).encode()
        except (GpgBinaryError, RefusedAtStart) as error:
            raise MessageError(f"it can't be signed: {error}", "signing") from error
        _wire.check_size(len(frame) + len(signed), limit)
        return signed

    return sign
