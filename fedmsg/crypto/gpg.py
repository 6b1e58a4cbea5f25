# SPDX-License-Identifier: LGPL-2.1-or-later
"""Signing and checking with GnuPG.

The form ``gpg`` is that of fedmsg 1.1.7: it signs the field ``msg`` alone, so the topic, time
and id of such a message prove nothing. ``gpg-envelope`` signs the whole envelope.
"""

from __future__ import annotations

import base64
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from fedmsg import encoding
from fedmsg._util import plugins
from fedmsg.crypto import utils
from fedmsg.crypto._credentials import Rejected, canonical, covered, report, signed, strip, text_of, unwrapped
from fedmsg.exceptions import ConfigError, GpgBinaryError, MessageError, RefusedAtStart

__all__ = ["Context", "GpgBinaryError", "check", "credentials", "prepare", "sign", "validate"]

_log = logging.getLogger(__name__)

DEFAULT_HOME = "~/.gnupg/"
FORMS = ("gpg", "gpg-envelope")
# Those of RSA keys of 16,384 bits have 2,200 bytes.
_MAX_SIGNATURE_BYTES = 8 * 1024
_SIGNATURE_PACKET = 2
_ENVELOPE = "its msg has the key 'crypto', so that it may be the envelope of another message"


class Context:
    """GnuPG with a home and keyrings.

    Args:
        keyrings: Files with public keys, instead of those in the home.

    Attributes:
        homedir: The same, ``~/.gnupg/`` when not given.
    """

    def __init__(self, keyrings: Sequence[str] | None = None, homedir: str | None = None) -> None:
        self.keyrings = keyrings
        self.homedir = homedir or os.path.expanduser(DEFAULT_HOME)

    def verify(
        self,
        data: str | bytes,
        signature: str | bytes | None = None,
        keyrings: Sequence[str] | None = None,
        homedir: str | None = None,
    ) -> bool:
        """Check a signature; return True.

        Args:
            data: What was signed; or a signed document, when there is no ``signature``.
            signature: The detached signature.
            keyrings: Instead of those of the context.
            homedir: Instead of that of the context.

        Raises:
            GpgBinaryError: It is not right.
        """
        self._call("verify", _bytes(data), None if signature is None else _bytes(signature), keyrings, homedir)
        return True

    def verify_from_file(
        self,
        data_path: str,
        sig_path: str | None = None,
        keyrings: Sequence[str] | None = None,
        homedir: str | None = None,
    ) -> bool:
        """Check the signature of a file, as `verify` does; return True.

        Without the path of a detached signature it is a signed document.

        Raises:
            GpgBinaryError: It is not right.
        """
        self._call("verify", str(data_path), None if sig_path is None else str(sig_path), keyrings, homedir)
        return True

    def sign(
        self,
        data: str | bytes,
        fingerprint: str,
        keyrings: Sequence[str] | None = None,
        homedir: str | None = None,
    ) -> bytes:
        """Make a binary detached signature, with keyrings and home as for `verify`.

        Raises:
            GpgBinaryError: It can't be made.
        """
        made: bytes = self._call("sign", _bytes(data), fingerprint, keyrings, homedir)
        return made

    def clearsign(
        self,
        data: str | bytes,
        fingerprint: str,
        keyrings: Sequence[str] | None = None,
        homedir: str | None = None,
    ) -> bytes:
        """Put a signature around text, as `sign` does beside it."""
        made: bytes = self._call("sign", _bytes(data), fingerprint, keyrings, homedir, clear=True)
        return made

    def _call(
        self,
        what: str,
        data: Any,
        other: Any,
        keyrings: Sequence[str] | None = None,
        homedir: str | None = None,
        **how: Any,
    ) -> Any:
        """Call a function of the library, with the keyrings and the home of the context where none are passed."""
        library = plugins.lazy("gnupg")
        try:
            return getattr(library, what)(data, other, homedir or self.homedir, keyrings or self.keyrings or (), **how)
        except library.Failure as error:
            raise GpgBinaryError(str(error)) from error


def sign(
    message: Mapping[str, Any], gpg_home: str | None = None, gpg_signing_key: str | None = None, **config: Any
) -> dict[str, Any]:
    """Sign a message.

    Args:
        message: The envelope; it stays as it is.
        gpg_home: GnuPG's home.
        gpg_signing_key: The fingerprint of the key.
        config: The rest of the configuration; ``crypto_backend`` may be ``gpg-envelope``.

    Returns:
        A copy with ``crypto`` and ``signature``.

    Raises:
        ConfigError: ``gpg_home`` or ``gpg_signing_key`` is missing. A ValueError.
        GpgBinaryError: GnuPG can't sign.
    """
    form = config.get("crypto_backend")
    form = form if form in FORMS else "gpg"
    return signed(message, form, {"gpg_home": gpg_home, "gpg_signing_key": gpg_signing_key}, credentials)


def credentials(form: str, config: Mapping[str, Any], data: bytes) -> dict[str, str]:
    """Make the ``signature`` over the canonical JSON of what the form covers.

    Raises:
        ConfigError: One of them is missing. A ValueError.
        MessageError: Its ``msg`` may be an envelope, and the form signs nothing but that.
        GpgBinaryError: GnuPG can't sign.
    """
    home, key = config.get("gpg_home"), config.get("gpg_signing_key")
    if not home or not key:
        raise ConfigError("You must set the gpg_home and gpg_signing_key keyword arguments.")
    if form == "gpg" and _may_be_envelope(data):
        raise MessageError(_ENVELOPE, "envelope")
    return {"signature": base64.b64encode(Context(homedir=home).sign(covered(form, data), key)).decode()}


def validate(message: Mapping[str, Any], gpg_home: str | None = None, **config: Any) -> bool:
    """Return whether a message is validly signed by a key of the keyring; the reason is logged.

    Args:
        message: The envelope; it stays as it is.
        gpg_home: GnuPG's home.
        config: The rest of the configuration.

    Raises:
        ConfigError: ``gpg_home`` is missing. A ValueError.
    """
    if not gpg_home:
        raise ConfigError("You must set the gpg_home keyword argument.")
    form = message.get("crypto")
    try:
        check(message, form if form in FORMS else "gpg", {**config, "gpg_home": gpg_home})
    except Rejected as error:
        report(error)
        return False
    return True


def check(message: Mapping[str, Any], form: str, config: Mapping[str, Any]) -> bytes:
    """Check a message's signature, and whether the policy allows its key.

    A routing policy names keys by their fingerprints.

    Raises:
        Rejected: It is not valid.
    """
    raw = unwrapped(text_of(message, "signature", _log), "signature")
    if len(raw) > _MAX_SIGNATURE_BYTES or not _is_one_signature(raw):
        raise Rejected("signature", "its signature is not exactly one OpenPGP signature")
    if "certificate" in message:
        raise Rejected("certificate", "it has a certificate, which a signature of GnuPG does not cover")
    unsigned = strip(message)
    data = canonical(unsigned.get("msg") if form == "gpg" else unsigned)
    if form == "gpg" and _may_be_envelope(data):
        raise Rejected("envelope", _ENVELOPE)
    try:
        signers = Context(config.get("gpg_keyrings"), _home(config))._call("verify", covered(form, data), raw)
    except GpgBinaryError as error:
        raise Rejected("signature", f"GnuPG does not accept its signature: {error}") from error
    utils.check_policy(message.get("topic"), signers, config)
    return data


def prepare(config: Mapping[str, Any]) -> None:
    """Check that messages can be checked.

    Raises:
        RefusedAtStart: They can't: there is no GnuPG, or no keyring.
        MissingExtra: The library is missing.
    """
    library = plugins.lazy("gnupg")
    try:
        library.ready(_home(config))
    except library.Failure as error:
        raise RefusedAtStart(f"signatures can't be checked: {error}; see gpg_home in the configuration") from error


def _home(config: Mapping[str, Any]) -> str:
    return os.path.expanduser(config.get("gpg_home") or DEFAULT_HOME)


def _may_be_envelope(data: bytes) -> bool:
    """Return whether the canonical JSON of a ``msg`` is that of an envelope, which other forms sign as a whole."""
    if b'"crypto":' not in data:
        return False
    msg = encoding.loads(data)
    return isinstance(msg, dict) and "crypto" in msg


def _is_one_signature(raw: bytes) -> bool:
    """Return whether OpenPGP data is one signature packet and nothing else: GnuPG works through all that it gets."""
    head, first, *rest = raw[:6].ljust(6, b"\0")
    if head & 0xC0 == 0xC0:
        tag = head & 0x3F
        # The first byte of the length determines how many there are; 224 to 254 begin a packet in parts.
        if first < 192:
            end = 2 + first
        elif first < 224:
            end = 3 + ((first - 192) << 8) + 192 + rest[0]
        else:
            end = 6 + int.from_bytes(rest, "big") if first == 255 else 0
    else:
        # In the old form the two low bits name how many there are; 3 stands for a packet without a known end.
        tag = head >> 2 & 0x0F if head & 0x80 else 0
        width = (1, 2, 4, 0)[head & 3]
        end = 1 + width + int.from_bytes(raw[1 : 1 + width], "big") if width else 0
    return tag == _SIGNATURE_PACKET and len(raw) == end


def _bytes(data: str | bytes) -> bytes:
    return data.encode() if isinstance(data, str) else data
