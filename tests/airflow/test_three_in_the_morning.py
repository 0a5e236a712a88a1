"""Ten DAGs that fail in ten ways in a whole Airflow: whether each incident answers what a responder asks.

`pytest -s` prints which fact is known of which.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_incident.sandbox.server import Sandbox
from tests.airflow.running_airflow import RunningAirflow
from tests.airflow_versions import AIRFLOW, BASE_URL

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.skipif((3, 0) <= AIRFLOW < (3, 3), reason="for the newest Airflow and 2.11"),
]

KEY = "inc-key-0f9a8b7c6d5e4f"
IS_NEW = AIRFLOW >= (3, 0)
PATIENT = {
    "AIRFLOW__CORE__PARALLELISM": "6",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60" if IS_NEW else "20",
    "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "30",
}
"""So that no task is given up for lost because the machine is busy; Airflow 2 knows a killed one by that alone."""
HEAD = """
import json
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, BaseOperator, BaseSensorOperator, task
from airflow_incident import open_incident
from airflow_incident.airflow_bridge.config import read_lenient_config
from airflow_incident.airflow_bridge.context import read_failure

try:
    from airflow.sdk import Asset
except ImportError:
    from airflow.datasets import Dataset as Asset

def note(context):
    config = read_lenient_config("incident_io_default")
    began = time.perf_counter()
    failure = read_failure(context, exception_detail="traceback", log_lines=5, redact=config.redact)
    took = time.perf_counter() - began
    failure = config.with_pages(failure)
    facts = {name: dict(value) if hasattr(value, "keys") else value for name, value in failure._asdict().items()}
    with Path(NOTES, failure.dag_id).open("a") as notes:
        print(json.dumps(facts | {"took": took}, default=str), file=notes)

CALLBACKS = [note, open_incident(log_lines=5, exception_detail="traceback")]

def dag(dag_id, **more):
    more = dict(schedule="@once", start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), catchup=False) | more
    return DAG(
        dag_id,
        default_args={"on_failure_callback": CALLBACKS, "owner": "data"},
        on_failure_callback=CALLBACKS,
        owner_links={"data": "mailto:data@example.com"},
        description="Loads what the shop sold",
        doc_md="Every night. See the [Runbook](https://wiki.example.com/orders).",
        tags=["tier-1"],
        **more,
    )

@task(outlets=[Asset("s3://lake/report")])
def publish():
    pass

@task(trigger_rule="all_done")
def clean():
    pass
"""
SINCE = "(datetime.now(timezone.utc) - timedelta(days={})).replace(hour=0, minute=0, second=0, microsecond=0)"
BODIES = {
    "python": f'''
DAYS = dict(schedule=timedelta(days=1), start_date={SINCE.format(3)}, end_date={SINCE.format(1)})
with dag("python", catchup=True, max_active_runs=1, **DAYS) as d:
    @task
    def load(logical_date=None):
        """Copies the orders of a day."""
        if logical_date.date() != {SINCE.format(3)}.date():
            print("reading orders")
            raise ValueError("no such table: orders")

    load() >> [publish(), clean()]
''',
    "bash": """
try:
    from airflow.providers.standard.operators.bash import BashOperator
except ImportError:
    from airflow.operators.bash import BashOperator

with dag("bash") as d:
    BashOperator(task_id="load", bash_command="echo the disk is full; exit 7") >> [publish(), clean()]
""",
    "sql": """
with dag("sql") as d:
    @task
    def load():
        from sqlalchemy import create_engine, text
        with create_engine("sqlite://").connect() as base:
            base.execute(text("insert into orders values (:name)"), {"name": "enaJ"[::-1]})

    load() >> [publish(), clean()]
""",
    "group": """
with dag("group") as d:
    @task
    def load():
        raise ExceptionGroup("two shops", [ValueError("no prices"), KeyError("berlin")])

    load() >> [publish(), clean()]
""",
    "mapped": """
with dag("mapped") as d:
    @task(map_index_template="{{ task.op_kwargs['shop'] }}")
    def load(shop):
        if shop == "berlin":
            raise ValueError("no prices")

    load.expand(shop=["london", "berlin"]) >> [publish(), clean()]
""",
    "slow": """
with dag("slow") as d:
    @task(execution_timeout=timedelta(seconds=1))
    def load():
        time.sleep(60)

    load() >> [publish(), clean()]
""",
    "killed": """
with dag("killed") as d:
    @task
    def load():
        import os, signal
        print("reading all of it", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

    load() >> [publish(), clean()]
""",
    "sensor": """
class OrdersSensor(BaseSensorOperator):
    template_fields = ("path", "token")

    def __init__(self, path, token, **more):
        super().__init__(**more)
        self.path = path
        self.token = token

    def poke(self, context):
        return Path(self.path).exists()

with dag("sensor") as d:
    late = OrdersSensor(task_id="load", path="/in/{{ dag.dag_id }}.csv", token="hunter2", timeout=1, poke_interval=0.2)
    late >> [publish(), clean()]
""",
    "deferred": """
from broken_trigger import BrokenTrigger

class Deferred(BaseOperator):
    def execute(self, context):
        self.defer(trigger=BrokenTrigger(), method_name="execute")

with dag("deferred") as d:
    Deferred(task_id="load") >> [publish(), clean()]
""",
    "producer": """
with dag("producer") as d:
    @task(outlets=[Asset("s3://lake/orders")])
    def load():
        raise ValueError("no such bucket")

    load() >> [publish(), clean()]
""",
}
TRIGGER = """
import asyncio

from airflow.triggers.base import BaseTrigger

class BrokenTrigger(BaseTrigger):
    def serialize(self):
        return "broken_trigger.BrokenTrigger", {}

    async def run(self):
        await asyncio.sleep(5)  # or a busy scheduler hears of the end before it hears that the task waits
        raise RuntimeError("the queue is gone")
        yield
"""
SAID = {
    "python": ("ValueError", "no such table: orders"),
    "bash": ("AirflowException", "exit code 7"),
    "sql": ("OperationalError", "no such table: orders"),
    "group": ("ExceptionGroup", "ValueError: no prices"),
    "mapped": ("ValueError", "no prices"),
    "slow": ("AirflowTaskTimeout", "load"),
    "sensor": ("AirflowSensorTimeout", "timeout"),
    "deferred": ("RuntimeError", "RuntimeError: the queue is gone"),
    "producer": ("ValueError", "no such bucket"),
}
"""Type and text of each exception; a process that was killed has none."""
ASSETS = {"producer": ["s3://lake/orders", "s3://lake/report"]}


def write_dags(home: Path) -> None:
    for name, body in BODIES.items():
        (home / "dags" / f"{name}.py").write_text(f"NOTES = {str(home / 'notes')!r}\n{HEAD}\n{body}")


@pytest.fixture(scope="module")
def told(airflow_db) -> Iterator[SimpleNamespace]:
    """Run all ten to their end; return what each callback knew, the first of a run first, and the incidents."""
    with (
        tempfile.TemporaryDirectory(prefix="airflow-incident-", ignore_cleanup_errors=True) as folder,
        Sandbox(api_key=KEY) as box,
        pytest.MonkeyPatch.context() as patch,
    ):
        home = Path(folder)
        shutil.copy(airflow_db / "empty.db", home / "airflow.db")
        for name in ("dags", "lib", "notes"):
            (home / name).mkdir()
        (home / "lib" / "broken_trigger.py").write_text(TRIGGER)
        connection = {"conn_type": "incident_io", "host": box.url, "password": KEY}
        patch.setenv("AIRFLOW_CONN_INCIDENT_IO_DEFAULT", json.dumps(connection))
        patch.setenv("PYTHONPATH", f"{os.environ.get('PYTHONPATH', '')}:{home / 'lib'}")
        patch.setenv("AIRFLOW__INCIDENT_IO__STORM_LIMIT", "0")
        if not IS_NEW:
            patch.setenv(BASE_URL, "http://localhost:8080")
        if not IS_NEW:
            write_dags(home)
        with RunningAirflow(home, **PATIENT) as airflow:
            if IS_NEW:  # not before its API server answers: a task that finds none is lost
                write_dags(home)

            def notes() -> dict[str, list[dict]]:
                files = {name: home / "notes" / name for name in BODIES}
                read = {name: file.read_text().splitlines() if file.exists() else [] for name, file in files.items()}
                return {name: [json.loads(line) for line in lines] for name, lines in read.items()}

            def all_told() -> dict[str, list[dict]] | None:
                found = notes()
                ended = all(any(each["level"] == "dag" for each in lines) for lines in found.values())
                runs = {each["run_id"] for each in found["python"] if each["level"] == "dag"}
                return found if ended and len(runs) > 1 else None

            found = airflow.wait(all_told, 240 if IS_NEW else 600, "end of all ten")
            airflow.wait(lambda: len(box.incidents) >= len(BODIES) + 1, 20, "incident of each")
            yield SimpleNamespace(notes=found, incidents=box.incidents, url=airflow.url)


@pytest.fixture(params=BODIES)
def name(request) -> str:
    return request.param


def first(told, name: str) -> dict:
    """Return what the callback knew that opened the incident of a DAG's last run."""
    run_id = told.notes[name][-1]["run_id"]
    return next(each for each in told.notes[name] if each["run_id"] == run_id)


def test_the_table(told):
    """Which fact is there in which DAG's incident."""
    facts = [name for name in first(told, "python") if name not in {"dag_id", "run_id", "in_processor", "deadline_at"}]
    width = max(map(len, facts))
    print(f"\n{'':{width}}", *(f"{name:>8}" for name in BODIES))  # noqa: T201 -- it is for a reader
    for fact in facts:
        row = (first(told, name)[fact] for name in BODIES)
        shown = (value if isinstance(value, int | float) else "yes" if value else "-" for value in row)
        cells = (f"{value:8.3f}" if isinstance(value, float) else f"{value:>8}" for value in map(str_or_float, shown))
        print(f"{fact:{width}}", *cells)  # noqa: T201


def str_or_float(value):
    return value if isinstance(value, float) else str(value)


def test_what_broke(told, name):
    """Type and text of the error, from the DAG's own file on; the failed task by its label, with its log."""
    failure = first(told, name)
    if name in SAID:
        kind, text = SAID[name]
        assert failure["exception_type"].endswith(kind)
        assert text in failure["exception"]
        assert "task_runner.py" not in failure["exception"]
    label = "load[1]" if name == "mapped" else "load"
    assert label in (
        failure["task_id"] and "load" + ("[1]" if failure["map_index"] == 1 else ""),
        *failure["failed_tasks"],
    )
    assert label in failure["log_urls"]
    assert failure["map_names"] == ({"load[1]": "berlin"} if name == "mapped" else {})


def test_what_the_log_said_last(told, name):
    """The end of the task's own log, as this host has it."""
    tail = first(told, name)["log_tail"]
    assert tail
    assert len(tail.splitlines()) <= 5
    assert "Jane" not in tail


def test_what_it_stops(told, name):
    """Tasks that do not run, not those that run all the same; and the assets that nobody updates."""
    failure = first(told, name)
    assert (failure["downstream"], failure["downstream_count"]) == (["publish"], 1)
    assert failure["assets"] == ASSETS.get(name, ["s3://lake/report"])


def test_whose_it_is_and_what_to_do(told, name):
    """Owners and where to find them, the DAG's description, the runbook."""
    failure = first(told, name)
    assert failure["owners"] == ["data"]
    assert failure["owner_links"] == {"data": "mailto:data@example.com"}
    assert failure["description"] == "Loads what the shop sold"
    assert failure["runbook"] == "https://wiki.example.com/orders"
    assert failure["tags"] == ["tier-1"]


def test_since_when(told, name):
    """When the run began and failed, and what the runs before it did."""
    failure = first(told, name)
    assert failure["run_url"]
    assert failure["started_at"]
    assert failure["failed_at"]
    assert failure["run_type"] == "scheduled"
    assert failure["failures_before"] == (1 if name == "python" else 0)
    assert bool(failure["last_success"]) == (name == "python")


def test_which_version_of_the_dag(told, name):
    """Airflow 3 tells a task its bundle."""
    failure = first(told, name)
    assert failure["bundle"] == (
        "dags-folder" if IS_NEW and failure["level"] == "task" and not failure["in_processor"] else None
    )


ERRORS = {
    "python": "ValueError` in `load`",
    "bash": "AirflowException` in `load`",
    "sql": "OperationalError` in `load`",
    "group": "ExceptionGroup` in `load`",
    "mapped": "ValueError` in `load[1]` (berlin)",
    "slow": "AirflowTaskTimeout` in `load`: it ran longer than its time limit of 1 s",
    "killed": "load`: its process was killed",
    "sensor": "AirflowSensorTimeout` in `load`: what it waits for did not come within its time limit of 1 s",
    "deferred": "RuntimeError` in `load`: raised by its trigger, in a triggerer",
    "producer": "ValueError` in `load`",
}
WHERE = "Look whether `/in/sensor.csv` is there by now, probably on the host `"
STEPS = {"slow": "raise its `execution_timeout`", "killed": "give the task more memory", "sensor": WHERE}


def test_the_incident_alone_answers(told, name):
    """What broke, where to look, what it stops, whose it is, since when, what to do: in the text, in this order."""
    text = next(each["summary"] for each in told.incidents if each["name"].startswith(f"DAG {name} failed: load"))
    assert re.match(rf"\*\*Error:\*\* `(\w+\.)*{re.escape(ERRORS[name])}", text)
    log = rf"\]\({re.escape(told.url if IS_NEW else 'http://localhost:8080')}/dags/{name}/\S+load\S*\)"
    answers = [
        rf"\n\*\*Failed task:\*\* `load\S*`( \(berlin\))?, \[log{log}(, 1 of the 2 instances of `load` failed)?\n",
        r"\n- 1 task does not run: `publish`\n- Assets not updated: `s3://lake/",
        r"\n- \*\*Owners:\*\* \[data\]\(mailto:data@example.com\)\n",
        r"\n- \*\*Runbook:\*\* \[",
        r"\n- \*\*Failing since:\*\* (this run, the first to fail|the run that ended at \d{4}\S+ \S+ UTC \(2 runs in a row\))\n",
        r"\n1\. Follow the \[runbook\]\(https://wiki.example.com/orders\)\.\n2\. .*\[the task's log" + log,
        r"\n3\. .*\. After that, clear the failed tasks in \[Airflow\]\(http.*\n4\. You are done when the run succeeds\.",
    ]
    places = [found.start() if (found := re.search(answer, text)) else None for answer in answers]
    assert None not in places, answers[places.index(None)]
    assert places == sorted(places)
    assert STEPS.get(name, "Fix the cause") in text


def test_what_the_task_is_for(told):
    """What its author wrote, and what a sensor waits for, as it was rendered; no other field of it leaves."""
    assert first(told, "python")["task_doc"] == "Copies the orders of a day."
    assert first(told, "sensor")["task_fields"] == {"path": "/in/sensor.csv"}
    assert "hunter2" not in json.dumps(told.incidents)


def test_no_row_of_a_database_leaves(told):
    """The parameters of a statement stay at home, also those that stand in the log."""
    (text,) = [each["summary"] for each in told.incidents if "`sql`" in each["summary"]]
    assert "OperationalError" in text
    assert "Jane" not in json.dumps(told.incidents)
