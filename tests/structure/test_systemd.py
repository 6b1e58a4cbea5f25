# SPDX-License-Identifier: LGPL-2.1-or-later
"""The unit files are sound, and systemd rates their sandbox as safe."""

from __future__ import annotations

import configparser
import re
import subprocess
from pathlib import Path

import pytest

from fedmsg import exceptions
from fedmsg.config import settings
from fedmsg.testing import command_path
from tests import requirements
from tests.structure import source

UNITS = sorted((source.REPOSITORY / "docs" / "systemd").glob("*.service"))

# systemd's exposure level goes from 0 to 100 here; below 20 it says "OK".
EXPOSURE = 20

every_unit = pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)


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


@pytest.mark.parametrize("name", ["fedmsg-relay", "fedmsg-signing-relay", "fedmsg-gateway"])
def test_there_is_a_unit_that_remembers_over_a_restart(name: str) -> None:
    (unit,) = [unit for unit in UNITS if unit.stem == name]
    assert service(unit)["RuntimeDirectory"] == name
    assert service(unit)["RuntimeDirectoryPreserve"] == "restart"


@pytest.mark.parametrize("key", ["StateDirectory", "RuntimeDirectory"])
def test_the_hub_has_a_place_for_what_is_left_and_for_its_monitoring_socket(key: str) -> None:
    (unit,) = [unit for unit in UNITS if unit.stem == "fedmsg-hub"]
    assert service(unit)[key] == "fedmsg-hub"


@every_unit
def test_verify(unit: Path, tmp_path: Path) -> None:
    # As a package would install it, but with the command where it is here.
    text = unit.read_text(encoding="utf-8").replace(
        "/usr/bin/fedmsg-", str(Path(command_path(unit.stem)).parent) + "/fedmsg-"
    )
    (tmp_path / unit.name).write_text(text, encoding="utf-8")
    run = analyze("verify", "--man=no", tmp_path / unit.name)
    assert (run.returncode, run.stdout + run.stderr) == (0, "")


@every_unit
def test_sandbox(unit: Path) -> None:
    run = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", unit)
    assert run.returncode == 0, run.stdout[-500:] + run.stderr


@every_unit
def test_type_and_times(unit: Path) -> None:
    keys = service(unit)
    assert keys["Type"] == "notify"
    assert int(keys["WatchdogSec"]) > 0
    stop_timeout = settings.get({}, "stop_timeout")
    assert stop_timeout < int(keys["TimeoutStopSec"]) <= 2 * stop_timeout


@every_unit
def test_what_nobody_mends_by_restarting(unit: Path) -> None:
    hopeless = {
        str(error.exit_status) for error in (exceptions.UsageError, exceptions.ConfigError, exceptions.RefusedAtStart)
    }
    assert set(service(unit)["RestartPreventExitStatus"].split()) == hopeless


@every_unit
def test_the_command_is_ours(unit: Path) -> None:
    assert re.fullmatch(r"/usr/bin/(fedmsg-[a-z-]+)", service(unit)["ExecStart"])
