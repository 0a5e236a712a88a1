"""What is written, sent and kept, step by step; store, API and clock are the test's."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from airflow_incident.api.calls import CallSequence, Directory, PaginatedCall
from airflow_incident.api.incident import IncidentState
from airflow_incident.core.failure import Failure
from airflow_incident.core.settings import Settings
from airflow_incident.core.timing import SETTLE_SECONDS
from airflow_incident.delivery.effects import Ask, Attach, Delete, Get, ReadAll, Send, Set, Show, Sleep, StoreFailed
from airflow_incident.delivery.flush import flush_all
from airflow_incident.delivery.ledger import Ledger
from airflow_incident.delivery.record import PREFIX, read_record, record_name
from airflow_incident.delivery.report import DeliveryPolicy, IncidentContent, prepare
from airflow_incident.delivery.reporter import deliver
from airflow_incident.errors import (
    AmbiguousDeliveryError,
    AuthenticationError,
    ConflictError,
    FieldError,
    IncidentIoError,
    JournalError,
    MissingConnectionError,
    NotFoundError,
    RateLimitError,
    ServerError,
    TransportError,
    ValidationError,
)

GONE = NotFoundError(404, errors=(FieldError("not_found", "there is no such path"),))


class World:
    """A store, an API and a clock that behave as they are told."""

    def __init__(self):
        self.texts = {}
        self.incidents = {}
        self.sent = []
        self.attached = []
        self.edited = []
        self.now = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
        self.refusal = None
        self.store_fails = False

    def report(self, run="r1", dag="orders", level="dag", settings=None):
        task_id = "load" if level == "task" else None
        failure = Failure(dag_id=dag, run_id=run, level=level, task_id=task_id, failed_at=self.now)
        return prepare(failure, settings or Settings(), IncidentContent(), deployment="prod", redact=str)

    def deliver(self, run="r1", dag="orders", *, level="dag", **policy):
        return self.deliver_report(self.report(run, dag, level), **policy)

    def deliver_report(self, report, **policy):
        policy = {"storm_dag": 0, "storm_connection": 0} | policy
        return self.run(deliver(report, DeliveryPolicy(now=lambda: self.now, deployment="prod", conn_id="c", **policy)))

    def close(self, incident_id):
        for key, incident in self.incidents.items():
            if incident.id == incident_id:
                self.incidents[key] = incident._replace(status="closed", status_category="closed")

    def flush(self, **options):
        return self.run(flush_all(lambda: self.now, **options))

    def run(self, steps):
        return self.finish(steps, None)

    def finish(self, steps, step):
        try:
            while True:
                step = steps.send(step and self.take(step))
        except StopIteration as end:
            return end.value

    def take(self, step):  # noqa: PLR0911 -- one answer per kind of step
        if isinstance(step, Send):
            return self.create(step.body)
        if isinstance(step, Show):
            return self.refusal or next(i for i in self.incidents.values() if i.id == step.incident_id)
        if isinstance(step, Attach):
            self.attached.append(step)
            return None
        if isinstance(step, Ask) and getattr(step.call, "path", "").endswith("/actions/edit"):
            return self.edit(step.call)
        if self.store_fails:
            return StoreFailed("read-only")
        match step:
            case Get(name):
                return self.texts.get(name)
            case Set(name, text):
                self.texts[name] = text
            case Delete(name):
                self.texts.pop(name, None)
            case ReadAll(prefix):
                return {name: text for name, text in sorted(self.texts.items()) if name.startswith(prefix)}
        return None

    def edit(self, call):
        incident_id = call.path.split("/")[3]
        (key,) = (key for key, incident in self.incidents.items() if incident.id == incident_id)
        self.edited.append(call.body)
        self.incidents[key] = self.incidents[key]._replace(summary=call.body["incident"]["summary"])
        return self.incidents[key]

    def create(self, body):
        self.sent.append(dict(body))
        if self.refusal:
            return self.refusal
        key = body["idempotency_key"]
        if key not in self.incidents:
            number, status = len(self.incidents) + 1, body.get("status", "triage")
            self.incidents[key] = IncidentState(
                id=f"id-{number}",
                reference=f"INC-{number}",
                name=body["name"],
                summary=body.get("summary"),
                status=status,
                status_category=status if status in {"triage", "closed", "declined"} else "live",
                permalink="http://x",
            )
        return self.incidents[key]

    def records(self):
        return [read_record(name, text) for name, text in self.texts.items() if name.startswith(PREFIX)]


@pytest.fixture
def world():
    return World()


def test_a_failure_is_written_down_before_it_is_sent(world):
    """Killed at any step after the first write, the record is there."""
    steps = deliver(world.report(), DeliveryPolicy(now=lambda: world.now, deployment="prod", conn_id="c"))
    answer = None
    while not isinstance(step := steps.send(answer), Send):
        answer = world.take(step)
    (record,) = world.records()
    assert record.state == "pending"
    assert record.body == dict(step.body)


def test_a_delivered_failure_is_an_open_record(world):
    """With the incident's names, and without the body."""
    outcome = world.deliver()
    assert outcome.kind == "open"
    (record,) = world.records()
    assert (record.state, record.incident.reference, record.body) == ("open", "INC-1", None)
    assert record.incident.permalink == "http://x"


def test_what_is_open_is_not_asked_for_again(world):
    """No request within the window, and the count is kept; after it, one that changes nothing."""
    world.deliver()
    for _ in range(5):
        assert world.deliver(level="task").kind == "suppressed"
    assert len(world.sent) == 1
    assert world.records()[0].suppressed == 5
    world.now += timedelta(hours=2)
    assert world.deliver().kind == "open"
    assert len(world.sent) == 2
    assert len(world.incidents) == 1


@pytest.mark.parametrize("refusal", [ServerError(503), RateLimitError(429, retry_after=5.0)])
def test_what_was_not_delivered_is_delivered_later(world, refusal):
    """The very same body, by a flush."""
    world.refusal = refusal
    assert world.deliver().kind == "kept"
    world.refusal = None
    world.now += timedelta(minutes=5)
    result = world.flush()
    assert [r.state for r in result.opened] == ["open"]
    assert world.sent[0] == world.sent[1]
    assert len(world.incidents) == 1
    assert world.flush().opened == []


def test_a_refusal_is_kept_as_dead_until_its_cause_is_mended(world):
    """A flush leaves it alone, a retry sends it."""
    world.refusal = ValidationError(422)
    assert world.deliver().kind == "refused"
    assert world.records()[0].error == "incident.io answered 422: no reason given"
    world.refusal = None
    assert [r.state for r in world.flush().dead] == ["dead"]
    assert len(world.sent) == 1
    assert [r.state for r in world.flush(also_dead=True).opened] == ["open"]


def test_a_used_key_is_an_open_record(world):
    """Whatever a repeated key answers, the record comes to rest."""
    world.refusal = ConflictError(409)
    assert world.deliver().kind == "already_open"
    assert world.records()[0].state == "open"


def test_a_retry_date_is_obeyed(world):
    """Neither the record nor those behind it are sent before."""
    world.refusal = RateLimitError(429, retry_after=30.0)
    world.deliver("r1")
    world.refusal = None
    world.deliver("r2", send=False)
    assert "asked to wait" in world.flush().stopped
    assert len(world.sent) == 1
    world.now += timedelta(seconds=31)
    assert len(world.flush().opened) == 2


def test_a_flush_stops_at_an_outage_and_goes_oldest_first(world):
    """The rest would meet it too."""
    for number in range(3):
        world.deliver(f"r{number}", send=False)
        world.now += timedelta(seconds=1)
    world.refusal = ServerError(500)
    result = world.flush()
    assert result.stopped
    assert len(world.sent) == 1
    assert len(result.pending) == 3
    world.refusal = None
    world.flush()
    assert [body["idempotency_key"][-2:] for body in world.sent[1:]] == ["r0", "r1", "r2"]


def test_without_a_store_a_failure_is_still_sent(world):
    """And the trouble is told; what then fails is lost, and says so."""
    world.store_fails = True
    outcome = world.deliver()
    assert (outcome.kind, outcome.journal_error) == ("open", "read-only")
    assert world.deliver("r2", send=False).kind == "open"
    world.refusal = ServerError(500)
    assert world.deliver("r3").kind == "failed"


@pytest.mark.parametrize("text", ["", "null", "{", "[]", '{"version":2}', '{"state":"open"}', "x" * 100_000, "\ud800"])
def test_a_foreign_text_is_left_alone_by_a_flush(world, text):
    """Reported, never sent, never changed."""
    name = record_name("orders", "k")
    world.texts[name] = text
    result = world.flush()
    assert list(result.unreadable) == [name]
    assert world.texts == {name: text}
    assert world.sent == []


def test_a_forged_record_is_not_sent(world):
    """One with another key, under another name, or with a body that the models refuse."""
    world.deliver(send=False)
    (name,) = (name for name in world.texts if name.startswith(PREFIX))
    text = world.texts[name]
    for forged in (
        {record_name("other", "k"): text},
        {name: text.replace("/run/r1", "/run/r2", 1)},
        {name: text.replace('"visibility"', '"visibilty"')},
    ):
        world.texts = dict(forged)
        assert len(world.flush().unreadable) == 1
    assert world.sent == []


def test_a_storm_is_gathered_under_one_incident(world):
    """Three for a DAG, ten for the deployment; the rest in one, and all are accounted for."""
    kinds = [world.deliver(f"r{n}", f"dag{n % 50}", storm_dag=3, storm_connection=10).kind for n in range(500)]
    assert kinds.count("open") == 10
    assert kinds.count("grouped") == 490
    assert len(world.incidents) == 11
    assert len(world.records()) == 501
    assert len(world.sent) == 11


def test_one_dag_makes_three_incidents_at_the_most(world):
    kinds = [world.deliver(f"r{n}", storm_dag=3, storm_connection=10).kind for n in range(5)]
    assert kinds == ["open", "open", "open", "grouped", "grouped"]


def test_a_storm_passes(world):
    """After ten quiet minutes a failure has an incident of its own again."""
    for n in range(5):
        world.deliver(f"r{n}", storm_dag=3)
    world.now += timedelta(minutes=11)
    assert world.deliver("r9", storm_dag=3).kind == "open"


def test_a_gathered_failure_that_comes_again_is_suppressed(world):
    for n in range(4):
        world.deliver(f"r{n}", storm_dag=3)
    assert world.deliver("r3", storm_dag=3).kind == "suppressed"
    assert len(world.incidents) == 4


def test_a_storm_in_an_outage_is_delivered_by_a_flush(world):
    """The first failures and the storm's incident."""
    world.refusal = ServerError(503)
    for n in range(500):
        world.deliver(f"r{n}", f"dag{n}", storm_dag=3, storm_connection=10)
    world.refusal = None
    world.flush()
    assert len(world.incidents) == 11
    assert all(r.state in {"open", "grouped"} for r in world.records())


def test_old_and_many_delivered_records_are_deleted(world, monkeypatch):
    """Thirty days, two thousand records that are an hour old; what waits is never deleted."""
    monkeypatch.setattr("airflow_incident.delivery.flush.KEEP_RECORDS", 5)
    for n in range(8):
        world.deliver(f"r{n}")
        world.now += timedelta(seconds=1)
    world.refusal = ServerError(503)
    world.deliver("waiting")
    assert world.flush().pruned == 0
    world.now += timedelta(hours=1)
    take, deleted = world.take, []
    runs = {record.name: record.run_id for record in world.records()}
    world.take = lambda step: (deleted.append(runs[step.name]) if isinstance(step, Delete) else None, take(step))[1]
    assert world.flush().pruned == 3
    assert deleted == ["r0", "r1", "r2"], "the oldest first: a watcher that reads in between misses nothing"
    world.now += timedelta(days=31)
    assert world.flush().pruned == 5
    assert [r.state for r in world.records()] == ["pending"]


def test_a_ledger_that_cannot_be_read_counts_as_empty(world):
    world.texts[Ledger.name("prod", "c")] = "{"
    assert world.deliver(storm_dag=3).kind == "open"


def test_at_scope_dag_an_open_incident_takes_the_next_failures(world):
    """One incident for a DAG until a person closes it; each failure is written down under it."""
    settings = Settings(scope="dag")
    kinds = [world.deliver_report(world.report(f"r{n}", settings=settings)).kind for n in range(4)]
    assert kinds == ["open", "joined", "joined", "joined"]
    assert len(world.incidents) == 1
    assert [r.incident.reference for r in world.records() if r.state == "grouped"] == ["INC-1"] * 3
    world.close("id-1")
    assert world.deliver_report(world.report("r9", settings=settings)).kind == "open"
    assert len(world.incidents) == 2


def test_at_scope_dag_nobody_is_left_out_while_incident_io_cannot_tell(world):
    """Whether the DAG's incident is still open cannot be asked: the failure waits, and joins it once it can."""
    settings = Settings(scope="dag")
    world.deliver_report(world.report("r1", settings=settings))
    world.refusal = ServerError(503)
    assert world.deliver_report(world.report("r2", settings=settings)).kind == "kept"
    world.refusal = None
    world.flush()
    assert len(world.incidents) == 1
    assert {record.state for record in world.records() if record.run_id == "r2"} == {"grouped"}


def test_a_backfill_reports_at_scope_dag(world):
    """A backfill of a hundred days is one thing to look at; another scope that was asked for stays."""
    for settings, scope in ((Settings(), "dag"), (Settings(scope="task"), "task")):
        failure = Failure(dag_id="orders", run_id="r", run_type="backfill")
        assert prepare(failure, settings, IncidentContent(), deployment="prod", redact=str).scope == scope


def test_what_only_the_dag_knows_is_attached_once(world):
    """All failed tasks and the reason, as a link to the run, once a person has changed the incident's text."""
    world.deliver_report(world.report("r1", level="task"))
    world.incidents = {key: incident._replace(summary="mine") for key, incident in world.incidents.items()}
    late = world.report("r1", level="dag")
    failure = late.failure._replace(run_url="https://airflow/run", failed_tasks=("a", "b"), reason="timed_out")
    for _ in range(3):
        assert world.deliver_report(replace(late, failure=failure)).kind == "suppressed"
    assert world.attached == [
        Attach(
            "id-1",
            "https://airflow/run",
            "Failed tasks: a, b; the run exceeded its time limit (dagrun_timeout)",
            "c",
        )
    ]


def test_a_dag_that_knows_no_more_attaches_nothing(world):
    """Nor one that opened the incident itself, nor one whose run has no public address."""
    world.deliver_report(world.report("r1", level="task"))
    world.deliver_report(world.report("r1", level="dag"))
    world.deliver_report(world.report("r2", level="dag"))
    world.deliver_report(world.report("r2", level="dag"))
    same = world.report("r1", level="dag")
    same = replace(same, failure=same.failure._replace(run_url="https://airflow/run", failed_tasks=("load",)))
    world.deliver_report(same)
    assert world.attached == []


def test_a_later_report_of_the_dag_delivers_what_waits(world):
    """As long as there is time to spare, of this DAG only, and nothing that must wait longer."""
    world.refusal = ServerError(503)
    for dag, run in (("orders", "r1"), ("orders", "r2"), ("other", "r3")):
        world.deliver(run, dag)
    world.refusal = RateLimitError(429, retry_after=3600.0)
    world.deliver("r4")
    world.refusal = None
    world.deliver("r5")
    assert len(world.incidents) == 1
    world.deliver("r6", has_time=lambda: True)
    assert {key[-2:] for key in world.incidents} == {"r1", "r2", "r5", "r6"}
    assert {r.run_id for r in world.records() if r.state == "pending"} == {"r3", "r4"}
    assert len(Ledger.read(world.texts[Ledger.name("prod", "c")]).waiting) == 2


def test_one_bad_record_does_not_hold_up_the_rest(world):
    """A body that makes the server fail each time is passed by, after a few flushes."""
    for n in range(4):
        world.deliver(f"r{n}", send=False)
        world.now += timedelta(seconds=1)
    create = world.create
    world.create = lambda body: ServerError(500) if body["idempotency_key"].endswith("r0") else create(body)
    for _ in range(4):
        world.flush()
        world.now += timedelta(minutes=5)
    assert len(world.incidents) == 3
    assert [r.run_id for r in world.records() if r.state == "pending"] == ["r0"]


def test_an_outage_of_one_connection_does_not_hold_up_another(world):
    """Each record has a connection of its own."""
    world.deliver("r0", send=False)
    other = DeliveryPolicy(now=lambda: world.now, deployment="prod", conn_id="other", send=False)
    world.run(deliver(world.report("r1"), other))
    take = world.take
    world.take = lambda step: ServerError(503) if isinstance(step, Send) and step.conn_id == "c" else take(step)
    result = world.flush()
    assert [r.conn_id for r in result.opened] == ["other"]
    assert result.stopped


def test_a_report_obeys_a_retry_date(world):
    """The same failure told again before the date is kept, not sent."""
    world.refusal = RateLimitError(429, retry_after=30.0)
    world.deliver()
    world.refusal = None
    assert world.deliver(level="task").kind == "kept"
    assert len(world.sent) == 1
    world.now += timedelta(seconds=31)
    assert world.deliver().kind == "open"


def test_a_retry_date_that_a_wrong_clock_wrote_is_not_believed(world):
    """Years ahead, it would hold up the journal for years."""
    world.deliver(send=False)
    ((name, text),) = ((n, t) for n, t in world.texts.items() if n.startswith(PREFIX))
    world.texts[name] = text.replace('"version":1', '"due_at":"2999-01-01T00:00:00Z","version":1')
    assert len(world.flush().opened) == 1


def test_an_opening_in_the_future_suppresses_no_longer_than_the_window(world):
    """A wrong clock, again."""
    world.now += timedelta(days=365)
    world.deliver()
    world.now -= timedelta(days=365)
    assert world.deliver().kind == "open"
    assert len(world.incidents) == 1


def test_a_storm_that_breaks_off_leaves_no_failure_behind(world):
    """Killed at any step, what was written as grouped is grouped under a storm that a flush opens."""
    for steps_taken in range(1, 12):
        world.texts.clear()
        world.incidents.clear()
        world.deliver("r0", storm_dag=1)
        policy = DeliveryPolicy(now=lambda: world.now, deployment="prod", conn_id="c", storm_dag=1, storm_connection=0)
        steps = deliver(world.report("r1"), policy)
        answer = None
        for _ in range(steps_taken):
            try:
                answer = world.take(steps.send(answer))
            except StopIteration:
                break
        steps.close()
        world.flush()
        written = {r.run_id for r in world.records() if r.level != "storm"}
        assert "r1" not in written or len(world.incidents) == 2, steps_taken
    assert "r1" in written


def test_a_storm_that_is_refused_is_told(world):
    """Nobody is told that a failure is grouped under an incident that was not opened."""
    world.deliver("r0", storm_dag=1)
    world.refusal = ValidationError(422)
    assert world.deliver("r1", storm_dag=1).kind == "refused"
    world.refusal = ServerError(503)
    world.now += timedelta(minutes=11)
    world.deliver("r2", storm_dag=1)
    outcome = world.deliver("r3", storm_dag=1)
    assert (outcome.kind, outcome.error) == ("kept", world.refusal)


@pytest.mark.parametrize(
    "text",
    [
        '{"openings":[["2026-11-23T08:59:00","orders","k"]]}',
        '{"openings":[["2999-01-01T00:00:00Z","orders","k"]]}',
        '{"storm_key":"","storm_at":"2026-11-23T08:59:00Z"}',
        '{"storm_key":"%s","storm_at":"2026-11-23T08:59:00Z"}' % ("x" * 300),
        '{"storm_at":"2026-11-23T08:59:00"}',
        '{"openings":[[]]}',
        "[]",
        "\ud800",
        '{"openings":[["2026-11-23T08:59:00Z","\\ud800","k"]]}',
    ],
)
def test_a_forged_ledger_never_costs_a_report(world, text):
    """Times without a zone, times to come, keys that fit nowhere."""
    world.texts[Ledger.name("prod", "c")] = text
    for n in range(4):
        assert world.deliver(f"r{n}", storm_dag=3).kind == ("open" if n < 3 else "grouped")
    assert all(record.state in {"open", "grouped"} for record in world.records())


def test_a_flush_ends_when_the_journal_cannot_be_written(world):
    """It does not send everything again and again."""
    for n in range(3):
        world.deliver(f"r{n}", send=False)
    take = world.take
    world.take = lambda step: StoreFailed("read-only") if isinstance(step, Set) else take(step)
    with pytest.raises(JournalError, match="cannot be written: read-only"):
        world.flush()
    assert len(world.sent) == 1
    world.take = lambda step: StoreFailed("gone") if isinstance(step, ReadAll) else take(step)
    with pytest.raises(JournalError, match="cannot be listed: gone"):
        world.flush()


def test_a_flush_sends_nothing_that_another_has_delivered_meanwhile(world):
    """Two at once, step by step: every failure is asked for about once."""
    for n in range(10):
        world.deliver(f"r{n}", send=False)
    flushes = [flush_all(lambda: world.now) for _ in range(2)]
    answers = [None, None]
    while flushes:
        for place, steps in reversed(list(enumerate(flushes))):
            try:
                answers[place] = world.take(steps.send(answers[place]))
            except StopIteration:
                flushes.pop(place)
                answers.pop(place)
    assert len(world.incidents) == 10
    assert len(world.sent) <= 20


def test_a_storm_keeps_its_record_however_many_it_gathers(world, monkeypatch):
    """Without it, the next failure would ask for the storm's incident anew."""
    monkeypatch.setattr("airflow_incident.delivery.flush.KEEP_RECORDS", 5)
    for n in range(20):
        world.deliver(f"r{n}", storm_dag=1)
        world.now += timedelta(seconds=1)
        world.flush()
    world.now += timedelta(hours=1)
    world.flush()
    assert len(world.sent) == 2
    assert [r.state for r in world.records() if r.level == "storm"] == ["open"]
    assert len(world.records()) == 6


def test_a_missing_connection_refuses_nothing(world):
    """A flush where a connection is not defined leaves its records waiting."""
    world.deliver(send=False)
    world.refusal = MissingConnectionError([])
    assert [r.state for r in world.flush().pending] == ["pending"]
    world.refusal = None
    assert len(world.flush().opened) == 1


def test_a_record_that_is_dropped_during_a_flush_stays_dropped(world):
    """What a person has given up on is not sent, and not written again."""
    world.deliver(send=False)
    steps = flush_all(lambda: world.now)
    answer = None
    while not isinstance(step := steps.send(answer), ReadAll):
        answer = world.take(step)
    answer = world.take(step)
    world.texts = {name: text for name, text in world.texts.items() if not name.startswith(PREFIX)}
    try:
        while True:
            answer = world.take(steps.send(answer))
    except StopIteration:
        pass
    assert world.sent == []
    assert world.records() == []


def test_a_refused_failure_is_not_sent_again_for_each_of_its_tasks(world):
    """A revoked key and ten thousand mapped tasks are one request; after an hour it is tried again."""
    world.refusal = ValidationError(422)
    kinds = {world.deliver().kind for _ in range(100)}
    assert kinds == {"refused"}
    assert len(world.sent) == 1
    assert world.records()[0].suppressed == 99
    world.refusal = None
    world.now += timedelta(hours=2)
    assert world.deliver().kind == "open"


def test_an_open_record_that_is_asked_about_again_keeps_its_incident(world):
    """In the middle of a storm, too: it is not one of the storm's."""
    world.deliver("r1")
    for n in range(2, 6):
        world.deliver(f"r{n}", storm_dag=3)
    world.now += timedelta(minutes=55)
    for n in range(6, 10):
        world.deliver(f"r{n}", storm_dag=3)
    world.now += timedelta(minutes=6)
    assert world.deliver("r1", storm_dag=3).kind == "open"
    (record,) = [r for r in world.records() if r.run_id == "r1"]
    assert (record.state, record.incident.reference) == ("open", "INC-1")


def test_a_foreign_text_under_a_failure_s_own_name_is_left_alone(world):
    """The failure is sent all the same, and the trouble told."""
    name = record_name("orders", world.report().key)
    world.texts[name] = '{"version":2,"state":"open"}'
    outcome = world.deliver()
    assert outcome.kind == "open"
    assert "left alone" in outcome.journal_error
    assert world.texts[name] == '{"version":2,"state":"open"}'


class Ending(World):
    """A world whose API has two versions that know nothing of one another's keys, and whose v1 may end."""

    def __init__(self):
        super().__init__()
        self.v1_ended = False
        self.asked = []
        self.lists = {}
        self.others = {}

    def take(self, step):
        match step:
            case Send(body, _, endpoint):
                self.asked.append(f"create {endpoint}")
                return GONE if endpoint == "v1" and self.v1_ended else self.create(body | {"endpoint": endpoint})
            case Sleep():
                self.asked.append("wait")
                self.texts |= self.others
                return None
            case Ask(CallSequence() as plan):
                return self.plan(plan)
            case Ask(PaginatedCall()):
                self.asked.append("list v2")
                return list(self.incidents.values())
        return super().take(step)

    def plan(self, plan):
        steps, answer = plan.steps(Directory()), None
        try:
            while True:
                call = steps.throw(answer) if isinstance(answer, Exception) else steps.send(answer)
                self.asked.append(f"ask {call.path}")
                rows = self.lists.get(call.path, ServerError(503))
                answer = GONE if call.path == "/v1/incidents" and self.v1_ended else rows
        except StopIteration as end:
            return end.value
        except IncidentIoError as error:
            return error

    def create(self, body):
        return super().create(body | {"idempotency_key": f"{body['endpoint']} {body['idempotency_key']}"})

    @property
    def record(self):
        (record,) = self.records()
        return record

    @property
    def ledger(self):
        return Ledger.read(self.texts.get(Ledger.name("prod", "c")))

    def named(self, **fields):
        report = self.report()
        return replace(report, draft=report.draft | fields)


@pytest.fixture
def ending():
    return Ending()


def until(world, steps, kind):
    """Take steps up to the first of a kind, which is returned."""
    answer = None
    while not isinstance(step := steps.send(answer), kind):
        answer = world.take(step)
    return step


def test_the_version_is_pinned_before_the_first_byte(ending):
    """Each time, with the body that is about to leave; and marked as perhaps delivered."""
    ending.v1_ended = True
    steps = deliver(ending.report(), DeliveryPolicy(now=lambda: ending.now, deployment="prod", conn_id="c"))
    first = until(ending, steps, Send)
    assert (ending.record.endpoint, ending.record.body, ending.record.maybe_delivered) == ("v1", first.body, True)
    answer = ending.take(first)
    while not isinstance(step := steps.send(answer), Send):
        answer = ending.take(step)
    assert (ending.record.endpoint, ending.record.body, ending.record.maybe_delivered) == ("v2", step.body, True)


def test_what_surely_did_not_arrive_is_not_marked(ending):
    """Refused connections and rate limits leave no doubt, a 503 does."""
    for refusal, doubt in ((RateLimitError(429), False), (TransportError("refused"), False), (ServerError(503), True)):
        ending.texts.clear()
        ending.refusal = refusal
        ending.deliver()
        assert ending.record.maybe_delivered is doubt


def test_changing_the_version_is_noted_for_the_others(ending):
    """The next failure asks v2 alone."""
    ending.v1_ended = True
    assert ending.deliver("r1").kind == "open"
    assert ending.asked == ["create v1", "ask /v1/incidents", "wait", "create v2"]
    assert ending.ledger.v1_gone_at == ending.now
    ending.now += timedelta(seconds=SETTLE_SECONDS)
    ending.asked.clear()
    assert ending.deliver("r2").kind == "open"
    assert ending.asked == ["create v2"]


@pytest.mark.parametrize("knows", [True, False])
def test_a_note_of_the_end_is_not_acted_on_at_once(ending, knows):
    """Who read the ledger just before it was noted is about to write what it sends through v1."""
    ending.v1_ended = True
    ending.deliver("r1")
    other = Ending()
    other.deliver("r2")
    ending.asked.clear()
    ending.others = {name: text for name, text in other.texts.items() if name.startswith(PREFIX)}
    outcome = ending.deliver("r2", v1_gone=knows)
    assert (outcome.kind, outcome.incident.reference) == ("suppressed", "INC-1")
    assert "create v2" not in ending.asked


def test_who_knows_from_this_process_asks_v2_alone(ending):
    """Without a store to read it from, too; it waits for nobody then."""
    ending.store_fails = ending.v1_ended = True
    assert ending.deliver(v1_gone=True).kind == "open"
    assert [asked for asked in ending.asked if not asked.startswith("ask")] == ["create v2"]


def test_who_knows_of_the_end_asks_v1_no_more_for_what_another_process_sends(ending):
    """It looks for what that one may have opened, and waits for it."""
    steps = deliver(ending.report(), DeliveryPolicy(now=lambda: ending.now, deployment="prod", conn_id="c"))
    until(ending, steps, Send)
    ending.v1_ended = True
    outcome = ending.deliver(v1_gone=True)
    assert (outcome.kind, type(outcome.error)) == ("kept", AmbiguousDeliveryError)
    assert not [asked for asked in ending.asked if asked.startswith("create")]
    steps.close()


def test_two_that_meet_the_end_with_the_same_failure_do_not_leave_it_to_one_another(ending):
    """Whoever wrote it down first was refused for sure, and sends it through v2."""
    first = deliver(ending.report(), DeliveryPolicy(now=lambda: ending.now, deployment="prod", conn_id="c"))
    step = until(ending, first, Send)
    ending.v1_ended = True
    second = ending.deliver()
    assert (second.kind, type(second.error)) == ("kept", AmbiguousDeliveryError)
    assert ending.finish(first, step).kind == "open"
    assert ending.record.state == "open"
    assert len(ending.incidents) == 1


def test_what_another_process_delivers_meanwhile_is_taken(ending):
    """One for which v1 was still there."""
    other = Ending()
    other.deliver()
    ending.v1_ended = True
    ending.others = {name: text for name, text in other.texts.items() if name.startswith(PREFIX)}
    outcome = ending.deliver()
    assert (outcome.kind, outcome.incident.reference) == ("suppressed", "INC-1")
    assert "create v2" not in ending.asked
    assert ending.record.state == "open"
    assert ending.ledger.v1_gone_at


def test_what_another_process_may_have_opened_is_left_to_it(ending):
    """It is neither sent through v2 nor written over."""
    other = Ending()
    other.refusal = TransportError("dropped", maybe_delivered=True)
    other.deliver(level="task")
    ending.v1_ended = True
    ending.others = {name: text for name, text in other.texts.items() if name.startswith(PREFIX)}
    outcome = ending.deliver()
    assert (outcome.kind, type(outcome.error)) == ("kept", AmbiguousDeliveryError)
    assert "create v2" not in ending.asked
    assert ending.record == other.record


def test_a_record_in_the_middle_of_being_sent_never_changes_its_version(ending):
    """Killed after the first byte: found by its text if it was opened, else left to a person."""
    for arrives in (True, False):
        ending.texts.clear()
        ending.incidents.clear()
        ending.v1_ended = False
        steps = deliver(ending.report(), DeliveryPolicy(now=lambda: ending.now, deployment="prod", conn_id="c"))
        step = until(ending, steps, Send)
        if arrives:
            ending.take(step)
        steps.close()
        ending.v1_ended = True
        assert len(ending.flush().opened) == arrives
        assert ending.record.state == ("open" if arrives else "pending")
        assert len(ending.incidents) == arrives
    ending.now += timedelta(hours=1)
    ending.asked.clear()
    assert len(ending.flush(also_dead=True).opened) == 1
    assert ending.asked == ["create v1", "ask /v1/incidents", "create v2"]


def test_a_flush_waits_for_others_only_where_they_may_be(ending):
    """What was written down a moment ago may be on another process's way to v1."""
    ending.deliver(send=False)
    ending.v1_ended = True
    ending.flush()
    assert "wait" in ending.asked
    ending.asked.clear()
    ending.deliver("r2", send=False)
    (waiting,) = (r for r in ending.records() if r.state == "pending")
    ending.texts[waiting.name] = waiting._replace(endpoint="v1", api_version="auto").text()
    ending.now += timedelta(minutes=2)
    ending.flush()
    assert "wait" not in ending.asked
    assert len(ending.incidents) == 2


def test_a_body_without_its_names_is_made_anew_only_if_it_surely_did_not_arrive(ending):
    """The names may be known by then; what may have arrived is sent again as it was."""
    for refusal, anew in (
        (TransportError("refused"), True),
        (AuthenticationError(401), True),
        (ServerError(503), False),
    ):
        ending.texts.clear()
        ending.sent.clear()
        ending.lists.clear()
        ending.refusal = refusal
        ending.deliver_report(ending.named(severity="Major"))
        assert "Left out: Severity." in ending.sent[0]["summary"]
        assert ("could not be looked up" in str(ending.record.notes)) is not anew
        assert (ending.record.draft is not None) is True
        assert (ending.record.body is None) is anew
        ending.refusal = None
        ending.lists["/v1/severities"] = [{"id": "01FCNDV6P870EA6S7TK1DSYDG1", "name": "Major", "rank": 2}]
        assert len(ending.flush().opened) == 1
        assert ("severity_id" in ending.sent[1]) is anew
        ending.incidents.clear()


def test_a_killed_body_without_its_names_is_sent_again_as_it_was(ending):
    """Nobody knows whether it has arrived."""
    steps = deliver(
        ending.named(severity="Major"), DeliveryPolicy(now=lambda: ending.now, deployment="prod", conn_id="c")
    )
    step = until(ending, steps, Send)
    ending.take(step)
    steps.close()
    ending.lists["/v1/severities"] = [{"id": "01FCNDV6P870EA6S7TK1DSYDG1", "name": "Major", "rank": 2}]
    ending.flush()
    assert ending.sent[0] == ending.sent[1]
    assert len(ending.incidents) == 1


def test_what_is_opened_stays_opened_through_its_version(ending):
    """Told again hours after v1's end, or after another version was chosen: shown, not created."""
    ending.deliver()
    ending.v1_ended = True
    for gone in (False, True, False):
        ending.now += timedelta(hours=2)
        outcome = ending.deliver(v1_gone=gone)
        assert (outcome.kind, outcome.incident.reference) == ("open", "INC-1")
        assert ending.record.state == "open"
    chosen = replace(ending.report(), choice="v2")
    ending.now += timedelta(hours=2)
    assert ending.deliver_report(chosen).incident.reference == "INC-1"
    assert len(ending.incidents) == 1
    ending.refusal = ServerError(503)
    ending.now += timedelta(hours=2)
    assert ending.deliver_report(chosen).kind == "already_open"
    assert (ending.record.state, ending.record.incident.reference) == ("open", "INC-1")


def test_a_foreign_text_is_left_alone_whatever_must_be_looked_up(ending):
    """Nothing of what is sent is written over it."""
    name = record_name("orders", ending.report().key)
    ending.texts[name] = '{"version":2,"state":"open"}'
    ending.v1_ended = True
    assert ending.deliver_report(ending.named(severity="Major")).kind == "open"
    assert ending.texts[name] == '{"version":2,"state":"open"}'


def test_a_storm_notes_the_end_of_v1(ending):
    """Its incident is the first to meet it."""
    ending.deliver("r0", storm_dag=1)
    ending.v1_ended = True
    assert ending.deliver("r1", storm_dag=1).kind == "grouped"
    assert ending.ledger.v1_gone_at
