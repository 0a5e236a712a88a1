"""What a report or a flush asks for, step by step: of the store, and of incident.io."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_incident.api.calls import Call, CallSequence, Endpoint, PaginatedCall
    from airflow_incident.delivery.record import Record


class Get(NamedTuple):
    """Read what is under a name."""

    name: str


class Set(NamedTuple):
    """Write a text under a name."""

    name: str
    text: str


class Keep(NamedTuple):
    """Write a text under a name at any price: without it a failure is lost. It may take all the time that is left."""

    name: str
    text: str


class Delete(NamedTuple):
    """Delete what is under a name."""

    name: str


class ReadAll(NamedTuple):
    """Read what is under each name that begins with a prefix."""

    prefix: str


class Send(NamedTuple):
    """Ask incident.io for an incident, with a connection's key, through a version of its API.

    `record_key` is the failure's key in the journal, which need not be the one that it is asked for with.
    """

    body: Mapping[str, Any]
    conn_id: str
    endpoint: Endpoint = "v1"
    record_key: str | None = None


class Show(NamedTuple):
    """Ask incident.io how an incident stands."""

    incident_id: str
    conn_id: str


class Attach(NamedTuple):
    """Attach a link to an incident."""

    incident_id: str
    url: str
    title: str
    conn_id: str


class Ask(NamedTuple):
    """Ask incident.io anything else, with a connection's key; an error is its answer, too."""

    call: Call[Any] | CallSequence[Any] | PaginatedCall[Any]
    conn_id: str


class Complete(NamedTuple):
    """Add to a record's draft what its connection says, which could not be read when it was written."""

    record: Record


class Sleep(NamedTuple):
    """Let some seconds pass."""

    seconds: float


class StoreFailed(NamedTuple):
    """What a step of the store answers when it could not be done."""

    why: str


StoreStep = Get | Set | Keep | Delete | ReadAll
Effect = StoreStep | Send | Show | Attach | Ask | Complete | Sleep
