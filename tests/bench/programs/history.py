# SPDX-License-Identifier: LGPL-2.1-or-later
"""Messages as a bus of years has them: skewed topics, users and packages, 100 bytes to 50 kB.

Run as a program, it fills a history and prints how many messages it stored in a second::

    python -m tests.bench.programs.history sqlite:////tmp/history.db 1000000
"""

from __future__ import annotations

import argparse
import itertools
import random
import time
import uuid
from collections.abc import Iterator
from typing import Any

from fedmsg import meta
from fedmsg.datanommer import models

__all__ = ["CATEGORIES", "END", "TOPICS", "KnowsAll", "messages"]

_SEED = 4711
#: When the newest message was published.
END = 1_750_000_000
CATEGORIES = (
    "koji bodhi buildsys git pagure wiki copr anitya fas hotness ansible trac github mailman planet fedbadges askbot"
    " nuancier meetbot kerneltest"
).split()
_ACTIONS = (
    "build.start build.end update.comment update.request.testing receive tag.new untag issue.new issue.edit member.add"
    " state.change repo.done task.change user.update"
).split()
#: The most frequent comes first.
TOPICS = [f"org.fedoraproject.prod.{category}.{action}" for action in _ACTIONS for category in CATEGORIES]
_USERS = [f"user{number}" for number in range(20_000)]
_PACKAGES = [f"package-{number}" for number in range(15_000)]


def _zipf(count: int, power: float) -> list[float]:
    """Return cumulated weights, of which the first is the largest."""
    return list(itertools.accumulate(1 / (rank + 1) ** power for rank in range(count)))


class KnowsAll:
    """A processor that knows the users and packages of these messages."""

    __name__ = "bench"

    def __init__(self) -> None:
        self.agent = self._agent

    @staticmethod
    def handle_msg(_msg: Any, **_config: Any) -> str:
        return ""

    @staticmethod
    def usernames(msg: Any, **_config: Any) -> set[str]:
        return set(msg["msg"]["people"])

    @staticmethod
    def packages(msg: Any, **_config: Any) -> set[str]:
        return set(msg["msg"]["builds"])

    @staticmethod
    def _agent(msg: Any, **_config: Any) -> str | None:
        agent: str | None = msg["msg"].get("agent")
        return agent


def _words(chance: random.Random, count: int) -> str:
    return " ".join(chance.choices(_VOCABULARY, cum_weights=_VOCABULARY_WEIGHTS, k=count))


_letters = random.Random(_SEED)
_VOCABULARY = [
    "".join(_letters.choices("etaoinshrdlucmfwypvbgkjqxz", k=_letters.randint(2, 11))) for _ in range(30_000)
]
_VOCABULARY_WEIGHTS = _zipf(len(_VOCABULARY), 0.9)


def messages(count: int, *, seed: int = _SEED, days: float = 150) -> Iterator[dict[str, Any]]:
    """Yield what a consumer receives, in the order of time, over so many days."""
    chance = random.Random(seed)
    topic_weights, user_weights, package_weights = (
        _zipf(len(TOPICS), 1.0), _zipf(len(_USERS), 0.9), _zipf(len(_PACKAGES), 0.8)
    )  # fmt: skip
    texts = [_words(chance, 400) for _ in range(2000)]
    step, began = days * 86400 / count, END - days * 86400
    for number in range(count):
        topic = chance.choices(TOPICS, cum_weights=topic_weights)[0]
        agent = chance.choices(_USERS, cum_weights=user_weights)[0]
        others = chance.choices(_USERS, cum_weights=user_weights, k=chance.choice((0, 0, 0, 1, 1, 3)))
        builds = chance.choices(_PACKAGES, cum_weights=package_weights, k=chance.choice((0, 0, 1, 1, 1, 4)))
        size = min(50_000, int(chance.lognormvariate(6.3, 1.0)))
        text = texts[chance.randrange(len(texts))]
        long = " ".join(itertools.islice(itertools.cycle(texts), size // len(text))) if size > len(text) else ""
        msg = {
            "agent": agent, "people": [agent, *others], "builds": builds, "anonymous": chance.random() < 0.1,
            "update": {"title": builds, "karma": chance.randint(-3, 3), "notes": long + text[: size % len(text)],
                       "status": chance.choice(("testing", "stable", "pending")), "url": f"https://example.org/{number}"},
            "commit": f"{chance.getrandbits(160):040x}",
        }  # fmt: skip
        if number % 10_000 == 77:
            msg["rare"] = f"needle{number} in a haystack"
        body = {
            "i": number, "msg": msg, "msg_id": f"2026-{uuid.UUID(int=chance.getrandbits(128), version=4)}",
            "timestamp": int(began + number * step), "topic": topic, "username": "bench",
        }  # fmt: skip
        yield {"topic": topic, "body": body, "headers": {}}


def fill(url: str, count: int, batch: int) -> float:
    """Store messages; return how many in a second of storing."""
    meta.processors = [KnowsAll(), meta.DefaultProcessor(lambda text: text, topic_prefix_re="")]
    models.init(url, create=True)
    made, spent, stored = messages(count), 0.0, 0
    while found := list(itertools.islice(made, batch)):
        began = time.perf_counter()
        stored += models.add_many(found)
        spent += time.perf_counter() - began
        if stored % 100_000 < batch:
            print(f"{stored:>10} {stored / spent:8.0f}/s", flush=True)
    assert stored == count
    return stored / spent


def main() -> None:
    """Fill a history."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("count", type=int)
    parser.add_argument("--batch", type=int, default=1000)
    arguments = parser.parse_args()
    print(f"{fill(arguments.url, arguments.count, arguments.batch):.0f} messages a second")


if __name__ == "__main__":
    main()
