"""Trace what one failure, one recovery and one flush pass through: functions, files, and changes of file.

A reader who follows a failure to its request must hold this much in his head. Counted are functions of this package
that are entered, with the journal on, over real HTTP and in Airflow's own database: `python -m benchmarks.trace`.
"""

import argparse
import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import CodeType, FrameType, SimpleNamespace
from typing import Any, NamedTuple

import airflow_incident
from airflow_incident.sandbox.server import Sandbox

PACKAGE = str(Path(airflow_incident.__file__).parent)


class Limit(NamedTuple):
    """What a reader can hold, at most."""

    functions: int
    files: int
    changes: int


LIMITS = {"failure": Limit(110, 14, 80), "recovery": Limit(100, 14, 70), "flush": Limit(60, 12, 45)}


class Trace:
    """Every function of the package that was entered, on whichever thread, in order."""

    def __init__(self) -> None:
        self.calls: list[CodeType] = []

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """Take one event of the interpreter."""
        code = frame.f_code
        # Neither modules nor classes that are made, nor a comprehension, which is a line of its function.
        is_function = code.co_flags & CO_OPTIMIZED and (code.co_name == "<lambda>" or code.co_name[0] != "<")
        if event == "call" and is_function and code.co_filename.startswith(PACKAGE):
            self.calls.append(code)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Note what is entered meanwhile."""
        threading.setprofile(self)
        sys.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]  # as its documentation says

    @property
    def figures(self) -> Limit:
        """Count them."""
        files = [code.co_filename for code in self.calls]
        changes = sum(one != other for one, other in itertools.pairwise(files))
        return Limit(len(set(self.calls)), len(set(files)), changes)


def _context(run_id: str, *, clear: int = 0, **more: Any) -> dict[str, Any]:
    """Make what a callback is given."""
    now = datetime.now(UTC)
    run = SimpleNamespace(
        dag_id="orders", run_id=run_id, run_type="scheduled", clear_number=clear, start_date=now, end_date=now
    )
    return {"dag": SimpleNamespace(dag_id="orders"), "dag_run": run, "run_id": run_id, **more}


def _fail(run_id: str = "r1") -> None:
    ti = SimpleNamespace(dag_id="orders", run_id=run_id, task_id="load", map_index=-1, try_number=1, max_tries=0)
    airflow_incident.open_incident()(_context(run_id, ti=ti, exception=ValueError("3 rows have no customer")))


def _recover(run_id: str = "r1") -> None:
    airflow_incident.resolve_incident()(_context(run_id, clear=1, reason="success"))


def _flush() -> None:
    from airflow_incident.delivery.run import flush

    flush()


def _traced(action: Callable[[], None]) -> Trace:
    trace = Trace()
    with trace.watching():
        action()
    return trace


def _measure() -> None:
    """Trace all three in this process, and print what was entered as JSON."""
    from airflow_incident.constants import DEFAULT_CONN_ID

    _fail("r0")  # the first of a process also imports
    _recover("r0")
    _flush()
    found = {"failure": _traced(_fail), "recovery": _traced(_recover)}
    variable = f"AIRFLOW_CONN_{DEFAULT_CONN_ID.upper()}"
    works = os.environ.pop(variable)
    late = airflow_incident.open_incident(conn_id=DEFAULT_CONN_ID.replace("default", "late"))
    late(_context("r2", reason="task_failure"))
    os.environ[variable.replace("DEFAULT", "LATE")] = works
    found["flush"] = _traced(_flush)
    told = {
        name: {"figures": trace.figures, "calls": [_place(code) for code in trace.calls]}
        for name, trace in found.items()
    }
    json.dump(told, sys.stdout)


def _place(code: CodeType) -> str:
    return f"{Path(code.co_filename).relative_to(PACKAGE)}:{code.co_qualname}"


def main() -> int:
    """Print a line for each, and every step with --steps; exit 1 if a limit is passed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trace", description=__doc__)
    parser.add_argument("--steps", choices=LIMITS, help="show each function that is entered, in order")
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory(prefix="airflow-incident-trace-") as home, Sandbox() as box:
        environment = os.environ | {
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__INCIDENT_IO__DEPLOYMENT": "trace",
            "AIRFLOW_CONN_INCIDENT_IO_DEFAULT": box.connection_json(),
        }
        subprocess.run(
            [sys.executable, "-m", "airflow", "db", "migrate"], env=environment, check=True, capture_output=True
        )
        measure = [sys.executable, "-c", "from benchmarks.trace import _measure; _measure()"]
        done = subprocess.run(measure, env=environment, check=True, stdout=subprocess.PIPE)
        opened = len(box.incidents)
    found = json.loads(done.stdout.splitlines()[-1])
    if opened != 3:
        raise RuntimeError(f"{opened} incidents were opened instead of 3")
    good = True
    for name, limit in LIMITS.items():
        figures = Limit(*found[name]["figures"])
        good &= all(figure <= most for figure, most in zip(figures, limit, strict=True))
        parts = (f"{getattr(figures, part):4} {part} (limit {getattr(limit, part)})" for part in Limit._fields)
        print(f"{name:10}", *parts)
    if steps:
        print("\n".join(found[steps]["calls"]))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
