# SPDX-License-Identifier: LGPL-2.1-or-later
"""Certificates for tests, good ones and every kind of bad one, made with the library alone."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID

Key = rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey

DAY = timedelta(days=1)
SHA256 = hashes.SHA256()

# RSA signatures with each hash, as certificates name them. The library makes none with these two
# any more, so one with SHA-256 is made into one.
_OIDS = {
    name: bytes.fromhex("2a864886f70d0101" + last) for name, last in (("md5", "04"), ("sha1", "05"), ("sha256", "0b"))
}
SHA1, MD5 = "sha1", "md5"


def _altered(der: bytes, signed: bytes, signing: Key, digest: str) -> bytes:
    """Return a signed structure as if it had been signed with an old hash."""
    assert isinstance(signing, rsa.RSAPrivateKey)
    renamed = signed.replace(_OIDS["sha256"], _OIDS[digest])
    signature = signing.sign(renamed, padding.PKCS1v15(), {"sha1": hashes.SHA1(), "md5": hashes.MD5()}[digest])
    return der.replace(_OIDS["sha256"], _OIDS[digest])[: -len(signature)] + signature


@cache
def key(number: int = 0, kind: str = "rsa") -> Key:
    """Return a key; the same one for the same number, since RSA keys take long to make."""
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind == "ec":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(65537, {"rsa": 2048, "rsa1024": 1024}[kind])


def name(*common_names: str) -> x509.Name:
    """Return a subject of these common names alone."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one) for one in common_names])


def unknown(*, critical: bool) -> tuple[x509.ExtensionType, bool]:
    """Return an extension that nobody knows."""
    return x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00"), critical


def usage(**allowed: bool) -> tuple[x509.ExtensionType, bool]:
    """Return a key usage."""
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{**dict.fromkeys(names, False), **allowed}), True


class Holder:
    """A certificate with its key, which may issue others.

    Args:
        common_name: Its common name, or several.
        issuer: Who issues it; it issues itself when there is none.
        key_number: Which of the keys it has.
        kind: The kind of key.
        authority: Whether it has CA:TRUE; None for no such extension.
        path_length: How many authorities may be below it.
        start: From when it is valid, from now.
        end: Until when it is valid, from now.
        extensions: More extensions, each with whether it is critical.
        digest: What it is signed with.
    """

    def __init__(
        self,
        common_name: str | Sequence[str],
        issuer: Holder | None = None,
        *,
        key_number: int | None = None,
        kind: str = "rsa",
        authority: bool | None = None,
        path_length: int | None = None,
        start: timedelta = -DAY,
        end: timedelta = 365 * DAY,
        extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
        digest: Any = SHA256,
        issuer_key: Key | None = None,
    ) -> None:
        names = (common_name,) if isinstance(common_name, str) else tuple(common_name)
        self.common_name = names[0] if names else ""
        self.subject = name(*names)
        self.key = key(abs(hash(names)) if key_number is None else key_number, kind)
        self._issuer = issuer or self
        signing = issuer_key or self._issuer.key
        now = datetime.now(timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.subject)
            .issuer_name(self._issuer.subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + start)
            .not_valid_after(now + end)
        )
        if authority is not None:
            builder = builder.add_extension(x509.BasicConstraints(authority, path_length), critical=True)
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        self.certificate = builder.sign(signing, _digest(signing, digest))
        if isinstance(digest, str):
            der = self.certificate.public_bytes(serialization.Encoding.DER)
            der = _altered(der, self.certificate.tbs_certificate_bytes, signing, digest)
            self.certificate = x509.load_der_x509_certificate(der)

    @property
    def pem(self) -> str:
        """The certificate as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        """The key as PEM."""
        form = serialization.PrivateFormat.TraditionalOpenSSL
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            form = serialization.PrivateFormat.PKCS8
        return self.key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()

    def crl(
        self,
        *revoked: Holder,
        start: timedelta = -DAY,
        end: timedelta = 30 * DAY,
        extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
        digest: Any = SHA256,
        signed_by: Holder | None = None,
    ) -> str:
        """Return a list of what this authority has revoked, as PEM."""
        now = datetime.now(timezone.utc)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.subject).last_update(now + start)
        builder = builder.next_update(now + end)
        for one in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(one.certificate.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(now + start).build())
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        signing = (signed_by or self).key
        made = builder.sign(signing, _digest(signing, digest))
        if isinstance(digest, str):
            der = made.public_bytes(serialization.Encoding.DER)
            made = x509.load_der_x509_crl(_altered(der, made.tbs_certlist_bytes, signing, digest))
        return made.public_bytes(serialization.Encoding.PEM).decode()

    def write(self, folder: Path, certname: str = "") -> str:
        """Write key and certificate into a folder, as ``ssldir`` has them; returns their name."""
        certname = certname or self.common_name
        put(folder / f"{certname}.key", self.key_pem, 0o600)
        put(folder / f"{certname}.crt", self.pem)
        return certname


def _digest(signing: Key, digest: Any) -> Any:
    if isinstance(signing, ed25519.Ed25519PrivateKey):
        return None
    return SHA256 if isinstance(digest, str) else digest


def put(path: Path, text: str, mode: int = 0o644) -> Path:
    """Replace a file as a whole, as careful administrators do."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.chmod(mode)
    os.replace(fresh, path)
    return path


def authority(common_name: str = "Test CA", **how: Any) -> Holder:
    """Return an authority that issues itself."""
    return Holder(common_name, authority=True, **how)


class Bench:
    """A folder with a CA, a certificate of ``shell.test`` and the configuration to use both.

    Args:
        folder: An empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = authority()
        self.leaf = Holder("shell.test", self.ca)
        self.ca_path = put(folder / "ca.crt", self.ca.pem)
        self.crl_path = put(folder / "crl.pem", self.ca.crl())
        self.config: dict[str, Any] = {
            "ssldir": str(folder),
            "certname": self.leaf.write(folder),
            "ca_cert_location": str(self.ca_path),
            "crl_location": str(self.crl_path),
            "crypto_backend": "x509",
            "crypto_validate_backends": ["x509", "x509-sha256", "ed25519"],
            "routing_policy": {},
            "routing_nitpicky": False,
        }


def encoded(pem: str) -> str:
    """Return a certificate in the form on the wire."""
    return base64.encodebytes(pem.encode()).decode()


def with_version(pem: str, version: int) -> str:
    """Return a certificate with another version in it."""
    der = x509.load_pem_x509_certificate(pem.encode()).public_bytes(serialization.Encoding.DER)
    changed = der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01" + bytes([version]), 1)
    assert changed != der
    return f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(changed).decode()}-----END CERTIFICATE-----\n"


def many_names(count: int) -> str:
    """Return a certificate with so many alternative names."""
    names = x509.SubjectAlternativeName([x509.DNSName(f"{number}.example.org") for number in range(count)])
    return Holder("names", extensions=[(names, False)]).pem
