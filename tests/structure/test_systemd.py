# SPDX-License-Identifier: LGPL-2.1-or-later
"""The unit files are sound, and systemd rates their sandbox as safe."""

from __future__ import annotations

import configparser
import pkgutil
import re
import subprocess
from pathlib import Path

from fedmsg import exceptions
from fedmsg.config import settings
from fedmsg.consumers import FedmsgConsumer
from fedmsg.testing import command_path
from tests import requirements
from tests.structure import source

UNITS = sorted((source.REPOSITORY / "docs" / "systemd").glob("*.service"))

# systemd's exposure level goes from 0 to 100 here; below 20 it says "OK".
EXPOSURE = 20


def service(unit: Path) -> dict[str, str]:
    """Return the section [Service] of a unit file; of a key that stands twice the last counts."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[method-assign,assignment] # the documented way to keep the case
    parser.read(unit)
    return dict(parser["Service"])


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze, which needs no running systemd for this."""
    program = requirements.program("systemd-analyze", "systemd")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def test_units_keep_their_state_over_a_restart() -> None:
    for name in ("fedmsg-relay", "fedmsg-signing-relay", "fedmsg-gateway"):
        (unit,) = [unit for unit in UNITS if unit.stem == name]
        assert service(unit)["RuntimeDirectory"] == name
        assert service(unit)["RuntimeDirectoryPreserve"] == "restart"


def test_relays_have_a_folder_for_a_stream_and_the_pages_use_it() -> None:
    for name in ("fedmsg-relay", "fedmsg-signing-relay"):
        (unit,) = [unit for unit in UNITS if unit.stem == name]
        assert (service(unit)["StateDirectory"], service(unit)["StateDirectoryMode"]) == (name, "0700")
        assert f"sqlite:////var/lib/{name}/stream.db" in unit.read_text(encoding="utf-8")
    for page in ("docs/howto/systemd.rst", "docs/howto/stream.rst", "fedmsg.d/stream.py"):
        text = (source.REPOSITORY / page).read_text(encoding="utf-8")
        assert set(re.findall(r"sqlite:///(/[^\"\s]*)", text)) == {"/var/lib/fedmsg-relay/stream.db"}, page


def test_the_hub_has_a_folder_for_its_spool_and_one_for_its_monitoring_socket() -> None:
    (unit,) = [unit for unit in UNITS if unit.stem == "fedmsg-hub"]
    assert [service(unit)[key] for key in ("StateDirectory", "RuntimeDirectory")] == ["fedmsg-hub", "fedmsg-hub"]


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    for unit in UNITS:  # as a package would install it, but with the command where it is here
        text = unit.read_text(encoding="utf-8")
        here = str(Path(command_path(Path(service(unit)["ExecStart"].split()[0]).name)).parent)
        (tmp_path / unit.name).write_text(text.replace("/usr/bin/", f"{here}/"), encoding="utf-8")
    run = analyze("verify", "--man=no", *[tmp_path / unit.name for unit in UNITS])
    assert (run.returncode, run.stdout + run.stderr) == (0, "")


def test_systemd_rates_the_sandbox_as_safe() -> None:
    run = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", *UNITS)
    assert run.returncode == 0, run.stdout[-500:] + run.stderr


def test_units_have_memory_limits() -> None:
    sizes = {"M": 2**20, "G": 2**30}
    for unit in UNITS:
        high, most = (service(unit).get(key, "0M") for key in ("MemoryHigh", "MemoryMax"))
        assert 0 < int(high[:-1]) * sizes[high[-1]] < int(most[:-1]) * sizes[most[-1]], unit.name


def test_units_notify_and_end_in_time() -> None:
    stop_timeout = settings.get({}, "stop_timeout")
    for keys in map(service, UNITS):
        assert keys["Type"] == "notify"
        # gunicorn watches its workers itself.
        assert int(keys.get("WatchdogSec", "0")) > 0 or keys["ExecStart"].endswith(("/datagrepper", "/statscache"))
        assert stop_timeout < int(keys["TimeoutStopSec"]) <= 2 * stop_timeout


def test_units_are_not_restarted_where_that_can_not_help() -> None:
    hopeless = {
        str(error.exit_status) for error in (exceptions.UsageError, exceptions.ConfigError, exceptions.RefusedAtStart)
    }
    assert [unit.name for unit in UNITS if set(service(unit)["RestartPreventExitStatus"].split()) != hopeless] == []


def test_units_run_our_commands() -> None:
    command = r"/usr/bin/(datagrepper|statscache|fedmsg-[a-z-]+)( --with-consumers fedmsg\.[\w.]+:\w+)?"
    assert [unit.name for unit in UNITS if not re.fullmatch(command, service(unit)["ExecStart"])] == []


def test_consumers_that_units_name_are_there() -> None:
    named = [one for unit in UNITS for one in re.findall(r"--with-consumers (\S+)", service(unit)["ExecStart"])]
    assert named
    for path in named:
        found = pkgutil.resolve_name(path)
        assert issubclass(found, FedmsgConsumer)
        # What the flag enables.
        assert found.config_key


def test_settings_that_units_name_are_there() -> None:
    known = set(settings.TABLE)
    for unit in UNITS:
        text = unit.read_text(encoding="utf-8")
        # In quotes, and in the comments.
        named = set(re.findall(r'"([a-z_.]+)": ', text))
        named |= set(re.findall(r"\b(\w+_(?:timeout|directory|bytes)|\w+\.sqlalchemy\.url)\b", text))
        # The one is a key of certnames.
        assert named <= known | {"signing_relay"}, unit.name
