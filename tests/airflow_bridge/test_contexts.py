"""Every context that Airflow or a hostile object can make: one incident or one clear line, and never an exception."""

import copy
import datetime as dt
import json
import logging
import sys
import threading
import time
from functools import partial
from types import MappingProxyType, SimpleNamespace

import pytest

from airflow_incident import CreateIncidentOperator, open_incident, resolve_incident
from airflow_incident.airflow_bridge.context import read_failure
from airflow_incident.airflow_bridge.process import PROCESS
from airflow_incident.sandbox.server import Sandbox
from tests.airflow_versions import AIRFLOW, BASE_URL
from tests.doors import API_KEY, call_async, call_sync, dag_context, listen, report, task_context

PASSWORD = "hunter2-Xy9"
MEGABYTES = 2 * 1024 * 1024
SECONDS = 2.0
"""What the reading of the worst context may take on a busy machine."""

SLOW = """
from datetime import datetime, timedelta
from airflow.models import DAG
from airflow.operators.empty import EmptyOperator
from airflow_incident import open_incident

with DAG("slow", start_date=datetime(2026, 3, 4), schedule="@daily", sla_miss_callback=open_incident()):
    EmptyOperator(task_id="load", sla=timedelta(hours=1))
"""

HOSTILE_IDS = {
    "spaces": " a b  c ",
    "slashes": "a/b//c/../d",
    "percent": "100%25/%2F",
    "umlauts": "größe-straße",
    "chinese": "订单 处理",
    "emoji": "🔥" * 20,
    "right to left": "\u202emoc.live\u202d",
    "surrogate": "half \ud800 pair",
    "lines": "a\nb\r\nc\u2028d\x85e",
    "terminal": "\x1b[31mred\x1b[0m\x07\x00",
    "markdown": "[x](http://evil.test) ![y](z) `a` **b** # c | d <@U1> ~~e~~",
    "html": "<script>alert(1)</script>&amp;<img src=x onerror=y>",
    "ticks": "```\n# not a fence\n```",
    "long": "x" * 250,
    "long unicode": "ü" * 250,
    "template": "{{ 7 * 7 }}{% raw %}",
    "format": "%s %d {0} {x}",
    "json": '"},{"idempotency_key":"x',
}


@pytest.fixture(scope="module")
def served():
    with Sandbox(api_key=API_KEY, rate_limit=1_000_000) as box:
        yield box


@pytest.fixture
def box(connect, served):

    PROCESS.reset()
    served.clear()
    connect(served.url, password=API_KEY)
    return served


def told(summary):
    """Return what a template said; the run's ids stand below it."""
    return summary.splitlines()[0]


def sent(box):
    """Return the body of the only incident."""
    assert len(box.incidents) == 1
    (request,) = box.requests
    assert request.status == 200
    return request.body


# Who calls


def test_a_lost_task_of_airflow_2_is_told_by_the_dag_processor():
    """It names the task in place of an error, and has the task's start; the callbacks of a batch share its time."""
    lost = "{'DAG Id': 'orders', 'Task Id': 'load', 'Run Id': 'run-1', 'Hostname': 'worker-1'}"
    failure = read_failure(task_context(exception=lost))
    assert (failure.in_processor, failure.reason, failure.exception) == (True, "lost", None)


def test_a_neighbour_s_template_field_does_not_make_a_task_s_failure_the_dag_s(box):
    """Airflow writes the fields of each notifier into the context that all of a task's callbacks share."""
    report(task_context() | {"reason": "nightly"})
    assert sent(box)["name"] == "DAG orders failed: load (ValueError)"


# Poor contexts


@pytest.mark.parametrize("call", [call_sync, call_async], ids=["sync", "async"])
def test_the_poorest_context_of_a_dag_is_enough(box, call):
    """`{dag, run_id, reason}` opens an incident."""
    heard, _ = report(dag_context(), call=call)
    body = sent(box)
    assert body["idempotency_key"] == "airflow/tests/dag/orders/run/run-1"
    assert body["name"] == "DAG orders failed"
    assert "INC-1" in heard.sole(logging.INFO)


@pytest.mark.parametrize(
    "context",
    [
        {"dag": SimpleNamespace(dag_id="orders"), "run_id": "run-1"},
        {"dag_run": {"dag_id": "orders", "dag_run_id": "run-1"}, "deadline": {"id": 1, "deadline_time": "2026-01-01"}},
        {"dag_run": {"dag_id": "orders", "run_id": "run-1"}},
        {"dag_run": SimpleNamespace(dag_id="orders", run_id="run-1")},
        {"ti": SimpleNamespace(dag_id="orders", run_id="run-1")},
        {"task_instance": SimpleNamespace(dag_id="orders", run_id="run-1", task_id="load")},
        {"ti": {"dag_id": "orders", "run_id": "run-1", "task_id": "load", "map_index": 3}},
        {"dag": {"dag_id": "orders"}, "run_id": "run-1", "reason": None},
        MappingProxyType({"dag": SimpleNamespace(dag_id="orders"), "run_id": "run-1", "ti": None, "exception": None}),
        SimpleNamespace(dag=SimpleNamespace(dag_id="orders"), run_id="run-1", ti=None),
    ],
)
def test_ids_are_found_wherever_they_are(box, context):
    """DAG id and run id are enough, from whichever object of the context."""
    report(context)
    assert sent(box)["idempotency_key"] == "airflow/tests/dag/orders/run/run-1"


def test_the_context_of_a_deadline_is_enough(box):
    """A deadline alert's context, text and dicts only, says which deadline was missed."""
    run = {"dag_id": "orders", "dag_run_id": "run-1", "logical_date": "2026-11-23T00:00:00Z", "run_type": "scheduled"}
    deadline = {"id": "7", "deadline_time": "2026-11-23T06:00:00+00:00"}
    report({"dag_run": run, "deadline": deadline}, call=call_async)
    body = sent(box)
    assert body["name"] == "DAG orders missed a deadline"
    assert "2026-11-23 06:00:00 UTC" in body["summary"]


@pytest.mark.parametrize(
    "context",
    [
        {},
        None,
        5,
        "context",
        [],
        {"run_id": "run-1"},
        {"dag": SimpleNamespace(dag_id="orders")},
        {"dag": 1, "run_id": 2},
    ],
    ids=repr,
)
@pytest.mark.parametrize("call", [call_sync, call_async], ids=["sync", "async"])
def test_without_a_run_there_is_one_clear_line(box, context, call):
    """A context that names no run opens nothing; the line says which id is missing, and does not blame the settings."""
    with listen() as heard:
        call(open_incident(), context)
    line = heard.error
    assert "NO incident was opened" in line
    assert "Airflow's context names no" in line
    assert box.requests == []


OF_SUCCESS = {
    "dag": dag_context(reason="success"),
    "task": task_context(exception=None, state="success"),
}
OF_FAILURE = {
    **{reason: dag_context(reason=reason) for reason in ("task_failure", "all_tasks_deadlocked", "timed_out")},
    "task": task_context(),
    "task without its error": task_context(exception=None, state="failed"),
    "retry": task_context(state="up_for_retry"),
    "deadline": {"dag_run": {"dag_id": "orders", "dag_run_id": "run-1"}, "deadline": {"deadline_time": "2026-01-01"}},
}
SWAPPED = [
    *((open_incident, "success", "NO incident was opened", context) for context in OF_SUCCESS.values()),
    *((resolve_incident, "failure", "NO incident was closed", context) for context in OF_FAILURE.values()),
]


@pytest.mark.parametrize("call", [call_sync, call_async], ids=["sync", "async"])
@pytest.mark.parametrize(
    ("callback", "occasion", "words", "context"),
    SWAPPED,
    ids=[*OF_SUCCESS, *(f"not closed: {why}" for why in OF_FAILURE)],
)
def test_a_callback_that_stands_for_the_opposite_does_nothing(box, call, callback, occasion, words, context):
    """Swapped, one would open an incident for each success, and the other close what has just failed."""
    with listen() as heard:
        call(callback(scope="task"), context)
    place = {"success": "on_failure_callback", "failure": "on_success_callback"}[occasion]
    assert f"{words} for DAG orders, run run-1: Airflow called it for a {occasion}, as on_" in heard.error
    assert f"Use it as {place}" in heard.error
    assert box.requests == []


@pytest.mark.parametrize(
    "context", [task_context(exception=None, state="running"), task_context(exception=None), dag_context(reason="")]
)
def test_what_a_context_is_for_is_not_guessed(box, context):
    """A task's own code may call, and the watcher, whose runs have no reason: it opens."""
    report(context)
    assert sent(box)["name"]


@pytest.mark.parametrize(
    ("callback", "place"),
    [(open_incident, "on_failure_callback"), (resolve_incident, "on_success_callback")],
)
def test_the_five_arguments_of_an_sla_callback_are_told_where_the_callback_belongs(box, callback, place):
    """A callback of Airflow 2's SLAs has no run: one error line that says what to do, and no exception."""
    with listen() as heard:
        callback()(SimpleNamespace(dag_id="orders"), "tasks", "blocking", [], [])
    line = heard.error
    assert "for DAG orders: it stands as sla_miss_callback, which names no run" in line
    assert f"Use it as {place}" in line
    assert "bug" not in line
    assert box.requests == []


@pytest.mark.skipif(AIRFLOW >= (3, 0), reason="Airflow 3 has no SLAs")
def test_a_missed_sla_of_a_real_dag_is_one_clear_line(box, airflow_db, tmp_path):
    """As Airflow 2.11's DAG processor calls it, with a missed SLA in the database."""
    from airflow.dag_processing.processor import DagFileProcessor
    from airflow.models import SlaMiss
    from airflow.utils.session import create_session

    file = tmp_path / "slow.py"
    file.write_text(SLOW)
    missed = SlaMiss(dag_id="slow", task_id="load", execution_date=dt.datetime(2026, 3, 4, tzinfo=dt.UTC))
    with create_session() as session:
        session.add(missed)
        session.commit()
        with listen() as heard:
            DagFileProcessor.manage_slas(str(file), "slow", session=session)
    assert "for DAG slow: it stands as sla_miss_callback" in heard.error


def test_a_run_without_a_logical_date_is_reported(box):
    """What a run without logical date lacks, the summary lacks."""
    report(task_context(logical_date=None))
    assert "Logical date" not in sent(box)["summary"]


# Exceptions


class MuteError(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class LeavingError(Exception):
    def __str__(self):
        raise SystemExit(3)


class NoTextError(Exception):
    def __str__(self):
        return {}["no text"]


class Group(ExceptionGroup):
    pass


def _chained():
    error = ValueError("first")
    for number in range(3000):
        following = ValueError(str(number))
        following.__cause__ = error
        error = following
    return error


@pytest.mark.parametrize("detail", ["type", "message", "traceback"])
@pytest.mark.parametrize(
    "exception",
    [
        None, "only text", "", SystemExit(), SystemExit("bye"), KeyboardInterrupt(), GeneratorExit(), MuteError(),
        LeavingError(), NoTextError(), Group("many", [ValueError("a"), LeavingError()]), _chained(), ValueError, 5, b"bytes", object(),
        ValueError("half \ud800 pair"), ValueError("``` \x00\x1b[31m ```"), ValueError(ValueError("in"), MuteError),
    ],
    ids=lambda e: type(e).__name__,
)  # fmt: skip
def test_any_exception_opens_one_incident(box, exception, detail):
    """Whatever `exception` is, and whatever its text raises, one incident opens."""
    heard, took = report(task_context(exception=exception), exception_detail=detail)
    assert "load" in sent(box)["summary"]
    assert heard.texts() == []
    assert took < SECONDS


def _long(shape):
    secret = f"{API_KEY} postgresql://me:{PASSWORD}@db/x password='{PASSWORD}' "
    filler = {
        "secrets all over": secret * 100_000,
        "one long word": secret + "x" * MEGABYTES + secret,
        "schemes": secret + "://a:" * (MEGABYTES // 5),
        "parameters": secret + "[parameters: " * (MEGABYTES // 13),
        "passwords": secret + "password=" * (MEGABYTES // 9),
        "quotes": secret + "password='" * (MEGABYTES // 10),
        "bearers": secret + "bearer  " * (MEGABYTES // 8),
        "keys": secret + "-----BEGIN PRIVATE KEY-----" * (MEGABYTES // 27),
        "ticks": secret + "`" * MEGABYTES,
        "spaces": secret + " " * MEGABYTES + secret,
        "lines": (secret + "\n") * 100_000,
    }
    return filler[shape][:MEGABYTES]


SHAPES = [
    "secrets all over", "one long word", "schemes", "parameters", "passwords", "quotes", "bearers", "keys", "ticks",
    "spaces", "lines",
]  # fmt: skip


@pytest.mark.parametrize("detail", ["message", "traceback"])
@pytest.mark.parametrize("shape", SHAPES)
def test_two_megabytes_of_exception_cost_little_and_tell_no_secret(box, shape, detail):
    """However long a text is and whatever it repeats, it is read in time, and no secret of it leaves."""
    heard, took = report(task_context(exception=RuntimeError(_long(shape))), exception_detail=detail)
    (request,) = box.requests
    assert len(box.incidents) == 1
    for secret in (API_KEY, API_KEY[:12], PASSWORD):
        assert secret not in request.raw.decode()
        assert secret not in heard.everything
    assert len(request.body["summary"]) <= 8000
    assert took < SECONDS


@pytest.mark.parametrize("detail", ["message", "traceback"])
@pytest.mark.parametrize("window", [500, 4000, 8000, 16_000, 64_000])
def test_a_secret_on_the_edge_of_what_is_read_does_not_leave_in_part(box, window, detail):
    """A key that is cut in two, because the text around it is, leaves neither half."""
    for shift in (2, 8, 12, 18):
        # Redacted, this is short: what stands behind it comes into sight.
        hidden = "password=" + "x" * (window - len("password= ") - shift) + " "
        back = API_KEY + " " + "token=" + "y" * (window - len("token=") - len(API_KEY) - 3 + shift)
        for number, text in enumerate((hidden + API_KEY, back, "z" * MEGABYTES + " " + back)):
            report(task_context(f"{shift}-{number}", exception=RuntimeError(text)), exception_detail=detail)
    raw = b"".join(request.raw for request in box.requests).decode()
    assert len(box.incidents) == 12
    assert not {API_KEY[:6], API_KEY[-6:]} & {raw[place : place + 6] for place in range(len(raw))}


def test_a_long_traceback_keeps_its_end(box):
    """Of a traceback that is too long the end remains, where the cause stands."""

    def fall(depth):
        if depth:
            fall(depth - 1)
        raise ValueError("x" * 70_000 + " THE CAUSE")

    try:
        fall(50)
    except ValueError as error:
        report(task_context(exception=error), exception_detail="traceback")
    assert "THE CAUSE\n```\n\n**Failed task:**" in sent(box)["summary"]


@pytest.mark.parametrize("detail", ["message", "traceback"])
def test_sql_parameters_are_cut(box, detail):
    """The row that a database refused stays at home."""
    text = (
        "(psycopg2.errors.UniqueViolation) duplicate key\n[SQL: INSERT INTO people VALUES (%(name)s)]\n"
        "[parameters: {'name': 'Jane Doe', 'tags': ['x]', 'y']}]\n(Background on this error at: https://sqlalche.me/e)"
    )
    report(task_context(exception=RuntimeError(text)), exception_detail=detail)
    summary = sent(box)["summary"]
    assert "UniqueViolation" in summary
    assert "Jane" not in summary


# Objects that bite


class Bites:
    """Raises whatever it is told for every attribute."""

    def __init__(self, error):
        object.__setattr__(self, "error", error)

    def __getattribute__(self, name):
        raise object.__getattribute__(self, "error")


class NoStart(SimpleNamespace):
    @property
    def start_date(self):
        raise AttributeError("start_date")


ERRORS = [RuntimeError("detached"), SystemExit(1), AttributeError("x"), RecursionError(), StopIteration()]


def test_a_task_instance_without_start_date_is_reported(box):
    """What the DAG processor makes for a lost worker lacks a start."""
    ti = NoStart(dag_id="orders", run_id="run-1", task_id="load", map_index=-1, try_number=1, max_tries=0)
    report({"dag": SimpleNamespace(dag_id="orders"), "ti": ti, "run_id": "run-1"})
    assert "`load`" in sent(box)["summary"]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize(
    "name",
    ["dag", "ti", "task_instance", "dag_run", "exception", "reason", "logical_date", "deadline", "task", "params"],
)
def test_an_object_that_raises_at_every_touch_is_unknown(box, name, error):
    """Whatever one object of the context raises, the others are enough for an incident."""
    context = task_context() | {"reason": "task_failure"} | {name: Bites(error)}
    with listen() as heard:
        open_incident(name="{{ run_id }}", exception_detail="traceback")(context)
    assert len(box.incidents) == 1, heard.texts()
    assert "/run/run-1" in box.requests[0].body["idempotency_key"]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize(
    "path",
    [
        "dag.dag_id", "dag.owner", "dag.tags", "dag.task_ids", "dag.get_template_env", "ti.map_index", "ti.task_id",
        "ti.try_number", "ti.max_tries", "ti.end_date", "dag_run.clear_number", "dag_run.run_type",
        "dag_run.logical_date", "dag_run.get_task_instances", "dag_run.end_date",
    ],
)  # fmt: skip
def test_a_property_that_raises_or_bites_is_unknown(box, path, error):
    """A property may raise, and its value may raise at every touch."""
    owner, _, name = path.partition(".")

    def fail(_self):
        raise error

    for value in (property(fail), Bites(error)):
        context = task_context()
        given = context[owner]
        kind = type("Odd", (SimpleNamespace,), {name: value})
        context[owner] = kind(**{k: v for k, v in vars(given).items() if k != name})
        with listen() as heard:
            open_incident(name="{{ run_id }}")(context)
        assert len(box.incidents) == 1, (heard.texts(), value)


class OddMap(dict):
    """A mapping that raises at every reading."""

    def get(self, *_):
        raise RuntimeError("odd")

    __getitem__ = __iter__ = keys = items = __contains__ = get


def test_a_mapping_that_raises_is_one_error_line():
    """A context that cannot be read at all is one line."""
    with listen() as heard:
        open_incident()(OddMap())
    assert len(heard.texts()) == 1


@pytest.mark.parametrize(
    "values",
    [
        {"logical_date": dt.datetime.min.replace(tzinfo=dt.timezone(dt.timedelta(hours=14)))},
        {"logical_date": dt.datetime.max.replace(tzinfo=dt.timezone(dt.timedelta(hours=-12)))},
        {"logical_date": "not a date"},
        {"logical_date": 5},
        {"reason": 5},
        {"reason": "x" * 100_000},
        {"reason": HOSTILE_IDS["surrogate"]},
        {"run_id": 5, "dag_run": SimpleNamespace(run_id="run-1", clear_number="two", run_type=object())},
        {"dag": SimpleNamespace(dag_id="orders", owner=5, tags=[None, 3, object(), "b", "a"], task_ids=5)},
        {"dag": SimpleNamespace(dag_id="orders", owner="ünï ,, \ud800" * 9000, tags={"\ud800", "x" * 5000})},
        {"ti": SimpleNamespace(task_id=7, map_index="x", try_number="1", max_tries=None)},
        {"deadline": {"deadline_time": "never"}},
    ],
    ids=[
        "earliest date",
        "latest date",
        "a word for a date",
        "a number for a date",
        "a number for a reason",
        "a long reason",
        "half a pair in a reason",
        "odd run",
        "odd dag",
        "long owner and tags",
        "odd task instance",
        "odd deadline",
    ],
)
def test_values_of_other_types_are_unknown(box, values):
    """A value of a type that nobody expects is left out."""
    with listen() as heard:
        open_incident()(task_context() | values)
    assert len(box.incidents) == 1, heard.texts()
    assert len(box.requests[0].body["summary"]) <= 8000


# Ids


@pytest.mark.parametrize("place", ["dag_id", "run_id", "task_id"])
@pytest.mark.parametrize("name", HOSTILE_IDS)
def test_any_id_opens_one_incident_and_is_one_line(box, name, place):
    """Ids of any letters and length make a printable key, one title line, and one log line."""
    context = task_context(**{place: HOSTILE_IDS[name]})
    heard, _ = report(context, scope="task_instance")
    body = sent(box)
    key = body["idempotency_key"]
    assert key.isascii()
    assert key.isprintable()
    assert " " not in key
    assert len(key) <= 200
    assert len(body["name"].splitlines()) == 1
    assert len(body["name"]) <= 150
    heard.sole(logging.INFO)


@pytest.mark.parametrize("place", ["dag_id", "run_id", "task_id"])
@pytest.mark.parametrize("name", HOSTILE_IDS)
def test_a_lost_incident_of_any_id_is_one_line(connect, name, place):
    """The error line stays one line that a log file can hold, and its body can still be sent."""
    from tests.doors import by_hand

    connect("http://127.0.0.1:9", password=API_KEY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("airflow_incident.api.exchange.ATTEMPTS", 1)
        heard, _ = report(task_context(**{place: HOSTILE_IDS[name]}), scope="task_instance")
    assert by_hand(heard.error)["idempotency_key"].isascii()


def test_a_dag_processor_that_would_never_answer_is_not_asked(box, monkeypatch):
    """That of Airflow 3.0 knows no states of tasks, and leaves who asks for them waiting until it is killed."""

    def get_task_states(**_):
        raise AssertionError("asked")

    runner = SimpleNamespace(
        SUPERVISOR_COMMS=object(), RuntimeTaskInstance=SimpleNamespace(get_task_states=get_task_states)
    )
    monkeypatch.setitem(sys.modules, "airflow.sdk.execution_time.task_runner", runner)
    monkeypatch.setitem(sys.modules, "airflow.dag_processing.processor", SimpleNamespace())
    assert read_failure(dag_context("r1")).failed_tasks == ()
    runner.RuntimeTaskInstance.get_task_states = lambda **_: {"r1": {"load": "failed", "rest": "success"}}
    assert read_failure(dag_context("r1")).failed_tasks == ()
    monkeypatch.setitem(sys.modules, "airflow.dag_processing.processor", SimpleNamespace(GetTaskStates=object()))
    assert read_failure(dag_context("r1")).failed_tasks == ("load",)


def test_ids_of_the_markdown_kind_stay_text(box, monkeypatch):
    """Nothing of an id is read as a link, a mention or markup."""
    from markdown_it import MarkdownIt

    monkeypatch.setenv(BASE_URL, "")  # no link of our own
    report(task_context(**dict.fromkeys(("dag_id", "run_id", "task_id"), HOSTILE_IDS["markdown"])))
    html = MarkdownIt("commonmark").enable("table").enable("strikethrough").render(sent(box)["summary"])
    for mark in ("<a ", "<img", "<h1", "<del", "<s>", "<table"):
        assert mark not in html
    assert "evil.test" in html


# Templates


BROKEN = {
    "syntax": "{{ dag.dag_id ",
    "unknown filter": "{{ run_id | no_such_filter }}",
    "division": "{{ 1 / 0 }}",
    "call of nothing": "{{ missing() }}",
    "arithmetic": "{{ missing + 1 }}",
    "raising macro": "{{ explode() }}",
    "leaving macro": "{{ leave() }}",
    "unreadable error": "{{ mute() }}",
    "secret error": "{{ tell() }}",
    "long error": "{{ shout() }}",
    "half an error": "{{ half() }}",
    "private": "{{ run_id.__class__.__mro__ }}{{ ''.__class__.mro() }}",
    "include": "{% include 'nothing.md' %}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
}


def _raise(error):
    raise error


MACROS = {
    "explode": lambda: _raise(RuntimeError("macro")),
    "leave": lambda: _raise(SystemExit(1)),
    "mute": lambda: _raise(LeavingError()),
    "tell": lambda: _raise(RuntimeError(f"{API_KEY} postgresql://me:{PASSWORD}@db")),
    "shout": lambda: _raise(RuntimeError("y" * MEGABYTES)),
    "half": lambda: _raise(RuntimeError("half \ud800 pair")),
}


@pytest.mark.parametrize("field", ["name", "summary"])
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_template_gives_way_to_the_default_text(box, kind, field):
    """A template that cannot be rendered still opens an incident, with the default text and a sentence about it."""
    heard, took = report(task_context() | MACROS, **{field: BROKEN[kind]})
    body = sent(box)
    assert body["name"] == "DAG orders failed: load (ValueError)"
    assert "**Failed task:** `load`" in body["summary"]
    assert body["summary"].endswith(f"_The template of {field} could not be rendered; Airflow's log says why._")
    assert len(body["summary"]) <= 8000
    assert f"template of {field}" in heard.sole(logging.WARNING)
    for secret in (API_KEY, PASSWORD):
        assert secret not in json.dumps(body)
        assert secret not in heard.everything
    assert took < SECONDS


@pytest.mark.parametrize(
    "template",
    [
        "{{ exception }}",
        "{{ ds }}",
        "{{ missing.attr.more }}",
        "{{ ti.task_id }}",
        "{{ missing['a'].b | upper }}",
        "  ",
    ],
)
def test_a_template_without_its_variable_gives_way_to_the_default_text(box, template):
    """What a context lacks is empty, and an empty text is no text."""
    report(dag_context(), name=template, summary=template)
    body = sent(box)
    assert body["name"] == "DAG orders failed"
    assert "**DAG:** `orders`" in body["summary"]


def test_a_template_sees_the_context(box):
    """Templates use the context's own names, and a missing one costs only itself."""
    given = {"name": "{{ dag.dag_id }}: {{ ti.task_id }} {{ nothing }}!", "summary": "{{ exception }} in {{ run_id }}"}
    report(task_context(), **given)
    body = sent(box)
    assert (body["name"], told(body["summary"])) == ("orders: load !", "boom in run-1")


def test_secrets_in_rendered_templates_are_redacted(box):
    """Neither a known secret nor what looks like one leaves in a template's text, however long it is."""
    context = task_context(conf={"a": API_KEY, "b": f"postgresql://me:{PASSWORD}@db/x"})
    heard, took = report(
        context, name="{{ conf.a }} {{ conf.b }}", summary="{{ (conf.a ~ ' ' ~ conf.b ~ ' ') * 40000 }}"
    )
    body = sent(box)
    assert "***" in body["name"]
    for secret in (API_KEY, API_KEY[:8], PASSWORD):
        assert secret not in json.dumps(body)
        assert secret not in heard.everything
    assert took < 2 * SECONDS


@pytest.mark.parametrize("shape", ["schemes", "parameters", "passwords", "keys"])
def test_a_long_template_text_costs_little(box, shape):
    """The user's own text is as long as he likes; it is read in time."""
    _, took = report(task_context(conf=_long(shape)), summary="{{ conf }}")
    assert len(sent(box)["summary"]) <= 8000
    assert took < 2 * SECONDS


def test_a_template_of_another_type_gives_way_to_the_default(box):
    """A DAG file is refused with it; where it is bound until the failure, the incident opens without."""
    partial(open_incident, name=404, summary="so it is")(dag_context())
    assert (sent(box)["name"], told(sent(box)["summary"])) == ("DAG orders failed", "so it is")


def test_real_dags_render_with_their_own_macros_and_filters(box):
    """A real DAG's macros and filters work, strict undefined variables do not lose the incident."""
    import jinja2
    from airflow.providers.common.compat.sdk import DAG

    dag = DAG(
        "orders",
        schedule=None,
        user_defined_macros={"team": "data"},
        user_defined_filters={"loud": str.upper},
        template_undefined=jinja2.StrictUndefined,
    )
    heard, _ = report(dag_context(dag=dag), name="{{ team | loud }}: {{ exception }}", summary="{{ ti.x.y }}")
    body = sent(box)
    assert body["name"] == "DATA:"
    assert "**DAG:** `orders`" in body["summary"]
    assert heard.texts() == []


@pytest.mark.parametrize("error", [NotImplementedError(), SystemExit(1), AttributeError("no environment")], ids=repr)
def test_a_dag_without_an_environment_renders_all_the_same(box, error):
    """A serialized DAG that has no template environment does not cost the user's text."""

    def get_template_env(**_):
        raise error

    report(dag_context(dag=SimpleNamespace(dag_id="orders", get_template_env=get_template_env)), name="{{ run_id }}!")
    assert sent(box)["name"] == "run-1!"


# One notifier, many runs


def test_two_runs_through_one_notifier_get_their_own_texts(box):
    """Rendering leaves no trace on the notifier that all runs share."""
    notifier = open_incident(name="{{ run_id }} of {{ dag.dag_id }}", summary="{{ exception }}")
    before = copy.deepcopy(vars(notifier))
    for run in ("run-1", "run-2", "run-1"):
        notifier(task_context(run, exception=ValueError(run)))
    assert {(i["name"], told(i["summary"])) for i in box.incidents} == {
        ("run-1 of orders", "run-1"),
        ("run-2 of orders", "run-2"),
    }
    after = vars(notifier)
    assert {name: after[name] for name in ("templates", "options", "conn_id")} == {
        name: before[name] for name in ("templates", "options", "conn_id")
    }


def test_interleaved_runs_keep_their_texts_and_keys(box):
    """Threads that share one notifier never mix up their runs."""
    gate = threading.Barrier(16)
    notifier = open_incident(name="{{ pause() }}{{ run_id }}", summary="{{ exception }} {{ pause() }}{{ run_id }}")

    def fail(number):
        context = task_context(
            f"run-{number}", exception=ValueError(f"of {number}"), pause=lambda: time.sleep(0.02) or ""
        )
        gate.wait()
        notifier(context)

    threads = [threading.Thread(target=fail, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(box.incidents) == 16
    for request in box.requests:
        run = request.body["name"]
        assert request.body["idempotency_key"].endswith(f"/run/{run}")
        assert told(request.body["summary"]) == f"of {run.removeprefix('run-')} {run}"


@pytest.mark.parametrize("call", [call_sync, call_async], ids=["sync", "async"])
def test_the_context_is_left_as_it_was(box, call):
    """Other callbacks share the context: no key is added, changed or taken."""
    context = task_context(params={"a": [1]}, name="mine", summary="also mine")
    before = dict(context)
    call(open_incident(name="{{ name }}!", summary="{{ params.a }}"), context)
    assert context.keys() == before.keys()
    assert all(context[name] is before[name] for name in before)
    assert context["params"] == {"a": [1]}
    assert sent(box)["name"] == "mine!"


# The operator reads the same contexts


@pytest.mark.parametrize("name", HOSTILE_IDS)
def test_an_operator_takes_any_id(box, name):
    """The step of a DAG survives the ids that callbacks survive."""
    context = task_context(dag_id=HOSTILE_IDS[name])
    context["ti"].xcom_push = lambda **_: None
    with listen():
        opened = CreateIncidentOperator(task_id="tell", key=HOSTILE_IDS[name]).execute(context)
    assert opened["reference"] == "INC-1"
    assert sent(box)["idempotency_key"].isascii()


def test_an_operator_without_a_run_fails_for_good(box):
    """No retry finds a run id."""
    from airflow.providers.common.compat.sdk import AirflowFailException

    with pytest.raises(AirflowFailException, match="Airflow's context names no"):
        CreateIncidentOperator(task_id="tell").execute({})
    assert box.requests == []


def test_a_retry_that_is_coming_is_told_and_opens_nothing(box):
    """A lost worker's callback with attempts left is one info line."""
    context = task_context(try_number=1, max_tries=2)
    del context["exception"]
    heard, _ = report(context)
    assert "another attempt is coming" in heard.sole(logging.INFO)
    assert box.requests == []


def test_a_failure_for_good_with_attempts_left_is_reported(box):
    """In the task's own process the attempts say nothing: AirflowFailException has some left."""
    report(task_context(try_number=1, max_tries=2))
    assert len(box.incidents) == 1


def test_without_an_exception_the_start_tells_the_task_s_own_process(box):
    """Before Airflow 3.2 `dag.test()` leaves the exception out; a lost worker's task has no start."""
    context = task_context(try_number=1, max_tries=2)
    del context["exception"]
    context["ti"].start_date = dt.datetime(2026, 3, 4, tzinfo=dt.UTC)
    report(context)
    assert len(box.incidents) == 1
