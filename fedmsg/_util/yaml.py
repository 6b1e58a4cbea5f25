# SPDX-License-Identifier: LGPL-2.1-or-later
"""YAML, as data: what wraps pyyaml. Reach it by ``_plugins.lazy("yaml")``."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

__all__ = ["NotYaml", "dump", "load"]


#: How many values the aliases of a document may add to it: ten lines of them can make billions.
MOST_REPEATED_NODES = 100_000


class NotYaml(ValueError):
    """A text that is not YAML, or not plain data."""

    def __init__(self, what: str, line: int) -> None:
        super().__init__(what)
        self.line = line


class _Loader(yaml.SafeLoader):
    """Reads data alone, and doesn't let the second of two equal keys win without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            # "<<" brings in the keys of another mapping, which the own ones are meant to override.
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Count the values that a document has when each alias is replaced by what it stands for."""
    if id(node) not in known:
        # One that contains itself counts once there.
        known[id(node)] = 1
        inner = node.value if isinstance(node, yaml.CollectionNode) else ()
        pairs = (one for pair in inner for one in (pair if isinstance(pair, tuple) else (pair,)))
        known[id(node)] = 1 + sum(_size(one, known) for one in pairs)
    return known[id(node)]


def load(text: str) -> Any:
    """Read one YAML document.

    Raises:
        NotYaml: The text is not one document of plain data.
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if _size(node, {}) > len(text) + MOST_REPEATED_NODES:
                raise NotYaml(f"its aliases expand to more than {MOST_REPEATED_NODES} values", 1)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise NotYaml(error.problem or str(error), mark.line + 1 if mark else 1) from error
    except yaml.reader.ReaderError as error:
        what = f"the character {error.character!r} is not allowed"
        raise NotYaml(what, text.count("\n", 0, error.position) + 1) from error
    except NotYaml:
        raise
    # An impossible date, an unhashable key, a number that is too long, nesting without end.
    except (ValueError, TypeError, RecursionError) as error:
        raise NotYaml(str(error), 1) from error


def dump(value: Any) -> str:
    """Write plain data as a YAML document."""
    # In ASCII, because pyyaml can't read back every other letter that it writes as it is.
    document: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=False, default_flow_style=False)
    return document
