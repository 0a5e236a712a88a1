"""Where a connection of Airflow's is read from, whichever process this is. What it means is said elsewhere."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from airflow_incident.airflow_bridge.channel import awithin, within
from airflow_incident.airflow_bridge.compat import (
    CONNECTION_LOGGERS,
    PROCESS_CONTEXT,
    AirflowNotFoundException,
    BaseHook,
    connection_of_a_team,
    is_in_processor,
    is_triggerers,
    question,
    secrets_backends,
    supervisor,
)
from airflow_incident.errors import AirflowTimeoutError, MissingConnectionError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

_ID_LENGTH = 250
"""Characters of the longest connection id that Airflow takes."""


def read_connection(conn_id: str) -> Any:
    """Read a connection.

    :raises AirflowNotFoundException: if there is none.
    :raises AirflowTimeoutError: if Airflow cannot say so, or not in the time of a callback.
    :raises MissingConnectionError: if this process of Airflow would not outlive the question.
    """
    _check_id(conn_id)
    with within(), _without_asides():
        try:
            return BaseHook.get_connection(conn_id)
        except AirflowNotFoundException:
            if supervisor() is None:
                if (found := _from_database(conn_id)) is not None:
                    return found
            else:
                with _doubt():
                    answer = supervisor().send(question("GetConnection", conn_id=conn_id))
                _must_be_missing(answer)
            if (found := _ask_backends(conn_id)) is not None:
                return found
            raise


async def aread_connection(conn_id: str) -> Any:
    """Async version of `read_connection`."""
    _check_id(conn_id)
    return await awithin(_aread(conn_id))


async def _aread(conn_id: str) -> Any:
    try:
        with _without_asides():
            return await _aget(conn_id)
    except AirflowNotFoundException:
        if supervisor() is None:
            if (found := _from_database(conn_id)) is not None:
                return found
        else:
            with _doubt():
                answer = await supervisor().asend(question("GetConnection", conn_id=conn_id))
            _must_be_missing(answer)
        import asyncio  # tasks need none

        if (found := await asyncio.to_thread(_ask_backends, conn_id)) is not None:
            return found
        raise


async def _aget(conn_id: str) -> Any:
    """Get a connection as this Airflow can.

    Before 3.3.2 its own coroutine masks what is secret in it by a blocking call, which fails beside another one. So
    a thread asks there, whose questions come back to this very loop.
    """
    from airflow_incident.airflow_bridge.compat import Connection  # tasks need none

    if hasattr(Connection, "aextra_dejson"):
        return await BaseHook.aget_connection(conn_id)
    from asgiref.sync import sync_to_async  # tasks need none

    return await sync_to_async(BaseHook.get_connection)(conn_id)


@contextmanager
def _without_asides() -> Iterator[None]:
    """Keep out of the log what Airflow says of every connection of our type, each time that it is read.

    For a cache it makes a URI of it, and then warns of the type's underscore, which Airflow itself replaces, and of the
    values of the extra that are too short to be secrets, like `test`.
    """
    loggers = [logging.getLogger(name) for name in CONNECTION_LOGGERS]
    for logger in loggers:
        logger.addFilter(_is_no_aside)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(_is_no_aside)


def _is_no_aside(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(
        ("Connection schemes (type:", "Skipping masking for a secret as it's too short")
    )


@contextmanager
def _doubt() -> Iterator[None]:
    """Ask again, for to Airflow an outage is as good as no connection.

    :raises AirflowTimeoutError: if that raises.
    """
    try:
        yield
    except Exception as error:
        raise AirflowTimeoutError(f"Airflow could not read the connection: {type(error).__name__}") from error


def _must_be_missing(answer: Any) -> None:
    """Believe that there is no connection only if that is the answer.

    :raises AirflowTimeoutError: if it is another one.
    """
    error = getattr(getattr(answer, "error", None), "value", "it could a moment later")
    if error != "CONNECTION_NOT_FOUND":
        raise AirflowTimeoutError(f"Airflow could not read the connection: {error}")


def _ask_backends(conn_id: str) -> Any | None:
    """Ask the installation's own secrets backends once more: Airflow passes over one that fails, and finds nothing.

    :raises Exception: whatever keeps a backend from answering, a connection that cannot be read included.
    """
    asked = (backend.get_connection(conn_id=conn_id) for backend in secrets_backends())
    return next((found for found in asked if found is not None), None)


def _from_database(conn_id: str) -> Any | None:
    """Read a connection from Airflow's database, where the process says nothing of itself, as in `airflow dags test`.

    Airflow looks there for its own processes, and lets nobody do so for tasks; `dag.test()` calls the DAG's callbacks
    in neither. None if there is none, or it must not be looked for.
    """
    if PROCESS_CONTEXT not in os.environ and "airflow.sdk" in sys.modules:
        from airflow.secrets.metastore import MetastoreBackend  # loads the database
        from airflow.utils.session import create_session

        # A session of its own: `dag.test()` goes on with the one that the thread has. A database that cannot be read,
        # as in a script that is none of Airflow's, has no connection.
        with suppress(Exception), create_session(scoped=False) as session:
            if found := MetastoreBackend().get_connection(conn_id, session=session):
                return found
    return connection_of_a_team(conn_id)


def _check_id(conn_id: str) -> None:
    """Count as missing what would end a process of Airflow's.

    Airflow writes the id into a URL as it is, and before 3.2 whoever answers the callback's process ends of one that
    its URL cannot hold.

    :raises MissingConnectionError: if Airflow must not be asked for it.
    """
    why = None
    if not conn_id.isprintable() or not 0 < len(conn_id) <= _ID_LENGTH:
        why = f"is not defined: an id has 1 to {_ID_LENGTH} characters, and no line breaks"
    elif (not conn_id.isascii() or "%" in conn_id) and _is_answered_here():
        why = "cannot be asked for here: its id must be of ASCII letters, digits, '_', '-' and '.'"
    if why and not (conn_id.isprintable() and f"AIRFLOW_CONN_{conn_id.upper()}" in os.environ):
        raise MissingConnectionError([Problem("Connection", why)], conn_id=conn_id)


def _is_answered_here() -> bool:
    """Tell the DAG processor and the triggerer, which hold the API themselves and take plain ASCII, from a task."""
    return supervisor() is not None and (is_in_processor() or is_triggerers(supervisor()))
