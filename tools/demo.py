"""`make demo` fails DAGs in a real Airflow and shows their incidents; `make up` leaves both sides running."""

import argparse
import functools
import json
import math
import select
import shutil
import sys
import termios
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tools import loopback
from tools.failure import BrokenFile, Failure, mismatches
from tools.stage import IS_AIRFLOW_2, PROCESSOR, TASKS_CAN_LIST, WEB, Stage
from tools.watch import Trouble, Watch, perform
from tools.wire import Wire

NEEDED = {"bad_csv", "mapped_tasks", "incident_io_flush"}
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
    stage.await_errand(watch, "migrate", "Airflow's database is being made")
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
        return "Airflow reads the DAGs", True if airflow.dags() >= NEEDED else None

    watch.until(look, seconds=START_LIMIT, log=stage.log(WEB))
    watch.say(f"Airflow is up after {time.monotonic() - began:.0f} s")
    return airflow


@dataclass(frozen=True)
class Play:
    """What an act has: the processes, who shows what goes on, Airflow's API, and the way to the sandbox."""

    stage: Stage
    watch: Watch
    airflow: loopback.Airflow
    wire: Wire

    def fail(self, dag_id: str, run_id: str) -> Failure:
        """Run a DAG through the scheduler; return its failure."""
        run_label = f"{dag_id}, run {run_id}"

        def look() -> tuple[str, Failure | None]:
            self.stage.check()
            run = self.airflow.run(dag_id, run_id)
            if run is None or run["state"] not in {"failed", "success"}:
                return f"{run_label}: {run['state'] if run else 'triggered'}", None
            if run["state"] == "success":
                raise Trouble(f"{dag_id} was meant to fail, but it succeeded", self.stage.log("scheduler"))
            tasks = self.airflow.failed_tasks(dag_id, run_id)
            if tasks is None:
                return f"{run_label}: failed, as it should", None
            moments = [self.airflow.raised_at(task) for task in tasks] or [run["end_date"]]
            moment = min(map(datetime.fromisoformat, moments))
            return f"{run_label}: failed, as it should", Failure(
                dag_id, run_id, moment, [it["task_id"] for it in tasks]
            )

        failure = self.watch.until(look, seconds=RUN_LIMIT, log=self.stage.log("scheduler"))
        self.watch.say(f"{run_label}: failed, as it should")
        return failure

    def await_incident(self, failure: Failure) -> Failure:
        """Wait until the sandbox holds an incident of this run; return the failure."""

        def look() -> tuple[str, bool | None]:
            self.stage.check()
            own = failure.own(loopback.incidents(self.stage.sandbox) or [])
            return f"{failure.dag_id}: waiting for its incident", True if own else None

        log = self.stage.log("watch") if isinstance(failure, BrokenFile) else _callback_log(self.stage, failure)
        self.watch.until(look, seconds=INCIDENT_LIMIT, log=log)
        return failure

    def say_what_waits(self, run_id: str) -> None:
        """Ask the journal what waits of a run."""
        self.stage.start_ours("journal", "list", "--state", "pending", "--json")
        self.stage.await_errand(self.watch, "journal", "looking into the journal")
        said = self.stage.log("journal").read_text()
        listed, _ = json.JSONDecoder().raw_decode(said, said.find("{\n"))  # Airflow may warn before
        waiting = [record for record in listed["records"] if record["run_id"] == run_id]
        if not waiting:
            raise Trouble(f"the journal knows nothing of {run_id}", self.stage.log("journal"))
        for record in waiting:
            self.watch.say(f"kept in the journal: {record['key']} ({record['error']})")

    def flush(self) -> None:
        """Deliver what waits: by the flush DAG, or by the command where tasks cannot list what there is."""
        if not TASKS_CAN_LIST:
            self.watch.say("incident.io is back; airflow-incident journal flush runs now, else by your scheduler")
            self.stage.start_ours("journal", "flush")
            self.stage.await_errand(self.watch, "journal", "delivering what waits")
            return
        self.watch.say(f"incident.io is back; {FLUSH[0]} runs now, else every five minutes")

        def look() -> tuple[str, bool | None]:
            self.stage.check()
            run = self.airflow.run(*FLUSH)
            state = run["state"] if run else "triggered"
            if state == "failed":
                raise Trouble(f"{FLUSH[0]} failed", self.stage.log("scheduler"))
            return f"{FLUSH[0]}: {state}", True if state == "success" else None

        self.watch.until(look, seconds=RUN_LIMIT, log=self.stage.log("scheduler"))

    def settle(self) -> None:
        """Give a second incident the time to come."""
        over = time.monotonic() + SETTLE

        def look() -> tuple[str, bool | None]:
            self.stage.check()
            return "watching that no second incident comes", True if time.monotonic() > over else None

        self.watch.until(look, seconds=SETTLE + 1)


def _callback_log(stage: Stage, failure: Failure) -> Path:
    """Find the log of the first failed task: its callback writes there."""
    folder = stage.home / "logs" / f"dag_id={failure.dag_id}" / f"run_id={failure.run_id}"
    logs = sorted(folder.glob(f"task_id={failure.tasks[0]}/**/*.log")) if failure.tasks else []
    return logs[0] if logs else stage.log(PROCESSOR)


def bad_data(play: Play) -> Failure:
    """Fail a DAG whose tasks and whose DAG level both tell."""
    return play.await_incident(play.fail("bad_csv", "demo-1"))


def many_at_once(play: Play) -> Failure:
    """Fail four mapped tasks together."""
    return play.await_incident(play.fail("mapped_tasks", "demo-2"))


def outage(play: Play) -> Failure:
    """Fail a DAG while incident.io is away; its incident comes once that is back.

    Only its tasks tell, so that when the run has ended nobody is left who might try again: nobody but the flush.
    """
    play.wire.cut()
    play.watch.say("\nincident.io is away: every connection to it is refused")
    failure = play.fail("mapped_tasks", "demo-3")
    play.say_what_waits(failure.run_id)
    play.wire.mend()
    back = datetime.now(UTC)
    play.flush()
    return replace(failure, back=back)


def broken_file(play: Play) -> Failure:
    """Break a DAG file, which no callback can tell, and mend it."""
    play.stage.start_watcher()
    file = play.stage.dags / "late_orders.py"
    file.write_text("from airflow.sdk import DAG\nimport a_package_that_nobody_has_installed\n")
    play.watch.say(f"\n{file.name} imports what is not installed; no callback can tell, the watcher does")
    broken = BrokenFile(file.name, file.name, datetime.now(UTC), [])
    play.await_incident(broken)
    file.write_text("from airflow.sdk import DAG\n")
    play.watch.say(f"{file.name} is mended")

    def look() -> tuple[str, bool | None]:
        play.stage.check()
        own = broken.own(loopback.incidents(play.stage.sandbox) or [])
        return f"{file.name}: waiting for its incident to be closed", True if all(map(broken.is_told_by, own)) else None

    play.watch.until(look, seconds=INCIDENT_LIMIT, log=play.stage.log("watch"))
    return broken


ACTS: tuple[Callable[[Play], Failure], ...] = (bad_data, many_at_once, outage, broken_file)
"""One after another; each ends with its incident in the sandbox, and with one row of the table."""


def table(failures: list[Failure], incidents: list[dict[str, Any]]) -> Iterator[str]:
    """Show each failed run with its incident, and what happened."""
    rows = [("DAG", "run", "incident", "what happened")]
    for failure in failures:
        own = failure.own(incidents)
        references = ", ".join(incident["reference"] for incident in own) or "none"
        run_id = "" if isinstance(failure, BrokenFile) else failure.run_id
        rows.append((failure.dag_id, run_id, references, "; ".join([_failed(failure), *_opened(failure, own)])))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _failed(failure: Failure) -> str:
    if isinstance(failure, BrokenFile):
        return "could not be imported"
    counted = Counter(failure.tasks).items()
    tasks = ", ".join(f"{task} failed" + (f" {times} times" if times > 1 else "") for task, times in counted)
    return (tasks or "failed") + (" in an outage" if failure.back else "")


def _opened(failure: Failure, own: list[dict[str, Any]]) -> Iterator[str]:
    words = "open {:.2f} s later" if failure.back is None else "delivered {:.2f} s after its end"
    for incident in own:
        yield words.format(failure.seconds_until(incident))
        if isinstance(failure, BrokenFile):
            yield "closed when it was mended"


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
    return f"{len(failures)} failures, {len(incidents)} incidents: exactly one for each."


def demo(stage: Stage, watch: Watch) -> str:
    """Fail the DAGs one after another, show what came of it, and leave it running for whoever sits there."""
    with Wire(int(stage.sandbox.rpartition(":")[2])) as wire:
        stage.wire = wire
        play = Play(stage, watch, start(stage, watch), wire)
        failures = [act(play) for act in ACTS]
        play.settle()
        incidents = loopback.incidents(stage.sandbox)
        if incidents is None:
            raise Trouble("the sandbox does not answer", stage.log("sandbox"))
        for incident in failures[0].own(incidents):
            watch.say("\nThis is what a responder reads in the first incident:\n")
            watch.say("\n".join(reading(incident, shutil.get_terminal_size().columns)))
        watch.say("\n" + "\n".join(table(failures, incidents)) + "\n")
        watch.say(verdict(failures, incidents))
        if sys.stdin.isatty() and sys.stdout.isatty():
            await_enter(stage, watch)
    return "Nothing is left running. To look around for longer: make up"


def await_enter(stage: Stage, watch: Watch) -> None:
    """Leave Airflow and the sandbox running until a person has seen enough."""
    watch.say(f"\nLook at them now:\n{_addresses(stage)}\n")
    termios.tcflush(sys.stdin, termios.TCIFLUSH)  # what was typed while the DAGs ran is no answer

    def look() -> tuple[str, bool | None]:
        stage.check()
        return "Enter ends", True if select.select([sys.stdin], [], [], 0)[0] else None

    watch.until(look, seconds=math.inf)


def _addresses(stage: Stage) -> str:
    return f"  incident.io  {stage.sandbox} (the sandbox)\n  Airflow      {stage.airflow} (no login)"


def stay(stage: Stage, watch: Watch) -> NoReturn:
    """Leave everything running until a signal comes."""
    start(stage, watch, "triggerer")
    stage.start_watcher()
    watch.say(
        f"{_addresses(stage)}\nTrigger a DAG in Airflow and look at its incident in the sandbox. "
        "Your own DAG files go into dags/."
    )

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
    with Stage(copies=not stays) as stage:
        try:
            return stay(stage, watch) if stays else demo(stage, watch)
        finally:
            watch.show("Airflow is stopping")


if __name__ == "__main__":
    sys.exit(main())
