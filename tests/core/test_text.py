"""What a responder reads: golden texts, and what no fact, however odd or long, can do to them."""

import os
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from airflow_incident.core import text, text_edits
from airflow_incident.core.failure import Failure
from airflow_incident.core.markdown import SUMMARY_LENGTH

WHEN = datetime(2026, 11, 23, 3, 12, 5, tzinfo=UTC)
HOSTILE = "a`b``c *d* _e_ [f](http://evil) <g> #h |i| ~~j~~ ![k](x)\n```\n**Error:** l\n\n**What to do:** m\x1b[31m\x00"
UI = "https://airflow.example.com/dags/orders/runs/scheduled__1"
GOLDEN = Path(__file__).parents[1] / "golden" / "incidents.md"
KNOWN = Failure(
    dag_id="orders",
    run_id="scheduled__1",
    run_type="scheduled",
    logical_date=WHEN - timedelta(hours=3),
    started_at=WHEN - timedelta(minutes=12, seconds=4),
    failed_at=WHEN,
    owners=("data-platform", "ops"),
    owner_links={"data-platform": "https://acme.slack.com/archives/C01", "ops": "mailto:ops@example.com"},
    tags=("finance", "tier-1"),
    description="Loads the orders of the day into the warehouse.",
    runbook="https://wiki.example.com/runbooks/orders",
    run_url=UI,
    last_success=WHEN - timedelta(days=1),
    failures_before=0,
    file="orders.py",
    bundle="dags@4f2c1e9",
    dag_version="7",
)
OF_TASK = KNOWN._replace(
    level="task",
    task_id="load",
    attempt=3,
    attempts=3,
    exception_type="psycopg2.errors.UniqueViolation",
    exception='duplicate key value violates unique constraint "orders_pkey"\nDETAIL:  Key (id)=(17) already exists.',
    log_url=f"{UI}/tasks/load",
    raised_at="/opt/airflow/dags/orders.py:58",
    operator="@task",
    task_doc="Loads the orders of one customer.",
    host="worker-3",
    log_tail="INFO - Loading 42 rows\nERROR - duplicate key value",
    downstream=("report", "mail"),
    downstream_count=2,
    assets=("s3://lake/orders",),
)
CASES = {
    "A task fails": OF_TASK,
    "Mapped tasks fail, told by the DAG": KNOWN._replace(
        reason="task_failure",
        failed_tasks=("load[3]", "load[7]", "check"),
        map_names={"load[3]": "customer-17", "load[7]": "customer-42"},
        log_urls={"load[3]": f"{UI}/tasks/load/mapped/3", "load[7]": f"{UI}/tasks/load/mapped/7"},
        downstream=tuple(f"report_{n}" for n in range(10)),
        downstream_count=214,
        instances={"load": 40},
        failures_before=2,
        failing_since=WHEN - timedelta(hours=20),
        clear_count=1,
    ),
    "A sensor waits in vain": OF_TASK._replace(
        task_id="wait",
        exception_type="airflow.sdk.exceptions.AirflowSensorTimeout",
        exception="Sensor has timed out; run duration of 3600.9 seconds exceeds the specified timeout of 3600.0.",
        raised_at=None,
        time_limit=timedelta(hours=1),
        operator="FileSensor",
        task_doc=None,
        task_fields={"filepath": "/in/orders.csv", "fs_conn_id": "fs_default"},
        log_tail=None,
        log_url=f"{UI}/tasks/wait",
    ),
    "A task's process is killed": KNOWN._replace(
        reason="killed",
        failed_tasks=("load",),
        log_urls={"load": f"{UI}/tasks/load"},
        host="worker-3",
        downstream_count=0,
    ),
    "A run is out of time": KNOWN._replace(
        reason="timed_out", time_limit=timedelta(minutes=10), runbook=None, owner_links={}
    ),
    "A run misses its deadline": Failure("orders", "scheduled__1", "deadline", failed_at=WHEN, deadline_at=WHEN),
    "A step opens it on purpose": KNOWN._replace(level="operator", task_id="page_us", log_url=f"{UI}/tasks/page_us"),
}


def shown(failure, redact=lambda given: given):
    return text.redacted(failure, redact)


def write(redact=lambda given: given, deployment="prod", scope="run", **facts):
    known = {"dag_id": "orders", "run_id": "manual__1"} | facts
    return text.summary(shown(Failure(**known), redact), deployment=deployment, scope=scope)


def html(written):
    return MarkdownIt("commonmark").render(written)


def names_of(written):
    """Return the parts that a text has, in its order, as it is rendered."""
    found = re.findall(r"<p><strong>(.*?):</strong>", html(written))
    return [part for name in found for part in (name, name[:-1]) if part in text.PARTS]


def test_the_golden_texts():
    """Seven incidents, each as a responder reads it: `tests/golden/incidents.md` is for a reviewer to read."""
    written = "".join(
        f"# {case}\n\n{text.title(failure, whole_run=True)}\n\n{text.summary(failure, deployment='prod')}\n\n"
        for case, failure in CASES.items()
    )
    if os.environ.get("WRITE_PAGES"):
        GOLDEN.write_text(written, encoding="utf-8")
    assert written == GOLDEN.read_text(encoding="utf-8"), "if this is what you want: WRITE_PAGES=1"


@pytest.mark.parametrize("case", CASES)
def test_the_parts_stand_in_their_order(case):
    """The error first, what to do last, and an earlier incident in its place."""
    written = text.summary(CASES[case], deployment="prod")
    for whole in (
        written,
        text_edits.with_earlier(written, [("INC-4", "https://app.incident.io/x/incidents/4", WHEN)]),
    ):
        names = names_of(whole)
        assert names == sorted(names, key=text.PARTS.index)
        assert names[-1] == "What to do"
    assert names[-2] == "Earlier incidents of this DAG"


def test_what_is_unknown_has_no_line():
    """The least that Airflow tells is three facts, none of them empty."""
    facts, _, to_do = write().partition("\n\n")
    assert facts == "**The run:**\n- **DAG:** `orders`\n- **Run:** `manual__1`\n- **Deployment:** prod"
    assert to_do.startswith(
        "**What to do:**\n1. Find the cause in the task's log.\n2. Fix the cause. After that, clear the failed tasks in Airflow: "
    )


@pytest.mark.parametrize(("last", "before", "told"), [(None, None, ""), (None, 0, "none yet"), (WHEN, 3, "2026")])
def test_never_is_told_from_unknown(last, before, told):
    """A DAG that has never worked is another matter than one that stopped."""
    said = write(last_success=last, failures_before=before)
    line = said.partition("**Last success:** ")[2].partition("\n")[0]
    assert line.startswith(told)
    assert bool(line) == bool(told)


def test_a_reason_that_tells_more_than_the_tasks_is_the_error():
    """A time-out reads as a sentence, a reason of a later Airflow as it is; that tasks failed, the tasks say."""
    assert write(reason="timed_out").startswith("**Error:** the run exceeded its time limit")
    assert write(reason="sunspots").startswith("**Error:** sunspots")
    assert "Error" not in write(reason="task_failure").partition("**What to do")[0]


def test_what_to_do_is_true_for_each_scope():
    """What a success closes is said as the scope has it; a deliberate step's is not closed by its own attempt."""
    assert "You are done when the run succeeds. Close this incident then, unless it closes by itself" in write()
    assert "when this run or a later one succeeds. Close" in write(scope="dag")
    assert "when the task or its run succeeds. Close" in write(scope="task_instance", level="task", task_id="load")
    step = write(level="operator", task_id="page_us")
    assert step.startswith("**Opened on purpose:** by task `page_us`")
    assert "succeeds" not in step
    assert "clear the failed tasks" not in step
    assert "- **Opened at:**" in write(level="operator", failed_at=WHEN)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"failures_before": 0}, "this run, the first to fail"),
        ({"failures_before": 0, "level": "operator", "task_id": "x"}, ""),
        ({"failures_before": 2}, "the run that ended at 2026-11-22 03:12:05 UTC (3 runs in a row)"),
        (
            {"failures_before": 2, "level": "operator"},
            "the run that ended at 2026-11-22 03:12:05 UTC (2 runs in a row before this one)",
        ),
        ({"failures_before": 2, "failing_since": None}, "3 runs in a row"),
        ({"failures_before": None}, ""),
    ],
)
def test_since_when_it_fails(facts, said):
    """Since this run, or since the first of a row of them; a step that opens an incident has not failed itself."""
    written = write(**{"failed_at": WHEN, "failing_since": WHEN - timedelta(days=1)} | facts)
    assert written.partition("**Failing since:** ")[2].partition("\n")[0] == said


@pytest.mark.parametrize(
    ("facts", "error", "look", "fix"),
    [
        (
            {"exception_type": "a.AirflowTaskTimeout", "time_limit": timedelta(hours=2)},
            "`a.AirflowTaskTimeout` in `load`: it ran longer than its time limit of 2 h (execution\\_timeout)",
            "See what it was doing when its time was up (the error above), and read [the task's log](https://x/log).",
            "Make it faster or raise its `execution_timeout`. After that, clear",
        ),
        (
            {"exception_type": "a.AirflowSensorTimeout", "time_limit": timedelta(seconds=60)},
            "`a.AirflowSensorTimeout` in `load`: what it waits for did not come within its time limit of 1 min (timeout)",
            "Look whether it is there by now, and read [the task's log](https://x/log). If not, ask whoever sends it",
            "Wait until it is there; if it is often late, raise the `timeout`",
        ),
        ({"exception_type": "AirflowTaskTimeout"}, "`AirflowTaskTimeout` in `load`", "See what", "Make it faster"),
        (
            {"reason": "killed"},
            "`load`: its process was killed, most often because memory ran out or its machine went away",
            "See in [the task's log](https://x/log) how far it came",
            "If so, give the task more memory, or less to do at once. If not, see why",
        ),
        ({"reason": "lost"}, "`load`: Airflow lost touch with its process: ", "See in", "Start the worker again"),
        (
            {"exception_type": "E", "raised_at": "d.py:7"},
            "`E` in `load`, at `d.py:7`",
            "Find the cause: begin at `d.py:7`, the last line of the DAG's own code before the error, and read in [the task's",
            "Fix the cause. After that, clear",
        ),
        (
            {"exception_type": "E"},
            "`E` in `load`",
            "Find the cause: begin with the error above, and read in [the task's log](https://x/log) what came before.",
            "Fix the cause. After that, clear",
        ),
        (
            {"exception_type": "E", "log_tail": "gone"},
            "`E` in `load`",
            "Find the cause: begin with the error and the end of the log above, and read",
            "Fix the cause. After that, clear",
        ),
        (
            {"exception_type": "E", "raised_at": "t.py:7", "reason": "trigger"},
            "`E` in `load`, at `t.py:7`: raised by its trigger, in a triggerer",
            "Find the cause: begin at `t.py:7`, the last line of the DAG's own code before the error, and read in [the task's",
            "Fix the cause. After that, clear",
        ),
        ({}, "", "Find the cause in [the task's log](https://x/log).", "Fix the cause. After that, clear"),
    ],
)
def test_each_kind_of_failure_has_its_own_next_step(facts, error, look, fix):
    """What a type of Airflow's means is said in words; where to look and what to do are links."""
    written = write(level="task", task_id="load", log_url="https://x/log", run_url="https://x/run", **facts)
    assert (written.partition("\n")[0] if error else "").startswith(error and f"**Error:** {error}")
    to_do = written.partition("**What to do:**\n")[2].splitlines()
    assert to_do[0].startswith(f"1. {look}")
    assert to_do[1].startswith(f"2. {fix}")
    assert "clear the failed tasks in [Airflow](https://x/run): " in to_do[1]
    assert len(to_do) == 3


@pytest.mark.parametrize(
    ("facts", "where"),
    [
        ({"task_fields": {"bucket_key": "k", "aws_conn_id": "lake"}}, ", through the connection `lake`"),
        ({"task_fields": {"path": "k"}, "host": "w"}, ", probably on the host `w` (the sensor names no connection)"),
        ({"task_fields": {"path": "k"}}, ""),
        ({"task_fields": {"external_dag_id": "k"}, "host": "w"}, ""),
    ],
)
def test_where_a_sensor_looks_is_said(facts, where):
    """Whoever looks on the wrong machine finds nothing, and takes it for missing."""
    written = write(level="task", task_id="load", exception_type="a.AirflowSensorTimeout", owners=("data",), **facts)
    assert f"1. Look whether `k` is there by now{where}, and read the task's log. If not, ask" in written


def test_the_cause_may_be_the_owners_to_fix():
    """A responder seldom may change somebody else's code."""
    assert "2. Fix the cause, or hand it over to the owners. After that, clear" in write(owners=("data",))
    assert "2. Fix the cause. After that, clear" in write()


def test_the_host_is_not_the_triggers():
    written = write(level="task", task_id="load", exception_type="E", reason="trigger", host="w")
    assert "- **Host:** `w` (not the trigger's)\n" in written


def test_nothing_downstream_is_told_from_unknown():
    """That a failure stops nothing else is good news; what is unknown is no news."""
    assert "What it stops" not in write()
    assert "**What it stops:**\n- No other task of this DAG\n\n" in write(downstream_count=0)
    assert "- No other task of this DAG\n- Assets not updated: `a`; DAGs that" in write(
        downstream_count=0, assets=("a",)
    )


def test_what_is_scheduled_on_an_asset_is_a_link_away():
    """Which DAGs those are, a task's process cannot ask; Airflow's page shows it."""
    written = write(downstream_count=0, assets=("a", "b"), assets_url="https://x/assets")
    told = "`a`, `b`; [DAGs that are scheduled on them](https://x/assets) are not started by this run\n"
    assert f"- Assets not updated: {told}" in written


def test_mapped_instances_are_counted_against_all():
    """One of two, or half of a thousand: it matters at night; a count that cannot be true is left out."""
    one = write(level="task", task_id="load", map_index=1, instances={"load": 2})
    assert "**Failed task:** `load[1]`, 1 of the 2 instances of `load` failed\n" in one
    many = write(failed_tasks=("load[1]", "load[2]", "check"), instances={"load": 40, "check": 0})
    assert "- `check`\n- in all, 2 of the 40 instances of `load` failed\n\n" in many


def test_the_log_does_not_say_the_error_again():
    """Airflow logs an exception too: lines that the error holds already are left out, however they are indented."""
    error = 'Traceback (most recent call last):\n  File "d.py", line 7, in load\n    raise E(1)\nd.E: no\nprices'
    written = write(
        exception_type="d.E", exception=error, log_tail="reading\nraise E(1)\nE: no\n  prices\n", level="task"
    )
    assert "**End of the log:**\n```\nreading\n```" in written


def test_many_failed_tasks_are_counted_not_listed():
    """Ten thousand map indexes make twenty lines and a number."""
    written = write(failed_tasks=tuple(f"load[{n}]" for n in range(10_000)))
    assert "- `load[19]`\n- and 9980 more" in written
    assert written.startswith("**Failed tasks:**\n- `load[0]`\n")
    assert len(written) < 1500


def test_how_long_it_ran_is_said_in_two_units():
    """A clock that is wrong says nothing."""
    for seconds, said in {5: "5 s", 65: "1 min 5 s", 3600: "1 h", 90_061: "1 d 1 h"}.items():
        assert f", {said} after the run's start" in write(started_at=WHEN - timedelta(seconds=seconds), failed_at=WHEN)
    for started in (WHEN, WHEN + timedelta(days=1)):
        assert "after the run's start" not in write(started_at=started, failed_at=WHEN)


def test_a_link_leads_only_where_a_browser_or_a_mail_goes():
    """Whatever else a DAG's author wrote is text."""
    for good in ("https://wiki/x", "HTTP://wiki", "mailto:a@example.com", "https://wiki/a_(b)?c=d|e&f"):
        assert '<a href="' in html(write(runbook=good))
    for bad in ("javascript:alert(1)", "wiki page 7", "https://a b", "https://" + "x" * 2000, "data:text/html,x"):
        written = write(runbook=bad, owners=("me",), owner_links={"me": bad})
        assert "<a " not in html(written)
        assert "- **Owners:** me\n" in written


TEXTS = ("dag_id", "run_id", "reason", "task_id", "description", "runbook", "bundle", "dag_version", "exception")
PLACES = (*TEXTS, "run_type", "log_tail", "exception_type", "owners", "tags", "assets", "downstream", "map_names")
PLACES = (*PLACES, "owner_links", "failed_tasks", "raised_at", "operator", "task_doc", "task_fields", "host", "file")


def filled(place, value):
    """Return a failure that has this text at one place, and harmless ones at the others."""
    facts = OF_TASK._asdict() | {"map_index": 3, "map_names": {"load[3]": "x"}, "failed_tasks": ("check",)}
    if place == "map_names":
        facts[place] = {"load[3]": value}
    elif place == "owner_links":
        facts[place] = {"data-platform": value}
    elif place == "task_fields":
        facts[place] = {value: value}
    else:
        facts[place] = (value,) if isinstance(facts[place], tuple) else value
    return Failure(**facts)


def skeleton(rendered):
    """Return the tags of a text, without what one runbook or link more or less makes."""
    tags = re.findall(r"</?(\w+)", re.sub(r"</?(?:a|code)\b[^>]*>", "", rendered))
    return [tag for tag in tags if tag != "br"]


@pytest.mark.parametrize("place", PLACES)
def test_no_fact_can_become_markup(place):
    """Whatever stands anywhere, the text renders with the same lists, blocks and emphasis as a harmless one."""
    hostile, harmless = (
        html(text.summary(shown(filled(place, value)), deployment="prod")) for value in (HOSTILE, "harmless")
    )
    assert skeleton(hostile) == skeleton(harmless)
    assert 'href="http://evil"' not in hostile
    assert "<img" not in hostile
    assert "\x1b" not in hostile


@settings(max_examples=300)
@given(st.sampled_from(PLACES), st.text(max_size=400) | st.text(alphabet="`*_[]()<>#-\n\\ !|~a", max_size=80))
def test_no_text_at_all_can_become_markup(place, value):
    """Also none that nobody thought of; the parts keep their order, and a later edit finds them."""
    written = text.summary(shown(filled(place, value)), deployment="prod")
    names = names_of(written)
    assert names == [name for name in text.PARTS if name in names]
    assert len(html(written).split("<pre>")) <= 3
    assert len(text.title(shown(filled(place, value)), whole_run=False).splitlines()) == 1
    assert names[-1] == "What to do"
    earlier = text_edits.with_earlier(written, [(value, "https://x/1", WHEN)])
    assert [name for name, _ in text_edits._parts(earlier) if name][-2:] == [
        "Earlier incidents of this DAG",
        "What to do",
    ]


@settings(max_examples=40)
@given(
    st.integers(1, 400),
    st.sampled_from(["x", "ü", "`", "a b ", "\n", "[l](u) ", "*"]),
    st.sampled_from(["message", "Traceback (most recent call last):\n"]),
)
def test_no_amount_is_too_long(size, letters, beginning):
    """8,000 characters at most, the title 150, with the error first; no block is left open."""
    long = letters * size * 50
    facts = {place: getattr(filled(place, long[:250] or "x"), place) for place in PLACES}
    failure = Failure(**OF_TASK._asdict() | facts | {"exception": beginning + long, "log_tail": long})
    failure = failure._replace(
        failed_tasks=tuple(f"{n}{long[:240]}" for n in range(30)), downstream=(long[:250],) * 30, assets=(long,) * 30
    )
    written = text.summary(shown(failure), deployment=long)
    for whole in (
        written,
        text_edits.with_notes(written, [long]),
        text_edits.with_first_line(written, "x" * 900),
        text_edits.with_earlier(written, [(long[:90], "https://x/1", WHEN)] * 3),
        text_edits.completed(written, written),
        text_edits.with_first_line(written, text_edits.failed_again(failure, written)),
    ):
        assert len(whole) <= SUMMARY_LENGTH
        assert html(whole + "\n\nend").endswith("<p>end</p>\n")
    assert written.startswith("**Error:**")
    assert len(text.title(shown(failure), whole_run=True)) <= text.NAME_LENGTH
    assert len(text_edits.failed_again(failure, written)) <= 1200


def test_megabytes_cost_next_to_nothing():
    """Two of an exception, two of a log, and ten thousand tasks: no more than a tenth of it; see benchmarks/texts.py."""
    from airflow_incident.core.redaction import redact_secrets

    def measured(size):
        lines = "2026-11-23 INFO password of key=3 token: in a log\n" * (4 * size)
        many = tuple(f"task_{n}" for n in range(size))
        failure = OF_TASK._replace(exception=lines, log_tail=lines, downstream=many, failed_tasks=many, assets=many)
        best = 1.0
        for _ in range(5):
            began = time.perf_counter()
            written = text.summary(shown(failure, redact_secrets), deployment="prod")
            text.title(failure, whole_run=True)
            best = min(best, time.perf_counter() - began)
        return best, written

    (little, _), (much, written) = measured(1_000), measured(10_000)
    assert much < 5 * little
    assert "10000 tasks do not run: `task_0`" in written
    assert "`task_9` and 9990 more" in written


@pytest.mark.parametrize("place", ["exception", "log_tail"])
def test_a_text_is_redacted_before_it_is_cut(place):
    """A secret at the cut does not leave in halves."""
    secret = "key-of-the-connection"
    for length in (490, 1990, 9_990):
        given = "x" * length + " " + secret if place == "exception" else secret + " " + "x " * (length // 2)
        written = write(lambda said: said.replace(secret, "***"), exception_type="E", **{place: given})
        assert "key-of" not in written
        assert "-connection" not in written


@pytest.mark.parametrize("place", sorted(set(PLACES) - {"dag_id", "task_id", "failed_tasks", "downstream"}))
def test_every_text_of_a_person_is_redacted(place):
    """Ids of DAGs and tasks cannot hold one: Airflow refuses such."""
    value = "https://x/?S3CRET" if place in {"runbook", "owner_links"} else "has S3CRET in it"
    failure = shown(filled(place, value), lambda said: said.replace("S3CRET", "***"))
    assert "S3CRET" not in text.summary(failure, deployment="prod")
    assert "S3CRET" not in text.title(failure, whole_run=False)


def test_a_message_keeps_its_beginning_and_a_traceback_its_end():
    """The cause stands first in a message and last in a traceback, which gets more room."""
    assert "first" in write(exception_type="E", exception="first" + "x" * 1000)
    written = write(exception_type="E", exception="Traceback (most recent call last):\n" + "y\n" * 5000 + "E: last")
    assert "E: last" in written
    assert text.TRACEBACK_LENGTH - 100 < len(written) < text.TRACEBACK_LENGTH + 800


# Titles


@pytest.mark.parametrize(
    ("facts", "whole_run", "name"),
    [
        ({}, True, "DAG orders failed"),
        ({"level": "task", "task_id": "load"}, True, "DAG orders failed: load"),
        (
            {"level": "task", "task_id": "load", "exception_type": "a.b.Wrong.<locals>.Error"},
            True,
            "DAG orders failed: load (Error)",
        ),
        ({"level": "task", "task_id": "load", "map_index": 3}, True, "DAG orders failed: load"),
        ({"failed_tasks": ("load[3]",)}, True, "DAG orders failed: load[3]"),
        ({"failed_tasks": ("load[3]",), "map_names": {"load[3]": "eu"}}, True, "DAG orders failed: load[eu]"),
        ({"failed_tasks": ("load[3]", "load[4]")}, True, "DAG orders failed: 2 x load"),
        ({"failed_tasks": ("a", "b", "c")}, True, "DAG orders failed: a, b, c"),
        ({"failed_tasks": tuple("abcdef")}, True, "DAG orders failed: a, b, c and 3 more"),
        ({"level": "operator", "task_id": "tell"}, True, "DAG orders reports a problem: tell"),
        ({"level": "operator", "task_id": "tell", "failed_tasks": ("load",)}, True, "DAG orders failed: load"),
        ({"level": "task", "task_id": "load", "map_index": 3}, False, "Task orders.load[3] failed"),
        (
            {"level": "task", "task_id": "load", "exception_type": "E", "map_index": 3, "map_names": {"load[3]": "eu"}},
            False,
            "Task orders.load[eu] failed (E)",
        ),
        ({"reason": "timed_out"}, True, "DAG orders timed out"),
        ({"level": "deadline"}, True, "DAG orders missed a deadline"),
        ({"dag_id": "o" * 300}, True, "DAG " + "o" * 138 + "… failed"),
        ({"dag_id": "a\nb\ud800"}, True, "DAG a b? failed"),
    ],
)
def test_the_title_says_what_failed_and_how(facts, whole_run, name):
    """One line; of what is too long the end goes that says least, and never half a word."""
    assert text.title(Failure(**{"dag_id": "orders", "run_id": "r"} | facts), whole_run=whole_run) == name


def test_a_title_leaves_out_whole_names():
    """Rather one task less, then the exception, than half of either."""
    tasks = tuple(f"{letter * 50}" for letter in "abc")
    failure = Failure("orders", "r", failed_tasks=tasks, exception_type="ValueError")
    assert text.title(failure, whole_run=True) == f"DAG orders failed: {tasks[0]}, {tasks[1]} and 1 more (ValueError)"
    long = failure._replace(dag_id="o" * 120, failed_tasks=("l" * 30,))
    assert text.title(long, whole_run=True) == f"DAG {'o' * 120} failed (ValueError)"


def test_an_own_name_is_cut_between_two_words():
    assert text.one_line("word " * 60) == "word " * 29 + "word…"
    assert text.one_line("x" * 300) == "x" * 149 + "…"


# What is told later


def test_what_the_dag_knows_goes_into_its_place():
    """The failed tasks and what they stop are the later ones; the exception stays, and so does a person's eye for it."""
    first, later = (text.summary(CASES[case], deployment="prod") for case in list(CASES)[:2])
    done = text_edits.completed(first, later)
    assert names_of(done) == names_of(first)
    assert done.startswith("**Error:** `psycopg2.errors.UniqueViolation` in `load`, at `")
    assert "`load[7]` (customer-42), [log](" in done
    assert "214 tasks do not run" in done
    assert "2 tasks do not run" not in done
    assert text_edits.completed(done, later) == done, "said once"


def test_a_later_error_stands_below_the_first():
    """A run that is out of time has a cause, which nobody may lose."""
    first, later = (text.summary(CASES[case], deployment="prod") for case in ("A task fails", "A run is out of time"))
    done = text_edits.completed(first, later)
    assert names_of(done)[:2] == ["Error", "Error"]
    assert done.index("UniqueViolation") < done.index("exceeded its time limit") < done.index("End of the log")
    assert text_edits.completed(done, later) == done


def test_a_text_of_somebody_else_has_no_such_places():
    """Then the caller says it on top; earlier incidents go to the end."""
    later = text.summary(CASES["A task fails"], deployment="prod")
    assert text_edits.completed("Our own words.\n\n- a list", later) is None
    assert text_edits.with_earlier("Our own words.", [("INC-4", "https://x/4", WHEN)]).endswith(
        "[INC-4](https://x/4) (2026-11-23)"
    )
    assert text_edits.with_earlier("Our own words.", []) == "Our own words."


def test_what_looks_like_a_part_in_an_exception_is_none():
    """A block of code is looked into by nobody."""
    failure = OF_TASK._replace(exception="a\n\n**What to do:** nothing\n\n**Failed tasks:** none\n```\n**Error:** b")
    written = text.summary(failure, deployment="prod")
    assert [name for name, _ in text_edits._parts(written)] == names_of(written)
    done = text_edits.completed(written, text.summary(CASES["Mapped tasks fail, told by the DAG"], deployment="prod"))
    assert "**Failed tasks:** none\n```\n**Error:** b\n````" in done


def test_a_run_that_fails_again_says_so_with_its_error():
    """On top, with the log; of a long traceback as much as has room."""
    first = text.summary(CASES["A task fails"], deployment="prod")
    again = OF_TASK._replace(clear_count=1, exception_type="KeyError", exception="'price'")
    line = text_edits.failed_again(again, text.summary(again, deployment="prod"))
    whole = text_edits.with_first_line(first, line)
    assert whole.startswith(
        f"**Failed again at 2026-11-23 03:12:05 UTC**, after its run was cleared: [load]({UI}/tasks/load)\n"
        "`KeyError` in `load`, at `/opt/airflow/dags/orders.py:58`\n```\n'price'\n```\n\n**Error:** `psycopg2"
    )
    assert names_of(whole)[-1] == "What to do"
    own = text_edits.failed_again(again, "Our own words.")
    assert own.endswith(")")


def test_notes_survive_a_text_that_is_too_long():
    """What was left out is said even below the longest summary, and outside of its block of code."""
    for long in ("x" * 20_000, "```\n" + "x\n" * 20_000 + "```"):
        written = text_edits.with_notes(long, text_edits.left_out(["Severity", "Roles", "Severity"]))
        assert len(written) <= SUMMARY_LENGTH
        assert written.endswith("…\n\n_Left out: Severity, Roles. Airflow's log says why._")
        assert html(written).endswith("<p><em>Left out: Severity, Roles. Airflow's log says why.</em></p>\n")
    assert text_edits.left_out([]) == []


@given(st.text(alphabet="`~ab\n", max_size=60))
def test_no_exception_can_leave_its_block(message):
    """The whole message stands in one code block, whatever fences it holds."""
    rendered = html(text.fence(message) + "\n\nend")
    assert rendered.count("<pre>") == 1
    assert rendered.endswith("<p>end</p>\n")


@given(st.text(max_size=200))
def test_a_code_span_is_one_code_span(value):
    """Any id becomes one span of code."""
    rendered = html(text.code(value) + " end")
    assert rendered.count("<code>") == 1
    assert rendered.rstrip().endswith("end</p>")
