"""Small values that never change, in classes that cost next to nothing to make.

A callback's process makes each class once and uses it once. A named tuple or a data class writes a constructor in
Python and compiles it, which takes ten times as long: see docs/decisions/0019-frozen-values.md.
"""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn, Self, dataclass_transform


@dataclass_transform(frozen_default=True)
class Frozen:
    """Base of values that are their fields: annotated in order, those with a default last.

    Two are equal if their class and their fields are. A class that derives from one of these has its own fields only.
    """

    _fields: ClassVar[tuple[str, ...]] = ()
    _defaults: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._fields = tuple(cls.__annotations__)
        cls._defaults = {name: cls.__dict__[name] for name in cls._fields if name in cls.__dict__}
        setattr(cls, "__match_args__", cls._fields)  # noqa: B010 -- mypy believes that it is there already

    def __init__(self, *ordered: Any, **named: Any) -> None:
        names = self._fields
        given = dict(zip(names, ordered, strict=False))
        values = {**self._defaults, **given, **named}
        if len(given) != len(ordered) or not named.keys().isdisjoint(given) or values.keys() != set(names):
            raise TypeError(f"{type(self).__name__} takes each of {', '.join(names)} once, or its default")
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} never changes")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} never changes")

    def __eq__(self, other: object) -> bool:
        return self.__dict__ == other.__dict__ if type(self) is type(other) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self.__dict__[name] for name in self._fields))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={self.__dict__[name]!r}" for name in self._fields)
        return f"{type(self).__name__}({fields})"

    def _replace(self, **changes: Any) -> Self:
        """Make another one that differs in some fields, as a named tuple does."""
        return type(self)(**{**self.__dict__, **changes})
