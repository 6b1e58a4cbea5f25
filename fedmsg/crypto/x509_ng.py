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
from fedmsg.crypto._credentials import Rejected, canonical, covered, report, signed, strip, text_of, unwrapped, wrapped
from fedmsg.exceptions import ConfigError, RefusedAtStart

if TYPE_CHECKING:
    from fedmsg.crypto._chain import Anchors, Checked

__all__ = ["check", "credentials", "prepare", "sign", "validate"]

_log = logging.getLogger(__name__)

# In fedmsg 1.1.7 this showed which of two libraries was installed.
_cryptography = importlib.util.find_spec("cryptography") is not None

#: The digest of each form; "" for keys that bring their own.
DIGESTS = {"x509": "sha1", "x509-sha256": "sha256", "ed25519": ""}


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
    return signed(message, form, {"ssldir": ssldir, "certname": certname}, credentials)


def credentials(form: str, config: Mapping[str, Any], data: bytes) -> dict[str, str]:
    """Make the ``signature`` and ``certificate`` for the canonical form of a message, without credentials.

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
    return {"signature": wrapped(pair.key.sign(digest, covered(form, data))), "certificate": pair.certificate}


def validate(message: Mapping[str, Any], **config: Any) -> bool:
    """Return whether a message is validly signed by a key that may send it; the reason is logged."""
    form = message.get("crypto")
    try:
        check(message, form if form in DIGESTS else "x509", config)
    except Rejected as error:
        report(error)
        return False
    return True


def check(message: Mapping[str, Any], form: str, config: Mapping[str, Any]) -> bytes:
    """Check a message's signature, its certificate and whether the policy allows it.

    Raises:
        Rejected: It is not valid.
    """
    signature = unwrapped(text_of(message, "signature", _log), "signature")
    anchors, checked = _trusted(text_of(message, "certificate", _log), config)
    certificate = checked.certificate
    unsigned, digest = strip(message), DIGESTS[form]
    data = canonical(unsigned)
    if not certificate.verify(digest, signature, covered(form, data)):
        # A message that never went over the wire may have keys that are not text.
        other = encoding.canonical(unsigned).encode()
        if other == data or not certificate.verify(digest, signature, covered(form, other)):
            raise Rejected("signature", "its signature is wrong")
        data = other
    if checked.is_new:
        anchors.remember(checked)
    utils.check_policy(message.get("topic"), (certificate.name,), config)
    return data


def prepare(config: Mapping[str, Any]) -> None:
    """Check that messages can be checked.

    Raises:
        RefusedAtStart: They can't: there is no CA or CRL, or it can't be read.
        MissingExtra: The library is missing.
    """
    plugins.lazy("x509")
    utils.remember_copies(config)
    try:
        _anchors(config)
    except (Rejected, OSError) as error:
        raise RefusedAtStart(
            f"signatures can't be checked: {error}; correct ca_cert_location or crl_location in the configuration"
        ) from error


def _anchors(config: Mapping[str, Any], *, afresh: bool = False) -> _chain.Anchors:
    """Return the authorities of a configuration as they are now; OSError where there are none."""
    ca_location, crl_location = settings.get(config, "ca_cert_location"), config.get("crl_location")
    if not ca_location:
        raise Rejected("ca", "ca_cert_location is not set")
    # By this name and with these arguments: tests and programs elsewhere put their own in its place.
    if afresh:
        ca, crl = utils.load_certificates(ca_location, crl_location, invalidate_cache=True)
    else:
        ca, crl = utils.load_certificates(ca_location, crl_location)
    return _chain.anchors(ca, crl, allow_sha1=bool(config.get("allow_sha1_certificates")))


def _trusted(certificate: str, config: Mapping[str, Any]) -> tuple[Anchors, Checked]:
    """Return a certificate that was found good, with the newest CA and CRL where those could make a difference."""
    first = None
    try:
        first = _anchors(config)
        return first, first.check(certificate)
    except (Rejected, OSError) as error:
        if isinstance(error, Rejected) and not error.curable:
            raise
        try:
            again = _anchors(config, afresh=True)
        except OSError:
            raise Rejected("ca", f"the CA or CRL can't be read: {error}") from error
        if again is first:
            raise
        return again, again.check(certificate)
