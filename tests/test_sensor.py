"""IncidentClosedSensor and its trigger: what they wait for, what they say, and what ends the waiting."""

import asyncio
import contextlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout, TaskDeferred

from airflow_incident import IncidentClosedSensor
from airflow_incident.airflow_bridge.variables import Variables
from airflow_incident.api.closing import status_message
from airflow_incident.api.incident import IncidentState
from airflow_incident.core.key import dag_key
from airflow_incident.delivery.record import OpenIncident
from airflow_incident.sandbox.catalogue import fixed_id
from airflow_incident.sandbox.fault import FaultProxy
from airflow_incident.sandbox.fault_answers import answer
from airflow_incident.triggers import IncidentClosedTrigger
from tests import contract
from tests.airflow_dags import load_dag
from tests.airflow_versions import TASKS_CAN_LIST
from tests.doors import Scripted, task_context
from tests.journal_records import forget_all, keep

NOW = datetime(2026, 11, 23, 9, 12, tzinfo=UTC)


def ulid(number):
    return f"01{number:024d}"


def severity_id(rank):
    return fixed_id("SEV", rank)


class Account:
    """A sandbox whose incidents have the IDs and the status that a test gives them."""

    def __init__(self, box):
        self.box = box
        self.after_look = []
        record = box.store.record

        def then(request):
            record(request)
            if self.after_look:
                self.after_look.pop(0)()

        box.store.record = then

    def put(self, number, category="live", *, rank=2, mode="standard"):
        """Let an incident stand like this; return its ID."""
        if not self.box.store.find(ulid(number)):
            body = {"idempotency_key": str(number), "visibility": "public", "mode": mode}
            incident = self.box.store.create(body | {"severity_id": severity_id(rank)}, "v2")
            incident |= {"id": ulid(number), "reference": f"INC-{number}"}
        self.box.move(ulid(number), category, "fixing")
        return ulid(number)

    def drop(self, number):
        """Let an incident be gone."""
        self.box.store._opened.remove(self.box.store.show(ulid(number)))

    @property
    def asked(self):
        return [seen.path for seen in self.box.requests]


@pytest.fixture
def v2(connected, monkeypatch):
    """Serve a sandbox, with no pause before a second attempt; every request is one that the document has."""
    monkeypatch.setattr("airflow_incident.api.exchange.BACKOFF_SECONDS", 0.0)
    yield Account(connected)
    contract.check_all(connected)


@pytest.fixture
def journal(airflow_db, monkeypatch):
    """Turn the journal on, in the tests' own Airflow."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    yield
    forget_all()


def sensor(**arguments):
    return IncidentClosedSensor(task_id="wait", **arguments)


def poke(dag="orders", clear=0, **arguments):
    return sensor(**arguments).poke(task_context(dag_id=dag, clear=clear))


@contextlib.contextmanager
def hear():
    """Hear what sensors and triggers say, as (level, text), wherever Airflow sends it."""
    said = []

    def log(level):
        return lambda _self, text, *values: said.append((level, text % values))

    with pytest.MonkeyPatch.context() as patch:
        ear = type("Ear", (), {"info": log("info"), "warning": log("warning")})()
        for kind in (IncidentClosedSensor, IncidentClosedTrigger):
            patch.setattr(kind, "log", ear)
        yield said


def fire(**arguments):
    """Run a trigger, as another triggerer would after a restart, until it fires; return its event."""
    path, kwargs = IncidentClosedTrigger(poke_interval=0.01, **arguments).serialize()
    assert path == f"{IncidentClosedTrigger.__module__}.{IncidentClosedTrigger.__qualname__}"

    async def first():
        return await anext(IncidentClosedTrigger(**json.loads(json.dumps(kwargs))).run())

    return asyncio.run(first()).payload


@pytest.mark.parametrize(
    "category", ["triage", "live", "paused", "learning", "closed", "declined", "canceled", "merged"]
)
def test_an_incident_is_over_when_the_trouble_is(v2, category):
    """Also in its post-incident flow."""
    assert poke(incident_id=v2.put(12, category)) is (category not in {"triage", "live", "paused"})


def test_while_it_waits_it_says_for_what_and_since_when(v2):
    v2.put(12)
    with hear() as said:
        assert not poke(incident_id=ulid(12))
    ((level, line),) = said
    assert level == "info"
    assert line.startswith("incident.io: waiting: INC-12 is Fixing (live), open for ")


@pytest.mark.parametrize(("minutes", "said"), [(-5, "0 min"), (12, "12 min"), (125, "2 h 5 min"), (3000, "2 d 2 h")])
def test_a_duration_is_said_in_words_for_people(minutes, said):
    began = NOW - timedelta(minutes=minutes)
    state = IncidentState(ulid(1), "INC-1", status="Fixing", status_category="live", created_at=began)
    assert status_message([state], NOW) == f"incident.io: waiting: INC-1 is Fixing (live), open for {said}"


def test_of_many_incidents_ten_are_named():
    many = [IncidentState(ulid(n), f"INC-{n}", status="Fixing", status_category="live") for n in range(12)]
    assert status_message(many, NOW).endswith("INC-9 is Fixing (live); and 2 more")


@pytest.mark.parametrize(
    ("rank", "mode", "wanted", "incident_mode", "over"),
    [
        (2, "standard", "major", "real", False),
        (3, "standard", "Major", "real", False),
        (1, "standard", "Major", "real", True),
        (2, "standard", severity_id(2), "real", False),
        (3, "test", "Major", "real", True),
        (3, "test", "Major", "test", False),
        (3, "standard", "Major", "test", True),
        (3, "retrospective", "Major", "real", False),
    ],
)
def test_an_incident_of_a_severity_or_above_holds(v2, rank, mode, wanted, incident_mode, over):
    """By rank, not by name; a test holds only who waits for tests."""
    v2.put(12, rank=rank, mode=mode)
    v2.put(13, "closed", rank=3, mode=mode)
    assert poke(severity=wanted, incident_mode=incident_mode) is over


def test_severities_are_looked_up_once(v2):
    v2.put(12)
    waiting = sensor(severity="Major")
    for _ in range(3):
        waiting.poke(task_context())
    assert v2.asked.count("/v1/severities") == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"incident_id": ulid(99)}, "404.* Check the base URL of the connection and the ID"),
        ({"incident_id": "None"}, "Incident: 'None' names none"),
        ({"incident_id": " "}, "Incident: ' ' names none"),
        ({"severity": ""}, "Severity: '' names none"),
        ({"severity": "Majr"}, "no severity 'Majr'; known: Minor, Major, Critical"),
        ({"severity": ulid(77)}, "no severity"),
        ({"incident_id": ulid(12), "conn_id": "nowhere"}, "airflow connections add nowhere"),
        ({}, "Journal: is turned off"),
    ],
)
def test_what_waiting_cannot_mend_fails_at_once(v2, arguments, told):
    with pytest.raises(AirflowFailException, match=told):
        poke(**arguments)


def test_a_template_that_renders_to_none_does_not_wait_for_something_else(v2):
    waiting = sensor(incident_id="{{ none }}")
    waiting.incident_id = None
    with pytest.raises(AirflowFailException, match="Incident: None names none"):
        waiting.poke(task_context())


def test_a_mode_that_renders_to_an_unknown_one_fails_at_once(v2):
    """One that is only spelled differently is meant."""
    waiting = sensor(severity="Major", incident_mode="{{ params.mode }}")
    waiting.incident_mode = "tutorial"
    with pytest.raises(AirflowFailException, match="Incident mode: 'tutorial' is unknown; use one of: real, test"):
        waiting.poke(task_context())
    waiting.incident_mode = " Test"
    assert waiting.poke(task_context())


def test_an_outage_is_one_warning_and_waits_on(v2, connect):
    """Looks that fail are told once; the next outage is told again."""
    waiting, context = sensor(incident_id=v2.put(12)), task_context()
    with hear() as said:
        for fault in ("error-500-html", "none", "refuse"):
            with FaultProxy(v2.box.direct_port, fault) as wire:
                connect(wire.url)
                assert not waiting.poke(context)
                assert not waiting.poke(context)
    warnings = [text for level, text in said if level == "warning"]
    assert len(warnings) == 2
    assert all("waiting on" in text for text in warnings)
    connect(v2.box.url)
    v2.put(12, "closed")
    assert waiting.poke(context)


def test_a_refusal_fails_at_once_with_advice(v2, connect):
    connect(v2.box.url, password="wrong")
    with pytest.raises(AirflowFailException, match=r"401.*Put a valid API key"):
        poke(incident_id=v2.put(12))


def opened(number, **fields):
    return {"state": "open", "incident": OpenIncident(id=ulid(number), reference=f"INC-{number}")} | fields


def test_the_incidents_of_this_dag_hold_it(v2, journal):
    """All its runs'; not another DAG's, even of a name that begins alike, and none of another connection."""
    assert poke()
    keep("r1", **opened(12))
    keep("r2", **opened(13))
    keep("r1", dag="orders.eu", **opened(14))
    keep("r3", **opened(15, conn_id="other"))
    keep("r4")
    Variables().set(f"{keep('r5', **opened(16)).name}", "not ours")
    for number in (12, 13, 14, 15):
        v2.put(number)
    with hear() as said:
        assert not poke()
    (_, warning), (_, line) = said
    assert warning == "incident.io: not waiting for incidents of other connections: other"
    assert "INC-12" in line
    assert "INC-13" in line
    assert "INC-14" not in line
    v2.put(12, "closed")
    v2.drop(13)  # it was deleted, or belongs to nobody any more
    assert poke()


def test_a_gathered_failure_waits_for_the_incident_that_holds_it(v2, journal):
    keep("r1", state="grouped", storm="airflow/tests/storm/x")
    assert poke()
    keep("s", dag="storm", **opened(12, key="airflow/tests/storm/x", level="storm"))
    v2.put(12)
    assert not poke()
    keep("r2", state="grouped", incident=OpenIncident(id=ulid(13)), storm="k")
    v2.put(12, "closed")
    v2.put(13)
    assert not poke()
    v2.put(13, "closed")
    assert poke()


def test_many_incidents_of_a_dag_cost_one_list(v2, journal):
    """And a test incident of this DAG counts among them."""
    for number in range(20):
        keep(f"r{number}", **opened(100 + number))
        v2.put(100 + number, "closed")
    for number in range(300, 560):
        v2.put(number)
    assert poke()
    assert v2.asked == ["/v2/incidents"] * 2
    v2.put(103, mode="test")
    assert not poke()


def test_where_variables_cannot_be_listed_the_run_s_own_incidents_are_found(v2, journal, monkeypatch):
    """In tasks of Airflow 3.0 to 3.2: of each time it was cleared, and of the DAG at scope `dag`."""

    def names(self, prefix):
        raise NotImplementedError

    monkeypatch.setattr(Variables, "names", names)
    assert poke(clear=2)
    keep("run-1", **opened(12))
    v2.put(12)
    assert not poke(clear=2)
    v2.put(12, "closed")
    keep("r9", **opened(13, key=dag_key("tests", "orders")))
    v2.put(13)
    assert not poke()
    monkeypatch.undo()


@pytest.mark.parametrize("method", ["names", "get"])
def test_a_journal_that_cannot_be_read_is_waited_for(v2, journal, monkeypatch, method):
    """A record that is listed but not given proves nothing."""
    keep("r1", **opened(12))
    broken = (lambda *_: None) if method == "get" else (lambda *_: 1 / 0)
    with monkeypatch.context() as patch:
        patch.setattr(Variables, method, broken)
        assert not poke()
        with pytest.raises(Exception, match="the journal cannot be read"):
            sensor(deferrable=True).execute(task_context())
    v2.put(12, "closed")
    assert poke()


@pytest.mark.parametrize(
    ("variable", "argument", "deferred"),
    [(None, None, False), ("True", None, True), ("True", False, False), (None, True, True)],
)
def test_whether_it_defers_is_airflow_s_default_or_told(monkeypatch, variable, argument, deferred):
    if variable:
        monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", variable)
    assert sensor(incident_id="x", deferrable=argument).deferrable is deferred


def test_what_is_over_already_is_not_deferred(v2):
    assert sensor(incident_id=v2.put(12, "closed"), deferrable=True).execute(task_context()) is None


def test_deferred_it_waits_in_the_triggerer(v2):
    v2.put(12)
    waiting = sensor(severity="Major", deferrable=True, poke_interval=5, timeout=100)
    with pytest.raises(TaskDeferred) as deferred:
        waiting.execute(task_context())
    assert deferred.value.trigger.serialize()[1] == {
        "incident_ids": [],
        "severity": "Major",
        "incident_mode": "real",
        "may_be_gone": False,
        "poke_interval": 5.0,
        "conn_id": "incident_io_default",
    }
    assert deferred.value.method_name == "execute_complete"
    assert timedelta(seconds=99) < deferred.value.timeout <= timedelta(seconds=100)
    since = deferred.value.kwargs["since"]
    assert waiting.execute_complete(task_context(), {"state": "over"}, since=since) is None
    with pytest.raises(AirflowFailException, match="no such"):
        waiting.execute_complete(task_context(), {"state": "failed", "error": "no such"}, since=since)


def test_an_outage_at_the_first_look_is_left_to_the_triggerer(v2, connect):
    waiting = sensor(incident_id=v2.put(12, "closed"), deferrable=True)
    with FaultProxy(v2.box.direct_port, "error-500-html") as wire:
        connect(wire.url)
        with pytest.raises(TaskDeferred):
            waiting.execute(task_context())


def test_what_this_dag_opens_meanwhile_is_waited_for_too(v2, journal):
    """Within the same time: a new incident does not begin it anew."""
    keep("r1", **opened(12))
    v2.put(12)
    waiting = sensor(deferrable=True, timeout=100)
    with pytest.raises(TaskDeferred) as first:
        waiting.execute(task_context())
    assert fire_of(first, v2, lambda: v2.put(12, "closed")) == {"state": "over"}
    keep("r2", **opened(13))
    v2.put(13)
    with pytest.raises(TaskDeferred) as second:
        waiting.execute_complete(task_context(), {"state": "over"}, since=first.value.kwargs["since"] - 40)
    assert second.value.timeout < timedelta(seconds=61)
    assert set(second.value.trigger.incident_ids) == {ulid(12), ulid(13)}
    with pytest.raises(AirflowSensorTimeout):
        waiting.execute_complete(task_context(), {"state": "over"}, since=first.value.kwargs["since"] - 101)


def fire_of(deferred, v2, then):
    v2.after_look.append(then)
    _, kwargs = deferred.value.trigger.serialize()
    return fire(**{name: value for name, value in kwargs.items() if name != "poke_interval"})


def test_the_trigger_waits_through_an_outage(v2, connect):
    """One warning, one line for the look that found it open, then the event."""
    v2.put(12)
    v2.after_look = [lambda: v2.put(12, "learning")]
    with hear() as said, FaultProxy(v2.box.direct_port, "error-500-html", times=10) as wire:
        connect(wire.url)
        assert fire(incident_ids=[ulid(12)]) == {"state": "over"}
    assert [level for level, _ in said] == ["warning", "info"]
    assert "INC-12 is Fixing (live)" in said[1][1]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"incident_ids": [ulid(99)]}, "404"),
        ({"severity": "Majr"}, "known: Minor"),
        ({"conn_id": "nowhere"}, "nowhere"),
    ],
)
def test_the_trigger_fires_what_waiting_cannot_mend(v2, arguments, told):
    event = fire(**arguments)
    assert event["state"] == "failed"
    assert told in event["error"]


@pytest.mark.parametrize("content", [{}, {"incident": []}, {"incident": {"id": "x", "incident_status": {}}}])
def test_an_answer_without_a_category_is_no_proof(connect, monkeypatch, content):
    """Of an incident that cannot be read nobody can say that it is over."""
    monkeypatch.setattr("airflow_incident.api.exchange.BACKOFF_SECONDS", 0.0)
    with Scripted([answer(200, json.dumps(content).encode())]) as server:
        connect(server.url)
        assert not poke(incident_id=ulid(12))


SOURCE = """
from airflow.providers.common.compat.sdk import DAG
from airflow_incident import IncidentClosedSensor

with DAG({name!r}) as dag:
    IncidentClosedSensor(
        task_id="wait", poke_interval=0.05, deferrable={deferrable}, {what}
    )
"""


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize(
    "what", ["incident_id=\"{{ dag_run.conf['incident'] }}\"", pytest.param("", marks=TASKS_CAN_LIST)]
)
def test_a_dag_is_held_until_a_person_closes_the_incident(airflow_db, journal, v2, deferrable, what):
    """In a real Airflow: one with a rendered ID, or the one that its own record names."""
    name = f"held_{deferrable}_{bool(what)}"
    v2.put(12)
    keep("earlier", dag=name, **opened(12))
    v2.after_look = [lambda: None, lambda: v2.put(12, "closed")]
    dag = load_dag(airflow_db, SOURCE.format(name=name, deferrable=deferrable, what=what), name)
    assert dag.test(run_conf={"incident": ulid(12)}).state == "success"
    assert len(v2.asked) == (4 if deferrable and not what else 3)
