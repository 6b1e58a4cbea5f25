# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs a program that imports the published datanommer: python old_names.py PROGRAM [ARGUMENT ...]."""

from __future__ import annotations

import runpy
import sys

# Imports them; each is found under its old name from here on.
import fedmsg.datanommer.commands
import fedmsg.datanommer.consumer
import fedmsg.datanommer.models.testing  # noqa: F401

for name in [name for name in sys.modules if f"{name}.".startswith("fedmsg.datanommer.")]:
    sys.modules[name.removeprefix("fedmsg.")] = sys.modules[name]

if __name__ == "__main__":
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
