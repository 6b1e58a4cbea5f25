# SPDX-License-Identifier: LGPL-2.1-or-later
"""The history over HTTP: an application for any WSGI server, and the command ``datagrepper``, which runs it."""

from __future__ import annotations
