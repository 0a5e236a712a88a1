"""Callbacks in a process whose supervisor answers late or never, over Airflow's own channel: in time, and not lost."""

import asyncio
import logging
import time

import pytest

from airflow_incident import open_incident
from airflow_incident.airflow_bridge import reading
from airflow_incident.airflow_bridge.process import PROCESS
from airflow_incident.delivery.record import read_record, record_name
from airflow_incident.sandbox.fault import FaultProxy
from tests.airflow_bridge.supervisor import LateSupervisor
from tests.airflow_versions import since
from tests.doors import dag_context, listen, report, task_context

pytestmark = since("3.0", "supervisor")

SECONDS = 4.0
"""A callback's whole time; what may hang has three fourths of it."""
KEY = "airflow/tests/dag/orders/run/run-1"
NAME = record_name("orders", KEY)


@pytest.fixture(autouse=True)
def _journal(monkeypatch):
    """Turn the journal on, in a process that has met no outage, with four seconds for a callback."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    monkeypatch.setenv("AIRFLOW__CORE__TASK_SUCCESS_OVERTIME", "10")
    PROCESS.reset()
    yield
    PROCESS.reset()


@pytest.fixture
def supervised(sandbox):
    """Return the function that makes a supervisor whose connection leads to the sandbox."""

    def make(host: str = sandbox.url, **delays: list[float | None]) -> LateSupervisor:
        return LateSupervisor({"host": host, "password": sandbox.api_key}, **delays)

    return make


def ask_for_a_neighbour_s(comms) -> str:
    """Ask as the callback after ours does; return the type of the connection that comes."""
    from airflow.sdk.execution_time.comms import GetConnection

    return comms.send(GetConnection(conn_id="neighbour")).conn_type


def state_of(supervisor: LateSupervisor) -> str:
    return read_record(NAME, supervisor.variables[NAME]).state


def test_a_supervisor_that_answers_is_used_as_ever(supervised, sandbox):
    supervisor = supervised()
    with supervisor():
        heard, _ = report(task_context())
    assert "INC-1 " in heard.sole(logging.INFO)
    assert state_of(supervisor) == "open"


def test_a_connection_that_never_comes_ends_the_callback(supervised, sandbox):
    """The supervisor has died, as Airflow 3.1's does while its API server is away."""
    supervisor = supervised(GetConnection=[None])
    with supervisor():
        heard, took = report(task_context())
    assert took < SECONDS
    assert "Airflow gave no answer within 3 s. Check that Airflow's API server" in heard.texts()[-1]
    assert sandbox.requests == []


def test_a_connection_that_comes_late_is_not_taken_for_the_neighbour_s(supervised):
    """It holds our key, and the callback after ours has asked for another one."""
    supervisor = supervised(GetConnection=[5.0, 0.0])
    with supervisor() as comms:
        _, took = report(task_context())
        assert ask_for_a_neighbour_s(comms) == "neighbour"
    assert took < SECONDS


@pytest.mark.parametrize("what", ["GetVariable", "PutVariable"])
def test_a_journal_that_hangs_does_not_keep_the_incident(supervised, sandbox, what):
    """It opens after two seconds; the callback ends in its time, with one warning."""
    supervisor = supervised(**{what: [None]})
    began = time.time()
    with supervisor():
        heard, took = report(task_context())
    (row,) = sandbox.store.all()
    assert row.opened_at - began < 3
    assert took < SECONDS
    assert [text for text in heard.texts() if "the journal cannot be used: Airflow gave no answer" in text]


def test_what_could_not_be_sent_is_kept_as_soon_as_the_late_answer_has_come(supervised, sandbox):
    """The last write waits for the answer to the first question, and throws it away."""
    with FaultProxy(sandbox.direct_port, "refuse") as wire:
        supervisor = supervised(wire.url, GetVariable=[3.3, 0.0])
        with supervisor() as comms:
            heard, took = report(task_context())
            assert ask_for_a_neighbour_s(comms) == "neighbour"
    assert took < SECONDS
    assert "is kept in the journal" in heard.texts()[-1]
    assert state_of(supervisor) == "pending"


class SlowError(Exception):
    """Takes its time to say what is wrong, once."""

    slept = False

    def __str__(self) -> str:
        if not self.slept:
            self.slept = True
            time.sleep(0.7)
        return "slow"


def test_when_the_time_is_nearly_over_the_failure_is_written_down_and_nothing_else_is_done(supervised, sandbox):
    """One question, and no request: what is left is for that."""
    supervisor = supervised(GetConnection=[2.6])
    with supervisor():
        heard, took = report(task_context(exception=SlowError()))
    assert took < SECONDS
    assert sandbox.requests == []
    assert [kind for kind in supervisor.heard if "Variable" in kind] == ["PutVariable"]
    assert state_of(supervisor) == "pending"
    assert "is kept in the journal" in heard.texts()[-1]


def test_states_of_tasks_that_never_come_are_left_out(supervised, sandbox, monkeypatch):
    """The incident opens without them."""
    monkeypatch.setattr(reading, "DETAIL_PATIENCE", 0.5)
    supervisor = supervised(GetTaskStates=[None])
    with supervisor():
        _, took = report(dag_context())
    (incident,) = sandbox.incidents
    assert "Failed tasks" not in incident["summary"]
    assert took < SECONDS


def test_a_template_that_never_gets_its_variable_gives_way_to_the_default_text(supervised, sandbox, monkeypatch):
    """And says so."""
    from airflow.sdk.execution_time.context import VariableAccessor

    monkeypatch.setattr(reading, "DETAIL_PATIENCE", 0.5)
    supervisor = supervised(GetVariable=[None])
    asking = task_context(var={"value": VariableAccessor(deserialize_json=False)})
    with supervisor():
        heard, took = report(asking, name="{{ var.value.team }} failed")
    (incident,) = sandbox.incidents
    assert incident["name"] == "DAG orders failed: load (ValueError)"
    assert "_The template of name could not be rendered; Airflow's log says why._" in incident["summary"]
    assert "The template of name could not be rendered (AirflowTimeoutError" in heard.everything
    assert took < SECONDS


def test_no_connection_is_believed_only_if_that_is_the_answer(supervised, sandbox, monkeypatch):
    """Airflow's look-up says the same of an API server that answers with an error."""
    supervisor = supervised()

    error = {"error": "API_SERVER_ERROR", "detail": {}, "type": "ErrorResponse"}
    monkeypatch.setattr(supervisor, "answer", lambda *_: error)
    with supervisor():
        heard, _ = report(task_context())
    text = heard.texts()[-1]
    assert "Airflow could not read the connection" in text or "API_SERVER_ERROR" in text
    assert "is not defined" not in text


async def watch(channel, over: asyncio.Event) -> int:
    """Ask as the triggerer itself does every moment; return how often it was answered."""
    from airflow.sdk.execution_time.comms import GetConnection

    answered = 0
    while not over.is_set():
        answer = await channel.asend(GetConnection(conn_id="neighbour"))
        assert answer.conn_type == "neighbour"
        answered += 1
        await asyncio.sleep(0.02)
    return answered


@since("3.0", "triggerer with a channel")
def test_eight_deadlines_at_once_share_the_triggerer_s_channel(supervised, sandbox, monkeypatch):
    """With its own questions between them, and one whose trigger is cancelled half-way: each has its own answers."""
    for limit in ("STORM_LIMIT", "STORM_LIMIT_PER_DAG"):
        monkeypatch.setenv(f"AIRFLOW__INCIDENT_IO__{limit}", "0")
    supervisor = supervised(GetConnection=[0.05], GetVariable=[0.05], PutVariable=[0.05])
    runs = [f"run-{number}" for number in range(8)]

    async def run() -> int:
        over = asyncio.Event()
        async with supervisor.on_the_loop() as channel:
            watching = asyncio.create_task(watch(channel, over))
            late = [
                asyncio.create_task(open_incident().async_notify(deadline_context(run_id)))
                for run_id in [*runs, "cancelled"]
            ]
            await asyncio.sleep(0.3)
            late.pop().cancel()
            await asyncio.wait_for(asyncio.gather(*late), 30)
            over.set()
            return await asyncio.wait_for(watching, 5)

    assert asyncio.run(run()) > 2
    names = [record_name("orders", f"airflow/tests/dag/orders/run/{run_id}") for run_id in runs]
    assert [read_record(name, supervisor.variables[name]).state for name in names] == ["open"] * 8


@since("3.0", "triggerer with a channel")
def test_a_triggerer_that_answers_late_after_its_start_writes_down_all_the_same(supervised, sandbox, monkeypatch):
    """The incident opens after two seconds; nobody waits for the journal, and it has its time."""
    monkeypatch.delenv("AIRFLOW__CORE__TASK_SUCCESS_OVERTIME")
    supervisor = supervised(GetVariable=[3.0, 0.0])

    async def run() -> None:
        async with supervisor.on_the_loop():
            await open_incident().async_notify(deadline_context("run-1"))

    with listen() as heard:
        began = time.time()
        asyncio.run(run())
    (row,) = sandbox.store.all()
    assert 1.8 < row.opened_at - began < 3
    assert heard.texts() == []
    assert state_of(supervisor) == "open"


def test_an_odd_connection_id_does_not_end_the_triggerer(supervised):
    """Before 3.2 the API that it holds itself bears names in ASCII alone, and ends it; so it is not asked."""
    supervisor = supervised()

    async def run() -> None:
        async with supervisor.on_the_loop():
            await open_incident(conn_id="ü").async_notify(deadline_context("run-1"))

    with listen() as heard:
        asyncio.run(run())
    assert "GetConnection" not in supervisor.heard
    assert "is kept in the journal" in heard.error
    assert "its id must be of ASCII letters" in heard.error


def deadline_context(run_id: str) -> dict:
    return {
        "dag_run": {"dag_id": "orders", "dag_run_id": run_id},
        "deadline": {"id": "7", "deadline_time": "2026-11-23T06:00:00+00:00"},
    }
