# SPDX-License-Identifier: LGPL-2.1-or-later
"""The history as a database: its models, its queries, and how messages get into it.

::

    from fedmsg.datanommer import models

    models.init("postgresql:///history", create=True)
    total, pages, messages = models.Message.grep(topics=["org.fedoraproject.prod.bodhi.update.comment"])

What a program imports from here are the names below; the modules are the package's own.
"""

from __future__ import annotations

from fedmsg.datanommer.models.finding import Page
from fedmsg.datanommer.models.line import Line, Published
from fedmsg.datanommer.models.matching import CONDITION_KEYS
from fedmsg.datanommer.models.message import Message, Package, User
from fedmsg.datanommer.models.opening import default_url, init, maker, session, upgrade
from fedmsg.datanommer.models.rows import Names, storable_names, time_or_arrival
from fedmsg.datanommer.models.schema import DeclarativeBase, ServiceCursor, StreamCursor
from fedmsg.datanommer.models.schema import packages_messages as packages_assoc_table
from fedmsg.datanommer.models.schema import users_messages as users_assoc_table
from fedmsg.datanommer.models.texts import index_texts
from fedmsg.datanommer.models.values import category_of
from fedmsg.datanommer.models.writing import add, add_many

__all__ = [
    "CONDITION_KEYS",
    "DeclarativeBase",
    "Line",
    "Message",
    "Names",
    "Package",
    "Page",
    "Published",
    "ServiceCursor",
    "StreamCursor",
    "User",
    "add",
    "add_many",
    "category_of",
    "clear_cache",
    "default_url",
    "index_texts",
    "init",
    "maker",
    "packages_assoc_table",
    "session",
    "storable_names",
    "time_or_arrival",
    "upgrade",
    "users_assoc_table",
]


def clear_cache() -> None:
    """Do nothing: no names are cached. Programs call it between their tests."""
