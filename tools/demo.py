"""`make demo` fails DAGs in a real Airflow and shows their incidents; `make up` leaves both sides running."""

import argparse
import functools
import math
import shutil
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tools import loopback
from tools.failure import Failure, mismatches, told_moment
from tools.stage import IS_AIRFLOW_2, PROCESSOR, TASKS_CAN_LIST, WEB, Stage
from tools.watch import Trouble, Watch, perform
from tools.wire import Wire

RUNS = {"bad_csv": "demo-1", "mapped_tasks": "demo-2"}
# Only its tasks tell, so that when the run has ended nobody is left who might try again: nobody but the flush.
AWAY = ("mapped_tasks", "demo-3")
FLUSH = ("incident_io_flush", "demo-flush")
START_LIMIT = 180
RUN_LIMIT = 120
INCIDENT_LIMIT = 30
# After the last run. The DAG-level callback of the first one ends up to 4 s after it, while the second one runs.
SETTLE = 3
WIDEST = 100


def start(stage: Stage, watch: Watch, *extra: str) -> loopback.Airflow:
    """Bring up the sandbox and Airflow; return when the DAGs can be triggered."""
    began = time.monotonic()
    airflow = (loopback.Airflow2 if IS_AIRFLOW_2 else loopback.Airflow)(stage.airflow)
    stage.start_sandbox()
    stage.start("migrate", "-m", "airflow", "db", "migrate")
    watch.until(lambda: ("Airflow's database is being made", stage.ended("migrate")), seconds=START_LIMIT)
    stage.start_airflow(*extra)

    def look() -> tuple[str, bool | None]:
        stage.check()
        unready = airflow.unready()
        if unready is None or unready:
            return "Airflow is starting", None
        if loopback.incidents(stage.sandbox) is None:
            return "the sandbox is starting", None
        if trace := airflow.import_errors():
            raise Trouble(f"Airflow cannot import a DAG file:\n{trace}")
        return "Airflow reads the DAGs", True if {*RUNS, FLUSH[0]} <= airflow.dags() else None

    watch.until(look, seconds=START_LIMIT, log=stage.log(WEB))
    watch.say(f"Airflow is up after {time.monotonic() - began:.0f} s")
    return airflow


def fail(stage: Stage, watch: Watch, airflow: loopback.Airflow, dag_id: str, run_id: str) -> Failure:
    """Run a DAG through the scheduler; return its failure."""
    run_label = f"{dag_id}, run {run_id}"

    def look() -> tuple[str, Failure | None]:
        stage.check()
        run = airflow.run(dag_id, run_id)
        if run is None or run["state"] not in {"failed", "success"}:
            return f"{run_label}: {run['state'] if run else 'triggered'}", None
        if run["state"] == "success":
            raise Trouble(f"{dag_id} was meant to fail, but it succeeded", stage.log("scheduler"))
        tasks = airflow.failed_tasks(dag_id, run_id)
        if tasks is None:
            return f"{run_label}: failed, as it should", None
        moments = [airflow.raised_at(task) for task in tasks] or [run["end_date"]]
        moment = min(map(datetime.fromisoformat, moments))
        return f"{run_label}: failed, as it should", Failure(dag_id, run_id, moment, [it["task_id"] for it in tasks])

    failure = watch.until(look, seconds=RUN_LIMIT, log=stage.log("scheduler"))
    watch.say(f"{run_label}: failed, as it should")
    return failure


def fail_in_outage(stage: Stage, watch: Watch, airflow: loopback.Airflow, wire: Wire) -> Failure:
    """Run a DAG while incident.io is away; return its failure once it was delivered."""
    wire.cut()
    watch.say("\nincident.io is away: every connection to it is refused")
    failure = fail(stage, watch, airflow, *AWAY)
    for line in waiting(stage, watch):
        watch.say(f"kept in the journal: {line}")
    wire.mend()
    back = datetime.now(UTC)
    if TASKS_CAN_LIST:
        watch.say(f"incident.io is back; {FLUSH[0]} runs now, else every five minutes")
        flush(stage, watch, airflow)
    else:
        watch.say("incident.io is back; airflow-incident journal flush runs now, else by your scheduler")
        stage.start_ours("journal", "flush")
        watch.until(lambda: ("delivering what waits", stage.ended("journal")), seconds=RUN_LIMIT)
    return replace(failure, back=back)


def waiting(stage: Stage, watch: Watch) -> list[str]:
    """Ask the journal what waits."""
    stage.start_ours("journal", "list", "--state", "pending")
    watch.until(lambda: ("looking into the journal", stage.ended("journal")), seconds=RUN_LIMIT)
    _, run_id = AWAY
    said = stage.log("journal").read_text().splitlines()
    lines = [line.partition(": ")[2] for line in said if " pending: " in line and run_id in line]
    if not lines:
        raise Trouble(f"the journal knows nothing of {run_id}", stage.log("journal"))
    return lines


def flush(stage: Stage, watch: Watch, airflow: loopback.Airflow) -> None:
    """Run the flush DAG through the scheduler."""

    def look() -> tuple[str, bool | None]:
        stage.check()
        run = airflow.run(*FLUSH)
        state = run["state"] if run else "triggered"
        if state == "failed":
            raise Trouble(f"{FLUSH[0]} failed", stage.log("scheduler"))
        return f"{FLUSH[0]}: {state}", True if state == "success" else None

    watch.until(look, seconds=RUN_LIMIT, log=stage.log("scheduler"))


def await_incident(stage: Stage, watch: Watch, failure: Failure) -> None:
    """Wait until the sandbox holds an incident of this run."""

    def look() -> tuple[str, bool | None]:
        stage.check()
        own = failure.own(loopback.incidents(stage.sandbox) or [])
        return f"{failure.dag_id}: waiting for its incident", True if own else None

    watch.until(look, seconds=INCIDENT_LIMIT, log=_callback_log(stage, failure))


def _callback_log(stage: Stage, failure: Failure) -> Path:
    """Find the log of the first failed task: its callback writes there."""
    folder = stage.home / "logs" / f"dag_id={failure.dag_id}" / f"run_id={failure.run_id}"
    logs = sorted(folder.glob(f"task_id={failure.tasks[0]}/**/*.log")) if failure.tasks else []
    return logs[0] if logs else stage.log(PROCESSOR)


def settle(stage: Stage, watch: Watch) -> None:
    """Give a second incident the time to come."""
    over = time.monotonic() + SETTLE

    def look() -> tuple[str, bool | None]:
        stage.check()
        return "watching that no second incident comes", True if time.monotonic() > over else None

    watch.until(look, seconds=SETTLE + 1)


def report(failures: list[Failure], incidents: list[dict[str, Any]]) -> Iterator[str]:
    """Show each failed run with its incident."""
    for failure in failures:
        counted = Counter(failure.tasks).items()
        tasks = ", ".join(task if times == 1 else f"{task} ({times} times)" for task, times in counted)
        yield f"\n{failure.dag_id}, run {failure.run_id}, failed" + (f" in {tasks}" if tasks else "")
        for incident in failure.own(incidents):
            yield f"  {incident['reference']}  {incident['name']}"
            yield f"         {_when(failure, incident)}"


def _when(failure: Failure, incident: dict[str, Any]) -> str:
    seconds = failure.seconds_until(incident)
    if failure.back is None:
        return f"open {seconds:.2f} s after the failure"
    told = told_moment(incident)
    return f"delivered {seconds:.2f} s after incident.io was back, failure of {told:%H:%M:%S} UTC" if told else ""


def reading(incident: dict[str, Any], columns: int) -> Iterator[str]:
    """Lay an incident out for a terminal as its reader sees it: without marks and addresses, long lines wrapped."""
    width = min(columns, WIDEST) - 4
    yield f"{incident['reference']}  {incident['name']}"
    yield "─" * min(width + 2, len(incident["reference"]) + 2 + len(incident["name"]))
    depth, mark = 0, ""
    for token in MarkdownIt().parse(str(incident["summary"])):
        depth += token.nesting * token.type.endswith(("list_open", "list_close"))
        if token.type == "list_item_open":
            mark = f"{token.info}. " if token.info else "• "
        if token.level == 0 and token.nesting >= 0 and token.type != "hr":
            yield ""
        is_code = token.type in {"fence", "code_block"}
        for line in _text(token).splitlines():
            first = "  " * (depth - 1) + (mark or "  ") if depth else "    " * is_code
            rest = " " * len(first)
            yield from textwrap.wrap(
                line,
                width,
                initial_indent=first,
                subsequent_indent=rest,
                drop_whitespace=not is_code,
                break_on_hyphens=False,
            )
            mark = ""


def _text(token: Token) -> str:
    """Return what of a token is to be read."""
    if token.children is None:
        return token.content
    return "".join("\n" if each.type in {"softbreak", "hardbreak"} else each.content for each in token.children)


def verdict(failures: list[Failure], incidents: list[dict[str, Any]]) -> str:
    """Say that all is well; raise Trouble unless each failure has exactly one incident and there is no other."""
    wrong = mismatches(failures, incidents)
    if wrong:
        raise Trouble("; ".join(wrong))
    return f"{len(failures)} failed runs, {len(incidents)} incidents: exactly one for each. To look around: make up"


def demo(stage: Stage, watch: Watch) -> str:
    """Fail the DAGs one after another, show what came of it and return the verdict."""
    with Wire(int(stage.sandbox.rpartition(":")[2])) as wire:
        stage.wire = wire
        airflow = start(stage, watch)
        failures = []
        for dag_id, run_id in RUNS.items():
            failures.append(fail(stage, watch, airflow, dag_id, run_id))
            await_incident(stage, watch, failures[-1])
        failures.append(fail_in_outage(stage, watch, airflow, wire))
        settle(stage, watch)
        incidents = loopback.incidents(stage.sandbox)
    if incidents is None:
        raise Trouble("the sandbox does not answer", stage.log("sandbox"))
    watch.say("\n".join(report(failures, incidents)))
    for incident in failures[0].own(incidents):
        watch.say("\nThis is what a responder reads in the first of them:\n")
        watch.say("\n".join(reading(incident, shutil.get_terminal_size().columns)) + "\n")
    return verdict(failures, incidents)


def stay(stage: Stage, watch: Watch) -> NoReturn:
    """Leave everything running until a signal comes."""
    start(stage, watch, "triggerer")
    watch.say(f"  Airflow      {stage.airflow} (no login)")
    watch.say(f"  incident.io  {stage.sandbox} (the sandbox, API key {loopback.API_KEY})")
    watch.say("Trigger a DAG in Airflow and look at its incident in the sandbox.")

    def look() -> tuple[str, None]:
        stage.check()
        return "Both run until Ctrl-C", None

    while True:
        watch.until(look, seconds=math.inf)


def main() -> int:
    """Run one of the two commands; say what went wrong and leave nothing running."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo", description=__doc__)
    parser.add_argument("--stay", action="store_true", help="leave Airflow and the sandbox running until Ctrl-C")
    stays = parser.parse_args().stay
    return perform(functools.partial(play, stays=stays), stays=stays)


def play(watch: Watch, *, stays: bool) -> str:
    """Set the stage for one of the two, and clear it away."""
    with Stage() as stage:
        try:
            return stay(stage, watch) if stays else demo(stage, watch)
        finally:
            watch.show("Airflow is stopping")


if __name__ == "__main__":
    sys.exit(main())
