"""Airflow's Variables as a store of texts, from whichever process this is.

https://airflow.apache.org/docs/apache-airflow/stable/howto/variable.html
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from airflow_incident.airflow_bridge.compat import in_team_of_variable, is_triggerers, supervisor
from airflow_incident.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

_CACHES = ("airflow.sdk.execution_time.cache", "airflow.secrets.cache")
"""Where Airflow keeps its cache from 3.1 on, and where it did before."""
DESCRIPTION = "Written by airflow-incident; see 'airflow-incident journal'."


class Variables:
    """A store over Airflow's Variables: by the supervisor's channel where there is one, else in the database."""

    def __init__(self) -> None:
        self._has_supervisor = supervisor() is not None

    def get(self, name: str) -> str | None:
        """Return a Variable's text; None where there is none, or where Airflow could not tell."""
        _forget_cached(name)
        if not self._has_supervisor:
            return _text(_model().get(name, default_var=None, **in_team_of_variable(name)))
        return _text(_sdk().get(name, default=None))

    def set(self, name: str, text: str) -> None:
        """Write a Variable."""
        if self._has_supervisor:
            _sdk().set(name, text, description=DESCRIPTION)
        else:
            _model().set(name, text, description=DESCRIPTION, **in_team_of_variable(name))

    def delete(self, name: str) -> None:
        """Delete a Variable."""
        if self._has_supervisor:
            _sdk().delete(name)
        else:
            _model().delete(name, **in_team_of_variable(name))

    def names(self, prefix: str) -> list[str]:
        """List the Variables whose key begins with a prefix.

        :raises NotImplementedError: in a task before Airflow 3.3, which cannot list Variables.
        """
        if not self._has_supervisor:
            return _names_in_database(prefix)
        if not hasattr(_sdk(), "keys"):
            raise NotImplementedError("tasks list Variables from Airflow 3.3 on")
        return list(_sdk().keys(prefix=prefix))


class _OnTheLoop:
    """A store over Airflow's Variables for the triggerer's coroutines, which share its channel and its event loop.

    Before 3.2 the channel is for that loop alone: a question from another thread ends the triggerer.
    """

    def __init__(self, channel: Any) -> None:
        from airflow.sdk.execution_time import comms

        self._channel = channel
        self._messages = comms

    async def get(self, name: str) -> str | None:
        """Return a Variable's text, None where there is none.

        :raises JournalError: if Airflow could not tell.
        """
        return _text(getattr(await self._ask(self._messages.GetVariable(key=name)), "value", None))

    async def set(self, name: str, text: str) -> None:
        """Write a Variable."""
        await self._ask(self._messages.PutVariable(key=name, value=text, description=DESCRIPTION))

    async def delete(self, name: str) -> None:
        """Delete a Variable."""
        await self._ask(self._messages.DeleteVariable(key=name))

    async def names(self, prefix: str) -> list[str]:
        """List the Variables whose key begins with a prefix.

        :raises NotImplementedError: always; nothing in the triggerer lists.
        """
        raise NotImplementedError(f"the triggerer does not list Variables ({prefix})")

    async def _ask(self, message: Any) -> Any:
        answer = await self._channel.asend(message)
        error = getattr(getattr(answer, "error", None), "value", None)
        if error not in {None, "VARIABLE_NOT_FOUND"}:
            raise JournalError(f"Airflow's API answered {error}")
        return answer


class _Elsewhere:
    """A store over Airflow's Variables for any other coroutine: the database may be asked on another thread."""

    def __init__(self, store: Variables) -> None:
        self._store = store

    async def get(self, name: str) -> str | None:
        """Do as `Variables.get` does."""
        return await self._call(self._store.get, name)

    async def set(self, name: str, text: str) -> None:
        """Do as `Variables.set` does."""
        await self._call(self._store.set, name, text)

    async def delete(self, name: str) -> None:
        """Do as `Variables.delete` does."""
        await self._call(self._store.delete, name)

    async def names(self, prefix: str) -> list[str]:
        """Do as `Variables.names` does."""
        return await self._call(self._store.names, prefix)

    async def _call(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if supervisor() is not None:
            return method(*args, **kwargs)
        import asyncio  # tasks need none

        return await asyncio.to_thread(method, *args, **kwargs)


def async_store(store: Variables) -> _OnTheLoop | _Elsewhere:
    """Return the same store for coroutines of this process."""
    channel = supervisor()
    return _OnTheLoop(channel) if is_triggerers(channel) else _Elsewhere(store)


def texts_in_database(prefix: str) -> dict[str, str]:
    """Read the Variables whose key begins with a prefix, by name: one query, for a process that has the database.

    No secrets backend is asked: what we write is in the database.
    """
    from airflow.utils.session import create_session
    from sqlalchemy import select

    model = _model()
    with create_session() as session:
        rows = session.scalars(select(model).where(model.key.startswith(prefix, autoescape=True)))
        return {row.key: text for row in rows if (text := _text(row.val)) is not None}


def _sdk() -> Any:
    from airflow.sdk import Variable

    return Variable


def _model() -> Any:
    from airflow.models import Variable

    return Variable  # noqa: AIR311 -- where there is no supervisor, the SDK's finds nothing


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _forget_cached(name: str) -> None:
    """Read past the cache of `[secrets] use_cache`, which the DAG processor keeps for 15 minutes."""
    for module in _CACHES:
        # Not getattr(): Airflow 3 answers for the old place, too, with a warning.
        cache = getattr(sys.modules.get(module), "__dict__", {}).get("SecretCache")
        if cache is not None:
            cache.invalidate_variable(name)


def _names_in_database(prefix: str) -> list[str]:
    from airflow.utils.session import create_session
    from sqlalchemy import select

    key = _model().key
    with create_session() as session:
        return list(session.scalars(select(key).where(key.startswith(prefix, autoescape=True)).order_by(key)))
