"""One round of the watcher: read both sides, let `decide` compare them, and hand what differs to the callbacks' way."""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from airflow_incident.airflow_bridge.database import database, run_context
from airflow_incident.airflow_bridge.stats import count, emit
from airflow_incident.airflow_bridge.variables import Variables
from airflow_incident.core.redaction import redact_secrets
from airflow_incident.core.timing import CALLBACKS_FIRST, DEEP_SECONDS, LONGEST_ROUND, LOOK_BACK, TRY_AGAIN
from airflow_incident.delivery import run as delivery
from airflow_incident.delivery.flush import is_due
from airflow_incident.delivery.outcome import summary_line
from airflow_incident.delivery.record import PREFIX, Record, UnreadableRecordError, read_record, utc_now
from airflow_incident.watcher import decide
from airflow_incident.watcher.state import NAME, State, read_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime, timedelta

    from airflow_incident.airflow_bridge.database import Database, File, Run, StoredText
    from airflow_incident.watcher.decide import Duties, Recovered

log = logging.getLogger(__name__)

T = TypeVar("T")

_BEGINS_ANEW = (
    "incident.io: the Variable %s cannot be read (encrypted with another Fernet key, or edited): the watcher begins "
    "anew, and opens nothing for what has failed before now"
)


class Callbacks(Protocol):
    """What the watcher calls in place of the callback that never came. None of these raises."""

    def failed(self, context: Any) -> bool:
        """Open the incident of a failed run; return whether it was to have one."""

    def recovered(self, context: Any, success: Recovered) -> None:
        """Close what a run or a task has open."""

    def broken(self, context: Any) -> None:
        """Open the incident of a DAG file that cannot be imported."""


class Round(NamedTuple):
    """What one round found to differ, and how long it took."""

    opened: int = 0
    recovered: int = 0
    gone: int = 0
    broken: int = 0
    mended: int = 0
    delivered: int = 0
    waiting: int = 0
    seconds: float = 0.0

    @property
    def differences(self) -> int:
        """How many things were not as they are to be, and were changed; what waits still is none."""
        return sum(self[:-2])


class _Next(NamedTuple):
    """When something is tried again that has had no effect yet, and how long it rests after that."""

    at: datetime
    pause: timedelta


class _Facts(NamedTuple):
    """What a round has read."""

    records: list[Record]
    state: State
    to_open: list[Run]
    recovered: list[Recovered]
    gone: list[Record]
    files: decide.Files


class Watcher:
    """Carries rounds, and remembers between them what makes them cheap. Nothing is lost with it.

    :param stopping: Says whether to end at the next step.
    """

    def __init__(
        self,
        duties: Duties,
        callbacks: Callbacks,
        *,
        every: float = 0.0,
        now: Callable[[], datetime] = utc_now,
        stopping: Callable[[], bool] = bool,
    ) -> None:
        self._duties, self._callbacks, self._every, self._now, self._stopping = duties, callbacks, every, now, stopping
        self._journal: dict[str, tuple[StoredText, Record | None]] = {}
        self._state = State()
        self._looked_deep: datetime | None = None
        self._newest: deque[tuple[datetime, int]] = deque()
        self._watched: set[int] = set()
        self._ids: dict[tuple[str, str], int] = {}
        self._tried: dict[Any, _Next] = {}
        self._now_tried: dict[Any, _Next] = {}
        self._is_away = False
        self._began = 0.0

    def round(self) -> Round:
        """Carry one round.

        :raises Exception: if the database cannot be read or written.
        """
        began, now = time.monotonic(), self._now()
        self._began = began
        with database() as read:
            facts = self._read(read, now)
        if facts.state.off_since is None and facts.state.opens_since != self._state.opens_since:
            Variables().set(NAME, facts.state.text())  # what fails from now on counts, however this round ends
        done, left_out = self._act(facts, now)
        done = done._replace(seconds=time.monotonic() - began)
        state = facts.state.leaving_out(left_out, now)._replace(
            last_round=self._now(), seconds=done.seconds, every=self._every, broken=facts.files.first_seen
        )
        Variables().set(NAME, state.text())
        count("watcher.rounds", seconds=done.seconds, timer="watcher.seconds")
        count("watcher.differences", done.differences)
        return done

    def _read(self, read: Database, now: datetime) -> _Facts:
        records, state = self._read_journal(read)
        duties = self._duties
        state = state.looking(now) if duties.opens else state.not_looking(now)
        to_open: list[Run] = []
        if duties.opens and state.opens_since:
            since = decide.looks_since(state.opens_since, records)
            state = state._replace(opens_since=since)
            runs = self._read_runs(read, since, now)
            to_open, later = decide.failed_runs(runs, records, duties, since=since, now=now, left_out=state.left_out)
            self._watched.update(run.id for run in (*to_open, *later))
        of_records = self._runs_of(read, decide.run_names(records, duties))
        successes, gone = decide.recovered(
            records,
            duties,
            runs=of_records,
            tasks=read.task_states(decide.task_names(records, duties)),
            latest=read.latest_successes(decide.dags_of(records, duties, of_records)),
            now=now,
        )
        broken = read.broken_files() if duties.import_after is not None or state.broken else []
        files = decide.files(broken, state.broken, records, duties, now)
        return _Facts(records, state, to_open, successes, gone, files)

    def _read_journal(self, read: Database) -> tuple[list[Record], State]:
        """Read the records; what has not changed since the round before is not read again."""
        stored = read.texts("incident_io")
        changed = [name for name, text in stored.items() if self._journal.get(name, (None,))[0] != text]
        texts = read.decoded(changed)
        known = {name: text for name, text in self._journal.items() if name in stored}
        self._journal = known | {name: (stored[name], _record(name, texts.get(name, ""))) for name in changed}
        if NAME in changed:
            self._state = read_state(texts.get(NAME))
            if self._state == State():
                log.warning(_BEGINS_ANEW, NAME)
        return [record for _, record in self._journal.values() if record], self._state

    def _read_runs(self, read: Database, since: datetime, now: datetime) -> list[Run]:
        """Read the runs that may have failed since the round before; now and then all that failed within a day."""
        is_deep = self._looked_deep is None or (now - self._looked_deep).total_seconds() >= DEEP_SECONDS
        unfinished = read.unfinished()
        while len(self._newest) > 1 and self._newest[1][0] <= now - 2 * CALLBACKS_FIRST:
            self._newest.popleft()
        runs = list(unfinished)
        if is_deep:
            runs += read.failed_since(max(since, now - LOOK_BACK))
            self._looked_deep = now
        if self._newest:
            # IDs are given before they are seen: a transaction that takes long shows its run after newer ones.
            runs += read.runs_after(self._newest[0][1])
        runs += read.runs_with(self._watched - {run.id for run in runs})
        newest = max([self._newest[-1][1], *(run.id for run in runs)]) if self._newest else read.newest()
        self._newest.append((now, newest))
        self._watched = {run.id for run in unfinished}
        return runs

    def _runs_of(self, read: Database, names: list[tuple[str, str]]) -> Mapping[tuple[str, str], Run]:
        """Read the runs with these names: by their IDs, where they are known, which is much quicker."""
        known = decide.by_name(read.runs_with(self._ids[name] for name in names if name in self._ids))
        unknown = [name for name in names if name not in known]  # also those that were deleted and made again
        runs = {**known, **decide.by_name(read.runs_of(unknown))}
        self._ids = {name: run.id for name, run in runs.items()}
        return runs

    def _act(self, facts: _Facts, now: datetime) -> tuple[Round, dict[int, datetime]]:
        """Do what is to be done, step by step; each one may be the last. Return also which runs were left out."""
        self._now_tried = {}
        recovered = 0
        for success in self._due(facts.recovered, now):
            if context := run_context(success.run, task=success.task):
                recovered += 1
                self._callbacks.recovered(context, success)
        closed = self._close(facts, now)
        opened, left_out = 0, {}
        for run in self._due(facts.to_open, now):
            if not (context := run_context(run)):
                continue
            if run.ended_at and not self._callbacks.failed(context):
                left_out[run.id] = run.ended_at
            else:
                opened += 1
        broken = 0
        for file in self._due(facts.files.broken, now):
            broken += 1
            self._callbacks.broken(_file_context(file, facts.files.first_seen[file]))
        # Last, for whoever waits is written down already, and an outage takes its time.
        delivered, waiting = self._flush(facts.records, now) if self._goes_on() else (0, 0)
        self._tried = self._now_tried  # not before: what a round that breaks off was about to try, the next one tries
        gone = sum(record.level != "import" for record in closed)
        return Round(opened, recovered, gone, broken, len(closed) - gone, delivered, waiting), left_out

    def _close(self, facts: _Facts, now: datetime) -> list[Record]:
        """Close what deleted runs and mended files have left open; return what there was time for."""
        closings = [(record, "was deleted in Airflow") for record in facts.gone]
        closings += [(record, "can be imported again, or is gone") for record in facts.files.mended]
        closings = [each for each in closings if self._is_due(each[0].name, now, tries=self._goes_on())]
        if not closings:
            return []
        settled = delivery.close_records(closings, goes_on=self._goes_on).settled
        for each in settled:
            emit(log, [each.log_event(redact_secrets)])
        reached = {each.record.name for each in settled}
        for record, _ in closings:
            if record.name not in reached:  # the next round tries it at once
                self._now_tried.pop(record.name, None)
        return [record for record, _ in closings if record.name in reached]

    def _due(self, things: Sequence[T], now: datetime) -> Iterator[T]:
        """Yield what is to be tried now, as long as the round goes on; what is left over is decided anew."""
        for thing in things:
            if self._is_due(thing, now, tries=self._goes_on()):
                yield thing

    def _goes_on(self) -> bool:
        """Return whether there is time for more; what was read a while ago may not be so any more."""
        return not self._stopping() and time.monotonic() - self._began < LONGEST_ROUND

    def _is_due(self, what: Any, now: datetime, *, tries: bool = True) -> bool:
        """Return whether something is to be tried now: what has no effect is tried ever more seldom."""
        planned = self._tried.get(what, _Next(now, TRY_AGAIN))
        is_due = tries and planned.at <= now
        self._now_tried[what] = _Next(now + planned.pause, 2 * planned.pause) if is_due else planned
        return is_due

    def _flush(self, records: list[Record], now: datetime) -> tuple[int, int]:
        """Deliver what waits; return how much was delivered, and how much waits still."""
        if not is_due(records, now):
            return 0, sum(record.state == "pending" for record in records)
        flushed = delivery.flush(goes_on=self._goes_on)
        for said in flushed.log_events(redact_secrets):
            log.log(said.level, "%s", said.line)
        if flushed.stopped and not self._is_away:
            log.warning("incident.io: %s", summary_line(flushed))
        self._is_away = bool(flushed.stopped)
        return len(flushed.opened) + len(flushed.settled), len(flushed.pending)


def _record(name: str, text: str) -> Record | None:
    if not name.startswith(PREFIX):
        return None
    try:
        return read_record(name, text)
    except UnreadableRecordError:
        return None


def _file_context(file: File, since: datetime) -> dict[str, Any]:
    """Make of a broken DAG file what the callbacks read: in place of the DAG, the file and whose DAGs it held."""
    with database() as read:
        traceback, (tags, owners) = read.import_error(file), read.dags_of(file)
    return {
        "import_error": {"traceback": traceback, "path": file.path, "bundle": file.bundle, "tags": tags},
        "dag": {"dag_id": str(file), "tags": (), "owner": ", ".join(owners)},
        "run_id": decide.moment_text(since),
        "dag_run": {"start_date": since},
    }
