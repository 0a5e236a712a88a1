"""What was promised about a failure and what became of it: one record per key, kept as text under one name.

A record that is read is untrusted input: it names no host, path or header, and its body must pass the models.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, get_args

from airflow_incident.api.calls import Endpoint, PreparedCreate
from airflow_incident.api.payload import create_draft
from airflow_incident.api.submit import Choice
from airflow_incident.constants import TASK_SCOPES
from airflow_incident.core.key import ALERT_MARK, with_deployment
from airflow_incident.core.timing import SUPPRESS_FOR, WAIT_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from airflow_incident.core.failure import Failure

PREFIX = "incident_io."
"""Beginning of every record's name; the rest is the DAG id, cut, and a digest of the key."""
KEEP_RECORDS = 2_000
"""Delivered records are deleted when they are more than this and an hour old, or too old."""
_DAG_ID_LENGTH = 100
_LONGEST_KEY = 220
"""Characters of a key, an alert's mark included."""
_LONGEST_NOTE = 500
_UNSAFE = re.compile(r"[^\w.-]", re.ASCII)


VERSION = 1
State = Literal["pending", "open", "grouped", "dead"]
STATES: tuple[State, ...] = get_args(State)
_DELIVERED = frozenset({"open", "grouped"})
"""The states in which an incident stands for a failure; in every other one it still has something to send."""
Level = Literal["task", "dag", "deadline", "operator", "import", "storm"]


STORM = "storm"
"""What stands for a DAG id in the record of a storm."""


class Store(Protocol):
    """Where records live; every method may raise whatever its backend raises."""

    def get(self, name: str) -> str | None:
        """Return the text under a name; None does not prove that there is none."""

    def set(self, name: str, text: str) -> None:
        """Write a text under a name, over what was there."""

    def delete(self, name: str) -> None:
        """Delete what is under a name, if there is anything."""

    def names(self, prefix: str) -> list[str]:
        """List the names that begin with a prefix."""

    def read_all(self, prefix: str) -> dict[str, str]:
        """Return the texts under the names that begin with a prefix."""


class OpenIncident(NamedTuple):
    """The incident that a record stands for.

    `began` is the category of the status that it was opened in, `was_assigned` whether it was opened with people in its
    roles: neither means that a person has claimed it. `text_mark` tells whether its text is still the one that was
    sent; None if incident.io has made another one of it. `visibility` is what incident.io said of it, or was asked for.
    """

    id: str
    reference: str | None = None
    name: str | None = None
    permalink: str | None = None
    began: str = "triage"
    was_assigned: bool = False
    text_mark: str | None = None
    visibility: str | None = None

    @property
    def is_private(self) -> bool:
        """Whether only invited people see it, as far as it is known."""
        return self.visibility == "private"


class Closing(NamedTuple):
    """What is still to be done for a failure whose run has recovered; see `api.closing.CloseOptions`.

    `error` is why incident.io refused it: a flush does not ask again.
    """

    title: str
    url: str | None = None
    always: bool = False
    status: str | None = None
    error: str | None = None


class Record(NamedTuple):
    """One failure: `pending` until it is delivered, then `open`; `grouped` under a storm; `dead` after a refusal.

    `draft` is what is wanted, in the words of whoever set it up, until its names have become IDs; `body` is what is
    sent, the same each time, `endpoint` one version of the API; `own_fields` are the fields that its caller set, as
    long as the connection's options are not known; `api_version` is the one that was asked for. `due_at` is when the
    API asked to come back. `maybe_delivered` says that an attempt may have taken effect. `storm` is the key of the
    incident that it is grouped under. `run_at` is the moment that the run stands for, `clear_count` how often it had
    been cleared. `recovered` says that the incident has been told of the run's recovery; `closing` is what is still to
    be done about that. `key` names the record. `asked_key` is the idempotency key that it is sent with, where that is
    another one, and `next_keys` are those to go on with, as in `api.submit.SubmitOptions`. `started_at` is when the run
    began. `already_closed` says that the incident was over when incident.io was last asked. `of_dag` is the key of the
    record that says what its DAG has open, at scope `dag`; `on_dags_key` says that it is sent with the key that the
    DAG's runs share. `notes` say what was left out of it, and why. `like` is what a failure is compared with before it
    is told to the incident. Of a storm, `members` counts its failures by DAG, and `told` is how many its text knows of;
    `link`, of a member, is the address and title that is to be attached still.
    """

    state: State
    key: str
    dag_id: str
    run_id: str
    conn_id: str
    level: Level
    written_at: datetime
    api_version: Choice = "auto"
    endpoint: Endpoint = "v1"
    task: str | None = None
    failed_at: datetime | None = None
    opened_at: datetime | None = None
    due_at: datetime | None = None
    attempts: int = 0
    maybe_delivered: bool = False
    error: str | None = None
    draft: dict[str, Any] | None = None
    own_fields: tuple[str, ...] | None = None
    body: dict[str, Any] | None = None
    incident: OpenIncident | None = None
    suppressed: int = 0
    attached_late: bool = False
    storm: str | None = None
    clear_count: int = 0
    scope: str | None = None
    run_at: datetime | None = None
    recovered: bool = False
    closing: Closing | None = None
    started_at: datetime | None = None
    asked_key: str | None = None
    next_keys: tuple[tuple[str, datetime], ...] = ()
    already_closed: bool = False
    of_dag: str | None = None
    on_dags_key: bool = False
    members: dict[str, int] | None = None
    told: int = 0
    like: dict[str, str] | None = None
    link: tuple[str, str] | None = None
    notes: tuple[str, ...] = ()

    @property
    def sent_key(self) -> str:
        """The idempotency key that it is sent with; an alert's has a mark."""
        return self.asked_key or self.key

    @property
    def creation(self) -> PreparedCreate | None:
        """What is sent for it, once that is settled."""
        if self.body is None:
            return None
        return PreparedCreate(self.body, self.endpoint, partial=self.draft is not None, notes=self.notes)

    def with_notes(self, notes: Iterable[str]) -> Record:
        """Return it with what was left out when its body was made."""
        from airflow_incident.core.redaction import redact_secrets  # few records have notes

        return self._replace(notes=tuple(replace_surrogates(redact_secrets(note))[:_LONGEST_NOTE] for note in notes))

    @property
    def is_delivered(self) -> bool:
        """Whether an incident stands for it, its own or one that it is grouped under."""
        return self.state in _DELIVERED

    @property
    def needs_closing(self) -> bool:
        """Whether all that is left to do is to close it: an alert whose run recovered is not fired again first."""
        if self.closing is None or self.closing.error:
            return False
        return self.state == "open" or (self.state == "pending" and self.endpoint == "alert")

    @property
    def rate_limit_key(self) -> tuple[str, bool]:
        """What shares an outage and a rate limit: a connection's incidents, and apart from them its alerts."""
        return self.conn_id, self.endpoint == "alert"

    @property
    def thing(self) -> str:
        """What it is at incident.io, where nothing names it."""
        return "an alert" if self.endpoint == "alert" else "an incident"

    @property
    def subject(self) -> str:
        """What has failed, in a sentence."""
        return "many failures" if self.level == STORM else subject_of(self.level, self.dag_id, self.run_id)

    @property
    def name(self) -> str:
        """The name that this record lives under."""
        return record_name(self.dag_id, self.key)

    def text(self) -> str:
        """Encode the record; short, for the database, and readable by a person."""
        return encode(_as_json(self) | {"version": VERSION})

    def asked_as(self, key: str) -> Record:
        """Return the same failure under another of its idempotency keys; nothing of the one before stands for it."""
        if key == self.sent_key:
            return self
        known = [next_key for next_key, _ in self.next_keys]
        fields: dict[str, Any] = {"asked_key": key, "draft": self.draft and {**self.draft, "idempotency_key": key}}
        fields |= {"incident": None, "opened_at": None, "already_closed": False, "maybe_delivered": False}
        if key in known:  # else it is the next one of those that the DAG's runs share
            fields |= {"next_keys": self.next_keys[known.index(key) + 1 :], "on_dags_key": False}
        return self._replace(**fields)

    def with_member(self, dag_id: str) -> Record:
        """Count a failure that a storm takes."""
        members = self.members or {}
        return self._replace(members={**members, dag_id: members.get(dag_id, 0) + 1})

    @property
    def member_count(self) -> int:
        """How many failures a storm has taken."""
        return sum((self.members or {}).values())

    def without_run(self) -> Record:
        """Return it without what only the key of a run needs."""
        return self._replace(started_at=None, asked_key=None, next_keys=(), on_dags_key=False)

    def is_of_earlier_start(self, started_at: datetime | None) -> bool:
        """Return whether it was written for a run that was deleted since, and made again at this moment.

        One that names no start is judged by the moment of its own answer; what was over then proves nothing for a run
        whose start is known.
        """
        if started_at is None:
            return False
        if self.started_at is not None:
            return self.started_at < started_at
        return self.already_closed or (self.opened_at or self.written_at) < started_at

    def of_deployment(self, deployment: str) -> Record:
        """Return this record with the keys that another name of its deployment makes."""
        return self._replace(
            key=with_deployment(self.key, deployment),
            asked_key=self.asked_key and with_deployment(self.asked_key, deployment),
            of_dag=self.of_dag and with_deployment(self.of_dag, deployment),
            next_keys=tuple((with_deployment(key, deployment), began) for key, began in self.next_keys),
        )

    def joined(self, other: Record) -> Record:
        """Return this record of a DAG after another failure joined it: from then on it stands for the later run.

        Where a run's moment is unknown, so is the later one; nothing is closed for it then.
        """
        if self.run_at is None or (other.run_at is not None and other.run_at < self.run_at):
            return self._replace(suppressed=self.suppressed + 1)
        later = {name: getattr(other, name) for name in ("run_id", "run_at", "clear_count", "level")}
        return self._replace(suppressed=self.suppressed + 1, **later)

    def is_later_than(self, other: Record) -> bool:
        """Return whether this record of a DAG stands for another failure's run already, or for a later one."""
        if (self.run_id, self.clear_count) == (other.run_id, other.clear_count) or self.run_at is None:
            return True
        return other.run_at is not None and other.run_at < self.run_at

    def is_fresh_for(self, key: str, now: datetime) -> bool:
        """Return whether this record makes a request for the same failure needless."""
        told_at = self.opened_at or self.written_at
        # One that joined others', or an alert that was resolved, would be told once more.
        lasts = self.state == "grouped" or self.endpoint == "alert"
        return self.key == key and self.is_delivered and (lasts or abs(now - told_at) < SUPPRESS_FOR)

    def was_refused_for(self, key: str, now: datetime) -> bool:
        """Return whether incident.io has refused this failure a moment ago, and would again."""
        return self.key == key and self.state == "dead" and abs(now - self.written_at) < SUPPRESS_FOR

    def applies_to(self, *, strict: bool) -> bool:
        """Return whether this record is to be heeded by a report.

        What a deliberate step was refused, which fails rather than degrade, a callback may have all the same.
        """
        return strict or self.state != "dead" or self.level != "operator" or self.maybe_delivered

    def is_of(self, dag_id: str, run_id: str) -> bool:
        """Return whether it is about this run."""
        return (self.dag_id, self.run_id) == (replace_surrogates(dag_id), replace_surrogates(run_id))

    @property
    def is_dags(self) -> bool:
        """Whether it says what a DAG has open, for whichever of its runs."""
        return self.of_dag == self.key

    def is_settled(self, *, always: bool) -> bool:
        """Return whether its incident was left to the person who has it, and still is to be.

        :param always: Whether what a person has claimed is to be closed, too.
        """
        return self.recovered and self.closing is None and not always

    @property
    def is_of_task(self) -> bool:
        """Whether it stands for one task, or one task instance, and not for its run."""
        return self.scope in TASK_SCOPES and self.task is not None

    def covers(self, failure: Failure) -> bool:
        """Return whether it covers a task instance of its run."""
        if self.task is None or not self.is_of_task:
            return True
        if self.scope == "task":  # with all its map indexes, of which the record names the first that failed
            return self.task.partition("[")[0] == failure.task_id
        return self.task == failure.task_label

    def is_due(self, now: datetime) -> bool:
        """Return whether the moment that the API asked to wait for has come.

        A date further ahead than is ever believed was written by a clock that is wrong.
        """
        return self.due_at is None or not now < self.due_at <= now + WAIT_LIMIT

    def may_be_sent(self, now: datetime) -> bool:
        """Return whether this failure still waits, and need not wait longer."""
        return self.state == "pending" and self.is_due(now)


def encode(values: Mapping[str, Any]) -> str:
    """Write down values as JSON that any database takes."""
    return replace_surrogates(json.dumps(values, ensure_ascii=False, separators=(",", ":"), default=_plain))


def _as_json(values: Record | OpenIncident | Closing) -> dict[str, Any]:
    """Return what is not a default, by name."""
    defaults = values._field_defaults
    return {
        name: _as_json(value) if isinstance(value, OpenIncident | Closing) else value
        for name, value in values._asdict().items()
        if name not in defaults or value != defaults[name]
    }


def _plain(value: Any) -> str:
    """Write down what JSON has no word for."""
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)


class UnreadableRecordError(ValueError):
    """A text under our prefix that is not a record of this version; it is left alone."""


def replace_surrogates(text: str) -> str:
    """Replace half of a surrogate pair, which no database takes."""
    return text.encode("utf-8", "replace").decode()


def subject_of(level: str, dag_id: str, run_id: str) -> str:
    """Say in a sentence what has failed."""
    return f"DAG file {dag_id}" if level == "import" else f"DAG {dag_id}, run {run_id}"


def record_name(dag_id: str, key: str) -> str:
    """Name the record of a key: 250 characters at most, with a DAG id that a person can recognize."""
    return f"{dag_prefix(dag_id)}{sha256(key.encode()).hexdigest()[:32]}"


def dag_prefix(dag_id: str) -> str:
    """Return what the names of a DAG's records begin with; other DAGs' may begin so, too.

    In ASCII without `%`, for the DAG processor and the triggerer end of any other name on some versions of Airflow. No
    transliteration: tables of Unicode differ between versions of Python, and two names for one key are two incidents.
    """
    return f"{PREFIX}{_UNSAFE.sub('_', dag_id)[:_DAG_ID_LENGTH]}."


def is_of_dag(name: str, dag_id: str) -> bool:
    """Return whether a name may be a record's of this DAG: with a DAG `a`, names of `a.b` begin alike, but go on."""
    prefix = dag_prefix(dag_id)
    return name.startswith(prefix) and "." not in name.removeprefix(prefix)


def read_record(name: str, text: str) -> Record:
    """Decode a record, and check that it belongs under its name.

    :raises UnreadableRecordError: if it is malformed, forged, or of another version.
    """
    try:
        record = _decoded(json.loads(text))
        keys = set(_keys(record))
    except Exception as error:  # noqa: BLE001 -- a forged draft raises what it likes
        raise UnreadableRecordError(f"it cannot be read ({type(error).__name__})") from None
    if not keys and not record.is_delivered:
        raise UnreadableRecordError("it has no body to send")
    if keys - {record.sent_key}:
        raise UnreadableRecordError("its body has another key")
    if record.name != name:
        raise UnreadableRecordError("it belongs under another name")
    moments = filter(None, (record.written_at, record.failed_at, record.due_at))
    if any(moment.year in {MINYEAR, MAXYEAR} for moment in moments):  # a day before or after it may be no date
        raise UnreadableRecordError("its time is none that a clock shows")
    return record


def _decoded(values: Any) -> Record:
    """Make a record of JSON: a field of a later version is ignored, one of the wrong type is an error.

    :raises ValueError: if it is none.
    """
    json.dumps(values, ensure_ascii=False).encode()  # half of a surrogate pair could not be sent
    if values.get("version", VERSION) != VERSION:
        raise ValueError("another version")
    return Record(**read_fields(values, _FIELDS))


Reader = Callable[[Any], Any]


def read_fields(values: Mapping[str, Any], fields: Mapping[str, Reader]) -> dict[str, Any]:
    """Read the fields that are there; None is as good as not there.

    :raises ValueError: if one has the wrong type.
    """
    return {name: read(values[name]) for name, read in fields.items() if values.get(name) is not None}


def _of_type(*kinds: type) -> Reader:
    def read(value: Any) -> Any:
        if type(value) not in kinds:
            raise ValueError("the wrong type")
        return value

    return read


def _one_of(kind: Any) -> Reader:
    known = get_args(kind)

    def read(value: Any) -> Any:
        if value not in known:
            raise ValueError("none of those known")
        return value

    return read


def read_key(value: Any) -> str:
    """Read a key.

    :raises ValueError: if it cannot be one.
    """
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_KEY:
        raise ValueError("no key")
    return value


def read_moment(value: Any) -> datetime:
    """Read a date and time with its zone.

    :raises ValueError: if it is none.
    """
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError("a moment without a zone")
    return moment


_text, _flag, _count = _of_type(str), _of_type(bool), _of_type(int)
_list, _object = _of_type(list), _of_type(dict)


def _pair(url: str, title: str) -> tuple[str, str]:
    return url, title


_INCIDENT: Mapping[str, Reader] = MappingProxyType(
    dict.fromkeys(("id", "reference", "name", "permalink", "began", "text_mark", "visibility"), _text)
    | {"was_assigned": _flag}
)
_CLOSING: Mapping[str, Reader] = MappingProxyType(
    dict.fromkeys(("title", "url", "status", "error"), _text) | {"always": _flag}
)
_FIELDS: Mapping[str, Reader] = MappingProxyType(
    dict.fromkeys(("dag_id", "run_id", "conn_id", "task", "error", "storm", "scope", "of_dag"), _text)
    | dict.fromkeys(("key", "asked_key"), read_key)
    | dict.fromkeys(("written_at", "failed_at", "opened_at", "due_at", "run_at", "started_at"), read_moment)
    | dict.fromkeys(("attempts", "suppressed", "clear_count", "told"), _count)
    | dict.fromkeys(("maybe_delivered", "attached_late", "recovered", "already_closed", "on_dags_key"), _flag)
    | dict.fromkeys(("draft", "body"), _object)
    | {
        "state": _one_of(State),
        "level": _one_of(Level),
        "api_version": _one_of(Choice),
        "endpoint": _one_of(Endpoint),
        "own_fields": lambda value: tuple(map(_text, _list(value))),
        "notes": lambda value: tuple(map(_text, _list(value))),
        "members": lambda value: {dag: _count(number) for dag, number in _object(value).items()},
        "link": lambda value: _pair(*map(_text, _list(value))),
        "like": lambda value: {name: _text(text) for name, text in _object(value).items()},
        "next_keys": lambda value: tuple((read_key(key), read_moment(before)) for key, before in _list(value)),
        "incident": lambda value: OpenIncident(**read_fields(_object(value), _INCIDENT)),
        "closing": lambda value: Closing(**read_fields(_object(value), _CLOSING)),
    }
)
"""How each field of a record is read; tests hold the names against the record's."""


def _keys(record: Record) -> Iterator[str]:
    """Check what a record would have us send, and tell with which keys."""
    from airflow_incident.api.body import AlertEvent, CreateIncident, CreateIncidentV2  # only bodies

    if record.body is not None and record.endpoint == "alert":
        yield f"{ALERT_MARK}{AlertEvent.model_validate(record.body).deduplication_key}"
    elif record.body is not None:
        model = CreateIncident if record.endpoint == "v1" else CreateIncidentV2
        yield model.model_validate(record.body).idempotency_key
    if record.draft is not None:
        yield str(create_draft(**record.draft)["idempotency_key"])


def utc_now() -> datetime:
    """Tell the time of day."""
    return datetime.now(UTC)
