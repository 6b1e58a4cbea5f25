# SPDX-License-Identifier: LGPL-2.1-or-later
"""How Sphinx builds the pages and the man pages."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

HERE = Path(__file__).parent
# The extension of this folder, and the table of floors that the tests hold.
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

project = "fedmsg"
author = "the fedmsg authors"
release = importlib.metadata.version("fedmsg")
version = ".".join(release.split(".")[:2])

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "fedmsg_reference"]
exclude_patterns = ["_build"]
# Docstrings name code in single backquotes.
default_role = "code"
# Dashes only: quotation marks in a text of the program are shown as they are.
smartquotes_action = "D"

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_admonition_for_examples = True

html_theme = "furo"
html_title = f"fedmsg {release}"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False

# Names of Python itself and of libraries are not looked up: their inventories are on other
# machines, and a build must not need a network. Neither are our private names.
nitpick_ignore_regex = [
    ("py:.*", r"(?!fedmsg\.).*"),
    ("py:.*", r"fedmsg\.(.*\.)?_.*"),
]

# The command pages are the man pages.
COMMAND_PAGES = sorted((HERE / "reference" / "commands").glob("[!i]*.rst"))
man_pages: list[tuple[str, str, str, list[str], int]] = [
    (
        f"reference/commands/{page.stem}",
        page.stem,
        page.read_text(encoding="utf-8").splitlines()[0].partition(" -- ")[2],
        [],
        1,
    )
    for page in COMMAND_PAGES
]
