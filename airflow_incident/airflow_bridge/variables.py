"""Airflow's Variables as a store of texts, from whichever process this is.

https://airflow.apache.org/docs/apache-airflow/stable/howto/variable.html
"""

from __future__ import annotations

import sys
from functools import cached_property
from typing import Any

from airflow_incident.airflow_bridge.compat import (
    SECRET_CACHES,
    has_teams,
    is_triggerers,
    question,
    supervisor,
    team_of,
)
from airflow_incident.errors import JournalError

DESCRIPTION = "Written by airflow-incident; see 'airflow-incident journal'."


class Variables:
    """A store over Airflow's Variables: by the supervisor's channel where there is one, else in the database."""

    def __init__(self) -> None:
        self._in_database = supervisor() is None

    def get(self, name: str) -> str | None:
        """Return a Variable's text; None where there is none, or where Airflow could not tell."""
        # The cache of `[secrets] use_cache`, which the DAG processor keeps for 15 minutes, must not answer.
        for module in SECRET_CACHES:
            # Not getattr(): Airflow 3 answers for the old place, too, with a warning.
            cache = getattr(sys.modules.get(module), "__dict__", {}).get("SecretCache")
            if cache is not None:
                cache.invalidate_variable(name)
        default = "default_var" if self._in_database else "default"
        text = self._variable.get(name, **{default: None}, **self._team(name))
        return text if isinstance(text, str) else None

    def set(self, name: str, text: str) -> None:
        """Write a Variable; once more where another process wrote it at that moment: before 3.1 Airflow inserts it."""
        for tries_left in (2, 1, 0):
            try:
                self._variable.set(name, text, description=DESCRIPTION, **self._team(name))
            except Exception as error:
                if not tries_left or type(error).__name__ != "IntegrityError":
                    raise
            else:
                return

    def delete(self, name: str) -> None:
        """Delete a Variable."""
        self._variable.delete(name, **self._team(name))

    def names(self, prefix: str) -> list[str]:
        """List the Variables whose key begins with a prefix.

        :raises NotImplementedError: in a task before Airflow 3.3, which cannot list Variables.
        """
        if self._in_database:
            return list(self.read_all(prefix))
        if not hasattr(self._variable, "keys"):
            raise NotImplementedError("tasks list Variables from Airflow 3.3 on")
        return list(self._variable.keys(prefix=prefix))

    def read_all(self, prefix: str) -> dict[str, str]:
        """Return the texts of the Variables whose key begins with a prefix, by name: in the database, one query.

        :raises NotImplementedError: as `names` does.
        """
        if self._in_database:
            from airflow_incident.airflow_bridge.database import texts_in_database

            return texts_in_database(prefix)
        texts = {name: self.get(name) for name in self.names(prefix)}
        return {name: text for name, text in texts.items() if text is not None}

    @cached_property
    def _variable(self) -> Any:
        if self._in_database:
            from airflow.models import Variable

            return Variable  # noqa: AIR311 -- where there is no supervisor, the SDK's finds nothing
        from airflow.sdk import Variable as SdkVariable

        return SdkVariable

    @cached_property
    def _has_teams(self) -> bool:
        return self._in_database and has_teams(self._variable)

    def _team(self, name: str) -> dict[str, str]:
        """Name the team that a Variable is of; Airflow tells tasks theirs."""
        return team_of(self._variable, name) if self._has_teams else {}


class _OnTheLoop:
    """Airflow's Variables for the triggerer's coroutines, which share its channel and its event loop.

    Before 3.2 the channel is for that loop alone: a question from another thread ends the triggerer.
    """

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    async def do(self, method: str, *args: str) -> Any:
        """Do as the method of `Variables` does.

        :raises NotImplementedError: if it lists; nothing in the triggerer does.
        :raises JournalError: if Airflow could not tell.
        """
        match method, *args:
            case "get", name:
                message = question("GetVariable", key=name)
            case "set", name, text:
                message = question("PutVariable", key=name, value=text, description=DESCRIPTION)
            case "delete", name:
                message = question("DeleteVariable", key=name)
            case _:
                raise NotImplementedError("the triggerer does not list Variables")
        answer = await self._channel.asend(message)
        error = getattr(getattr(answer, "error", None), "value", None)
        if error not in {None, "VARIABLE_NOT_FOUND"}:
            raise JournalError(f"Airflow's API answered {error}")
        value = getattr(answer, "value", None)
        return value if isinstance(value, str) else None


class _Elsewhere:
    """The same for any other coroutine: the database may be asked on another thread."""

    def __init__(self, store: Variables) -> None:
        self._store = store

    async def do(self, method: str, *args: str) -> Any:
        """Do as the method of `Variables` does."""
        do = getattr(self._store, method)
        if supervisor() is not None:
            return do(*args)
        import asyncio  # tasks need none

        return await asyncio.to_thread(do, *args)


def async_store(store: Variables) -> _OnTheLoop | _Elsewhere:
    """Return the same store for coroutines of this process."""
    channel = supervisor()
    return _OnTheLoop(channel) if is_triggerers(channel) else _Elsewhere(store)
