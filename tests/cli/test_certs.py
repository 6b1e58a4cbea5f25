# SPDX-License-Identifier: LGPL-2.1-or-later
"""fedmsg-certs, and what it makes put to use."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from fedmsg import crypto
from fedmsg.testing import run
from tests import inside

Message = dict[str, Any]

MESSAGE: Message = {"topic": "a.b", "msg": {}, "timestamp": 1, "msg_id": "2026-1", "i": 1, "username": "u"}


class Folder:
    """An authority that is spoken to by the command alone."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return inside.run(["fedmsg-certs", "--folder", str(self.path), *arguments])

    def do(self, *arguments: str) -> str:
        done = self.ask(*arguments)
        assert (done.returncode, done.stderr) == (0, ""), arguments
        return done.stdout

    def config(self, name: str) -> dict[str, Any]:
        return {
            "ssldir": str(self.path / "issued"),
            "certname": name,
            "ca_cert_location": str(self.path / "ca.crt"),
            "crl_location": str(self.path / "crl.pem"),
            "crypto_validate_backends": ["x509", "x509-sha256", "ed25519"],
        }


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an authority that nothing has been asked of; each test gets a copy."""
    made = Folder(tmp_path_factory.mktemp("fresh") / "authority")
    done = run(["fedmsg-certs", "--folder", str(made.path), "init"])
    assert (done.returncode, done.stderr) == (0, "")
    return made.path


@pytest.fixture
def folder(fresh: Path, tmp_path: Path) -> Iterator[Folder]:
    made = Folder(Path(shutil.copytree(fresh, tmp_path / "authority")))
    yield made
    loose = [path for path in made.path.rglob("*") if "key" in path.suffix and "BEGIN PRIVATE" in path.read_text()]
    assert {path.stat().st_mode & 0o777 for path in loose} <= {0o600}
    assert {path.stat().st_mode & 0o777 for path in [made.path, *made.path.rglob("*")] if path.is_dir()} == {0o700}
    assert list(made.path.rglob(".*")) == []


@pytest.mark.parametrize(("kind", "form"), [("rsa", "x509"), ("rsa4096", "x509-sha256"), ("ed25519", "ed25519")])
def test_what_is_issued_signs(kind: str, form: str, folder: Folder) -> None:
    printed = folder.do("issue", "shell.app1", "--key-type", kind)
    assert '"certnames": {"shell.app1": "shell.app1"},' in printed
    config = folder.config("shell.app1")
    signed = crypto.sign(MESSAGE, **config, crypto_backend=form)
    assert crypto.validate_signed_by(signed, "shell.app1", **config)


def test_the_printed_lines_are_a_configuration(folder: Folder) -> None:
    printed = folder.do("crl") + folder.do("rollover") + folder.do("issue", "a.b")
    config = eval("{" + printed + "}", {})
    assert config["sign_messages"] is config["validate_signatures"] is True


def test_revoked(folder: Folder) -> None:
    folder.do("issue", "shell.app1")
    folder.do("issue", "shell.app2")
    signed = [crypto.sign(MESSAGE, **folder.config(name)) for name in ("shell.app1", "shell.app2")]
    folder.do("revoke", "shell.app1")
    assert [crypto.validate(one, **folder.config("shell.app1")) for one in signed] == [False, True]
    assert folder.ask("revoke", "shell.app1").returncode == 2
    assert re.search(r"revoked +shell\.app1\n", folder.do("list"))


def test_a_list_is_renewed(folder: Folder) -> None:
    def next_update() -> Any:
        return x509.load_pem_x509_crl((folder.path / "crl.pem").read_bytes()).next_update_utc

    first = next_update()
    folder.do("crl", "--crl-days", "60")
    assert (next_update() - first).days in {29, 30}


def test_nothing_is_replaced_without_force(folder: Folder) -> None:
    folder.do("issue", "shell.app1")
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    for arguments in (["init"], ["issue", "shell.app1"]):
        done = folder.ask(*arguments)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
        assert "--force" in done.stderr
    assert {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()} == before
    folder.do("issue", "shell.app1", "--force")
    folder.do("init", "--force")
    assert (folder.path / "ca.crt").read_bytes() != before[folder.path / "ca.crt"]


def test_init_leaves_the_folders_of_others_alone(tmp_path: Path) -> None:
    used, empty = tmp_path / "used", tmp_path / "empty"
    for path in (used, empty):
        path.mkdir(mode=0o755)
    (used / "precious").write_text("x")
    for arguments in (["init"], ["init", "--force"]):
        done = Folder(used).ask(*arguments)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
        assert "has other files in it" in done.stderr
    assert [path.name for path in used.iterdir()] == ["precious"]
    assert used.stat().st_mode & 0o777 == 0o755
    Folder(empty).do("init")  # a control
    if os.geteuid() == 0:
        foreign = tmp_path / "foreign"
        foreign.mkdir()
        os.chown(foreign, 65534, 65534)
        for folder, reason in ((foreign, "belongs to another user"), (foreign / "new", "changed by other users")):
            done = Folder(folder).ask("init")
            assert (done.returncode, list(foreign.iterdir())) == (2, [])
            assert reason in done.stderr


@pytest.mark.parametrize("name", ["foo\n", "\nfoo", "../foo", "foo/bar", "", "-foo", "foo bar", "x" * 64])
def test_what_is_no_name_is_rejected(name: str, folder: Folder) -> None:
    for command in ("issue", "curve"):
        done = folder.ask(command, "--", name)
        assert (done.returncode, done.stdout) == (2, "")
    assert list(folder.path.glob("*foo*")) == list((folder.path / "issued").iterdir()) == []


def test_what_expires(folder: Folder) -> None:
    folder.do("issue", "soon.app1", "--days", "5")
    folder.do("issue", "later.app1")
    done = folder.ask("list", "--expiring", "30")
    assert (done.returncode, [line.split()[-1] for line in done.stdout.splitlines()]) == (1, ["soon.app1"])
    assert folder.do("list", "--expiring", "1") == ""
    assert len(folder.do("list").splitlines()) == 3


def test_a_certificate_does_not_outlive_its_authority(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "short")
    folder.do("init", "--days", "10")
    folder.do("issue", "shell.app1", "--days", "3650")
    authority, issued = (
        x509.load_pem_x509_certificate(path.read_bytes())
        for path in (folder.path / "ca.crt", folder.path / "issued" / "shell.app1.crt")
    )
    assert issued.not_valid_after_utc <= authority.not_valid_after_utc


def test_rollover(folder: Folder) -> None:
    folder.do("issue", "shell.app1")
    config = folder.config("shell.app1")
    old = crypto.sign(MESSAGE, **config)
    folder.do("rollover")
    done = folder.ask("rollover", "--finish")
    assert done.returncode == 2
    assert "shell.app1" in done.stderr
    folder.do("issue", "shell.app1", "--force")
    fresh = {**config, "ca_cert_location": str(folder.path / "both.crt")}
    (folder.path / "both.crt").write_bytes((folder.path / "ca.crt").read_bytes())
    new = crypto.sign(MESSAGE, **{**config, "ssldir": str(folder.path / "issued") + "/"})
    assert old["certificate"] != new["certificate"]
    assert crypto.validate(old, **fresh)
    assert crypto.validate(new, **fresh)
    folder.do("rollover", "--finish")
    (folder.path / "one.crt").write_bytes((folder.path / "ca.crt").read_bytes())
    (folder.path / "one.pem").write_bytes((folder.path / "crl.pem").read_bytes())
    alone = {**config, "ca_cert_location": str(folder.path / "one.crt"), "crl_location": str(folder.path / "one.pem")}
    assert not crypto.validate(old, **alone)
    assert crypto.validate(new, **alone)
    assert folder.ask("rollover", "--finish").returncode == 2


@pytest.mark.parametrize("name", ["../x", ".hidden", "", "a/b", "a b", "x" * 64, "-x"])
def test_names_become_files(name: str, folder: Folder) -> None:
    for command in ("issue", "curve"):
        assert folder.ask(command, "--", name).returncode == 2


def test_curve(folder: Folder) -> None:
    folder.do("curve", "relay")
    secret = folder.path / "curve" / "relay.key_secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert folder.ask("curve", "relay").returncode == 2
    folder.do("curve", "relay", "--force")


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["issue", "a"], 2), (["list"], 2), (["nonsense"], 2), (["issue"], 2), (["--version"], 0), (["--help"], 0)],
)
def test_without_an_authority(arguments: list[str], status: int, tmp_path: Path) -> None:
    done = run(["fedmsg-certs", "--folder", str(tmp_path / "nothing"), *arguments])
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "nothing").exists()


def test_a_broken_authority_is_one_line(folder: Folder) -> None:
    for path in (folder.path / "authorities").glob("*.key"):
        path.write_text("rubbish")
    done = folder.ask("issue", "shell.app1")
    assert (done.returncode, len(done.stderr.splitlines())) == (7, 1)
    (folder.path / "index.json").write_text("{")
    assert folder.ask("list").returncode == 7
    for path in (folder.path / "authorities").glob("*.key"):
        path.unlink()
