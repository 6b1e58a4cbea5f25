# SPDX-License-Identifier: LGPL-2.1-or-later
"""Homes of GnuPG for tests, each with a key of its own."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from tests import requirements


class Home:
    """A folder in which GnuPG keeps a new key without a password.

    Attributes:
        folder: The folder.
        key: The fingerprint of the key.
    """

    def __init__(self) -> None:
        requirements.program("gpg", "gnupg")
        # GnuPG's agent listens at a path below it, which must not be longer than 107 characters.
        self._folder = tempfile.TemporaryDirectory(prefix="gpg-", dir="/tmp", ignore_cleanup_errors=True)
        self.folder = Path(self._folder.name)
        self.run("--quick-generate-key", "Test <test@example.org>", "rsa2048", "sign", "never")
        fields = self.run("--list-secret-keys", "--with-colons").decode().splitlines()
        self.key = next(line.split(":")[9] for line in fields if line.startswith("fpr"))

    @property
    def config(self) -> dict[str, Any]:
        """A configuration that signs and checks with it."""
        return {
            "crypto_backend": "gpg",
            "crypto_validate_backends": ["gpg", "gpg-envelope"],
            "gpg_home": str(self.folder),
            "gpg_signing_key": self.key,
        }

    def run(self, *arguments: str, stdin: bytes = b"") -> bytes:
        """Run GnuPG in this home, and return what it prints."""
        command = ["gpg", "--homedir", str(self.folder), "--batch", "--yes", "--pinentry-mode", "loopback"]
        done = subprocess.run([*command, "--passphrase", "", *arguments], input=stdin, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def revoke(self) -> None:
        """Revoke the key, by the certificate that GnuPG made together with it."""
        certificate = self.folder / "openpgp-revocs.d" / f"{self.key}.rev"
        # Its first line has a colon in front, so that nobody uses it by accident.
        self.run("--import", stdin=certificate.read_bytes().replace(b"\n:-----", b"\n-----"))

    def __enter__(self) -> Home:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        subprocess.run(["gpgconf", "--homedir", str(self.folder), "--kill", "all"], check=False)
        self._folder.cleanup()
