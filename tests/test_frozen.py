"""Values that never change behave as a named tuple's reader expects, but are no tuples."""

import copy
import pickle
from collections.abc import Callable
from typing import Generic, TypeVar

import pytest

from airflow_incident.frozen import Frozen

T = TypeVar("T")


class Point(Frozen):
    """A value with defaults."""

    x: int
    y: int = 0
    read: Callable[[str], int] = len

    @property
    def sum(self) -> int:
        """A property beside the fields."""
        return self.x + self.y


class Other(Frozen):
    """Another class with the same fields."""

    x: int
    y: int = 0
    read: Callable[[str], int] = len


class Box(Frozen, Generic[T]):
    """A generic value."""

    inside: T


def test_fields_are_given_in_order_by_name_or_not_at_all():
    """As for any class with a constructor."""
    assert Point(1, 2) == Point(1, y=2) == Point(y=2, x=1)
    assert (Point(1).x, Point(1).y, Point(1).sum) == (1, 0, 1)
    assert Point._fields == Point.__match_args__ == ("x", "y", "read")


def test_a_function_as_a_default_stays_a_function():
    """A class attribute would become a method of the value."""
    assert Point(1).read("four") == 4


@pytest.mark.parametrize(
    ("ordered", "named"),
    [((), {}), ((), {"y": 2}), ((1,), {"x": 1}), ((1,), {"z": 3}), ((1, 2, len, 4), {}), ((), {"x": 1, "z": 3})],
)
def test_what_does_not_fit_is_refused(ordered, named):
    """Missing, twice, unknown or too many; the error tells the fields."""
    with pytest.raises(TypeError, match="Point takes each of x, y, read once, or its default"):
        Point(*ordered, **named)
    with pytest.raises(TypeError, match="Point takes"):
        Point(1)._replace(z=3)


def test_it_never_changes():
    """Neither by assignment nor by deletion; a changed one is another."""
    point = Point(1, 2)
    with pytest.raises(AttributeError, match="Point never changes"):
        point.x = 5
    with pytest.raises(AttributeError, match="Point never changes"):
        del point.x
    with pytest.raises(AttributeError, match="Point never changes"):
        point.z = 5
    assert point._replace(y=5) == Point(1, 5)
    assert point == Point(1, 2)


def test_equal_values_are_one_key_and_classes_are_not_mixed():
    """Dictionaries of clients are kept by account."""
    assert {Point(1): "first"}[Point(1, 0)] == "first"
    assert Point(1) != Other(1)
    assert Point(1) != (1, 0, len)
    with pytest.raises(TypeError, match="unhashable"):
        hash(Box([]))


def test_it_is_matched_and_shown_by_its_fields():
    """In `match` and in an error's text."""
    match Point(1, 2):
        case Point(x, y):
            assert (x, y) == (1, 2)
    assert repr(Box("a")) == "Box(inside='a')"


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_copy_is_equal(copied):
    """Airflow copies and pickles what it is given."""
    assert copied(Point(1, 2)) == Point(1, 2)
    assert copied(Box((1, "a"))) == Box((1, "a"))
