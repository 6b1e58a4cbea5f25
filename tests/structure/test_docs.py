# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the pages of the documentation name is there; how they are built is tested with real commands elsewhere."""

from __future__ import annotations

import ast
import pkgutil
import re

from fedmsg.config import settings
from fedmsg.hub import moksha
from tests.structure import source
from tests.structure.pages import COMMANDS, DOCS, PAGES, blocks
from tests.structure.test_floors import FLOORS

# Groups of entry points and modules, whose names look like settings.
NO_SETTINGS = {"moksha.consumer", "moksha.producer", "moksha.stream", "moksha.hub", "moksha.common"}

SETTING = re.compile(r"``((?:zmq|moksha|stomp)[._]\w+|(?:crl|ca_cert)_\w+|\w+_high_water_mark)``")


def test_each_command_has_a_page() -> None:
    assert sorted(page.stem for page in (DOCS / "reference" / "commands").glob("[!i]*.rst")) == COMMANDS


def test_python_parses() -> None:
    bad = []
    for page in PAGES:
        for caption, code in blocks(page, "python"):
            try:
                ast.parse(code)
            except SyntaxError as error:
                bad.append(f"{source.relative(page)} {caption}: {error}")
    assert bad == []


def test_settings_that_are_named_are_known() -> None:
    unknown = [
        f"{source.relative(page)}: {name}"
        for page in PAGES
        for name in set(SETTING.findall(page.read_text(encoding="utf-8"))) - set(settings.TABLE) - NO_SETTINGS
    ]
    assert unknown == []


def test_readme_names_files_that_exist() -> None:
    text = (source.REPOSITORY / "README.rst").read_text(encoding="utf-8")
    named = re.findall(r"``((?:docs|fedmsg\.d|LICENSE)[\w./-]*)``", text)
    assert [name for name in named if "_build" not in name and not (source.REPOSITORY / name).exists()] == []


def test_every_module_of_moksha_is_in_the_howto() -> None:
    text = (DOCS / "howto" / "moving-consumers.rst").read_text(encoding="utf-8")
    assert [name for name in moksha.MODULES if name != "moksha" and f"``{name}``" not in text] == []


# Other names of rooms, and the roof over them, need no line of their own.
NOT_ON_THE_MAP = {"fedmsg", "fedmsg.text", "fedmsg.utils", "fedmsg.tests"}


def test_the_map_shows_the_rooms_that_are_there() -> None:
    text = (DOCS / "contributing.rst").read_text(encoding="utf-8")
    rows = re.split(r"\n   \* - ", text[text.index("   * - Room\n") : text.index("\nHow a message travels\n")])[1:]
    rooms = [f"fedmsg.{name}" for row in rows for name in re.findall(r"``(\w+)``", row.partition("\n")[0])]
    there = {room for room in FLOORS if room in source.modules()} - NOT_ON_THE_MAP
    assert (there - set(rooms), set(rooms) - there) == (set(), set())


def test_the_guide_names_modules_that_exist() -> None:
    text = (DOCS / "contributing.rst").read_text(encoding="utf-8")
    named = set(re.findall(r"``((?:transport|hub|store|config|replay)/[\w/]+?)/?``", text))
    assert [name for name in sorted(named) if f"fedmsg.{name.replace('/', '.')}" not in source.modules()] == []
    assert named


def test_the_reference_names_what_exists() -> None:
    missing = []
    for page in PAGES:
        for name in re.findall(r"^ *\.\. auto\w+:: (fedmsg[\w.]*)$", page.read_text(encoding="utf-8"), re.MULTILINE):
            try:
                pkgutil.resolve_name(name)
            except (ImportError, AttributeError):
                missing.append(f"{source.relative(page)}: {name}")
    assert missing == []
