# SPDX-License-Identifier: LGPL-2.1-or-later
"""The one module that imports the library ``cryptography``: keys, certificates and lists of revoked ones.

It reads certificates and verifies signatures. Which certificates
are to be trusted is decided in `fedmsg.crypto._chain`, without the library.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

import cryptography
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtensionOID, NameOID, SignatureAlgorithmOID

from fedmsg.crypto._credentials import Rejected

__all__ = ["Certificate", "Key", "RevocationList", "Wanted", "find_own", "load_certificates", "load_crls"]

# 42 has times with their time zone and checks of an issuer's signature.
if int(cryptography.__version__.split(".")[0]) < 42:
    raise ImportError(f"cryptography {cryptography.__version__} is too old; upgrade it to 42 or newer")

_BLOCK = re.compile(
    r"-----BEGIN (CERTIFICATE|TRUSTED CERTIFICATE|X509 CRL)-----[^-]*-----END \1-----",
)
_PADDING = padding.PKCS1v15()
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),  # noqa: S303 what existing buses use; x509-sha256 is the better choice
    "sha256": hashes.SHA256(),
}

# What a certificate may demand and we know how to heed, or which binds only other uses of it.
_UNDERSTOOD = {
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
}

# What the library raises when it can't read something, or can't verify at all, such as SHA-1 where the
# machine's policy forbids it; pyo3's own panics are no Exception and are not among them.
# The warning is about certificates that a later release won't read; where warnings are errors it is one.
_CANT = (
    ValueError,
    TypeError,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
    CryptographyDeprecationWarning,
)


class Certificate:
    """The content of a certificate, and what its key can verify.

    Raises:
        Rejected: It is not a sound certificate.
    """

    def __init__(self, loaded: x509.Certificate) -> None:
        self._loaded = loaded
        try:
            self.subject: bytes = loaded.subject.public_bytes()
            self.issuer: bytes = loaded.issuer.public_bytes()
            names = loaded.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            #: Its common name; None where it has none, or more than one.
            self.name: str | None = str(names[0].value) if len(names) == 1 else None
            self.serial: int = loaded.serial_number
            self.not_before: float = loaded.not_valid_before_utc.timestamp()
            self.not_after: float = loaded.not_valid_after_utc.timestamp()
            self._key = loaded.public_key()
            #: How it was signed: the name of a hash, or "" where the signature needs none.
            self.signed_with: str = loaded.signature_hash_algorithm.name if loaded.signature_hash_algorithm else ""
        except _CANT as error:
            raise Rejected("certificate", f"its certificate can't be read: {error}") from error
        # Found once: to ask an object for its type takes longer here than for other objects.
        self._rsa = self._key if isinstance(self._key, rsa.RSAPublicKey) else None
        self._ed25519 = self._key if isinstance(self._key, ed25519.Ed25519PublicKey) else None
        #: The size of an RSA key in bits; 0 for other kinds.
        self.rsa_bits: int = self._rsa.key_size if self._rsa is not None else 0
        self.is_authority = False
        self.path_length: int | None = None
        self.may_sign_certificates = self.may_sign_crls = self.may_sign_messages = True
        #: The extensions that it demands to be heeded, and that we don't know.
        self.not_understood: list[str] = []

    def read_extensions(self) -> None:
        """Read what the certificate allows; that can be much, so of a stranger's only once its issuer is known.

        Raises:
            Rejected: It can't be read.
        """
        try:
            extensions = self._loaded.extensions
        except _CANT as error:
            raise Rejected("certificate", f"its certificate can't be read: {error}") from error
        for extension in extensions:
            value = extension.value
            if isinstance(value, x509.BasicConstraints):
                self.is_authority, self.path_length = value.ca, value.path_length
            elif isinstance(value, x509.KeyUsage):
                self.may_sign_certificates, self.may_sign_crls = value.key_cert_sign, value.crl_sign
                self.may_sign_messages = value.digital_signature or value.content_commitment
            elif extension.critical and extension.oid not in _UNDERSTOOD:
                self.not_understood.append(extension.oid.dotted_string)

    def is_signed_by(self, issuer: Certificate) -> bool:
        """Return whether the issuer's key made this certificate's signature."""
        loaded = self._loaded
        if loaded.signature_algorithm_oid == SignatureAlgorithmOID.RSA_WITH_SHA1:
            return _is_signed_with_sha1(issuer, loaded.signature, loaded.tbs_certificate_bytes)
        try:
            loaded.verify_directly_issued_by(issuer._loaded)
        except (InvalidSignature, *_CANT):
            return False
        return True

    def verify(self, digest: str, signature: bytes, data: bytes) -> bool:
        """Check a signature.

        Raises:
            Rejected: The key is of the wrong kind, or this machine can't check such signatures.
        """
        try:
            if digest and self._rsa is not None:
                self._rsa.verify(signature, data, _PADDING, _HASHES[digest])
            elif not digest and self._ed25519 is not None:
                self._ed25519.verify(signature, data)
            else:
                raise Rejected("key", f"its certificate has no {'RSA' if digest else 'Ed25519'} key")
        except InvalidSignature:
            return False
        except _CANT as error:
            raise Rejected("unsupported", f"this machine can't check its signature: {error}") from error
        return True

    @property
    def pem(self) -> str:
        """The certificate as a PEM block."""
        return self._loaded.public_bytes(serialization.Encoding.PEM).decode()


class RevocationList:
    """What an authority has revoked.

    Raises:
        Rejected: It is not a sound list.
    """

    def __init__(self, loaded: x509.CertificateRevocationList) -> None:
        self._loaded = loaded
        try:
            self.issuer: bytes = loaded.issuer.public_bytes()
            self.last_update: float = loaded.last_update_utc.timestamp()
            ends = loaded.next_update_utc
            #: When the next one is due; a list without that date is never current.
            self.next_update: float = ends.timestamp() if ends is not None else 0.0
            self.signed_with: str = loaded.signature_hash_algorithm.name if loaded.signature_hash_algorithm else ""
            # Such as that of a list with only a part of what is revoked.
            self.not_understood = [one.oid.dotted_string for one in loaded.extensions if one.critical]
        except _CANT as error:
            raise Rejected("crl", f"a list of revoked certificates can't be read: {error}", curable=True) from error

    def is_signed_by(self, issuer: Certificate) -> bool:
        """Return whether the issuer's key made this list's signature."""
        loaded = self._loaded
        if loaded.signature_algorithm_oid == SignatureAlgorithmOID.RSA_WITH_SHA1:
            return _is_signed_with_sha1(issuer, loaded.signature, loaded.tbs_certlist_bytes)
        try:
            return loaded.is_signature_valid(issuer._key)  # type: ignore[arg-type] # others are a TypeError
        except _CANT:
            return False

    def has(self, certificate: Certificate) -> bool:
        """Return whether a certificate of the same issuer is on the list."""
        return self._loaded.get_revoked_certificate_by_serial_number(certificate.serial) is not None


def _is_signed_with_sha1(issuer: Certificate, signature: bytes, data: bytes) -> bool:
    """Check what the library no longer checks by itself; whether it is wanted is not decided here."""
    try:
        return issuer.verify("sha1", signature, data)
    except Rejected:
        return False


def load_certificates(text: str, *, strict: bool = False) -> list[Certificate]:
    """Read every certificate in a PEM text; what stands around the blocks doesn't matter.

    ``strict`` makes an error of one that can't be read, and reads no extensions. Otherwise these are read, and what
    can't be read is skipped.

    Raises:
        Rejected: One can't be read.
    """
    found = []
    for block in _BLOCK.finditer(text):
        if block[1] != "CERTIFICATE":
            continue
        try:
            certificate = _loaded(block[0])
            if not strict:
                certificate.read_extensions()
        except Rejected:
            if strict:
                raise
        else:
            found.append(certificate)
    return found


def _loaded(block: str) -> Certificate:
    try:
        return Certificate(x509.load_pem_x509_certificate(block.encode()))
    except _CANT as error:
        raise Rejected("certificate", f"its certificate can't be read: {error}") from error


def find_own(text: str, key: Key) -> tuple[str, float]:
    """Find the certificate of a key at the start of a PEM text, of which nothing but its key has to be understood.

    It is returned as a PEM block, with the time when it expires.

    Raises:
        Rejected: There is none, it can't be read, or it is of another key.
    """
    block = next((one for one in _BLOCK.finditer(text) if one[1] == "CERTIFICATE"), None)
    if block is None:
        raise Rejected("certificate", "it has no certificate in PEM form")
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    try:
        loaded = x509.load_pem_x509_certificate(block[0].encode())
        is_its = loaded.public_key().public_bytes(*form) == key.private.public_key().public_bytes(*form)
        pem = loaded.public_bytes(serialization.Encoding.PEM).decode()
        expires = loaded.not_valid_after_utc.timestamp()
    except _CANT as error:
        raise Rejected("certificate", f"its certificate can't be read: {error}") from error
    if not is_its:
        raise Rejected("certificate", "it is the certificate of another key")
    return pem, expires


def load_crls(text: str) -> list[RevocationList]:
    """Read every list of revoked certificates in a PEM text.

    Raises:
        Rejected: One can't be read: what it revokes is not known.
    """
    try:
        return [
            RevocationList(x509.load_pem_x509_crl(block[0].encode()))
            for block in _BLOCK.finditer(text)
            if block[1] == "X509 CRL"
        ]
    except _CANT as error:
        raise Rejected("crl", f"a list of revoked certificates can't be read: {error}", curable=True) from error


class Wanted(NamedTuple):
    """The content of a certificate to be issued."""

    name: str
    days: float
    authority: bool = False


class Key:
    """A private key."""

    def __init__(self, private: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> None:
        self.private = private
        self.is_rsa = isinstance(private, rsa.RSAPrivateKey)

    @classmethod
    def new(cls, *, kind: str) -> Key:
        """Make a key: ``rsa`` (2,048 bits), ``rsa4096`` or ``ed25519``."""
        if kind == "ed25519":
            return cls(ed25519.Ed25519PrivateKey.generate())
        return cls(rsa.generate_private_key(65537, 4096 if kind == "rsa4096" else 2048))

    @classmethod
    def load(cls, pem: bytes) -> Key:
        """Read a key that is not protected by a password.

        Raises:
            Rejected: It can't be read; the reason shows nothing of its content.
        """
        try:
            private = serialization.load_pem_private_key(pem, None)
        except TypeError as error:
            raise Rejected("key", "it is protected by a password, and a daemon can't ask for one") from error
        except _CANT as error:
            raise Rejected("key", "it is no private key in PEM form") from error
        if not isinstance(private, (rsa.RSAPrivateKey, ed25519.Ed25519PrivateKey)):
            raise Rejected("key", "it is neither an RSA key nor an Ed25519 key")
        return cls(private)

    def sign(self, digest: str, data: bytes) -> bytes:
        """Sign data, the way that `Certificate.verify` checks."""
        if isinstance(self.private, rsa.RSAPrivateKey):
            return self.private.sign(data, _PADDING, _HASHES[digest])
        return self.private.sign(data)

    @property
    def pem(self) -> bytes:
        """The key as a PEM block, without a password."""
        return self.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    # ---------------------------------------------------------------- what an authority does

    def issue(self, wanted: Wanted, holder: Key, issuer: Certificate | None) -> Certificate:
        """Issue a certificate for a key."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, wanted.name)])
        start = datetime.now(timezone.utc) - timedelta(minutes=5)  # clocks differ
        end = start + timedelta(days=wanted.days)
        public, own = holder.private.public_key(), self.private.public_key()
        usage = dict.fromkeys(_USAGES, False)
        usage |= {"key_cert_sign": True, "crl_sign": True} if wanted.authority else {"digital_signature": True}
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer._loaded.subject if issuer else subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(min(end, datetime.fromtimestamp(issuer.not_after, timezone.utc)) if issuer else end)
            .add_extension(x509.BasicConstraints(ca=wanted.authority, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(own), critical=False)
        )
        return Certificate(builder.sign(self.private, self._hash()))

    def list_revoked(self, issuer: Certificate, revoked: Iterable[tuple[int, float]], days: float) -> str:
        """Write a list of revoked certificates as PEM."""
        now = datetime.now(timezone.utc)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer._loaded.subject)
            .last_update(now - timedelta(minutes=5))
            .next_update(now + timedelta(days=days))
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.private.public_key()), critical=False
            )
            .add_extension(x509.CRLNumber(int(time.time())), critical=False)
        )
        for serial, when in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial)
            builder = builder.add_revoked_certificate(
                entry.revocation_date(datetime.fromtimestamp(when, timezone.utc)).build()
            )
        return builder.sign(self.private, self._hash()).public_bytes(serialization.Encoding.PEM).decode()

    def _hash(self) -> hashes.SHA256 | None:
        return hashes.SHA256() if self.is_rsa else None


_USAGES = [
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
]  # fmt: skip
