"""What an open incident is told later: a storm's members, a run that fails again, earlier incidents of its DAG."""

from dataclasses import replace
from datetime import timedelta

import pytest

from airflow_incident.core.settings import Settings
from airflow_incident.delivery.effects import Ask, Attach, Get, Send, Show
from airflow_incident.delivery.ledger import MOST_EARLIER, Earlier, Ledger
from airflow_incident.delivery.record import record_name
from airflow_incident.delivery.report import DeliveryPolicy, IncidentContent, prepare
from airflow_incident.delivery.reporter import deliver
from airflow_incident.delivery.storm import MOST_LINKS
from airflow_incident.errors import PermissionDeniedError, RateLimitError, ServerError
from tests.delivery.test_reporter import World, until


class Growing(World):
    """Failures with addresses; whether one is more severe than a storm is the test's to say."""

    above = False

    def failing(self, run="r1", dag="orders", level="dag", settings=None, **facts):
        failure = super().report(run, dag, level).failure
        failure = failure._replace(run_url=f"https://airflow/{dag}/{run}", **facts)
        return prepare(failure, settings or Settings(), IncidentContent(), deployment="prod", redact=str)

    def fail(self, *args, settings=None, policy=None, **facts):
        return self.deliver_report(self.failing(*args, settings=settings, **facts), **(policy or {}))

    def take(self, step):
        if isinstance(step, Ask) and not hasattr(step.call, "path"):
            return self.above
        return super().take(step)

    def create(self, body):
        key = body["idempotency_key"]
        is_new, answer = key not in self.incidents, super().create(body)
        if is_new and not self.refusal:
            self.incidents[key] = answer = answer._replace(created_at=self.now, updated_at=self.now)
        return answer

    @property
    def storm(self):
        (record,) = (record for record in self.records() if record.level == "storm")
        return record

    def text(self, record):
        return next(i.summary for i in self.incidents.values() if i.id == record.incident.id)

    def touch(self, incident_id, **changes):
        for key, incident in self.incidents.items():
            if incident.id == incident_id:
                self.incidents[key] = incident._replace(**changes)


def after_its_first_look(world, steps):
    """Let a report see what the journal has of it, and no more; return its next step."""
    return steps.send(world.take(until(world, steps, Get)))


def told(result):
    """Return the outcome that the log line and the metrics have."""
    return result.log_events(str, 0.0)[-1].outcome


@pytest.fixture
def world():
    return Growing()


STORM = {"storm_dag": 1}
MINOR, MAJOR, CRITICAL, SECURITY, DATA = (f"01FCNDV6P870EA6S7TK1DSYDG{n}" for n in range(5))


def test_a_storm_names_each_of_its_members(world):
    """By a link, and by the number of each DAG's."""
    world.fail("r0", policy=STORM)
    outcomes = [world.fail(f"r{n}", policy=STORM) for n in range(1, 30)]
    assert [told(outcome) for outcome in outcomes] == ["opened", *["grouped"] * 28]
    assert [link.url for link in world.attached] == [f"https://airflow/orders/r{n}" for n in range(1, 30)]
    assert {link.incident_id for link in world.attached} == {world.storm.incident.id}
    world.flush()
    assert "29 failures" in world.text(world.storm)
    assert "`orders`: 29" in world.text(world.storm)
    assert "run [r1](https://airflow/orders/r1)" in world.text(world.storm)


def test_a_storm_is_edited_less_often_than_it_grows(world):
    """It has other things to spend its rate limit on."""
    for n in range(200):
        world.fail(f"r{n}", f"dag{n % 40}", policy={"storm_connection": 1})
    assert len(world.attached) == MOST_LINKS
    assert len(world.edited) <= 13
    world.flush()
    assert "**199 failures**" in world.text(world.storm)
    assert world.storm.told == 199
    asked = len(world.edited)
    world.flush()
    assert len(world.edited) == asked


def test_a_key_that_may_not_edit_asks_seldom(world):
    """And a flush completes the text once it may."""
    world.edit = lambda call: world.edited.append(call.body) or PermissionDeniedError(403)
    for n in range(100):
        world.fail(f"r{n}", policy=STORM)
    assert len(world.edited) <= 12
    del world.edit
    world.flush()
    assert "**99 failures**" in world.text(world.storm)


@pytest.mark.parametrize("text", ["- `orders`: " + "9" * 5000, "- : 1\n- x: 0", "**The first one:**", "\ud800"])
def test_whatever_a_person_writes_into_a_storm_ends_no_flush(world, text):
    """Nor a callback: it is theirs, and gets links."""
    for n in range(3):
        world.fail(f"r{n}", policy=STORM)
    world.touch(world.storm.incident.id, summary=f"{text}\n\n**The first one:** x")
    world.edited.clear()
    world.fail("r3", policy=STORM)
    world.flush()
    assert world.edited == []


def test_an_outage_is_met_once_for_all_the_links_of_a_storm(world):
    """A flush has other things to deliver."""
    world.refusal = ServerError(503)
    for n in range(20):
        world.fail(f"r{n}", policy=STORM)
    world.refusal = None
    world.now += timedelta(minutes=5)
    take, tried = world.take, []

    def cut(step):
        if isinstance(step, Attach):
            tried.append(step)
            return ServerError(503)
        return take(step)

    world.take = cut
    world.flush()
    assert len(tried) == 1


def test_a_storm_that_a_person_has_gets_links_only(world):
    """Nobody's words are written over."""
    world.fail("r0", policy=STORM)
    world.fail("r1", policy=STORM)
    world.touch(world.storm.incident.id, summary="It is the warehouse.")
    world.edited.clear()
    world.fail("r2", policy=STORM)
    world.fail("r3", policy=STORM)
    world.flush()
    assert world.edited == []
    assert len(world.attached) == 3
    assert world.text(world.storm) == "It is the warehouse."


@pytest.mark.parametrize(
    ("settings", "above", "apart"),
    [
        (Settings(visibility="private"), False, True),
        (Settings(mode="test"), False, True),
        (Settings(severity=CRITICAL), True, True),
        (Settings(severity=MINOR), False, False),
        (Settings(severity=CRITICAL), ServerError(503), True),
        (Settings(severity=MAJOR), True, False),
        (Settings(), True, False),
        (Settings(incident_type=SECURITY), False, True),
    ],
)
def test_what_must_not_hide_in_a_storm_opens_its_own(world, settings, above, apart):
    """What is more severe, or private where the storm is public, or real where that is a test, or of another type."""
    world.above = above
    for n in range(2):
        world.fail(f"r{n}", settings=Settings(severity=MAJOR), policy=STORM)
    outcome = world.fail("r9", settings=settings, policy=STORM)
    assert outcome.kind == ("open" if apart else "grouped")
    assert len(world.incidents) == (3 if apart else 2)


@pytest.mark.parametrize(("incident_type", "kind"), [(DATA, "open"), (SECURITY.lower(), "grouped"), (None, "open")])
def test_a_storm_with_an_incident_type_takes_its_own_kind_only(world, incident_type, kind):
    """A type may be private by itself, whatever visibility says."""
    for n in range(2):
        world.fail(f"r{n}", settings=Settings(incident_type=SECURITY), policy=STORM)
    assert world.fail("r2", settings=Settings(incident_type=incident_type), policy=STORM).kind == kind


def test_a_failure_in_a_storm_leads_to_its_incident(world):
    """At once where that is open; after a flush where it was not."""
    world.fail("r0", policy=STORM)
    world.refusal = ServerError(503)
    assert told(world.fail("r1", policy=STORM)) == "journalled"
    assert told(world.fail("r2", policy=STORM)) == "grouped"
    world.refusal = None
    world.now += timedelta(minutes=5)
    world.flush()
    world.flush()
    grouped = [record for record in world.records() if record.state == "grouped"]
    assert len(grouped) == 2
    assert {record.incident.id for record in grouped} == {world.storm.incident.id}
    assert "**2 failures**" in world.text(world.storm)


def test_a_storm_that_waits_is_sent_by_its_next_failure(world):
    """With the same key and body, and for all that waited with it; where nobody flushes, nobody else would."""
    world.fail("r0", policy=STORM)
    world.refusal = RateLimitError(429, retry_after=30.0)
    assert told(world.fail("r1", policy=STORM)) == "journalled"
    world.refusal = None
    assert world.fail("r2", policy=STORM).incident is None, "it was asked to wait"
    world.now += timedelta(seconds=31)
    outcome = world.fail("r3", policy=STORM)
    assert outcome.incident.reference == "INC-2"
    assert [event.outcome for event in outcome.log_events(str, 0.0)] == ["grouped", "replayed"]
    assert world.sent[-1] == world.sent[-2]
    assert "**3 failures**" in world.text(world.storm)
    assert told(world.fail("r4", policy=STORM)) == "grouped"
    assert len(world.incidents) == 2


def test_a_storm_whose_incident_is_closed_is_followed_by_another(world):
    """By one, also if two processes find it closed at once; an outage proves nothing."""
    for n in range(2):
        world.fail(f"r{n}", policy=STORM)
    world.close("id-2")
    world.now += timedelta(seconds=61)
    policy = DeliveryPolicy(now=lambda: world.now, deployment="prod", conn_id="c", storm_dag=1, storm_connection=0)
    late = deliver(world.failing("r2"), policy)
    step = until(world, late, Show)
    assert world.fail("r3", policy=STORM).incident.reference == "INC-3"
    assert world.finish(late, step).incident.reference == "INC-3"
    world.close("id-3")
    world.refusal = ServerError(503)
    world.now += timedelta(seconds=61)
    assert world.fail("r4", policy=STORM).incident.reference == "INC-3"
    world.refusal = None
    world.now += timedelta(seconds=61)
    assert world.fail("r5", policy=STORM).incident.reference == "INC-4"


def test_a_storm_is_asked_about_once_a_minute(world):
    """And not for each of its failures."""
    for n in range(20):
        world.fail(f"r{n}", policy=STORM)
    take, asked = world.take, []
    world.take = lambda step: (asked.append(step) if isinstance(step, Show) else None, take(step))[1]
    world.now += timedelta(seconds=61)
    for n in range(20, 25):
        world.fail(f"r{n}", policy=STORM)
    assert len(asked) == 1


def test_a_storm_that_another_process_is_opening_is_left_to_it(world):
    """As long as that may be waiting for the answer."""
    world.fail("r0", policy=STORM)
    policy = DeliveryPolicy(now=lambda: world.now, deployment="prod", conn_id="c", storm_dag=1, storm_connection=0)
    killed = deliver(world.failing("r1"), policy)
    until(world, killed, Send)
    asked = len(world.sent)
    assert world.fail("r2", policy=STORM).kind == "grouped"
    assert len(world.sent) == asked
    world.now += timedelta(seconds=13)
    assert world.fail("r3", policy=STORM).incident.reference == "INC-2"


def test_a_run_that_fails_again_joins_its_open_incident(world):
    """The incident says so, and its channel; a later one joins as well."""
    assert world.fail().kind == "open"
    outcome = world.fail(clear_count=1)
    assert (outcome.kind, told(outcome), outcome.incident.reference) == ("joined", "joined", "INC-1")
    assert len(world.incidents) == 1
    (edit,) = world.edited
    assert edit["notify_incident_channel"] is True
    assert edit["incident"]["summary"].startswith("**Failed again at 2026-11-23 09:00:00 UTC**")
    assert world.fail(clear_count=2).kind == "joined"
    assert world.text(world.records()[0]).count("Failed again") == 2


def test_a_run_that_fails_again_after_a_person_took_over_attaches_a_link(world):
    """Its text is that person's."""
    world.fail()
    world.touch("id-1", has_lead=True)
    assert world.fail(clear_count=1).kind == "joined"
    assert world.edited == []
    assert [link.title for link in world.attached] == ["Failed again: DAG orders failed"]


@pytest.mark.parametrize("case", ["closed", "gone", "new", "forgotten"])
def test_a_run_that_fails_again_opens_a_new_incident(world, case):
    """Where the one before is closed, not to be found, or no longer wanted."""
    world.fail()
    if case == "closed":
        world.close("id-1")
    if case == "forgotten":
        world.texts.clear()
    if case == "gone":
        world.refusal = ServerError(503)
        assert world.fail(clear_count=1).kind == "kept"
        world.refusal = None
    settings = Settings(refail="new" if case == "new" else "join")
    assert world.fail(clear_count=1, settings=settings).kind == "open"
    assert len(world.incidents) == 2


def test_what_the_dag_knows_beyond_its_task_is_said_in_the_incident(world):
    """As long as its text is ours; else a link says it."""
    for n, touched in enumerate((False, True)):
        world.fail(f"r{n}", "orders", "task")
        if touched:
            world.touch("id-2", summary="mine")
        world.fail(f"r{n}", "orders", "dag", failed_tasks=("load", "check"), reason="task_failure")
    assert len(world.edited) == 1
    assert "check" in world.edited[0]["incident"]["summary"]
    assert [link.incident_id for link in world.attached] == ["id-2"]


@pytest.mark.parametrize("is_touched", [False, True])
def test_mapped_tasks_that_fail_at_once_leave_the_text_to_be_completed(world, is_touched):
    """Whose words an incident has, only the first of them knows; the others write the same record after it.

    A person may have changed what has changed since.
    """
    policy = DeliveryPolicy(now=lambda: world.now, deployment="prod", conn_id="c")
    others = [
        deliver(world.failing(level="task", task_id="load", map_index=index, exception=f"no {index}"), policy)
        for index in range(3)
    ]
    steps = [after_its_first_look(world, other) for other in others]
    world.fail(level="task", task_id="load", map_index=3, exception="no 3")
    if is_touched:
        world.touch("id-1", updated_at=world.now + timedelta(seconds=11))
    for other, step in zip(others, steps, strict=True):
        assert world.finish(other, step).kind == "open"
    world.now += timedelta(seconds=5)
    world.fail(failed_tasks=[f"load[{index}]" for index in range(4)], level="dag")
    assert len(world.edited) == (not is_touched)
    assert ("- `load[0]`" in world.text(world.records()[0])) is not is_touched


def test_one_failure_is_one_member_of_a_storm_whoever_tells_of_it(world):
    """Its task's callback and its DAG's come at the same moment."""
    for run in ("r0", "r1"):
        world.fail(run, policy=STORM)
    policy = DeliveryPolicy(now=lambda: world.now, deployment="prod", conn_id="c", storm_dag=1, storm_connection=0)
    late = deliver(world.failing("r2", level="task", task_id="load"), policy)
    step = after_its_first_look(world, late)
    world.fail("r2", policy=STORM)
    world.finish(late, step)
    assert world.storm.member_count == 2


def test_what_the_dag_knows_goes_into_its_place_and_the_error_stays(world):
    """A reader finds the failed tasks where they belong; a later error stands below the first."""
    told = {"exception_type": "ValueError", "exception": "three bad rows", "task_id": "load"}
    world.fail("r1", "orders", "task", **told)
    world.fail("r1", "orders", "dag", failed_tasks=("load", "check"), reason="timed_out")
    (edit,) = world.edited
    assert edit["notify_incident_channel"] is False
    text = edit["incident"]["summary"]
    assert text.startswith("**Error:** `ValueError` in `load`\n```\nthree bad rows\n```\n\n**Error:** the run exceeded")
    assert "\n\n**Failed tasks:**\n- `load`\n- `check`\n\n**The run:**" in text
    assert text.count("Failed task") == 1


def test_a_run_that_fails_again_says_how_on_top(world):
    """The new error before the old one, which stays."""
    world.fail("r1", "orders", "task", exception_type="ValueError", exception="three bad rows", task_id="load")
    again = {"exception_type": "KeyError", "exception": "'price'", "task_id": "load", "clear_count": 1}
    world.fail("r1", "orders", "task", **again)
    text = world.edited[0]["incident"]["summary"]
    parts = (
        "**Failed again at",
        "`KeyError` in `load`",
        "'price'",
        "**Error:** `ValueError`",
        "three bad rows",
        "**What",
    )
    assert [text.index(part) for part in parts] == sorted(text.index(part) for part in parts)


def test_an_own_text_is_completed_on_top(world):
    """Its author's words stay as they are; a task's name is no markup there."""
    wish = IncidentContent(summary="Our own words.")
    for level, tasks in (("task", ()), ("dag", ("load__a", "check"))):
        failure = world.failing("r1", "orders", level, failed_tasks=tasks).failure
        world.deliver_report(prepare(failure, Settings(), wish, deployment="prod", redact=str))
    text = world.edited[0]["incident"]["summary"]
    assert text.startswith("Failed tasks: load\\_\\_a, check\n\nOur own words.")


def test_an_incident_tells_the_dags_earlier_ones(world):
    """Three at most, with their pages, the newest first; of the last 30 days, and of this DAG."""
    page = "https://app.incident.io/acme/incidents/{}"
    for n in range(5):
        world.fail(f"r{n}")
        world.touch(f"id-{n + 1}", permalink=page.format(n + 1))
        name = record_name("orders", world.failing(f"r{n}").key)
        world.texts[name] = world.texts[name].replace("http://x", page.format(n + 1))
        world.now += timedelta(days=1)
    world.fail("x", "another")
    texts = [body["summary"].partition("Earlier incidents")[2] for body in world.sent]
    assert texts[0] == texts[5] == ""
    assert texts[4].index("INC-4") < texts[4].index("INC-3") < texts[4].index("INC-2")
    assert f"[INC-4]({page.format(4)}) (2026-11-26)" in texts[4]
    assert "INC-1" not in texts[4]
    world.now += timedelta(days=31)
    world.fail("late")
    assert "Earlier incidents" not in world.sent[-1]["summary"]


def test_earlier_incidents_cost_one_read(world):
    """And nothing is written that would not be written anyway."""
    asked = []

    def take(step):
        asked.append(type(step).__name__)
        return Growing.take(world, step)

    world.take = take
    for n in range(4):
        asked.clear()
        world.fail(f"r{n}", policy={"storm_dag": 9})
        stored = [step for step in asked if step in {"Get", "Set"}]
        assert len(stored) == 5 + bool(n)


def test_a_ledger_remembers_few(world):
    """Of a DAG, and in all."""
    ledger = Ledger()
    for n in range(500):
        ledger = ledger.with_earlier(Earlier(f"dag{n % 50}", world.now + timedelta(minutes=n), f"name{n}"))
    assert len(ledger.earlier) == 100
    assert [e.record for e in ledger.earlier_of("dag49", world.now)] == ["name499", "name449"]
    for n in range(9):
        ledger = ledger.with_earlier(Earlier("one", world.now + timedelta(days=1, minutes=n), f"one{n}"))
    assert len(ledger.earlier_of("one", world.now)) == MOST_EARLIER
    assert Ledger.read(ledger.text()) == ledger


def test_a_text_that_incident_io_has_changed_is_never_written_over(world):
    """It may be a person's by the time that we look."""
    world.fail()
    (record,) = world.records()
    assert record.incident.text_mark
    strange = replace(world.failing("r2"), draft={**world.failing("r2").draft, "summary": "a"})
    create = world.create

    def other(body):
        return create(body)._replace(summary="b")

    world.create = other
    world.deliver_report(strange)
    assert [record.incident.text_mark for record in world.records() if record.run_id == "r2"] == [None]
