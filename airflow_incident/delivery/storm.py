"""Storms: failures beyond the limit are grouped under one incident, which names each of them.

Generators, as a report is. Nothing is locked, so a count may lag; a flush, which reads every record, sets it right.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from airflow_incident.api.calls import CallSequence
from airflow_incident.api.incident import IncidentState
from airflow_incident.api.submit import LOOK_UP_SHARE
from airflow_incident.core.key import storm_key
from airflow_incident.core.markdown import code, link
from airflow_incident.core.text import one_line
from airflow_incident.core.timing import LONGEST_REPORT
from airflow_incident.delivery.addition import Addition, add
from airflow_incident.delivery.effects import Ask, Attach, Get, Set, Show
from airflow_incident.delivery.ledger import Earlier, Ledger, Opening
from airflow_incident.delivery.record import STORM, record_name, replace_surrogates
from airflow_incident.delivery.sending import own_record
from airflow_incident.errors import IncidentIoError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence
    from datetime import datetime

    from airflow_incident.api.names import Steps
    from airflow_incident.delivery.effects import Effect
    from airflow_incident.delivery.record import Record
    from airflow_incident.delivery.report import DeliveryPolicy, Report

MOST_LINKS = 50
"""Members of a storm that its incident links to; of the others it has the number."""
_MOST_DAGS = 50
_GROWTH = 1.5
"""By how much a storm grows until its text is completed: an edit for each member would be one request too many."""
_TYPE = ("incident_type", "incident_type_id")
_COMPARED = ("visibility", "mode", "severity", "severity_id", *_TYPE)
_FIRST = "**The first one:**"
_LINE = re.compile(r"- .+: \d{1,9}")


def note_opening(
    report: Report, record: Record, ledger: Ledger, policy: DeliveryPolicy
) -> Generator[Effect, Any, str | None]:
    """Note an opening, also for the text of the DAG's next incident; return the storm's key if there are too many."""
    now, dag_id = policy.now(), replace_surrogates(report.failure.dag_id)
    name = Ledger.name(policy.deployment, policy.conn_id)
    counted = [o for o in ledger.openings if o.key != report.key]
    of_dag = sum(o.dag_id == dag_id for o in counted)
    too_many = (policy.storm_dag and of_dag >= policy.storm_dag) or (
        policy.storm_connection and len(counted) >= policy.storm_connection
    )
    if too_many:
        key = ledger.storm_key or storm_key(policy.deployment, f"{now:%Y%m%dT%H%MZ}", _kind(report, policy))
        if not ledger.is_in_storm(now):
            key = yield from _going_on(key, report, policy)
            yield Set(name, ledger.in_storm(key, now).text())
        return key
    most = 2 * max(policy.storm_dag, policy.storm_connection)
    noted = ledger.with_opening(Opening(now, dag_id, report.key), most=most) if most else ledger
    if record.level != "operator":
        noted = noted.with_earlier(Earlier(dag_id, now, record.name))
    if noted != ledger:
        yield Set(name, noted.text())
    return None


def _going_on(key: str, report: Report, policy: DeliveryPolicy) -> Generator[Effect, Any, str]:
    """Return the key of the storm that takes what fails now: where its incident is over, that of a new one.

    Whoever finds it over makes the same key. Where nobody can tell how it stands, it goes on.
    """
    name = record_name(STORM, key)
    found = own_record(name, (yield Get(name)), key)
    if found is None or found.incident is None:
        return key
    if not found.already_closed:
        shown = (yield Show(found.incident.id, found.conn_id)) if policy.send else None
        if not isinstance(shown, IncidentState) or not shown.is_past:
            return key
        yield Set(name, found._replace(already_closed=True).text())
    return storm_key(policy.deployment, f"after-{found.incident.id}", _kind(report, policy))


def storm_draft(report: Report, key: str, deployment: str) -> dict[str, Any]:
    """Write the incident that groups a storm, as visible and as real as the failure that began it."""
    first = f"{code(report.failure.dag_id)}, run {link(report.failure.run_id, report.failure.run_url)}"
    lines = _lines({report.failure.dag_id: 1})
    kept = {name: value for name, value in report.draft.items() if name not in {"name", "summary", "status"}}
    return kept | {
        "idempotency_key": key,
        "name": one_line(f"Many Airflow DAGs fail in {deployment}"),
        "summary": _summary(lines, f"{_FIRST} {first}, {report.draft['name']}"),
    }


def _lines(members: Mapping[str, int]) -> list[str]:
    """List the DAGs that fail, those with the most failures first."""
    dags = sorted(members.items(), key=lambda member: (-member[1], member[0]))
    lines = [f"- {code(dag_id)}: {count}" for dag_id, count in dags[:_MOST_DAGS]]
    others = dags[_MOST_DAGS:]
    return [*lines, f"- {len(others)} other DAGs: {sum(count for _, count in others)}"] if others else lines


def _summary(lines: Sequence[str], first: str) -> str:
    """Say what fails, as far as is known, in the words that `_is_own` knows again."""
    runs = sum(int(line.rpartition(": ")[2]) for line in lines)
    what = f"**{runs} failures**" if runs > 1 else "**One failure**"
    return (
        f"{what} came on top of those that have incidents of their own: look for what they have in common first. "
        "By DAG:\n\n" + "\n".join(lines) + f"\n\n{first}"
    )


def _is_own(text: str) -> bool:
    """Return whether a storm's summary is one of ours: processes that complete it at once need not know one another."""
    body, mark, first = text.partition(_FIRST)
    lines = [line for line in body.splitlines() if _LINE.fullmatch(line)]
    return bool(mark and lines) and _summary(lines, mark + first).split() == text.split()


def _kind(report: Report, policy: DeliveryPolicy) -> str:
    return sha256(repr((policy.conn_id, sorted(like_of(report.draft).items()))).encode()).hexdigest()[:8]


def is_of_kind(report: Report, storm: str, policy: DeliveryPolicy) -> bool:
    """Return whether a storm's key was made for failures like this one."""
    return storm.endswith(f"/{_kind(report, policy)}")


def like_of(draft: Mapping[str, Any]) -> dict[str, str]:
    """Keep of a draft or a body what is compared, before another failure is told to its incident."""
    return {name: str(draft[name]) for name in _COMPARED if draft.get(name) is not None}


def is_of_other_type(like: Mapping[str, str], other: Mapping[str, str] | None) -> bool:
    """Return whether two failures have not the same incident type, as far as their words tell; see `like_of`."""
    types, others = ({each[name].casefold() for name in _TYPE if name in each} for each in (like, other or {}))
    return types != others and types.isdisjoint(others)


def stands_apart(
    report: Report, record: Record, of_storm: Record, policy: DeliveryPolicy
) -> Generator[Effect, Any, bool]:
    """Return whether a failure must not hide in a storm: it is more severe, or not for everybody who sees that one.

    What cannot be told counts as yes. So does another incident type: some are private by themselves.
    """
    mine, theirs = like_of(record.body or report.draft) | like_of(report.draft), of_storm.like or {}
    if mine.get("mode") != theirs.get("mode"):
        return True
    if mine.get("visibility") == "private" != theirs.get("visibility"):
        return True
    if is_of_other_type(mine, theirs):
        return True
    severity, other = (like.get("severity") or like.get("severity_id") for like in (mine, theirs))
    if severity is None or severity == other:
        return False
    if other is None or not policy.send:
        return True
    answer = yield Ask(
        CallSequence(lambda directory: _is_above(severity, other, directory), LOOK_UP_SHARE), policy.conn_id
    )
    return isinstance(answer, IncidentIoError) or bool(answer)


def _is_above(severity: str, other: str, directory: Any) -> Steps[bool]:
    from airflow_incident.api.names import find_severity, rank  # only storms compare

    one = yield from find_severity(severity, directory)
    two = yield from find_severity(other, directory)
    return rank(one) > rank(two)


def is_being_opened(of_storm: Record, now: datetime) -> bool:
    """Return whether another process has just asked for a storm's incident, and may be waiting for the answer."""
    is_first_try = of_storm.state == "pending" and of_storm.maybe_delivered and not of_storm.attempts
    return is_first_try and abs(now - of_storm.written_at) < timedelta(seconds=LONGEST_REPORT)


def grouped_under(of_storm: Record, report: Report, record: Record) -> Record:
    """Return what is written down of a failure that a storm takes, with the link that its incident is to get."""
    url, is_linked = report.failure.run_url, of_storm.member_count <= MOST_LINKS
    link = (url, str(report.draft["name"])) if url and is_linked else None
    return record._replace(
        state="grouped", storm=of_storm.key, incident=of_storm.incident, body=None, draft=None, link=link
    )


def attach(member: Record, of_storm: Record) -> Generator[Effect, Any, Record]:
    """Link a member from its storm's incident; return its record as it is to be kept."""
    if of_storm.incident is None:
        return member
    member = member._replace(incident=of_storm.incident)
    if member.link is None:
        return member
    answer = yield Attach(of_storm.incident.id, *member.link, of_storm.conn_id)
    return member if isinstance(answer, IncidentIoError) else member._replace(link=None)


def tell_of(grouped: Record, of_storm: Record) -> Generator[Effect, Any, None]:
    """Let a storm's incident name a failure, and complete its text now and then."""
    member = yield from attach(grouped, of_storm)
    if member != grouped:
        yield Set(member.name, member.text())
    count = of_storm.member_count
    if count >= _GROWTH * max(of_storm.told, 1):
        completed = yield from complete(of_storm)
        # Where it could not be completed, nobody tries again before it has grown as much once more, but a flush.
        yield Set(completed.name, completed._replace(told=count).text())


def complete(of_storm: Record) -> Generator[Effect, Any, Record]:
    """Let a storm's incident say how many there are by now, and of which DAGs."""
    members = of_storm.members or {}
    edit = lambda text: _summary(_lines(members), _FIRST + text.partition(_FIRST)[2])  # noqa: E731
    told = yield from add(of_storm, Addition(edit, is_own=_is_own))
    return told._replace(told=of_storm.member_count) if told else of_storm


def counted(of_storm: Record, records: Iterable[Record]) -> Record:
    """Return a storm's record with all of its members, as far as they have records still."""
    found = Counter(record.dag_id for record in records if record.storm == of_storm.key and record.level != "storm")
    known = Counter(of_storm.members or {})
    return of_storm._replace(members=dict(found | known))  # the larger number of each: what recovered has no record
