# SPDX-License-Identifier: LGPL-2.1-or-later
"""The documentation builds, and agrees with what the commands really print."""

from __future__ import annotations

import html
import importlib.metadata
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from fedmsg.config import settings
from fedmsg.testing import run
from tests.structure import source
from tests.structure.pages import COMMANDS, DOCS, PAGES, blocks

# The first of these builds the pages.
pytestmark = pytest.mark.timeout(300)

MAN_PARTS = ["NAME", "SYNOPSIS", "OPTIONS", "FILES"]


@cache
def help_of(command: str) -> str:
    """Return what ``--help`` prints, without any configuration."""
    done = run([command, "--help"], env={"FEDMSG_CONFIG": os.devnull, "COLUMNS": "88", "NO_COLOR": "1"})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the pages; a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    sphinx = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-n", "-d", str(folder / "doctrees")]
    for builder in ("html", "man"):
        done = subprocess.run(
            [*sphinx, "-b", builder, DOCS, folder / builder], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
    return folder


def text_of(page: Path) -> str:
    """Return the words of a built page."""
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


def test_settings_are_in_the_reference(site: Path) -> None:
    text = text_of(site / "html" / "reference" / "settings.html")
    assert [name for name, row in settings.TABLE.items() if name not in text or row.help not in text] == []


def test_commands_are_in_the_reference(site: Path) -> None:
    pages = site / "html" / "reference" / "commands"
    assert [name for name in COMMANDS if help_of(name).strip() not in text_of(pages / f"{name}.html")] == []


def test_man_pages_have_all_parts(site: Path) -> None:
    missing = []
    for command in COMMANDS:
        page = (site / "man" / f"{command}.1").read_text(encoding="utf-8").replace("\\-", "-")
        flags = re.findall(r"--[a-z-]+", help_of(command))
        assert flags
        missing += [f"{command} {flag}" for flag in flags if flag not in page]
        missing += [
            f"{command} {part}" for part in ("NAME", "SYNOPSIS", "OPTIONS", "FILES") if f".SH {part}" not in page
        ]
        missing += [f"{command} empty <>"] if "<>" in page else []
    assert missing == []


def test_shell_completion_is_for_all_commands() -> None:
    ((_, code),) = blocks(DOCS / "reference" / "commands" / "index.rst", "bash")
    script = f"{code}\ncomplete -p"
    done = subprocess.run(
        ["/bin/bash", "--norc", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "FEDMSG_CONFIG": os.devnull},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(line.split()[-1] for line in done.stdout.splitlines()) == COMMANDS


def test_extras_are_described(site: Path) -> None:
    text = text_of(site / "html" / "howto" / "extras.html").split()
    extras = importlib.metadata.distribution("fedmsg").metadata.get_all("Provides-Extra") or []
    assert [extra for extra in extras if extra.replace("-", "_") not in text] == []


def test_flags_in_examples_are_known() -> None:
    unknown = [
        f"{source.relative(page)}: {command} {flag}"
        for page in PAGES
        for _, block in blocks(page, "console")
        for command, arguments in re.findall(r"\b(fedmsg-[a-z]+)\b([^|&;>\n]*)", block)
        if command in COMMANDS
        for flag in re.findall(r"(?<![\w-])--[a-z-]+", arguments)
        if flag not in help_of(command)
    ]
    assert unknown == []


def test_configuration_samples_are_sound(tmp_path: Path) -> None:
    bad = []
    for page in PAGES:
        for language, suffix in (("yaml", ".yaml"), ("python", ".py")):
            for caption, text in blocks(page, language):
                if "/etc/fedmsg.d/" in caption:
                    sample = tmp_path / f"sample{suffix}"
                    sample.write_text(text, encoding="utf-8")
                    # Not --check: the keys and certificates that a page names are not on this machine.
                    done = run(["fedmsg-config", "--config-filename", str(sample)])
                    if done.returncode:
                        bad.append(f"{source.relative(page)}, {caption}: {done.stderr}")
    assert bad == []
