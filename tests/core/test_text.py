"""What a responder reads."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from airflow_incident.core import text
from airflow_incident.core.failure import Failure

WHEN = datetime(2026, 11, 23, 9, 30, 5, tzinfo=UTC)
HOSTILE = "a`b``c *d* _e_ [f](http://evil) <g> #h |i| ~~j~~ ![k](x)\nl"


def write(redact=lambda t: t, deployment="prod", **facts):
    facts = {"dag_id": "orders", "run_id": "manual__1"} | facts
    return text.summary(Failure(**facts), deployment=deployment, redact=redact)


def test_everything_that_airflow_tells_is_in_the_summary():
    """Each fact has a line of its own, in Airflow's words."""
    written = write(
        level="task",
        task_id="load",
        map_index=3,
        attempt=2,
        attempts=3,
        clear_count=2,
        run_type="scheduled",
        logical_date=WHEN,
        failed_at=WHEN,
        exception_type="ValueError",
        exception="three bad rows",
        failed_tasks=("load[3]", "load[7]"),
        owners=("data", "ops"),
        tags=("finance",),
        reason="task_failure",
        run_url="https://airflow/run",
        log_url="https://airflow/log",
    )
    for line in (
        "- **DAG:** `orders`",
        "- **Run:** [manual\\_\\_1](https://airflow/run) (scheduled)",
        "- **Cleared:** 2 times",
        "- **Deployment:** prod",
        "- **Logical date:** 2026-11-23 09:30:05 UTC",
        "- **Failed at:** 2026-11-23 09:30:05 UTC",
        "- **Task:** `load[3]`, attempt 2 of 3 ([log](https://airflow/log))",
        "- **Failed tasks:** `load[3]`, `load[7]`",
        "- **Owners:** data, ops",
        "- **Tags:** `finance`",
        "- **Exception:** `ValueError`",
    ):
        assert line in written.splitlines()
    assert "Reason" not in written, "that a task failed is said by the tasks"
    assert written.endswith("```\nthree bad rows\n```")


def test_what_is_unknown_has_no_line():
    """The least that Airflow tells makes three lines, none of them empty."""
    assert write() == "- **DAG:** `orders`\n- **Run:** `manual__1`\n- **Deployment:** prod"


def test_a_reason_that_tells_more_than_the_tasks_is_written_out():
    """A time-out reads as a sentence, a reason of a later Airflow as it is."""
    assert "exceeded its time limit" in write(reason="timed_out")
    assert "- **Reason:** sunspots" in write(reason="sunspots")


def test_many_failed_tasks_are_counted_not_listed():
    """Ten thousand map indexes make one readable line."""
    written = write(failed_tasks=tuple(f"load[{i}]" for i in range(10_000)))
    assert "`load[19]` and 9980 more" in written
    assert len(written) < 1000


@pytest.mark.parametrize("place", ["dag_id", "run_id", "task_id", "reason"])
def test_no_fact_can_end_its_line_or_become_markup(place):
    """Whatever an id or a message holds, the summary renders as plain text in the same list."""
    facts = {"level": "task", "task_id": "load", place: HOSTILE}
    html = MarkdownIt("commonmark").render(write(**facts, run_url="https://airflow/run"))
    plain = MarkdownIt("commonmark").render(
        write(level="task", task_id="load", reason="x", run_url="https://airflow/run")
    )
    for tag in ("<ul>", "<h1>", "<img", "<em>", "http://evil"):
        assert html.count(f'href="{tag}"') == 0
        assert html.count(tag) == plain.count(tag) or tag == "http://evil"
    assert 'href="http://evil"' not in html


@given(st.text(alphabet="`~ab\n", max_size=60))
def test_no_exception_can_leave_its_block(message):
    """The whole message stands in one code block, whatever fences it holds."""
    html = MarkdownIt("commonmark").render(text.fence(message) + "\n\nend")
    assert html.count("<pre>") == 1
    assert html.endswith("<p>end</p>\n")


@given(st.text(max_size=200))
def test_a_code_span_is_one_code_span(value):
    """Any id becomes one span of code."""
    html = MarkdownIt("commonmark").render(text.code(value) + " end")
    assert html.count("<code>") == 1
    assert html.rstrip().endswith("end</p>")


def test_a_message_is_redacted_before_it_is_cut():
    """A secret at the cut does not leave in halves."""
    message = "x" * 490 + "key-of-the-connection"
    written = write(lambda t: t.replace("key-of-the-connection", "***"), exception_type="E", exception=message)
    assert "key-of" not in written
    assert "***" in written


def test_a_message_keeps_its_beginning_and_a_traceback_its_end():
    """The cause stands first in a message and last in a traceback."""
    assert "…" in write(exception_type="E", exception="first" + "x" * 1000)
    assert "first" in write(exception_type="E", exception="first" + "x" * 1000)
    written = write(exception_type="E", exception="Traceback (most recent call last):\n" + "y\n" * 5000 + "E: last")
    assert "E: last" in written
    assert len(written) < text.TRACEBACK_LENGTH + 500


def test_notes_survive_a_text_that_is_too_long():
    """What was left out is said even below the longest summary."""
    written = text.with_notes("x" * 20_000, ["Something was left out."])
    assert len(written) <= text.SUMMARY_LENGTH
    assert written.endswith("…\n\n_Something was left out._")


@pytest.mark.parametrize(
    ("facts", "whole_run", "name"),
    [
        ({}, True, "DAG orders failed"),
        ({"level": "task", "task_id": "load", "map_index": 3}, True, "Task orders.load failed"),
        ({"level": "operator", "task_id": "load"}, True, "DAG orders failed"),
        ({"level": "task", "task_id": "load", "map_index": 3}, False, "Task orders.load[3] failed"),
        ({"reason": "timed_out"}, True, "DAG orders timed out"),
        ({"level": "deadline"}, True, "DAG orders missed a deadline"),
        ({"dag_id": "o" * 300}, True, "DAG " + "o" * 145 + "…"),
        ({"dag_id": "a\nb\ud800"}, True, "DAG a b? failed"),
    ],
)
def test_the_title_says_what_failed(facts, whole_run, name):
    """One line, of the task where that is all that is known to have failed."""
    assert text.title(Failure(**{"dag_id": "orders", "run_id": "r"} | facts), whole_run=whole_run) == name


def test_an_operator_does_not_claim_to_have_failed():
    """A deliberate step says when and by whom the incident was opened."""
    written = write(level="operator", task_id="page_us", failed_at=WHEN)
    assert "- **Opened by task:** `page_us`" in written
    assert "- **Opened at:**" in written
