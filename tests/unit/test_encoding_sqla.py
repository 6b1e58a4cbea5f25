# SPDX-License-Identifier: LGPL-2.1-or-later
"""Instances of SQLAlchemy models inside messages, with real models on SQLite."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import ForeignKey, orm
from sqlalchemy.orm import Mapped, mapped_column, relationship

from fedmsg import encoding
from fedmsg.encoding import sqla
from tests.unit.fresh import python


class Base(orm.DeclarativeBase):
    """The base of the models."""


post_tag = sa.Table(
    "post_tag",
    Base.metadata,
    sa.Column("post_id", ForeignKey("post.id"), primary_key=True),
    sa.Column("tag_id", ForeignKey("tag.id"), primary_key=True),
)


class User(Base):
    """Has posts, and a user above and users below."""

    __tablename__ = "user"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column("the_name")
    joined: Mapped[dt.datetime | None]
    boss_id: Mapped[int | None] = mapped_column(ForeignKey("user.id"))
    boss: Mapped[User | None] = relationship(remote_side="User.id", back_populates="staff")
    staff: Mapped[list[User]] = relationship(back_populates="boss")
    posts: Mapped[list[Post]] = relationship(back_populates="author")
    login = orm.synonym("name")

    @property
    def shout(self) -> str:
        """Is no column."""
        raise AssertionError("not asked for")


class Post(Base):
    """Has one user and many tags."""

    __tablename__ = "post"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int | None] = mapped_column(ForeignKey("user.id"))
    author: Mapped[User | None] = relationship(back_populates="posts")
    tags: Mapped[list[Tag]] = relationship(secondary=post_tag, backref=orm.backref("posts", order_by="Post.id"))


class Tag(Base):
    """Is on many posts, which it knows only by the backref."""

    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column()
    length = orm.column_property(sa.func.length(name))


class Link(Base):
    """Has no id but a key of one column."""

    __tablename__ = "link"
    key: Mapped[str] = mapped_column(primary_key=True)
    next_key: Mapped[str | None] = mapped_column(ForeignKey("link.key"))
    next: Mapped[Link | None] = relationship(remote_side=[key])


class Cell(Base):
    """Has no id but a key of two columns."""

    __tablename__ = "cell"
    x: Mapped[int] = mapped_column(primary_key=True)
    y: Mapped[int] = mapped_column(primary_key=True)


class Shelf(Base):
    """Has its books in every kind of collection."""

    __tablename__ = "shelf"
    id: Mapped[int] = mapped_column(primary_key=True)
    books: Mapped[dict[str, Book]] = relationship(
        collection_class=orm.attribute_keyed_dict("title"), back_populates="shelf"
    )
    book_set: Mapped[set[Book]] = relationship(viewonly=True)
    book_query: orm.DynamicMapped[Book] = relationship(viewonly=True)
    book_sink: orm.WriteOnlyMapped[Book] = relationship(overlaps="books,shelf")


class Book(Base):
    """Stands on a shelf."""

    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    shelf_id: Mapped[int | None] = mapped_column(ForeignKey("shelf.id"))
    shelf: Mapped[Shelf | None] = relationship(back_populates="books")


class Manager(User):
    """Inherits the columns of a user and adds one."""

    __tablename__ = "manager"
    id: Mapped[int] = mapped_column(ForeignKey("user.id"), primary_key=True)
    budget: Mapped[int]


class Speaks(Base):
    """Says itself what to write for it."""

    __tablename__ = "speaks"
    id: Mapped[int] = mapped_column(primary_key=True)

    def __json__(self) -> Any:
        return {"mine": self.id}


class Bag(Base):
    """Can be iterated over, and yet is no collection."""

    __tablename__ = "bag"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("user.id"))

    def __iter__(self) -> Iterator[int]:
        return iter([self.id])


@pytest.fixture
def session() -> Iterator[orm.Session]:
    """A database with the tables of all models."""
    engine = sa.create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        yield session
    engine.dispose()


JOINED = dt.datetime(2020, 5, 17, 12, 30)  # noqa: DTZ001 - columns have no time zone


@pytest.fixture
def ralph(session: orm.Session) -> User:
    """A user with a boss, two posts that share a tag, and nobody below."""
    boss = User(id=2, name="boss")
    ralph = User(id=1, name="ralph", joined=JOINED, boss=boss)
    tag = Tag(id=5, name="tag")
    session.add_all([ralph, Post(id=10, author=ralph, tags=[tag]), Post(id=11, author=ralph, tags=[tag])])
    session.commit()
    return ralph


# ------------------------------------------------------------------ one model


def test_columns_are_what_they_are_in_python(ralph: User) -> None:
    columns = {"id": 1, "name": "ralph", "login": "ralph", "joined": JOINED, "boss_id": 2}
    result = sqla.to_json(ralph)
    assert {key: result[key] for key in columns} == columns
    assert set(result) == {*columns, "boss", "staff", "posts"}


def test_dumps_goes_on_with_what_is_in_the_columns(session: orm.Session) -> None:
    user = User(id=3, joined=JOINED)
    session.add(user)
    session.flush()
    seconds = time.mktime(JOINED.timetuple())
    assert encoding.dumps([user]) == (
        f'[{{"boss":null,"boss_id":null,"id":3,"joined":{seconds},"login":null,"name":null,"posts":[],"staff":[]' + "}]"
    )


def test_an_object_that_was_never_saved() -> None:
    assert encoding.loads(encoding.dumps(Post(id=1)))["tags"] == []
    assert encoding.dumps(Cell(x=1)) == '{"x":1,"y":null}'


def test_a_subclass_has_the_columns_of_both(session: orm.Session) -> None:
    manager = Manager(id=1, name="m", budget=9)
    session.add(manager)
    session.commit()
    result = sqla.to_json(manager)
    assert (result["id"], result["name"], result["budget"], result["posts"]) == (1, "m", 9, [])


def test_a_model_that_says_what_to_write_is_asked_first() -> None:
    assert encoding.dumps(Speaks(id=4)) == '{"mine":4}'
    assert sqla.to_json(Speaks(id=4)) == {"id": 4}


def test_pretty_dumps_takes_models_too() -> None:
    assert encoding.pretty_dumps(Cell(x=1, y=2)) == '{\n  "x": 1,\n  "y": 2\n}'


# ------------------------------------------------------------------ relationships


def test_a_type_that_was_met_on_the_way_down_is_an_id(ralph: User) -> None:
    tag = {"id": 5, "name": "tag", "length": 3, "posts": [10, 11]}
    result = sqla.to_json(ralph)
    assert result["posts"] == [
        {"id": 10, "author_id": 1, "author": 1, "tags": [tag]},
        {"id": 11, "author_id": 1, "author": 1, "tags": [tag]},
    ]


def test_a_relation_to_the_own_type_is_followed_once(ralph: User) -> None:
    # The rest of what the boss has: the way down to it led over a user.
    boss = {"id": 2, "name": "boss", "login": "boss", "joined": None, "boss_id": None, "boss": None, "staff": [1]}
    assert sqla.to_json(ralph)["boss"] == {**boss, "posts": []}


def test_backrefs_count(ralph: User) -> None:
    tag = ralph.posts[0].tags[0]
    assert [post["author"]["id"] for post in sqla.to_json(tag)["posts"]] == [1, 1]
    assert sqla.to_json(tag)["posts"][0]["tags"] == [5]


@pytest.mark.parametrize(
    ("seen", "boss", "posts"),
    [
        ([User], 2, [{"id": 10}, {"id": 11}]),
        ((User, Post), 2, [10, 11]),
        ({Post}, {"id": 2}, [10, 11]),
    ],
)
def test_types_that_were_met_before(ralph: User, seen: Any, boss: Any, posts: Any) -> None:
    before = type(seen)(seen)
    result = sqla.to_json(ralph, seen)
    short = [{"id": post["id"]} if isinstance(post, dict) else post for post in result["posts"]]
    assert ({"id": result["boss"]["id"]} if isinstance(result["boss"], dict) else result["boss"]) == boss
    assert short == posts
    assert seen == before


def test_a_circle_of_objects_ends(session: orm.Session) -> None:
    links = [Link(key="a"), Link(key="b"), Link(key="c")]
    session.add_all(links)
    session.flush()
    for link, following in zip(links, [*links[1:], links[0]], strict=True):
        link.next_key = following.key
    session.commit()
    assert encoding.dumps(links[0]) == '{"key":"a","next":{"key":"b","next":"c","next_key":"c"},"next_key":"b"}'


def test_expand(ralph: User) -> None:
    assert ralph.boss is not None
    assert sqla.expand(ralph, None, []) is None
    assert sqla.expand(ralph, [], []) == []
    assert sqla.expand(ralph, ralph.posts, [Post]) == [10, 11]
    assert sqla.expand(ralph, (post for post in ralph.posts), (Post,)) == [10, 11]
    assert sqla.expand(ralph, ralph.boss, [User]) == 2
    assert sqla.expand(obj=ralph, relation=ralph.boss, seen=[])["staff"] == [1]
    assert sqla.expand(ralph, [[ralph.boss]], [User]) == [[2]]


def test_expand_names_what_has_no_id_by_its_key() -> None:
    assert sqla.expand(Link(key="a"), Link(key="b"), [Link]) == "b"
    assert sqla.expand(Link(key="a"), [Cell(x=1, y=2)], [Cell]) == [[1, 2]]


def test_expand_takes_an_iterable_model_for_an_object() -> None:
    assert sqla.expand(User(), Bag(id=3), []) == {"id": 3, "user_id": None}


def test_collections_of_every_kind(session: orm.Session) -> None:
    shelf = Shelf(id=1)
    shelf.books["b"] = Book(id=2, title="b")
    session.add(shelf)
    session.commit()
    book = {"id": 2, "title": "b", "shelf_id": 1, "shelf": 1}
    # "book_sink" can't be read.
    expected = {"id": 1, "books": {"b": book}, "book_set": [book], "book_query": [book]}
    assert sqla.to_json(shelf) == expected
    assert encoding.loads(encoding.dumps([shelf])) == [expected]
    assert sqla.to_json(shelf, [Book])["books"] == {"b": 2}


def test_what_can_not_be_loaded_any_more_is_an_error(ralph: User, session: orm.Session) -> None:
    session.expire(ralph)
    session.expunge(ralph)
    with pytest.raises(orm.exc.DetachedInstanceError):
        encoding.dumps(ralph)


# ------------------------------------------------------------------ what is a model


def test_every_way_to_map_a_class() -> None:
    registry = orm.registry()
    old_base: Any = orm.declarative_base()

    class Old(old_base):  # type: ignore[misc]  # made at run time
        __tablename__ = "old"
        id = sa.Column(sa.Integer, primary_key=True)

    @registry.mapped
    class Decorated:
        __tablename__ = "decorated"
        id = sa.Column(sa.Integer, primary_key=True)

    @registry.mapped_as_dataclass
    class Data:
        __tablename__ = "data"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Classical:
        id: int

    registry.map_imperatively(Classical, sa.Table("classical", registry.metadata, sa.Column("id", primary_key=True)))
    classical = Classical()
    classical.id = 4
    models = [Old(id=1), Decorated(id=2), Data(id=3), classical]  # type: ignore[call-arg]  # made by the decorator
    assert encoding.dumps(models) == '[{"id":1},{"id":2},{"id":3},{"id":4}]'


class Pretends:
    """Has the attribute by which a model is known, but not SQLAlchemy's."""

    __mapper__ = 5


NO_MODELS = [User, Pretends(), Pretends, sa.select(User), User.__table__, Base.metadata]


@pytest.mark.parametrize("value", NO_MODELS, ids=lambda value: type(value).__name__)
def test_what_is_no_model(value: Any) -> None:
    with pytest.raises(TypeError, match="is not JSON serializable"):
        encoding.dumps([value])


@pytest.mark.parametrize("value", [None, "text", [User()], User])
def test_to_json_wants_a_model(value: Any) -> None:
    with pytest.raises(orm.exc.UnmappedClassError):
        sqla.to_json(value)


def test_sqlalchemy_is_loaded_only_by_who_has_a_model() -> None:
    code = """
import sys
from fedmsg import encoding
class Pretends: __mapper__ = 5
try: encoding.dumps(Pretends())
except TypeError: print("sqlalchemy" in sys.modules)
import sqlalchemy.orm
class Base(sqlalchemy.orm.DeclarativeBase): pass
class Model(Base):
    __tablename__ = "model"
    id = sqlalchemy.Column(sqlalchemy.Integer, primary_key=True)
print("fedmsg.encoding.sqla" in sys.modules, encoding.dumps(Model(id=1)), "fedmsg.encoding.sqla" in sys.modules)
"""
    assert python(code) == ["False", 'False {"id":1} True']
