# SPDX-License-Identifier: LGPL-2.1-or-later
"""The pages of the documentation as tests read them: files, code blocks, commands."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path

from tests.structure import source

DOCS = source.REPOSITORY / "docs"
PAGES = [path for path in source.files() if path.suffix == ".rst"]
COMMANDS = sorted(
    entry.name for entry in importlib.metadata.distribution("fedmsg").entry_points if entry.group == "console_scripts"
)


def blocks(page: Path, language: str) -> Iterator[tuple[str, str]]:
    """Return the code blocks of a language: caption and text."""
    text = page.read_text(encoding="utf-8")
    pattern = rf"^( *)\.\. code-block:: {language}\n((?:\1   :.*\n)*)\n((?:\1   .*\n|\n)+)"
    for found in re.finditer(pattern, text, re.MULTILINE):
        caption = re.search(r":caption: (.*)", found[2])
        indent = len(found[1]) + 3
        yield (caption[1] if caption else ""), "\n".join(line[indent:] for line in found[3].splitlines()).strip() + "\n"
