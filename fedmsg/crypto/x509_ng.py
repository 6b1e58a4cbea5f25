# SPDX-License-Identifier: LGPL-2.1-or-later
"""Signing and checking with X.509 certificates.

The form ``x509`` is that of fedmsg 1.1.7, byte for byte: RSA with SHA-1. ``x509-sha256``
and ``ed25519`` are the same envelope with a better digest, or another kind of key.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fedmsg import encoding
from fedmsg._util import plugins
from fedmsg.config import settings
from fedmsg.crypto import _chain, _keys, utils
from fedmsg.crypto._base64 import unwrapped, wrapped
from fedmsg.crypto._refused import Refused, tell
from fedmsg.exceptions import ConfigError, RefusedAtStart

if TYPE_CHECKING:
    from fedmsg.crypto._cryptography import Certificate

__all__ = ["check", "credentials", "prepare", "sign", "validate"]

_log = logging.getLogger(__name__)

# In fedmsg 1.1.7 this said whether the one of two libraries was there.
_cryptography = importlib.util.find_spec("cryptography") is not None

#: The digest of each form; "" for keys that bring their own.
DIGESTS = {"x509": "sha1", "x509-sha256": "sha256", "ed25519": ""}

_CREDENTIALS = ("signature", "certificate")


def sign(
    message: Mapping[str, Any], ssldir: str | None = None, certname: str | None = None, **config: Any
) -> dict[str, Any]:
    """Sign a message.

    Args:
        message: The envelope; it stays as it is.
        ssldir: The folder with keys and certificates.
        certname: Which of them to use.
        config: The rest of the configuration; ``crypto_backend`` may choose a newer form.

    Returns:
        A copy with ``crypto``, ``signature`` and ``certificate``.

    Raises:
        ConfigError: ``ssldir`` or ``certname`` is missing. A ValueError.
        RefusedAtStart: The key or certificate can't be used. An IOError.
    """
    form = config.get("crypto_backend")
    form = form if form in DIGESTS else "x509"
    unsigned = {key: value for key, value in message.items() if key not in _CREDENTIALS}
    unsigned["crypto"] = form
    data = encoding.dumps(unsigned).encode()
    return {**unsigned, **credentials(form, {"ssldir": ssldir, "certname": certname}, data)}


def credentials(form: str, config: Mapping[str, Any], data: bytes) -> dict[str, str]:
    """Make what proves who signed: ``signature`` and ``certificate``.

    Args:
        form: ``x509``, ``x509-sha256`` or ``ed25519``.
        config: The configuration, for ``ssldir`` and ``certname``.
        data: The canonical form of the message, without credentials.

    Raises:
        ConfigError: ``ssldir`` or ``certname`` is missing. A ValueError.
        RefusedAtStart: The key or certificate can't be used. An IOError.
    """
    ssldir, certname = config.get("ssldir"), config.get("certname")
    if not ssldir or not certname:
        raise ConfigError("You must set the ssldir and certname keyword arguments.")
    pair = _keys.key_pair(ssldir, certname)
    digest = DIGESTS[form]
    if bool(digest) != pair.key.is_rsa:
        wanted = "an RSA key" if digest else "an Ed25519 key"
        raise RefusedAtStart(f"crypto_backend {form!r} needs {wanted}, and {certname}.key in {ssldir} is another kind")
    return {"signature": wrapped(pair.key.sign(digest, data)), "certificate": pair.certificate}


def validate(message: Mapping[str, Any], **config: Any) -> bool:
    """Answer whether a message is validly signed by somebody who may send it.

    Args:
        message: The envelope; it stays as it is.
        config: The configuration.

    Returns:
        The answer; why it is no is in the log.
    """
    form = message.get("crypto")
    try:
        check(message, form if form in DIGESTS else "x509", config)
    except Refused as error:
        tell(error)
        return False
    return True


def check(message: Mapping[str, Any], form: str, config: Mapping[str, Any]) -> None:
    """Check a message's signature, its certificate and whether the policy allows it.

    Args:
        message: The envelope.
        form: ``x509``, ``x509-sha256`` or ``ed25519``.
        config: The configuration.

    Raises:
        Refused: It is not valid.
    """
    signature = unwrapped(_text(message, "signature"), "signature")
    certificate = _trusted(_text(message, "certificate"), config)
    if not certificate.verify(DIGESTS[form], signature, _signed(message)):
        raise Refused("signature", "its signature is wrong")
    topic = message.get("topic")
    if not isinstance(topic, str):
        raise Refused("policy", "it has no topic")
    policy = config.get("routing_policy") or {}
    if not utils.validate_policy(topic, certificate.name, policy, bool(config.get("routing_nitpicky"))):
        raise Refused("policy", f"{certificate.name!r} may not send under the topic {topic!r}")


def prepare(config: Mapping[str, Any]) -> None:
    """See that messages can be checked.

    Raises:
        RefusedAtStart: They can't: there is no CA or CRL, or it can't be read.
        MissingExtra: The library is missing.
    """
    plugins.lazy("x509")
    utils.remember_copies(config)
    try:
        _anchors(config)
    except (Refused, OSError) as error:
        raise RefusedAtStart(
            f"signatures can't be checked: {error}; correct ca_cert_location or crl_location in the configuration"
        ) from error


def _anchors(config: Mapping[str, Any], *, afresh: bool = False) -> _chain.Anchors:
    """Give the authorities of a configuration as they are now; OSError where there are none."""
    ca_location, crl_location = settings.get(config, "ca_cert_location"), config.get("crl_location")
    if not ca_location:
        raise Refused("ca", "ca_cert_location is not set")
    # By this name and with these arguments: tests and programs elsewhere put their own in its place.
    if afresh:
        ca, crl = utils.load_certificates(ca_location, crl_location, invalidate_cache=True)
    else:
        ca, crl = utils.load_certificates(ca_location, crl_location)
    return _chain.anchors(ca, crl, allow_sha1=bool(config.get("allow_sha1_certificates")))


def _trusted(certificate: str, config: Mapping[str, Any]) -> Certificate:
    """Give a certificate that was found good, with the newest CA and CRL if it takes those."""
    first = None
    try:
        first = _anchors(config)
        return first.check(certificate)
    except (Refused, OSError) as error:
        try:
            again = _anchors(config, afresh=True)
        except OSError:
            raise Refused("ca", f"the CA or CRL can't be read: {error}") from error
        if again is first:
            raise
        return again.check(certificate)


def _signed(message: Mapping[str, Any]) -> bytes:
    """Give what the signature was made over."""
    unsigned = {key: value for key, value in message.items() if key not in _CREDENTIALS}
    try:
        return encoding.dumps(unsigned).encode()
    except (TypeError, ValueError) as error:
        raise Refused("encoding", f"it can't be written as JSON: {error}") from error


def _text(message: Mapping[str, Any], key: str) -> str:
    value = message.get(key)
    if isinstance(value, bytes):
        _log.error("msg[%r] is not a unicode string", key)
        try:
            value = value.decode()
        except UnicodeDecodeError as error:
            raise Refused(key, f"its {key} is not UTF-8") from error
    if not isinstance(value, str):
        raise Refused(key, f"it has no {key}")
    return value
