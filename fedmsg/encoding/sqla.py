# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an instance of an SQLAlchemy model looks like inside a message."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlalchemy.orm import class_mapper

__all__ = ["expand", "to_json"]


def to_json(obj: Any, seen: Collection[type] | None = None) -> dict[str, Any]:
    """Turn an instance of a model into a dict of its columns and its relationships.

    Relationships are followed one level per type: on the way down from an object, a
    related object of a type that was already met is replaced by its id.

    Args:
        obj: An instance of a mapped class.
        seen: The types that were already met.

    Returns:
        The dict. Its keys are the names of the attributes, which may differ from those of
        the columns; its values are as Python has them, for example datetimes. A
        collection that can only be written, never read, is skipped.

    Raises:
        sqlalchemy.orm.exc.UnmappedClassError: The class is not mapped.
    """
    met = tuple(seen or ())
    mapper = class_mapper(type(obj))
    names = mapper.column_attrs.keys()
    names += [name for name, synonym in mapper.synonyms.items() if synonym.name in mapper.column_attrs]
    result = {name: getattr(obj, name) for name in names}
    for name, relationship in mapper.relationships.items():
        if relationship.lazy != "write_only":
            result[name] = expand(obj, getattr(obj, name), met)
    return result


def expand(obj: Any, relation: Any, seen: Collection[type]) -> Any:
    """Turn what a relationship leads to into something for a message.

    Args:
        obj: The owner of the relationship.
        relation: What it leads to: an object, None, or a collection of objects.
        seen: The types that were already met on the way to the owner.

    Returns:
        For an object its dict, or its id if an object of its type was already met. For a
        dict of objects a dict, for any other collection a list.
    """
    if relation is None:
        return None
    if isinstance(relation, Mapping):
        return {key: expand(obj, item, seen) for key, item in relation.items()}
    if isinstance(relation, Iterable) and not hasattr(type(relation), "__mapper__"):
        return [expand(obj, item, seen) for item in relation]
    if type(relation) in seen:
        return _identity(relation)
    return to_json(relation, (*seen, type(obj)))


def _identity(obj: Any) -> Any:
    """Return the id of an object: its attribute ``id`` if it has one, else its primary key."""
    if hasattr(obj, "id"):
        return obj.id
    key = list(class_mapper(type(obj)).primary_key_from_instance(obj))
    return key[0] if len(key) == 1 else key
