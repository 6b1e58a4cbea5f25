# SPDX-License-Identifier: LGPL-2.1-or-later
"""Signing messages, and checking who signed them.

Two families of signatures are known: with X.509 certificates (``x509``, ``x509-sha256``,
``ed25519``) and with GnuPG (``gpg``, ``gpg-envelope``). ``crypto_backend`` names the form that
messages are signed in, ``crypto_validate_backends`` those that are accepted.

`sign` and `validate` are for one message. `Signer` and `checker` are for many: they fail
where they are made when they could not do their work.
"""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from fedmsg import encoding
from fedmsg._util.bounded import SeenIds
from fedmsg.crypto._credentials import Rejected, report, signed, strip
from fedmsg.exceptions import ConfigError, FedmsgError, GpgBinaryError, MissingExtra, MissingKey, RefusedAtStart

__all__ = [
    "Check",
    "Signer",
    "accepts_gnupg",
    "as_signed",
    "checker",
    "digest",
    "init",
    "is_valid",
    "sign",
    "strip_credentials",
    "uses_gnupg",
    "validate",
    "validate_signed_by",
]

log = logging.getLogger(__name__)

# Which module knows a form. They are imported when one is first used: most programs, such as
# a fedmsg-logger on a bus without signatures, use none and should not wait for them.
_BACKENDS = {"x509": "x509_ng", "x509-sha256": "x509_ng", "ed25519": "x509_ng", "gpg": "gpg", "gpg-envelope": "gpg"}
_SUBMODULES = frozenset({"gpg", "utils", "x509", "x509_ng"})

#: Returns whether a message is valid.
Check = Callable[[Mapping[str, Any]], bool]

# What `init` was called with last. Nothing depends on it: the configuration of each call decides.
_implementation: Any = None
_validate_implementations: Any = None


def _submodule(name: str) -> Any:
    return importlib.import_module(f"fedmsg.crypto.{name}")


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return _submodule(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _backend(form: str) -> Any:
    return _submodule(_BACKENDS[form])


def init(**config: Any) -> None:
    """Check the names of the backends; every other function does that for itself.

    Args:
        config: The configuration, for ``crypto_backend`` and ``crypto_validate_backends``.

    Raises:
        ConfigError: There is no backend of that name. A ValueError.
    """
    global _implementation, _validate_implementations
    _implementation = _backend(_form(config))
    _validate_implementations = [_backend(form) for form in _accepted(config)]


def _form(config: Mapping[str, Any]) -> str:
    """Return the form that messages are signed in."""
    return _known(config.get("crypto_backend") or "x509")


def _accepted(config: Mapping[str, Any]) -> list[str]:
    """Return the forms that are accepted."""
    forms = config.get("crypto_validate_backends") or _form(config)
    accepted: list[str] = [forms] if isinstance(forms, str) else forms
    try:
        # For each message: all at once.
        if _BACKENDS.keys() >= {*accepted}:
            return accepted
    except TypeError:
        pass  # one is not even hashable
    return [_known(form) for form in accepted]


def _known(form: Any) -> str:
    if not isinstance(form, str) or form not in _BACKENDS:
        raise ConfigError(f"{form!r} is not a valid crypto backend")
    return form


def uses_gnupg(config: Mapping[str, Any]) -> bool:
    """Return whether messages are signed with GnuPG, and not with a certificate, by ``crypto_backend``."""
    return _BACKENDS[_form(config)] == "gpg"


def accepts_gnupg(config: Mapping[str, Any]) -> bool:
    """Return whether ``crypto_validate_backends`` lets messages be checked with GnuPG, a program of its own."""
    return any(_BACKENDS[form] == "gpg" for form in _accepted(config))


# ---------------------------------------------------------------- signing


class Signer:
    """Signs many messages with one key.

    Args:
        config: The configuration; with X.509 ``certname`` names the key, with GnuPG ``gpg_signing_key``.

    Attributes:
        form: The field ``crypto`` of its messages.

    Raises:
        ConfigError: A setting is missing or wrong. A ValueError.
        RefusedAtStart: The key, its certificate or the library can't be used. An IOError.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.form = _form(config)
        self._only_msg = self.form == "gpg"
        self._config = dict(config)
        self._credentials: Callable[[str, Mapping[str, Any], bytes], dict[str, str]]
        self._credentials = _backend(self.form).credentials
        try:
            # Whatever is wrong with the key is found now, and not with the first message.
            self.credentials(b"", b"")
        except (MissingExtra, GpgBinaryError) as error:
            raise RefusedAtStart(f"messages can't be signed: {error}") from error

    @classmethod
    def for_publisher(cls, config: Mapping[str, Any], hostname: str) -> Signer:
        """Make the signer of the publisher that the configuration names.

        Raises:
            MissingKey: No key is configured for that name. A KeyError and an IOError.
            RefusedAtStart: The key, its certificate or the library can't be used. An IOError.
        """
        if uses_gnupg(config):
            key = config.get("gpg_signing_key") or (config.get("gpg_keys") or {}).get(hostname)
            if not key:
                raise MissingKey(f"signing needs a key: set gpg_signing_key, or gpg_keys[{hostname!r}]")
            return cls({**config, "gpg_signing_key": key})
        prefix, name = config.get("cert_prefix"), config.get("name")
        if prefix or name == "relay_inbound":
            name = f"{prefix or 'shell'}.{hostname}"
        certname = (config.get("certnames") or {}).get(name)
        if not certname:
            raise MissingKey(f"signing needs a certificate: set certnames[{name!r}]")
        return cls({**config, "certname": certname})

    def credentials(self, whole: bytes, msg: bytes) -> dict[str, str]:
        """Make the signature, and the certificate where there is one.

        ``whole`` is the canonical envelope with ``crypto`` and without credentials; ``msg`` its canonical ``msg``, for
        the form in which that is all that is signed.

        Raises:
            MessageError: The form can't sign this message.
        """
        return self._credentials(self.form, self._config, msg if self._only_msg else whole)

    def sign(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Return a signed copy of an envelope."""
        return signed(message, self.form, self._config, self._credentials)


def sign(message: Mapping[str, Any], **config: Any) -> dict[str, Any]:
    """Sign a message.

    Args:
        message: The envelope; it stays as it is.
        config: The configuration.

    Returns:
        A copy with ``crypto``, ``signature`` and, with X.509, ``certificate``.

    Raises:
        ConfigError: A setting is missing or wrong. A ValueError.
        RefusedAtStart: The key or its certificate can't be used. An IOError.
        MessageError: The form can't sign this message. A ValueError.
    """
    form = _form(config)
    return signed(message, form, config, _backend(form).credentials)


def strip_credentials(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a message without ``signature`` and ``certificate``."""
    return strip(message)


def digest(message: Mapping[str, Any]) -> bytes:
    """Return what a message is known again by, when it comes a second time.

    It covers everything but the credentials. So a message of another signer, or another message of the
    same ``msg_id``, has another digest, and the same message signed or wrapped anew has the same one.

    Raises:
        ValueError: It can't be written as JSON.
    """
    return _sha256(encoding.dumps(strip(message)).encode())


def _sha256(data: bytes) -> bytes:
    # Here, because it loads OpenSSL: 4 MiB that a program which checks nothing does without.
    import hashlib

    return hashlib.sha256(data).digest()


# ---------------------------------------------------------------- checking


def validate(message: Mapping[str, Any], **config: Any) -> bool:
    """Return whether a message is validly signed by a signer that may send it; the reason is logged.

    Args:
        message: The envelope; it stays as it is.
        config: The configuration.

    Raises:
        ConfigError: ``crypto_validate_backends`` names an unknown form. A ValueError.
    """
    return is_valid(message, config)


def is_valid(message: Mapping[str, Any], config: Mapping[str, Any], seen: SeenIds[bytes] | None = None) -> bool:
    """Return what `validate` returns, without a copy of the configuration for each message.

    Args:
        message: The envelope; it stays as it is.
        config: The configuration.
        seen: The digests of what was accepted before, and is not accepted again.

    Raises:
        ConfigError: ``crypto_validate_backends`` names an unknown form. A ValueError.
    """
    accepted = _accepted(config)
    try:
        data = _check(message, config, accepted)
        # Only now: a forged message must not use up the place of a real one.
        if seen is not None and not seen.add(_sha256(data)):
            raise Rejected("duplicate", "the same message came before")
    except Rejected as error:
        report(error)
        return False
    except FedmsgError as error:
        report(Rejected("configuration", str(error)))
        return False
    except Exception as error:
        # Nothing that a stranger sends may end a receiver, and nothing unforeseen may count as signed.
        report(Rejected("unforeseen", f"checking it failed: {type(error).__name__}: {error}"))
        log.debug("checking a message failed", exc_info=True)
        return False
    return True


def validate_signed_by(message: Mapping[str, Any], signer: str, **config: Any) -> bool:
    """Return whether a message is validly signed by this signer, independent of the routing policy.

    A message without topic is never valid.

    Args:
        message: The envelope; it stays as it is.
        signer: The common name of the certificate, or the fingerprint of the GnuPG key.
        config: The configuration.
    """
    topic = message.get("topic")
    policy = {topic: [signer]} if isinstance(topic, str) else {}
    return is_valid(message, {**config, "routing_policy": policy, "routing_nitpicky": True})


def as_signed(message: dict[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message of a datagrepper as it was signed, or without the additions where it is not valid at all."""
    cleaned: dict[str, Any] = _submodule("utils").fix_datagrepper_message(message)
    if cleaned is message:
        return message
    # Nearly all are valid without the additions. A publisher may have set the same keys.
    added = {key: message[key] for key in ("source_name", "source_version")}
    own_time = {key: cleaned[key] for key in ("timestamp",) if key in cleaned}
    for one in (cleaned, {**cleaned, **added}, {**message, **own_time}, message):
        try:
            _check(one, config, _accepted(config))
        except Exception:  # noqa: S112, BLE001 the caller checks what is returned, and reports why it is not valid
            continue
        return one
    return cleaned


def checker(config: Mapping[str, Any]) -> Check:
    """Make what checks the messages that one receiver gets: it returns whether one is valid, and logs why not.

    It does what `validate` does, and with ``max_seen_ids`` it rejects a message that it has
    accepted before.

    Raises:
        ConfigError: A setting is wrong. A ValueError.
        RefusedAtStart: Checking needs something that is missing. An IOError.
    """
    accepted, own = _accepted(config), dict(config)
    limit = int(config.get("max_seen_ids") or 0)
    if "gpg" in accepted and (limit or config.get("max_message_age")):
        raise RefusedAtStart(
            "max_message_age and max_seen_ids need signed times and ids, and 'gpg' in crypto_validate_backends "
            "signs neither: accept 'gpg-envelope' instead, or set both to 0"
        )
    for topic in config.get("routing_policy") or {}:
        _submodule("utils").validate_policy(topic, None, config["routing_policy"])
    for form in accepted:
        try:
            _backend(form).prepare(own)
        except MissingExtra as error:
            raise RefusedAtStart(f"signatures can't be checked: {error}") from error
    seen: SeenIds[bytes] | None = SeenIds(limit) if limit else None
    return lambda message: is_valid(message, own, seen)


def _check(message: Mapping[str, Any], config: Mapping[str, Any], accepted: list[str]) -> bytes:
    """Check all there is to check of one message; return the canonical JSON of what was signed."""
    if not isinstance(message, dict):
        raise Rejected("form", "it is not a dict")
    form = message.get("crypto")
    if form is None:
        form = "x509" if "certificate" in message else "gpg" if "signature" in message else None
        if form is None:
            raise Rejected("unsigned", "it is not signed")
    if form not in accepted:
        raise Rejected(
            "backend", f"it is signed with {form!r:.100}, and crypto_validate_backends has {', '.join(accepted)}"
        )
    age = config.get("max_message_age")
    if age:
        _check_age(message.get("timestamp"), age, form)
    data: bytes = _backend(form).check(message, form, config)
    return data


def _check_age(timestamp: Any, limit: float, form: str) -> None:
    if form == "gpg":
        raise Rejected("age", "its time is not signed, and max_message_age is set")
    if isinstance(timestamp, bool) or not isinstance(timestamp, int | float):
        raise Rejected("age", "its timestamp is no number, and max_message_age is set")
    now = time.time()
    # One from the future could be stored and sent again for as long. No difference is taken, which
    # would fail for an integer that no float can hold; a NaN is in no range.
    if not now - limit <= timestamp <= now + limit:
        raise Rejected("age", "its timestamp is farther from now than max_message_age")
