# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which certificates are trusted: those with a sound chain up to an authority that is configured."""

from __future__ import annotations

import functools
import logging
import time
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from fedmsg._util import plugins
from fedmsg._util.bounded import LRU
from fedmsg.crypto._credentials import Rejected, unwrapped

if TYPE_CHECKING:
    from fedmsg.crypto._cryptography import Certificate, RevocationList

__all__ = ["Anchors", "Checked", "anchors"]

log = logging.getLogger("fedmsg.crypto")

# How many certificates may stand between that of a message and an authority's own.
_INTERMEDIATES = 4
_SHORTEST_RSA, _SHORT_RSA = 1024, 2048
_SOUND_HASHES = frozenset({"", "sha224", "sha256", "sha384", "sha512", "sha3-256", "sha3-384", "sha3-512"})
# How much is cached of certificates; a bus has a few hundred, each of which counts as some 5 KB.
_CACHE_BYTES = 32 * 1024 * 1024
_CERTIFICATE_BYTES = 4096
# How many pairs of CA and CRL texts: one, and two while they change.
_CACHED_ANCHORS = 8

_warned: set[bytes] = set()


class Checked(NamedTuple):
    """A certificate that was found to be trusted, and from when until when it is."""

    certificate: Certificate
    start: float
    end: float
    text: str
    size: int
    is_new: bool = True


class Anchors:
    """The authorities and lists of revoked certificates of one configuration.

    Args:
        ca: PEM text: certificates that issue themselves are anchors, the others may stand between.
        crl: PEM text with a list for each authority; None where nothing is asked about revocation.
        allow_sha1: Whether certificates that are signed with SHA-1 are accepted.

    Raises:
        Rejected: There is no authority in the text, or a list can't be read.
    """

    def __init__(self, ca: str, crl: str | None, *, allow_sha1: bool) -> None:
        library = plugins.lazy("x509")
        self._load = library.load_certificates
        self._issuers: dict[bytes, list[Certificate]] = defaultdict(list)
        self._anchors: dict[bytes, list[Certificate]] = defaultdict(list)
        for certificate in self._load(ca):
            is_anchor = certificate.subject == certificate.issuer
            (self._anchors if is_anchor else self._issuers)[certificate.subject].append(certificate)
        if not self._anchors:
            raise Rejected("ca", "ca_cert_location has no certificate of an authority in it", curable=True)
        self._crls: dict[bytes, list[RevocationList]] | None = None
        if crl is not None:
            self._crls = defaultdict(list)
            for one in library.load_crls(crl):
                self._crls[one.issuer].append(one)
        self._hashes = _SOUND_HASHES | {"sha1"} if allow_sha1 else _SOUND_HASHES
        self._checked: LRU[str, Checked] = LRU(_CACHE_BYTES, lambda checked: checked.size)

    def check(self, certificate: str) -> Checked:
        """Return a certificate, when it is trusted at this moment.

        Raises:
            Rejected: It is not.
        """
        found, now = self._checked.get(certificate), time.time()
        if found is not None and found.start <= now <= found.end:
            return found
        return self._check(certificate, now)

    def remember(self, checked: Checked) -> None:
        """Cache a certificate, once a signature of its key was verified: before that anyone can send it."""
        self._checked.put(checked.text, checked._replace(is_new=False))

    def _check(self, certificate: str, now: float) -> Checked:
        pem = unwrapped(certificate, "certificate").decode("ascii", "replace")
        loaded = self._load(pem, strict=True)
        if len(loaded) != 1:
            raise Rejected("certificate", f"it has {len(loaded)} certificates instead of 1")
        leaf: Certificate = loaded[0]
        if leaf.name is None:
            raise Rejected("certificate", "its certificate has no common name, or several")
        start, end = self._climb(leaf, now, 0)
        leaf.read_extensions()
        self._inspect(leaf, now)
        if not leaf.may_sign_messages:
            raise Rejected("usage", f"the key usage of {_named(leaf)} does not include digitalSignature")
        if 0 < leaf.rsa_bits < _SHORT_RSA and leaf.subject not in _warned:
            _warned.add(leaf.subject)
            log.warning("the RSA key of %a has only %d bits: replace it", leaf.name, leaf.rsa_bits)
        return Checked(leaf, start, end, certificate, _CERTIFICATE_BYTES + len(pem) + len(certificate))

    def _climb(self, certificate: Certificate, now: float, below: int) -> tuple[float, float]:
        """Find a way from a certificate up to an anchor; return the time in which all of it is valid."""
        # Not the exception: with it in a variable that it leads to, only the garbage collector frees what it holds.
        kind, reason = "chain", f"{_named(certificate)} was issued by none of the configured authorities"
        if certificate.signed_with not in self._hashes:
            hint = " (allow_sha1_certificates accepts it)" if certificate.signed_with == "sha1" else ""
            raise Rejected("hash", f"{_named(certificate)} is signed with {certificate.signed_with}{hint}")
        for issuer in (*self._anchors.get(certificate.issuer, ()), *self._issuers.get(certificate.issuer, ())):
            is_anchor = issuer.subject == issuer.issuer
            if not is_anchor and below >= _INTERMEDIATES:
                kind, reason = "chain", f"there are more than {_INTERMEDIATES} certificates up to an authority"
                continue
            try:
                start, end = self._step(certificate, issuer, now, below)
                if not is_anchor:
                    above = self._climb(issuer, now, below + 1)
                    start, end = max(start, above[0]), min(end, above[1])
            except Rejected as error:
                kind, reason = error.kind, str(error)
            else:
                return start, end
        # A newer CA or CRL may have the missing issuer or list; it takes back no revocation.
        raise Rejected(kind, reason, curable=kind != "revoked")

    def _step(self, certificate: Certificate, issuer: Certificate, now: float, below: int) -> tuple[float, float]:
        """Check one certificate against one issuer; return the time in which that holds."""
        if not certificate.is_signed_by(issuer):
            raise Rejected("chain", f"{_named(certificate)} was not signed by the authority that it names")
        self._inspect(issuer, now)
        if not (issuer.is_authority and issuer.may_sign_certificates):
            raise Rejected("chain", f"{_named(issuer)} may not issue certificates")
        if issuer.path_length is not None and below > issuer.path_length:
            raise Rejected("chain", f"{_named(issuer)} does not allow so many certificates below it")
        start = max(certificate.not_before, issuer.not_before)
        end = min(certificate.not_after, issuer.not_after)
        if self._crls is not None:
            crl = self._current_crl(issuer, now)
            if crl.has(certificate):
                raise Rejected("revoked", f"{_named(certificate)} is revoked")
            start, end = max(start, crl.last_update), min(end, crl.next_update)
        return start, end

    @staticmethod
    def _inspect(certificate: Certificate, now: float) -> None:
        """Check the time, the extensions and the key of a certificate."""
        if now < certificate.not_before:
            raise Rejected("not yet valid", f"{_named(certificate)} is not valid yet")
        if now > certificate.not_after:
            raise Rejected("expired", f"{_named(certificate)} has expired")
        if certificate.not_understood:
            what = ", ".join(certificate.not_understood)
            raise Rejected("extension", f"{_named(certificate)} has a critical extension that is not known: {what}")
        if 0 < certificate.rsa_bits < _SHORTEST_RSA:
            raise Rejected("key", f"the RSA key of {_named(certificate)} has only {certificate.rsa_bits} bits")

    def _current_crl(self, issuer: Certificate, now: float) -> RevocationList:
        """Find the newest list of an authority that holds now."""
        assert self._crls is not None
        reason = f"there is no list of revoked certificates (CRL) of {_named(issuer)}"
        for crl in sorted(self._crls.get(issuer.subject, ()), key=lambda one: -one.last_update):
            if not (issuer.may_sign_crls and crl.is_signed_by(issuer)):
                reason = f"the CRL of {_named(issuer)} was not signed by it"
            elif crl.signed_with not in self._hashes:
                reason = f"the CRL of {_named(issuer)} is signed with {crl.signed_with}"
            elif crl.not_understood:
                reason = f"the CRL of {_named(issuer)} has a critical extension that is not known"
            elif now < crl.last_update:
                reason = f"the CRL of {_named(issuer)} is not valid yet"
            elif now > crl.next_update:
                reason = f"the CRL of {_named(issuer)} has expired"
            else:
                return crl
        raise Rejected("crl", reason)


def _named(certificate: Certificate) -> str:
    return f"the certificate of {certificate.name!a}"


@functools.lru_cache(_CACHED_ANCHORS)
def anchors(ca: str, crl: str | None, *, allow_sha1: bool) -> Anchors:
    """Return the anchors of these texts, which are read once; what is cached goes with the texts.

    Raises:
        Rejected: There is no authority in the text, or a list can't be read.
    """
    return Anchors(ca, crl, allow_sha1=allow_sha1)
