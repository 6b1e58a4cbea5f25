# SPDX-License-Identifier: LGPL-2.1-or-later
"""Prints the configuration as JSON, or why there is none: configuration.py conf|load [FILE ...]."""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import fedmsg.config


def configuration(way: str, files: list[str]) -> Any:
    """Load the configuration in one of the two ways."""
    if way == "load":
        return fedmsg.config.load_config(filenames=files or None)
    fedmsg.config.conf.load_config()
    return dict(fedmsg.config.conf)


if __name__ == "__main__":
    # fedmsg.config.load_config is deprecated, and still what applications call.
    warnings.simplefilter("ignore", DeprecationWarning)
    try:
        print(json.dumps(configuration(sys.argv[1], sys.argv[2:]), sort_keys=True))
    except ValueError as error:
        print(json.dumps(["ValueError", str(error)]))
