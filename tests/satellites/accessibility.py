# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the accessibility checker finds in a page."""

from __future__ import annotations

import functools
import importlib.resources
from typing import Any

from tests import requirements
from tests.satellites.paging import Page

__all__ = ["faults"]

SERIOUS = {"serious", "critical"}


@functools.cache
def checker() -> str:
    """Return the script that checks a page: axe-core."""
    try:
        folder = importlib.resources.files("axe_playwright_python")
    except ModuleNotFoundError:
        requirements.is_missing("axe-core (make test, which installs it)")
    return folder.joinpath("axe.min.js").read_text(encoding="utf-8")


def faults(page: Page) -> list[str]:
    """Return what the accessibility checker finds."""
    page.run(checker())
    found: dict[str, Any] = page.browser.execute_async_script(
        "const done = arguments[arguments.length - 1]; axe.run({resultTypes: ['violations']}).then(done)"
    )
    return [
        f"{one['impact']}: {one['id']}: {node['html'][:150]}: {node['failureSummary'][:300]}"
        for one in found["violations"]
        if one["impact"] in SERIOUS
        for node in one["nodes"]
    ]
