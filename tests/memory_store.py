"""A journal in memory, that fails as it is told."""

from typing import Any

from airflow_incident.delivery.record import PREFIX, Record, read_record


class Texts:
    """A store in memory; `failing` names what is done instead of a get, set, delete or names."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.failing: dict[str, Any] = {}

    def _trip(self, what: str) -> None:
        fail = self.failing.get(what)
        if fail:
            fail()

    def get(self, name: str) -> str | None:
        self._trip("get")
        return self.texts.get(name)

    def set(self, name: str, text: str) -> None:
        self._trip("set")
        self.texts[name] = text

    def delete(self, name: str) -> None:
        self._trip("delete")
        self.texts.pop(name, None)

    def names(self, prefix: str) -> list[str]:
        self._trip("names")
        return sorted(name for name in self.texts if name.startswith(prefix))

    def read_all(self, prefix: str) -> dict[str, str]:
        return {name: self.get(name) or "" for name in self.names(prefix)}

    def records(self) -> list[Record]:
        return [read_record(name, text) for name, text in self.texts.items() if name.startswith(PREFIX)]
