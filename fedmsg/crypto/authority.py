# SPDX-License-Identifier: LGPL-2.1-or-later
"""A small certificate authority in a folder: what ``fedmsg-certs`` works with.

::

    ca.crt            the certificates of all authorities in use: ca_cert_location
    crl.pem           the list of revoked ones of each: crl_location
    authorities/      the key and certificate of each authority
    issued/           the keys and certificates for services
    index.json        what was issued, and what of it is revoked
"""

from __future__ import annotations

import json
import os
import re
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedmsg._util import files, plugins
from fedmsg.crypto._credentials import Rejected
from fedmsg.exceptions import RefusedAtStart, UsageError

if TYPE_CHECKING:
    from fedmsg.crypto._cryptography import Certificate, Key

__all__ = ["Authority", "Entry", "write_secret_pair"]

Entry = dict[str, Any]

# It becomes the name of a file.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_DAY = 86400.0


class Authority:
    """A certificate authority, and all that it has issued."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca_path = folder / "ca.crt"
        self.crl_path = folder / "crl.pem"
        self.issued = folder / "issued"
        self._authorities = folder / "authorities"
        self._index_path = folder / "index.json"
        self._library = plugins.lazy("x509")

    # ---------------------------------------------------------------- what users ask for

    def create(self, name: str, *, days: float, kind: str, crl_days: float, force: bool = False) -> None:
        """Make a new authority, with an empty list of what it has revoked.

        Raises:
            UsageError: There is one already, or the folder is used for something else.
        """
        self._check_folder()
        if self._index_path.exists() and not force:
            raise UsageError(
                f"there is an authority in {self.folder} already: --force replaces it, rollover succeeds it"
            )
        for folder in (self.folder, self._authorities, self.issued):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
        self._write_index({"authorities": [], "issued": []})
        self._add_authority(name, days, kind)
        self.write_crl(crl_days)

    def issue(self, name: str, *, days: float, kind: str, force: bool = False) -> Path:
        """Issue a key and certificate, ``<name>.key`` and ``<name>.crt``.

        Args:
            name: The common name: a service and its host, such as ``bodhi.app1``.
            days: How long it is valid; never longer than the authority.
            kind: The kind of the key.
            force: Whether one that is there may be replaced; it stays valid until it is revoked.

        Returns:
            The path of the certificate.

        Raises:
            UsageError: There is one of that name, or it is no name.
        """
        _check_name(name)
        index = self._index()
        key_path, path = self.issued / f"{name}.key", self.issued / f"{name}.crt"
        if (key_path.exists() or path.exists()) and not force:
            raise UsageError(f"{path} is there already: --force issues a new one")
        which = index["authorities"][-1]
        issuer, signing = self._load(which)
        holder: Key = self._library.Key.new(kind=kind)
        made: Certificate = signing.issue(self._library.Wanted(name, days), holder, issuer)
        files.replace(key_path, holder.pem, mode=0o600)
        files.replace(path, made.pem.encode(), mode=0o644)
        index["issued"].append(
            {"name": name, "serial": made.serial, "authority": which, "expires": made.not_after, "revoked": None}
        )
        self._write_index(index)
        return path

    def revoke(self, name: str, crl_days: float) -> int:
        """Revoke every certificate of a name, and renew the lists.

        Raises:
            UsageError: There is none that is not revoked already.
        """
        index = self._index()
        found = [entry for entry in index["issued"] if entry["name"] == name and entry["revoked"] is None]
        if not found:
            raise UsageError(f"there is no certificate of {name} that is not revoked; see fedmsg-certs list")
        for entry in found:
            entry["revoked"] = time.time()
        self._write_index(index)
        self.write_crl(crl_days)
        return len(found)

    def write_crl(self, days: float) -> None:
        """Write the list of revoked certificates of every authority in use."""
        index = self._index()
        lists = []
        for which in index["authorities"]:
            issuer, key = self._load(which)
            revoked = [
                (entry["serial"], entry["revoked"])
                for entry in index["issued"]
                if entry["authority"] == which and entry["revoked"] is not None
            ]
            lists.append(key.list_revoked(issuer, revoked, days))
        files.replace(self.crl_path, "".join(lists).encode(), mode=0o644)

    def entries(self, expiring: float | None = None) -> list[Entry]:
        """Return what was issued and what issued it, the first to expire first."""
        index = self._index()
        found: list[Entry] = [dict(entry) for entry in index["issued"]]
        for which in index["authorities"]:
            certificate, _ = self._load(which)
            found.append({"name": f"{certificate.name} (authority)", "expires": certificate.not_after, "revoked": None})
        if expiring is not None:
            until = time.time() + expiring * _DAY
            found = [entry for entry in found if entry["revoked"] is None and entry["expires"] <= until]
        return sorted(found, key=lambda entry: (entry["expires"], entry["name"]))

    def roll_over(self, name: str, *, days: float, kind: str, crl_days: float) -> None:
        """Make a new authority beside the old one; both are trusted, and the new one issues."""
        self._add_authority(name, days, kind)
        self.write_crl(crl_days)

    def finish_rollover(self, crl_days: float, *, force: bool = False) -> None:
        """Trust only the newest authority from now on.

        Raises:
            UsageError: There is only one, or services would be shut out.
        """
        index = self._index()
        *old, newest = index["authorities"]
        if not old:
            raise UsageError("there is only one authority: fedmsg-certs rollover makes the next")
        now = time.time()
        alive = [entry for entry in index["issued"] if entry["revoked"] is None and entry["expires"] > now]
        moved = {entry["name"] for entry in alive if entry["authority"] == newest}
        left = sorted({entry["name"] for entry in alive} - moved)
        if left and not force:
            raise UsageError(f"no new certificate was issued yet for {', '.join(left)}; --force shuts them out")
        index["authorities"] = [newest]
        self._write_index(index)
        self._write_bundle([newest])
        self.write_crl(crl_days)

    # ---------------------------------------------------------------- its files

    def _check_folder(self) -> None:
        """Check that the folder is new, empty or an authority's, and our own: its mode will be changed.

        Raises:
            UsageError: It is not.
        """
        try:
            found = self.folder.stat()
            content = os.listdir(self.folder)
        except FileNotFoundError:
            self._check_parent()
            return
        except OSError as error:
            raise UsageError(f"{self.folder} can't be used for an authority: {error.strerror}") from error
        if found.st_uid != os.geteuid():
            raise UsageError(f"{self.folder} belongs to another user: name a folder of your own, or a new one")
        if content and self._index_path.name not in content:
            raise UsageError(f"{self.folder} has other files in it: name an empty folder, or a new one")

    def _check_parent(self) -> None:
        """Check that no other user can put a folder of theirs in place of a new one.

        Raises:
            UsageError: Another user can.
        """
        parent = next(folder for folder in self.folder.absolute().parents if folder.exists())
        found = parent.stat()
        writable = found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX
        if found.st_uid not in {0, os.geteuid()} or writable:
            raise UsageError(f"{parent} can be changed by other users: name a folder in one of your own")

    def _add_authority(self, name: str, days: float, kind: str) -> None:
        index = self._index()
        key: Key = self._library.Key.new(kind=kind)
        made: Certificate = key.issue(self._library.Wanted(name, days, authority=True), key, None)
        which = f"{made.serial:x}"
        files.replace(self._authorities / f"{which}.key", key.pem, mode=0o600)
        files.replace(self._authorities / f"{which}.crt", made.pem.encode(), mode=0o644)
        index["authorities"].append(which)
        self._write_index(index)
        self._write_bundle(index["authorities"])

    def _write_bundle(self, authorities: list[str]) -> None:
        pems = [(self._authorities / f"{which}.crt").read_bytes() for which in authorities]
        files.replace(self.ca_path, b"".join(pems), mode=0o644)

    def _load(self, which: str) -> tuple[Certificate, Key]:
        path = self._authorities / f"{which}.key"
        try:
            certificate = self._library.load_certificates(path.with_suffix(".crt").read_text("ascii"), strict=True)[0]
            return certificate, self._library.Key.load(path.read_bytes())
        except (OSError, Rejected) as error:
            raise RefusedAtStart(f"the authority's key or certificate can't be used: {path}: {error}") from error

    def _index(self) -> dict[str, list[Any]]:
        try:
            index: dict[str, list[Any]] = json.loads(self._index_path.read_text("utf-8"))
        except FileNotFoundError as error:
            raise UsageError(f"there is no authority in {self.folder}: fedmsg-certs init makes one") from error
        except (OSError, ValueError) as error:
            raise RefusedAtStart(f"{self._index_path} can't be read: {error}") from error
        return index

    def _write_index(self, index: dict[str, list[Any]]) -> None:
        files.replace(self._index_path, (json.dumps(index, indent=1) + "\n").encode(), mode=0o600)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} can't be the name of a certificate: write <service>.<host>, such as shell.app1")


def write_secret_pair(folder: Path, name: str, *, force: bool) -> tuple[Path, Path]:
    """Write a CURVE key pair, ``<name>.key`` and ``<name>.key_secret``.

    Raises:
        UsageError: There are such files, or it is no name.
    """
    # Costs 13 ms, and only who asks for such keys pays.
    from zmq.auth.certs import create_certificates

    _check_name(name)
    public, secret = folder / f"{name}.key", folder / f"{name}.key_secret"
    if (public.exists() or secret.exists()) and not force:
        raise UsageError(f"{public} or {secret} is there already: --force makes new ones")
    before = os.umask(0o077)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        create_certificates(folder, name)
    finally:
        os.umask(before)
    public.chmod(0o644)
    return public, secret
