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
from fedmsg.crypto._base64 import unwrapped
from fedmsg.crypto._refused import Refused, tell
from fedmsg.exceptions import ConfigError, GpgBinaryError, RefusedAtStart

__all__ = ["Context", "GpgBinaryError", "check", "credentials", "prepare", "sign", "validate"]

_log = logging.getLogger(__name__)

DEFAULT_HOME = "~/.gnupg/"
FORMS = ("gpg", "gpg-envelope")
_CREDENTIALS = ("signature", "certificate")


class Context:
    """GnuPG with a home and keyrings.

    Args:
        keyrings: Files with public keys, instead of those in the home.
        homedir: GnuPG's home.

    Attributes:
        keyrings: The same.
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
        """Check a signature.

        Args:
            data: What was signed; or a signed document, when there is no ``signature``.
            signature: The detached signature.
            keyrings: Instead of those of the context.
            homedir: Instead of that of the context.

        Returns:
            True.

        Raises:
            GpgBinaryError: It is not right.
        """
        self._verified(_bytes(data), None if signature is None else _bytes(signature), keyrings, homedir)
        return True

    def verify_from_file(
        self,
        data_path: str,
        sig_path: str | None = None,
        keyrings: Sequence[str] | None = None,
        homedir: str | None = None,
    ) -> bool:
        """Check the signature of a file, as `verify` does.

        Args:
            data_path: The file that was signed.
            sig_path: The file with the detached signature.
            keyrings: Instead of those of the context.
            homedir: Instead of that of the context.

        Returns:
            True.

        Raises:
            GpgBinaryError: It is not right.
        """
        self._verified(str(data_path), None if sig_path is None else str(sig_path), keyrings, homedir)
        return True

    def sign(
        self,
        data: str | bytes,
        fingerprint: str,
        keyrings: Sequence[str] | None = None,
        homedir: str | None = None,
    ) -> bytes:
        """Make a binary detached signature.

        Args:
            data: What to sign.
            fingerprint: Which key to use.
            keyrings: Instead of those of the context.
            homedir: Instead of that of the context.

        Raises:
            GpgBinaryError: It can't be made.
        """
        return self._signed(data, fingerprint, keyrings, homedir, clear=False)

    def clearsign(
        self,
        data: str | bytes,
        fingerprint: str,
        keyrings: Sequence[str] | None = None,
        homedir: str | None = None,
    ) -> bytes:
        """Put a signature around text, as `sign` does beside it."""
        return self._signed(data, fingerprint, keyrings, homedir, clear=True)

    def _verified(
        self, data: str | bytes, signature: str | bytes | None, keyrings: Sequence[str] | None, homedir: str | None
    ) -> tuple[str, ...]:
        library = plugins.lazy("gnupg")
        try:
            found: tuple[str, ...] = library.verify(
                data, signature, homedir or self.homedir, keyrings or self.keyrings or ()
            )
        except library.Failure as error:
            raise GpgBinaryError(str(error)) from error
        return found

    def _signed(
        self,
        data: str | bytes,
        fingerprint: str,
        keyrings: Sequence[str] | None,
        homedir: str | None,
        *,
        clear: bool,
    ) -> bytes:
        library = plugins.lazy("gnupg")
        rings = keyrings or self.keyrings or ()
        try:
            made: bytes = library.sign(_bytes(data), fingerprint, homedir or self.homedir, rings, clear=clear)
        except library.Failure as error:
            raise GpgBinaryError(str(error)) from error
        return made


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
    unsigned = {key: value for key, value in message.items() if key not in _CREDENTIALS}
    unsigned["crypto"] = form
    keys = {"gpg_home": gpg_home, "gpg_signing_key": gpg_signing_key}
    return {**unsigned, **credentials(form, keys, covered(form, unsigned))}


def covered(form: str, unsigned: Mapping[str, Any]) -> bytes:
    """Give what a signature of this form is made over."""
    return encoding.dumps(unsigned.get("msg") if form == "gpg" else unsigned).encode()


def credentials(_form: str, config: Mapping[str, Any], data: bytes) -> dict[str, str]:
    """Make what proves who signed.

    Args:
        config: The configuration, for ``gpg_home`` and ``gpg_signing_key``.
        data: What `covered` gives.

    Raises:
        ConfigError: One of them is missing. A ValueError.
        GpgBinaryError: GnuPG can't sign.
    """
    home, key = config.get("gpg_home"), config.get("gpg_signing_key")
    if not home or not key:
        raise ConfigError("You must set the gpg_home and gpg_signing_key keyword arguments.")
    return {"signature": base64.b64encode(Context(homedir=home).sign(data, key)).decode()}


def validate(message: Mapping[str, Any], gpg_home: str | None = None, **config: Any) -> bool:
    """Answer whether a message is validly signed by a key of the keyring.

    Args:
        message: The envelope; it stays as it is.
        gpg_home: GnuPG's home.
        config: The rest of the configuration.

    Returns:
        The answer; why it is no is in the log.

    Raises:
        ConfigError: ``gpg_home`` is missing. A ValueError.
    """
    if not gpg_home:
        raise ConfigError("You must set the gpg_home keyword argument.")
    form = message.get("crypto")
    try:
        check(message, form if form in FORMS else "gpg", {**config, "gpg_home": gpg_home})
    except Refused as error:
        tell(error)
        return False
    return True


def check(message: Mapping[str, Any], form: str, config: Mapping[str, Any]) -> None:
    """Check a message's signature, and whether the policy allows its key.

    A routing policy names keys by their fingerprints.

    Args:
        message: The envelope.
        form: ``gpg`` or ``gpg-envelope``.
        config: The configuration.

    Raises:
        Refused: It is not valid.
    """
    signature, topic = message.get("signature"), message.get("topic")
    if isinstance(signature, bytes):
        signature = signature.decode("ascii", "replace")
    if not isinstance(signature, str):
        raise Refused("signature", "it has no signature")
    raw = unwrapped(signature, "signature")
    if not _is_signature(raw):
        raise Refused("signature", "its signature is something else")
    unsigned = {key: value for key, value in message.items() if key not in _CREDENTIALS}
    try:
        data = covered(form, unsigned)
    except (TypeError, ValueError) as error:
        raise Refused("encoding", f"it can't be written as JSON: {error}") from error
    try:
        signers = Context(homedir=_home(config))._verified(data, raw, config.get("gpg_keyrings"), None)
    except GpgBinaryError as error:
        raise Refused("signature", f"GnuPG does not accept its signature: {error}") from error
    if not isinstance(topic, str):
        raise Refused("policy", "it has no topic")
    policy, nitpicky = config.get("routing_policy") or {}, bool(config.get("routing_nitpicky"))
    if not any(utils.validate_policy(topic, signer, policy, nitpicky) for signer in signers):
        raise Refused("policy", f"the key {signers[0]} may not send under the topic {topic!r}")


def prepare(config: Mapping[str, Any]) -> None:
    """See that messages can be checked.

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


def _is_signature(raw: bytes) -> bool:
    """Whether OpenPGP data begins with a signature packet, and not with a document that has one in it."""
    if not raw or not raw[0] & 0x80:
        return False
    tag = raw[0] & 0x3F if raw[0] & 0x40 else raw[0] >> 2 & 0x0F
    return tag == 2


def _bytes(data: str | bytes) -> bytes:
    return data.encode() if isinstance(data, str) else data
