# SPDX-License-Identifier: LGPL-2.1-or-later
"""A history that the module of models uses for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from fedmsg.datanommer import models

__all__ = ["opened"]


@contextmanager
def opened(url: str) -> Iterator[sa.Engine]:
    """Make the tables of a history, and have the module of models use it until the end of the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "session", orm.scoped_session(models.maker))
        models.init(url, create=True)
        engine = models.session.get_bind()
        assert isinstance(engine, sa.Engine)
        try:
            yield engine
        finally:
            models.session.remove()
            engine.dispose()
