# SPDX-License-Identifier: LGPL-2.1-or-later
"""``fedmsg-certs``: makes the keys and certificates that messages are signed with."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from fedmsg.commands import _groups
from fedmsg.crypto import authority as _authority

__all__ = ["certs", "main"]

_PROG = "fedmsg-certs"
_DAY = 86400.0
_KINDS = click.Choice(["rsa", "rsa4096", "ed25519"])

_NAME = click.argument("name")
_CRL_DAYS = click.option(
    "--crl-days", default=30.0, show_default=True, type=click.FloatRange(min=0.01), metavar="DAYS",
    help="After how many days the list of revoked certificates has to be renewed.",
)  # fmt: skip
_FORCE = click.option("--force", is_flag=True, help="Replace what is there already.")
_CA_DAYS = click.option("--days", default=3650.0, show_default=True, metavar="DAYS", help="How long it is valid.")
_CA_NAME = click.option("--name", default="fedmsg CA", show_default=True, help="The common name of the authority.")
_KIND = click.option("--key-type", "kind", type=_KINDS, default="rsa", show_default=True, help="The kind of key.")


@click.group(cls=_groups.WholeHelp, context_settings={"help_option_names": ["--help"]})
@click.option(
    "--folder", default="fedmsg-certs", show_default=True, type=click.Path(path_type=Path, file_okay=False),
    help="The folder with the authority.",
)  # fmt: skip
@click.version_option(package_name="fedmsg", message="%(prog)s %(version)s")
@click.pass_context
def certs(context: click.Context, folder: Path) -> None:
    """Make and revoke the keys and certificates that messages are signed with.

    The authority's folder belongs on one well-kept machine. What services need is copied from
    there: ca.crt and crl.pem to every machine, a key and its certificate only to the service that signs.
    """
    context.obj = folder


@certs.command()
@_CA_NAME
@_CA_DAYS
@_KIND
@_CRL_DAYS
@_FORCE
@click.pass_obj
def init(folder: Path, *, name: str, days: float, kind: str, crl_days: float, force: bool) -> None:
    """Make an authority."""
    made = _authority.Authority(folder)
    made.create(name, days=days, kind=kind, crl_days=crl_days, force=force)
    _show_trust(made)


@certs.command()
@_NAME
@click.option("--days", default=365.0, show_default=True, metavar="DAYS", help="How long it is valid.")
@_KIND
@_FORCE
@click.pass_obj
def issue(folder: Path, name: str, *, days: float, kind: str, force: bool) -> None:
    """Issue a key and certificate for NAME, which is <service>.<host>."""
    made = _authority.Authority(folder)
    path = made.issue(name, days=days, kind=kind, force=force)
    service = name.partition(".")[0]
    key = "signing_relay" if service == "signing_relay" else name
    click.echo(f"# Copy {path.with_suffix('.key')} and {path} into ssldir of that host. There:")
    click.echo('"sign_messages": True,')
    if kind == "ed25519":
        click.echo('"crypto_backend": "ed25519",')
    click.echo(f'"certnames": {{"{key}": "{name}"}},')


@certs.command()
@_NAME
@_CRL_DAYS
@click.pass_obj
def revoke(folder: Path, name: str, crl_days: float) -> None:
    """Revoke the certificates of NAME, and renew the list."""
    made = _authority.Authority(folder)
    count = made.revoke(name, crl_days)
    click.echo(f"# Revoked {count}. Copy {made.crl_path.absolute()} to all machines that check.")


@certs.command()
@_CRL_DAYS
@click.pass_obj
def crl(folder: Path, crl_days: float) -> None:
    """Write the list of revoked certificates anew, before the last one expires."""
    made = _authority.Authority(folder)
    made.write_crl(crl_days)
    click.echo(f"# Copy {made.crl_path.absolute()} to all machines that check, again within {crl_days:g} days.")


@certs.command(name="list")
@click.option("--expiring", type=float, metavar="DAYS", help="Only what expires within so many days; status 1 if any.")
@click.pass_context
def show(context: click.Context, expiring: float | None) -> None:
    """List what was issued."""
    entries = _authority.Authority(context.obj).entries(expiring)
    for entry in entries:
        day = time.strftime("%Y-%m-%d", time.gmtime(entry["expires"]))
        state = "revoked" if entry["revoked"] else "expired" if entry["expires"] < time.time() else "valid"
        click.echo(f"{day}  {state:7}  {entry['name']}")
    if expiring is not None and entries:
        context.exit(1)


@certs.command()
@click.option("--name", help="The common name of the new authority; by default it has the date in it.")
@_CA_DAYS
@_KIND
@_CRL_DAYS
@click.option("--finish", is_flag=True, help="Stop trusting the old authority.")
@click.option("--force", is_flag=True, help="Finish though services still have certificates of the old one.")
@click.pass_obj
def rollover(
    folder: Path, *, name: str | None, days: float, kind: str, crl_days: float, finish: bool, force: bool
) -> None:
    """Make a new authority beside the old one; both are trusted until --finish."""
    made = _authority.Authority(folder)
    if finish:
        made.finish_rollover(crl_days, force=force)
    else:
        # Another name than the old one's: some programs confuse two of one name.
        made.roll_over(name or f"fedmsg CA of {time.strftime('%Y-%m-%d')}", days=days, kind=kind, crl_days=crl_days)
    _show_trust(made)


@certs.command()
@_NAME
@_FORCE
@click.pass_obj
def curve(folder: Path, name: str, *, force: bool) -> None:
    """Make a CURVE key pair for encrypted connections, in the subfolder curve."""
    public, secret = _authority.write_secret_pair(folder / "curve", name, force=force)
    click.echo(f"# Copy {public} to the machines that have to know it, and {secret} to its owner. There:")
    click.echo(f'"curve_key": "/etc/pki/fedmsg/{secret.name}",')


def _show_trust(made: _authority.Authority) -> None:
    names = f"{made.ca_path.name} and {made.crl_path.name}"
    click.echo(f"# Copy {names} from {made.folder.absolute()} to all machines that check:")
    click.echo('"validate_signatures": True,')
    click.echo('"ca_cert_location": "/etc/pki/fedmsg/ca.crt",')
    click.echo('"crl_location": "/etc/pki/fedmsg/crl.pem",')


def main() -> Any:
    """Run the command: the entry point of ``fedmsg-certs``."""
    return _groups.run(certs, _PROG)
