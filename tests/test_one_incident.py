"""One failure, one incident; two failures, two. The key is golden."""

import asyncio
import functools
import json
import logging
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_incident import CreateIncidentOperator, IncidentHook, open_incident
from airflow_incident.airflow_bridge.process import PROCESS
from airflow_incident.core.failure import Failure
from airflow_incident.core.key import idempotency_key, started_key
from airflow_incident.errors import ContextError
from airflow_incident.sandbox.options import REPEATS
from airflow_incident.sandbox.server import Sandbox
from tests.doors import API_KEY, Scripted, at_once, dag_context, listen, report, task_context

pytestmark = pytest.mark.release

GOLDEN = Path(__file__).parent / "golden" / "keys.json"


@pytest.fixture(scope="module")
def servers():
    """One sandbox for each answer that a repeated key may get."""
    boxes = {repeat: Sandbox(api_key=API_KEY, repeat=repeat, rate_limit=1_000_000).start() for repeat in REPEATS}
    yield boxes
    for box in boxes.values():
        box.stop()


@pytest.fixture(params=REPEATS)
def box(request, servers, connect):
    """Each way of incident.io to answer a repeated key."""
    PROCESS.reset()
    box = servers[request.param]
    box.clear()
    connect(box.url, password=API_KEY)
    return box


def keys(box):
    return sorted(request["idempotency_key"] for request in (seen.body for seen in box.requests))


def operate(context, **options):
    context["ti"].xcom_push = lambda **_: None
    return CreateIncidentOperator(task_id="tell", **options).execute(context)


# One


@pytest.mark.parametrize("context", [dag_context, task_context], ids=["dag", "task"])
def test_a_callback_that_fires_five_times_opens_one_incident(box, context):
    """A replay lands on the same incident, through a new notifier too, and is never an error."""
    notifier = open_incident()
    with listen() as heard:
        for _ in range(4):
            notifier(context())
        open_incident(name="another title", severity=None)(context())
    assert len(box.incidents) == 1
    assert len(set(keys(box))) == 1
    assert heard.texts() == []


def test_task_dag_deadline_and_operator_share_one_incident(box):
    """Whoever tells of a run's failure, it is one failure."""
    with listen() as heard:
        open_incident()(task_context())
        open_incident()(dag_context())
        open_incident()(dag_context(dag_run=SimpleNamespace(clear_number=0), ti=SimpleNamespace(task_id="last")))
        asyncio.run(
            open_incident().async_notify(
                {"dag_run": {"dag_id": "orders", "dag_run_id": "run-1"}, "deadline": {"deadline_time": "2026-01-01"}}
            )
        )
        operate(task_context(task_id="tell"))
    assert len(box.incidents) == 1
    assert keys(box) == ["airflow/tests/dag/orders/run/run-1"] * 5
    assert [r for r in heard.ours if r.levelno >= logging.ERROR] == []


def test_ten_mapped_tasks_that_fail_together_open_one_incident(box):
    """A mapped task's failures are one failure of its run."""
    notifier = open_incident()
    with listen() as heard:
        at_once([functools.partial(notifier, task_context(map_index=index)) for index in range(10)])
    assert len(box.incidents) == 1
    assert heard.texts() == []


def test_thirty_threads_at_once_open_one_incident(box):
    """However many hands report a failure at the same moment, one incident is open and nobody errs."""
    with listen() as heard:
        at_once([functools.partial(open_incident(), (task_context, dag_context)[n % 2]()) for n in range(30)])
    assert len(box.incidents) == 1
    assert len(box.requests) == 30
    assert heard.texts() == []


def test_an_attempt_a_clock_and_a_text_are_no_part_of_the_key(box):
    """What changes between two reports of one failure does not change its key."""
    for attempt in range(1, 4):
        context = task_context(try_number=attempt, exception=ValueError(str(attempt)), task_id=f"task-{attempt}")
        report(context, name=f"title {attempt}", summary="{{ exception }}", mode=("real", "test", None)[attempt - 1])
    assert len(box.incidents) == 1
    assert len(set(keys(box))) == 1


def test_a_closed_incident_stays_closed_and_is_named_once(box, request):
    """If a person has closed the incident, a replay says so in one warning line, and sends nothing more."""
    report()
    box.close(box.incidents[0]["id"])
    heard, _ = report()
    assert len(box.incidents) == 1
    assert len(box.requests) == 2
    if "conflict" in request.node.name or "rejected" in request.node.name:
        assert "already open" in heard.sole(logging.INFO)
    else:
        line = heard.sole(logging.WARNING)
        assert "INC-1" in line
        assert box.incidents[0]["permalink"] in line
        assert "closed" in line


@pytest.mark.parametrize("status", ["closed", "declined"])
def test_an_incident_that_was_asked_to_open_closed_is_open(box, status):
    """A status that the user asked for is not taken for somebody's work."""
    heard, _ = report(status=status)
    assert heard.texts() == []
    assert "is open for DAG orders, run run-1" in heard.sole(logging.INFO)


# Two


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (task_context("run-1"), task_context("run-2")),
        (dag_context("run-1"), dag_context("run-2")),
        (dag_context(dag_id="a"), dag_context(dag_id="b")),
        (task_context(clear=0), task_context(clear=1)),
        (task_context(clear=1), task_context(clear=2)),
        (dag_context(dag_run=SimpleNamespace(clear_number=0)), dag_context(dag_run=SimpleNamespace(clear_number=1))),
        (dag_context(dag_id="a/run/b", run_id="c"), dag_context(dag_id="a", run_id="b/run/c")),
        (dag_context("Run-1"), dag_context("run-1")),
        (dag_context("run-1"), dag_context("run-1 ")),
        (dag_context("x" * 249 + "1"), dag_context("x" * 249 + "2")),
        (dag_context("\ud800"), dag_context("?")),
        (dag_context("1/clear/1"), task_context("1", clear=1)),
    ],
)
def test_two_failures_open_two_incidents(box, first, second):
    """Another run, a cleared run, another DAG: each has an incident of its own, and keeps it."""
    for context in (first, second, first, second):
        report(context)
    assert len(box.incidents) == 2
    assert len(set(keys(box))) == 2


def test_two_deployments_have_two_incidents(box, connect):
    """The same DAG and run in two installations are two failures, wherever the deployment is named."""
    report(deployment="prod")
    report(deployment="staging")
    connect(box.url, password=API_KEY, extra=json.dumps({"deployment": "dev"}))
    report()
    assert len(box.incidents) == 3
    assert keys(box) == [f"airflow/{name}/dag/orders/run/run-1" for name in ("dev", "prod", "staging")]


@pytest.mark.parametrize(("scope", "count"), [("run", 1), ("task", 2), ("task_instance", 4)])
def test_a_scope_says_what_one_incident_stands_for(box, scope, count):
    """Per run, per task with all its map indexes, or per map index."""
    for task in ("extract", "load"):
        for index in (0, 1):
            for _ in range(2):
                report(task_context(task_id=task, map_index=index), scope=scope)
    assert len(box.incidents) == count


def test_an_operators_key_makes_a_separate_incident(box):
    """A deliberate incident with a key of its own lands on neither the run's nor another one."""
    for key in (None, "quality", "cost", "quality"):
        operate(task_context(), key=key)
    report(task_context())
    assert len(box.incidents) == 3


def test_the_hook_opens_one_incident_per_key(box):
    """The hook's own calls are de-duplicated too; what is already open is an error that says so."""
    from airflow_incident.errors import APIError

    for _ in range(3):
        try:
            IncidentHook().create_incident(idempotency_key="mine", name="x")
        except APIError as error:
            assert error.already_open  # noqa: PT017 -- two of the four answers raise
    assert len(box.incidents) == 1


def test_a_refusal_of_the_keys_form_is_no_repeat(connect):
    """A 422 that does not speak of an earlier use is a lost failure."""
    from airflow_incident.sandbox.fault_answers import answer

    told = {"code": "too_long", "message": "must be shorter", "source": {"field": "idempotency_key"}}
    body = {"type": "validation_error", "status": 422, "request_id": "r", "errors": [told]}
    with Scripted([answer(422, json.dumps(body).encode())]) as server:
        connect(server.url, password=API_KEY)
        heard, _ = report()
    assert "idempotency_key: must be shorter" in heard.error


# The key

TEXT = st.text(st.characters(codec=None), min_size=1, max_size=300)
FACTS = st.fixed_dictionaries(
    {
        "deployment": TEXT,
        "dag_id": TEXT,
        "run_id": TEXT,
        "clear_count": st.integers(0, 3),
        "task_id": st.none() | TEXT,
        "map_index": st.integers(-1, 3),
        "name": st.none() | TEXT,
    }
)


def key_of(facts, scope="task_instance"):
    facts = dict(facts)
    deployment, name = facts.pop("deployment"), facts.pop("name", None)
    if began := facts.pop("started_at", None):
        again = Failure(started_at=datetime.fromisoformat(began), **facts)
        return started_key(again, deployment=deployment, scope=scope, name=name)
    return idempotency_key(Failure(**facts), deployment=deployment, scope=scope, name=name)


def told_by(facts, scope):
    """Return what a key of a scope stands for."""
    at = [facts[name] for name in ("deployment", "dag_id", "run_id", "clear_count", "name")]
    if scope != "run" and facts["task_id"] is not None:
        at.append(facts["task_id"])
        if scope == "task_instance":
            at.append(facts["map_index"])
    return at


@given(FACTS, FACTS, st.sampled_from(["run", "task", "task_instance"]))
def test_two_keys_are_equal_only_if_all_they_stand_for_is(one, other, scope):
    """Distinct facts have distinct keys, whatever is written in them."""
    assert (key_of(one, scope) == key_of(other, scope)) == (told_by(one, scope) == told_by(other, scope))


PARTS = st.sampled_from(["a", "/", "run", "task", "map", "clear", "key", "1", "%", "%2F", "sha256", "dag", " "])
WORDS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
NEAR = st.fixed_dictionaries(
    {
        "deployment": WORDS,
        "dag_id": WORDS,
        "run_id": WORDS,
        "clear_count": st.integers(0, 2),
        "task_id": st.none() | WORDS,
        "map_index": st.integers(-1, 1),
        "name": st.none() | WORDS,
    }
)


@given(NEAR, NEAR, st.sampled_from(["run", "task", "task_instance"]))
@example(
    {
        "deployment": "a",
        "dag_id": "a",
        "run_id": "1/clear/1",
        "clear_count": 0,
        "task_id": None,
        "map_index": -1,
        "name": None,
    },
    {"deployment": "a", "dag_id": "a", "run_id": "1", "clear_count": 1, "task_id": None, "map_index": -1, "name": None},
    "run",
)
def test_no_fact_can_pass_for_two(one, other, scope):
    """The words of the key itself, inside an id, do not make it another's key."""
    assert (key_of(one, scope) == key_of(other, scope)) == (told_by(one, scope) == told_by(other, scope))


@given(FACTS)
def test_a_key_is_deterministic_short_and_printable(facts):
    """The same facts have the same key; it fits every column and every log."""
    key = key_of(facts)
    assert key == key_of(facts)
    assert len(key) <= 200
    assert key.isascii()
    assert key.isprintable()
    assert " " not in key
    assert key.startswith("airflow/")


@given(FACTS, st.integers(1, 9), st.text(max_size=20))
def test_what_changes_between_two_reports_is_not_in_the_key(facts, attempt, text):
    """Attempt, level, reason and texts leave the key alone."""
    again = facts | {"attempt": attempt, "level": "task", "reason": text, "exception": text, "failed_tasks": (text,)}
    assert key_of(facts) == key_of(again)


@given(TEXT.map(lambda text: text * 40), st.integers(0, 39))
def test_long_ids_that_differ_anywhere_have_distinct_keys(text, place):
    """A cut key tells two long ids apart, wherever they differ."""
    facts = {"deployment": "d", "dag_id": text, "run_id": "r"}
    other = text[:place] + ("x" if text[place] != "x" else "y") + text[place + 1 :]
    assert key_of(facts) != key_of(facts | {"dag_id": other})


@pytest.mark.parametrize(("dag_id", "run_id"), [("", "r"), ("d", ""), ("", "")])
def test_a_failure_without_a_run_has_no_key(dag_id, run_id):
    """A key of nothing would join all failures."""
    with pytest.raises(ContextError, match="Airflow's context names no"):
        key_of({"deployment": "d", "dag_id": dag_id, "run_id": run_id})


def test_keys_are_the_same_as_in_every_release_before():
    """The golden examples: to change one is to open every open incident a second time. Never regenerate them."""
    examples = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert len(examples) >= 12
    for row in examples:
        given_facts = dict(row["given"])
        assert key_of(given_facts, given_facts.pop("scope")) == row["key"], row
