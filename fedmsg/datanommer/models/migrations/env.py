# SPDX-License-Identifier: LGPL-2.1-or-later
"""What Alembic runs the steps with: the connection of its caller."""

from __future__ import annotations

from alembic import context

from fedmsg.datanommer.models import schema

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema.DeclarativeBase.metadata,
    version_table="datanommer_schema",
)
context.run_migrations()
