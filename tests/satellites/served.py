# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is checked of every application that is served over HTTP: health, the policy of its pages, its description."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedmsg.testing import run

__all__ = ["check_by_description", "check_health", "check_policy"]


def check_health(get: Callable[[str], Any]) -> None:
    """Ask a server whether it is well; it is."""
    for path in ("/healthz/live", "/healthz/ready"):
        answer = get(path)
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/problem+json")
        assert answer.json == {"status": 200, "title": "OK"}


def check_policy(answer: Any) -> None:
    """Check that a page has nothing that its policy forbids, and nothing of another server."""
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    html = answer.body.decode()
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|<[^>]+\s(?:style|on[a-z]+)=|<[^>]+javascript:", html)
    assert {found.partition("/static")[0] for found in re.findall(r'(?:src|stylesheet" href)="([^"]*)', html)} == {""}


def check_by_description(address: str, folder: Path, *arguments: str, full_size: bool) -> None:
    """Make requests of a server from its OpenAPI description: each is answered as that says.

    In the short form each route gets a few requests, in the long one hundreds. The tool runs as a process of its own:
    what it imports changes how others import.
    """
    phases = "examples,coverage,fuzzing" if full_size else "examples,fuzzing"
    done = run(
        ["schemathesis", "run", f"{address}/openapi.json", *arguments, "--phases", phases,
         "--max-examples", "300" if full_size else "4", "--checks",
         "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
         "--no-color", *([] if full_size else ["--generation-deterministic"])],
        cwd=folder, timeout=7000 if full_size else 100,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]
