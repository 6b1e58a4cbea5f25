# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which processors could know a topic, without asking each: with sixty of them that is what costs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fedmsg.meta import _guard
from fedmsg.meta.base import BaseProcessor, topic_pattern

__all__ = ["Index"]

# A prefix that has to match as a whole before the name can: plain words, dots, classes of
# characters, and groups of words such as (dev|stg|prod). A bar outside of a group, for one,
# could match without the name.
_SIMPLE_PREFIX = re.compile(r"\^?(?:[\w-]|\.|\\\.|\\w\+|\[\^?(?:[\w.-]|\\[WDSwds.])+\][+*]?|\((?:\?:)?[\w|-]+\))+")
_LONGEST_KNOWN, _MOST_KNOWN = 200, 1000

_PLAIN_NAME = re.compile(r"[\w-]+")


class Index:
    """Finds the processor of a message: the first in order that handles the message.

    Most processors decide by the word of their name in the topic; those are looked up by
    it, and only the ones that come into question are asked. All others, such as those
    with a way of their own to decide, are always asked, each at its place in the order.
    """

    def __init__(self, processors: Sequence[Any]) -> None:
        self._processors = list(processors)
        self._own_way = [not _decides_by_pattern(processor) for processor in self._processors]
        self._always: list[int] = []
        self._by_word: dict[str, list[int]] = {}
        # Topics whose processor is found without asking any: a bus has some hundred.
        self._known: dict[str, Any] = {}
        for position, processor in enumerate(self._processors):
            word = None if self._own_way[position] else _word_of(processor)
            if word is None:
                self._always.append(position)
            else:
                self._by_word.setdefault(word, []).append(position)

    def is_of(self, processors: Sequence[Any]) -> bool:
        """Return whether the index is still that of these processors."""
        # Identical items are not compared, so that this is some ns each.
        return self._processors == processors

    def find(self, msg: Any, topic: str, config: Mapping[str, Any]) -> Any:
        """Return the processor of a message; the last one when no other handles it."""
        known = self._known.get(topic)
        return self._search(msg, topic, config) if known is None else known

    def _search(self, msg: Any, topic: str, config: Mapping[str, Any]) -> Any:
        positions = self._always
        # A dollar also matches before a newline at the end.
        for word in set(topic.removesuffix("\n").split(".")):
            found = self._by_word.get(word)
            if found is not None:
                positions = sorted({*positions, *found})
        asked = False
        for position in positions:
            processor = self._processors[position]
            if self._own_way[position]:
                asked = True
                answer = _guard.ask(processor, "handle_msg", config, msg)
                if answer is not None and answer is not _guard.FAILED:
                    return processor
            elif processor.__prefix__.match(topic):
                break
        else:
            processor = self._processors[-1]
        if not asked:
            self._remember(topic, processor)
        return processor

    def _remember(self, topic: str, processor: Any) -> None:
        # Made-up topics of a publisher must not fill memory.
        if len(topic) > _LONGEST_KNOWN:
            return
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[topic] = processor


def _decides_by_pattern(processor: Any) -> bool:
    """Return whether a processor decides the way that `BaseProcessor` does, by its pattern alone."""
    return (
        isinstance(processor, BaseProcessor)
        and getattr(processor.handle_msg, "__func__", None) is BaseProcessor.handle_msg
        and isinstance(getattr(processor, "__prefix__", None), re.Pattern)
    )


def _word_of(processor: BaseProcessor) -> str | None:
    """Return the one word that a topic needs to have for the pattern of a processor to match, if it is that easy."""
    name = str(processor.__name__).lower()
    usual = processor.__prefix__.pattern == topic_pattern(processor.topic_prefix_re or "", name)
    easy = _PLAIN_NAME.fullmatch(name) and _SIMPLE_PREFIX.fullmatch(processor.topic_prefix_re or "")
    return name if usual and easy else None
