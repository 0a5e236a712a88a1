"""What can go wrong, one class per different thing a caller does about it.

IncidentIoError
├── ConfigurationError       fix the connection, the configuration or the arguments
│   ├── UnusableConnectionError  fix the connection; until then a callback's failure is kept in the journal
│   │   ├── MissingConnectionError   add the connection
│   │   └── UnreadableConnectionError  Airflow could not read it: its secrets backend or database failed
│   └── UnknownNameError         use a name that incident.io knows
├── ContextError             Airflow's context names no run
├── TransportError           no usable answer came: the network, TLS, a time-out
├── AmbiguousDeliveryError           v1 is gone, and an earlier attempt through it may have opened an incident
├── JournalError             the journal cannot be read or written
├── AirflowTimeoutError      Airflow did not answer in time: its API server or database
└── APIError                 incident.io answered, and refused
    ├── AuthenticationError      401
    ├── PermissionDeniedError    403
    ├── NotFoundError            404
    ├── ConflictError            409
    ├── ValidationError          422
    ├── RateLimitError           429
    ├── ServerError              5xx
    └── UnexpectedResponseError  an answer that cannot be read
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST_NAMES = 20
"""Known names that one problem lists."""


class IncidentIoError(Exception):
    """Anything this package raises on purpose.

    Airflow pickles what a task raises: each is made again of its `args`, in order.
    """

    maybe_delivered: bool = False
    """Whether the request, or an earlier attempt of it, may have taken effect all the same."""

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return False

    @property
    def blames_connection(self) -> bool:
        """Whether the same request may succeed once somebody has fixed the connection or the API key."""
        return False

    @property
    def advice(self) -> str:
        """What to do about it, in one sentence."""
        return ""


@dataclass(frozen=True, slots=True)
class Problem:
    """One wrong setting: where it is set, by its label in the form, and what is wrong with it.

    `option` and `place` are the name of an option and one of the places where it may be set.
    """

    where: str
    what: str
    option: str = ""
    place: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class WrongArgument(Problem):
    """One wrong argument, as it stands in the DAG file: `open_incident(mode='prod')`, and what is wrong with it."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class UnknownName(Problem):
    """A name that incident.io does not know, among those that it does."""

    kind: str = ""
    name: str = ""
    known: tuple[str, ...] = ()

    @classmethod
    def among(cls, where: str, kind: str, name: str, known: tuple[str, ...], *, of: str = "") -> UnknownName:
        """Put it into words.

        :param of: The custom field that has no such option.
        """
        more = f" and {len(known) - _MOST_NAMES} more" if len(known) > _MOST_NAMES else ""
        names = ", ".join(known[:_MOST_NAMES]) + more or "none"
        what = f"{of!r} has no {kind} {name!r}" if of else f"there is no {kind} {name!r}"
        return cls(where, f"{what}; known: {names}", kind=kind, name=name, known=known)


class ConfigurationError(IncidentIoError):
    """The settings cannot be used; lists every wrong one at once."""

    def __init__(self, problems: Iterable[Problem], conn_id: str = "") -> None:
        self.problems = tuple(problems)
        self.conn_id = conn_id
        super().__init__(self.problems, conn_id)

    @property
    def _blames_arguments(self) -> bool:
        return bool(self.problems) and all(isinstance(problem, WrongArgument) for problem in self.problems)

    def __str__(self) -> str:
        if self._blames_arguments:
            return "\n".join(map(str, self.problems))
        place = f"connection {self.conn_id!r}: " if self.conn_id else ""
        return place + "; ".join(map(str, self.problems))

    @property
    def advice(self) -> str:
        """Name the place to fix."""
        if self._blames_arguments:
            return "Fix the arguments in the DAG file."
        place = f"connection {self.conn_id!r}" if self.conn_id else "the connection"
        return f"Fix {place}, the [incident_io] section of airflow.cfg, or the arguments in the DAG file."


class UnusableConnectionError(ConfigurationError):
    """No request can be made with the connection: it cannot be read, or a part of it that every request needs is wrong.

    A callback keeps its failure in the journal until somebody has fixed it.
    """

    blames_connection = True

    @property
    def advice(self) -> str:
        """Name the place to fix."""
        return f"Fix connection {self.conn_id!r}: airflow-incident doctor --conn-id {self.conn_id}"


class MissingConnectionError(UnusableConnectionError):
    """There is no such connection, or Airflow cannot read it: callers learn no more than that."""

    @property
    def advice(self) -> str:
        """Show the shortest way to define it."""
        if not self.conn_id.isascii() or not self.conn_id.isprintable() or "%" in self.conn_id:
            return "Rename the connection, in Airflow and in the DAG file."
        return f"Add it: airflow connections add {self.conn_id} --conn-type incident_io --conn-password <API key>"


class UnreadableConnectionError(UnusableConnectionError):
    """Airflow could not read the connection: its secrets backend, its database or its API server failed."""

    retryable = True
    advice = "Check Airflow's secrets backend, its database and its API server."


class UnknownNameError(ConfigurationError):
    """A name is not known to incident.io; `kind`, `name` and `known` are about the first such."""

    advice = "Use one of the known names, or an ID; names are matched in any case."

    def __init__(self, problems: Iterable[Problem], conn_id: str = "") -> None:
        super().__init__(problems, conn_id)
        first = next((problem for problem in self.problems if isinstance(problem, UnknownName)), UnknownName("", ""))
        self.kind, self.name, self.known = first.kind, first.name, first.known


class ContextError(IncidentIoError):
    """Airflow's context does not say which run it is about."""

    advice = "Use it as a callback of a DAG or a task, or pass it the context that Airflow gives one."


class TransportError(IncidentIoError):
    """No usable answer came from incident.io: the name, the connection, TLS failed, or the time ran out."""

    retryable = True
    advice = "Check the base URL, DNS, proxy and CA bundle of the connection from this machine."

    def __init__(self, message: str, *, maybe_delivered: bool = False) -> None:
        super().__init__(message)
        self.maybe_delivered = maybe_delivered


class AmbiguousDeliveryError(IncidentIoError):
    """v1 is no longer served, and an earlier attempt through it may have opened an incident that cannot be found.

    It is not sent through v2 by itself, for then there might be two.
    """

    maybe_delivered = True
    retryable = True
    advice = (
        "See whether incident.io has this incident. If it has: airflow-incident journal drop RECORD; if it has "
        "not: airflow-incident journal retry RECORD, which sends it through v2."
    )


class JournalError(IncidentIoError):
    """The journal cannot be read or written."""

    retryable = True
    advice = "The journal lives in Airflow's Variables; see whether Airflow's database or API server answers."


class AirflowTimeoutError(IncidentIoError):
    """Airflow did not say in time what it was asked for: a connection, a Variable, the state of a task."""

    retryable = True
    advice = "Check that Airflow's API server and database are up and answer quickly."


@dataclass(frozen=True, slots=True)
class FieldError:
    """One entry of an error answer's `errors`."""

    code: str = ""
    message: str = ""
    field: str = ""
    pointer: str = ""

    def __str__(self) -> str:
        place = self.field or self.pointer
        return f"{place}: {self.message or self.code}" if place else self.message or self.code


class APIError(IncidentIoError):
    """incident.io refused the request.

    `status` is the HTTP status, `type` incident.io's word for it, `request_id` what its support asks for,
    `errors` its list of what is wrong, `retry_after` the seconds it asked to wait, if it did.
    https://docs.incident.io/api-reference/introduction
    """

    advice = "Ask incident.io's support, naming the request id."

    def __init__(
        self,
        status: int,
        type: str = "",  # noqa: A002 -- the field's own name
        request_id: str = "",
        errors: tuple[FieldError, ...] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(status, type, request_id, errors, retry_after)
        self.status = status
        self.type = type
        self.request_id = request_id
        self.errors = errors
        self.retry_after = retry_after

    def __str__(self) -> str:
        said = "; ".join(map(str, self.errors)) or self.type or "no reason given"
        named = f" (request_id {self.request_id})" if self.request_id else ""
        return f"incident.io answered {self.status}: {said}{named}"

    @property
    def retryable(self) -> bool:
        """A request that timed out on their side may pass later; a refusal will not."""
        return self.status in {408, 425}

    @property
    def already_open(self) -> bool:
        """Whether the answer means that the idempotency key has an incident already."""
        return False

    @classmethod
    def for_status(cls, status: int) -> type[APIError]:
        """Return the class that stands for an HTTP status."""
        return _BY_STATUS.get(status) or (ServerError if status >= 500 else APIError)  # noqa: PLR2004


class AuthenticationError(APIError):
    """401: the API key is unknown or revoked."""

    blames_connection = True
    advice = "Put a valid API key into the connection's password."


class PermissionDeniedError(APIError):
    """403: the API key lacks a role."""

    blames_connection = True
    advice = "Give the API key the role that the request needs; creating needs 'incident creator'."


class NotFoundError(APIError):
    """404: what was asked for, or the address itself, is not there."""

    advice = "Check the base URL of the connection and the ID."

    @property
    def blames_connection(self) -> bool:
        """Where no field is to blame, the address is."""
        return not any(e.field or e.pointer for e in self.errors)


class ConflictError(APIError):
    """409: an incident with this idempotency key exists."""

    already_open = True
    advice = "Nothing to do: the incident is open already."


class ValidationError(APIError):
    """422: a field is missing or wrong; `errors` names it."""

    advice = "Fix the field that the answer names."

    _used = re.compile(r"already|exist|duplicat|in use|been used|unique|taken", re.IGNORECASE)

    @property
    def already_open(self) -> bool:
        """Read the refusal of a key that was used; what a repeated key answers is not documented.

        Only words that speak of an earlier use count: a key that is refused for its form is a failure.
        """
        about_key = [e for e in self.errors if "idempotency_key" in f"{e.field} {e.pointer}"]
        return bool(about_key) and all(self._used.search(f"{e.code} {e.message}") for e in about_key)


class RateLimitError(APIError):
    """429: more requests than the key may make; `retry_after` says how long to wait."""

    retryable = True
    advice = "Wait, or ask incident.io for a higher rate limit."


class ServerError(APIError):
    """5xx: incident.io, or something on the way to it, has an outage."""

    maybe_delivered = True
    retryable = True
    advice = "See https://status.incident.io; the same request may pass later."


class UnexpectedResponseError(APIError):
    """An answer that is not what the API documents; after a create it may have taken effect."""

    advice = "Check that the base URL leads to incident.io and not to a proxy's page."

    def __init__(self, status: int, what: str, request_id: str = "") -> None:
        super().__init__(status, request_id=request_id, errors=(FieldError(message=what),))
        self.args = (status, what, request_id)
        self.what = what
        self.maybe_delivered = self.retryable

    @property
    def retryable(self) -> bool:
        """A success that could not be read is asked for again, with the same key; a refusal is not."""
        return self.status < 300  # noqa: PLR2004

    @property
    def blames_connection(self) -> bool:
        """A redirection leads elsewhere, which the base URL should do itself."""
        return 300 <= self.status < 400  # noqa: PLR2004


_BY_STATUS: dict[int, type[APIError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: ValidationError,
    429: RateLimitError,
}
