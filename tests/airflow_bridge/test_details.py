"""What an incident can do without: each fact is read where it is, costs only itself, and no more time than it may."""

import json
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from airflow_incident.airflow_bridge import details, reading
from airflow_incident.airflow_bridge.context import read_failure
from airflow_incident.airflow_bridge.reading import TaskState
from airflow_incident.core.failure import Failure, with_pages
from tests.doors import dag_context, task_context

MEGABYTES = 2 * 1024 * 1024
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def best(read) -> float:
    """Return how long it takes at its best."""
    took = []
    for _ in range(3):
        began = time.perf_counter()
        read()
        took.append(time.perf_counter() - began)
    return min(took)


def graph(edges: dict[str, list[str]], rules: dict[str, str] | None = None, **outlets) -> SimpleNamespace:
    """Build a DAG of what is downstream of what."""
    names = [*dict.fromkeys([*edges, *(each for more in edges.values() for each in more)])]
    tasks = {
        name: SimpleNamespace(
            downstream_task_ids=set(edges.get(name, [])),
            upstream_task_ids={up for up, more in edges.items() if name in more},
            trigger_rule=(rules or {}).get(name, "all_success"),
            outlets=outlets.get(name, []),
        )
        for name in names
    }
    return SimpleNamespace(dag_id="orders", task_dict=tasks, task_ids=names)


def in_dag(dag, states: list[TaskState], monkeypatch, **more) -> Failure:
    """Read a failure as the DAG's callback does, with these states of its tasks."""
    monkeypatch.setattr(details, "task_states", lambda *_: states)
    return read_failure(dag_context(dag=dag) | more)


# What it stops


@pytest.mark.parametrize(
    ("rules", "stopped"),
    [
        ({}, ["a", "b", "c", "d"]),
        ({"b": "none_failed"}, ["a", "b", "c", "d"]),
        ({"c": "none_failed_min_one_success"}, ["a", "b", "c", "d"]),
        ({"d": "all_done"}, ["a", "b", "c"]),
        ({"a": "one_failed"}, ["b", "d"]),
        ({"a": "always", "b": "all_done"}, []),
        ({"d": "one_success"}, ["a", "b", "c", "d"]),
        ({"a": "all_done", "d": "one_success"}, ["b"]),
        ({"d": "all_done_min_one_success"}, ["a", "b", "c", "d"]),
        ({"b": "a rule of tomorrow"}, ["a", "c", "d"]),
    ],
    ids=str,
)
def test_what_runs_all_the_same_is_not_stopped(rules, stopped):
    """A task is stopped as its trigger rule says, and so is what waits for it: load > a > c > d, load > b > d."""
    dag = graph({"load": ["a", "b"], "a": ["c"], "c": ["d"], "b": ["d"]}, rules)
    failure = read_failure(task_context(dag=dag))
    assert sorted(failure.downstream) == stopped
    assert failure.downstream_count == len(stopped)


def test_the_nearest_come_first_and_all_are_counted():
    """Ten are named: those that wait for it at once before those that wait for them."""
    dag = graph({"load": [f"z{number}" for number in range(9)], "z0": ["a", "b", "c"]})
    failure = read_failure(task_context(dag=dag))
    assert failure.downstream == (*(f"z{number}" for number in range(9)), "a")
    assert failure.downstream_count == 12


def test_what_has_run_already_is_not_stopped(monkeypatch):
    """Where Airflow tells the states, a task that has run, runs or was left out on purpose is not named."""
    dag = graph({"load": ["done", "busy", "skipped", "waits"], "done": ["later"]})
    states = [
        TaskState("load", -1, "failed"),
        TaskState("done", 3, "success"),
        TaskState("busy", -1, "running"),
        TaskState("skipped", -1, "skipped"),
        TaskState("waits", -1, "upstream_failed"),
    ]
    assert in_dag(dag, states, monkeypatch).downstream == ("waits",)


def test_several_failed_tasks_stop_more_than_one(monkeypatch):
    """What is stopped by any of them, none of them itself, and each once."""
    dag = graph({"a": ["b", "x"], "b": ["x", "y"]})
    failure = in_dag(dag, [TaskState("a", 0, "failed"), TaskState("b", -1, "failed")], monkeypatch)
    assert (failure.failed_tasks, failure.downstream) == (("a[0]", "b"), ("x", "y"))


def test_assets_of_what_failed_and_of_what_is_stopped_are_not_updated():
    """By name, by address before Airflow 3; each once; what is none has no name."""
    orders, report = SimpleNamespace(name="orders", uri="s3://o"), SimpleNamespace(uri="s3://report")
    dag = graph(
        {"load": ["publish", "clean"]}, {"clean": "all_done"}, load=[orders, object(), 5], publish=[report, orders]
    )
    dag.task_dict["clean"].outlets = [SimpleNamespace(name="kept")]
    assert read_failure(task_context(dag=dag)).assets == ("orders", "s3://report")


@pytest.mark.parametrize("shape", ["fan", "chain", "dense"])
def test_ten_thousand_tasks_cost_little(shape):
    """However large a DAG is: its size is told, and ten names."""

    def measured(size):
        names = [f"task-{number}" for number in range(size)]
        if shape == "fan":
            dag = graph({"load": names})
        elif shape == "chain":
            dag = chain(names)
        else:
            names = names[: size // 50]
            dag = chain(names)
            for number, name in enumerate(names):
                dag.task_dict[name].downstream_task_ids = set(names[number + 1 :])
        context = task_context(dag=dag)
        assert read_failure(context).downstream_count == len(dag.task_dict) - 1
        return best(lambda: read_failure(context))

    edges = 100 if shape == "dense" else 10  # times as many
    assert measured(10_000) < 3 * edges * measured(1_000)


def chain(names: list[str]) -> SimpleNamespace:
    """Build a DAG of one task after the other."""
    row = ["load", *names]
    tasks = {
        name: SimpleNamespace(
            downstream_task_ids=set(row[place + 1 : place + 2]),
            upstream_task_ids=set(row[max(0, place - 1) : place]),
            trigger_rule="all_success",
            outlets=[SimpleNamespace(name=f"of {name}")],
        )
        for place, name in enumerate(row)
    }
    return SimpleNamespace(dag_id="orders", task_dict=tasks, task_ids=row)


def test_whether_anything_is_stopped_is_known_or_not():
    """Nothing is a fact, if the DAG tells its tasks; without them nobody knows."""
    assert read_failure(task_context(dag=graph({"load": []}))).downstream_count == 0
    assert read_failure(task_context()).downstream_count is None
    assert read_failure(dag_context(dag=graph({"load": []}))).downstream_count is None


# The task


class Wait:
    """A sensor as people write them, with what it waits for, and with what nobody may see."""

    operator_name = "FileSensor"
    doc_md = "\n# Waits for the shop\n\nSee the [runbook](https://wiki.example.com/shop)."
    template_fields = ("filepath", "external_task_ids", "env", "bash_command", "op_kwargs", "target_time", "my_path")

    def __init__(self):
        self.filepath = "/in/orders.csv"
        self.external_task_ids = ["a", "b", object()]
        self.env = {"DB_PASS": "secret"}
        self.bash_command = self.token = self.bucket_password = "secret"
        self.op_kwargs = {"path": "secret"}
        self.target_time = NOON
        self.my_path = object()
        self.fs_conn_id = "fs_default"
        self.timeout = 3600
        self.execution_timeout = timedelta(minutes=5)


def in_task(**more) -> Failure:
    context = task_context(dag=graph({"load": []}), task=Wait(), **more)
    context["ti"].hostname = "worker-3"
    return read_failure(context)


def test_what_a_task_does_and_waits_for():
    """Its class, the first line that its author wrote, and those of its own fields that say what it works on."""
    failure = in_task()
    assert (failure.operator, failure.task_doc, failure.host) == ("FileSensor", "Waits for the shop", "worker-3")
    assert failure.runbook == "https://wiki.example.com/shop"
    assert failure.task_fields == {
        "filepath": "/in/orders.csv",
        "external_task_ids": "a, b",
        "target_time": "2026-03-04 12:00:00+00:00",
        "fs_conn_id": "fs_default",
    }
    assert "secret" not in str(failure)


@pytest.mark.parametrize(
    ("module", "told"),
    [
        ("airflow.providers.standard.sensors.filesystem", "OrdersSensor"),
        ("shop.sensors", "shop.sensors.OrdersSensor"),
        (f"unusual_prefix_{'0f' * 20}_orders", "orders.OrdersSensor"),
    ],
)
def test_an_operator_that_is_not_airflows_is_named_with_its_module(module, told):
    """A responder finds the code of it; one from a DAG file has the file's name, which Airflow prefixes."""
    kind = type("OrdersSensor", (Wait,), {"operator_name": "OrdersSensor", "__module__": module})
    context = task_context(dag=graph({"load": []}), task=kind())
    assert read_failure(context).operator == told


def test_a_limit_is_told_only_of_what_exceeded_it():
    """The sensor's own, in seconds; the task's; the run's."""
    assert in_task().time_limit is None
    late, slow = (type(name, (Exception,), {})() for name in ("AirflowSensorTimeout", "AirflowTaskTimeout"))
    assert in_task(exception=late).time_limit == timedelta(hours=1)
    assert in_task(exception=slow).time_limit == timedelta(minutes=5)
    dag = SimpleNamespace(dag_id="orders", dagrun_timeout=timedelta(hours=2))
    assert read_failure(dag_context(dag=dag, reason="timed_out")).time_limit == timedelta(hours=2)
    assert read_failure(dag_context(dag=dag)).time_limit is None


def test_the_dag_tells_the_task_too_if_it_is_the_only_one(monkeypatch):
    """Of several nobody could tell which one it is about; where another one ran says nothing."""
    dag = graph({"load": [], "other": []})
    vars(dag.task_dict["load"]).update(operator_name="@task", doc_md="Loads.")
    ti = SimpleNamespace(task_id="load", map_index=-1, hostname="worker-3")
    load, other = TaskState("load", -1, "failed"), TaskState("other", -1, "failed")
    one = in_dag(dag, [load], monkeypatch, ti=ti)
    assert (one.operator, one.task_doc, one.host) == ("@task", "Loads.", "worker-3")
    ti.task_id = "other"
    assert in_dag(dag, [load], monkeypatch, ti=ti).host is None
    two = in_dag(dag, [load, other], monkeypatch, ti=ti)
    assert (two.operator, two.task_doc, two.host) == (None, None, None)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"event": "Process terminated by signal. Likely out of memory error (OOM)."}, "killed"),
        ({"event": "Process exited abnormally", "exit_code": 1}, "task_failure"),
        ("[t] {local_task_job_runner.py:266} INFO - Task exited with return code -9. For more", "killed"),
        ("[t] {local_task_job_runner.py:266} INFO - Task exited with return code 1", "task_failure"),
        ({"event": "reading orders"}, "task_failure"),
    ],
)
def test_a_killed_process_is_known_by_its_log(log, monkeypatch, line, reason):
    """Nobody tells the DAG's callback; it is looked for in the log also where nothing of that may be shown."""
    log({"event": "reading"}, line)
    failure = in_dag(graph({"load": []}), [TaskState("load", -1, "failed")], monkeypatch, ti=task_context()["ti"])
    assert (failure.reason, failure.log_tail) == (reason, None)
    assert read_failure(task_context()).reason is None, "a task that tells its error was not killed"


@pytest.mark.parametrize("told", [{}, {"exception": "{'DAG Id': 'orders', 'Task Id': 'load'}"}])
def test_a_lost_task_is_called_so(told):
    """The DAG processor calls a task's callback when Airflow has lost it; 2.11 says only which one."""
    context = task_context()
    del context["exception"]
    failure = read_failure(context | told)
    assert (failure.reason, failure.exception) == ("lost", None)


# Whose it is


@pytest.mark.parametrize(
    ("doc", "runbook"),
    [
        ("See the [Runbook](https://wiki.example.com/orders).", "https://wiki.example.com/orders"),
        ("[our RUNBOOK for orders](<https://wiki.example.com/a_(b)>)", "https://wiki.example.com/a_%28b%29"),
        ("[Playbook](http://wiki/x 'title')", "http://wiki/x"),
        ("[Docs](https://a.example) and [the playbook](https://b.example)", "https://b.example"),
        ("[runbook](javascript:alert(1)) [runbook](https://b.example)", "https://b.example"),
        ("[runbook](/relative) [x](https://b.example)", None),
        ("runbook: https://wiki.example.com", None),
        ("![runbook] (https://a.example)", None),
        ("", None),
        (None, None),
        (5, None),
    ],
)
def test_the_runbook_is_a_link_named_so(doc, runbook):
    """The first link of the DAG's documentation whose text says so, if it leads to a page."""
    assert read_failure(dag_context(dag=SimpleNamespace(dag_id="orders", doc_md=doc))).runbook == runbook


@pytest.mark.parametrize(
    "piece", ["[", "[a", "[runbook](", "[runbook](https://", "[](", "](", "[runbook](https://a(", "x "]
)
def test_two_megabytes_of_documentation_cost_little(piece):
    """Whatever it repeats: no more than a tenth of it."""

    def measured(size):
        dag = SimpleNamespace(dag_id="orders", doc_md=piece * (size // len(piece)), description="x " * size)
        context = dag_context(dag=dag)
        assert len(read_failure(context).description) <= 2000
        return best(lambda: read_failure(context))

    assert measured(MEGABYTES) < 5 * measured(MEGABYTES // 10)


@pytest.mark.parametrize(
    ("address", "read"),
    [
        ("https://a.example/x?y=z#f", "https://a.example/x?y=z#f"),
        ("mailto:data@example.com", "mailto:data@example.com"),
        ("https://a.example/)](x", "https://a.example/%29%5D%28x"),
        ("HTTPS://A.example", "HTTPS://A.example"),
        ("javascript:alert(1)", None),
        ("https://", None),
        ("https:///x", None),
        ("https://a.example/ b", None),
        ("https://a.example/\n[x](y)", None),
        ("https://a.example/" + "x" * 5000, None),
        (None, None),
        (7, None),
    ],
)
def test_an_address_cannot_end_its_link(address, read):
    """What could end a link is quoted, and what is no page is none."""
    links = read_failure(dag_context(dag=SimpleNamespace(dag_id="o", owner_links={"data": address}))).owner_links
    assert links.get("data") == read


def test_which_version_ran():
    """A task's process knows its bundle; a deadline's context has the versions of the run."""
    bundle = SimpleNamespace(name="main", version="0a1b2c")
    context = task_context()
    context["ti"].bundle_instance = bundle
    assert read_failure(context).bundle == "main@0a1b2c"
    bundle.version = None
    assert read_failure(context).bundle == "main"
    versions = [{"version_number": 1}, {"version_number": 7, "bundle_name": "main", "bundle_version": "f00"}]
    late = {"dag_run": {"dag_id": "o", "dag_run_id": "r", "dag_versions": versions}, "deadline": {}}
    failure = read_failure(late)
    assert (failure.bundle, failure.dag_version) == ("main@f00", "7")


# Mapped tasks


def test_a_mapped_task_has_its_own_name():
    """As Airflow has rendered it; where it has not, as its template says."""
    context = task_context(map_index=2)
    context["ti"].rendered_map_index = "berlin"
    assert read_failure(context).map_names == {"load[2]": "berlin"}
    context = task_context(map_index=2, map_index_template="shop {{ ti.map_index }}")
    assert read_failure(context).map_names == {"load[2]": "shop 2"}
    assert read_failure(task_context(map_index=2, map_index_template="{{")).map_names == {}
    assert read_failure(task_context(map_index_template="x")).map_names == {}


def test_each_failed_task_has_its_log(monkeypatch):
    """Its own with the attempt, the others without one; the first twenty of them."""
    states = [TaskState("load", number, "failed", f"shop {number}") for number in range(30)]
    failure = in_dag(graph({"load": []}), states, monkeypatch)
    assert failure.map_names["load[3]"] == "shop 3"
    failure = with_pages(failure, base_url="https://a.example", airflow=3, local=False)
    assert len(failure.log_urls) == 20
    assert failure.log_urls["load[3]"] == "https://a.example/dags/orders/runs/run-1/tasks/load/mapped/3"
    assert failure.log_url is None
    monkeypatch.setattr(details, "task_states", lambda *_: [])
    own = with_pages(read_failure(task_context()), base_url="https://a.example", airflow=2, local=False)
    assert own.log_urls == {"load": own.log_url}
    step = with_pages(
        read_failure(task_context(), level="operator"), base_url="https://a.example", airflow=3, local=False
    )
    assert step.log_urls == {}


def test_the_instances_of_a_mapped_task_are_counted(monkeypatch):
    """A task's process is told how many there are; the DAG's callback counts them, if it sees all."""
    assert read_failure(task_context(map_index=1, expanded_ti_count=7)).instances == {"load": 7}
    assert read_failure(task_context(map_index=1, expanded_ti_count="x")).instances == {}
    assert read_failure(task_context(expanded_ti_count=7)).instances == {}
    states = [TaskState("load", 0, "failed"), TaskState("load", 1, "success"), TaskState("x", 0, "success")]
    assert in_dag(graph({"load": []}), states, monkeypatch).instances == {}
    monkeypatch.setattr(details, "supervisor", object)
    assert in_dag(graph({"load": []}), states, monkeypatch).instances == {"load": 2}


# The log


@pytest.fixture
def log(tmp_path, monkeypatch):
    """Return how to write the log of the task in `task_context()`, where Airflow would."""
    monkeypatch.setenv("AIRFLOW__LOGGING__BASE_LOG_FOLDER", str(tmp_path))
    file = tmp_path / "dag_id=orders" / "run_id=run-1" / "task_id=load" / "attempt=1.log"
    file.parent.mkdir(parents=True)

    def write(*lines: object) -> None:
        file.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))

    return write


def tail(lines: int = 3, redact=str, **more) -> str | None:
    return read_failure(task_context(**more), log_lines=lines, redact=redact).log_tail


def test_a_log_is_read_only_where_it_is_wanted(log):
    """By default nothing of it is read, for it may hold what nobody may see."""
    log("a", "b", "c", "d")
    assert read_failure(task_context()).log_tail is None
    assert tail() == "b\nc\nd"
    assert tail(100) == "a\nb\nc\nd"
    assert tail(try_number=2) is None
    assert tail(task_id="other") is None


def test_of_json_lines_the_texts_are_shown(log):
    """Texts and errors, without what folds the log in Airflow's UI, and without what we said ourselves."""
    error = {"exc_type": "ValueError", "exc_value": "no such table"}
    log(
        {"event": "::group::Pre Execute", "level": "info"},
        {"event": "reading orders", "logger": "task.stdout"},
        {"event": "two\nlines"},
        {"event": "Task failed with exception", "error_detail": [error, {}, 5]},
        {"event": "incident.io: INC-1 is open"},
        {"no": "event"},
        '{"event": "half',
        {"event": 5},
    )
    assert tail(20).splitlines() == [
        "reading orders", "two", "lines", "ValueError: no such table", "None: None",
        "None: None", '{"no": "event"}', '{"event": "half', "5",
    ]  # fmt: skip


def test_what_airflow_2_says_of_the_error_is_left_out(log):
    """The incident has it already; without an error to show, the log's is the only one."""
    log(
        "[t] {x.py:1} INFO - the disk is full",
        "[t] {x.py:1} INFO - ::endgroup::",
        "[t] {taskinstance.py:3313} ERROR - Task failed with exception",
        "Traceback (most recent call last):",
        "ValueError: boom",
    )
    assert tail(1) == "[t] {x.py:1} INFO - the disk is full"
    assert tail(1, exception=None) == "ValueError: boom"


def test_what_airflow_2_says_of_callbacks_is_left_out(log):
    """The last lines are the task's own."""
    log(
        "[t] {x.py:1} ERROR - no",
        "[t] {y.py:2} INFO - Marking task as FAILED. dag_id=orders",
        "[t] {y.py} INFO - Executing callback",
    )
    assert tail() == "[t] {x.py:1} ERROR - no"


@pytest.mark.parametrize("line", ["x" * 300_000, "word " * 60_000, '{"event": "' + "y" * 90_000 + '"}', "[", ""])
def test_two_megabytes_of_log_cost_little(log, line):
    """Only its end is read, whatever its lines are."""

    def measured(size):
        log(*[line] * (size // (len(line) + 1)), "the end")
        context = task_context()
        read = read_failure(context, log_lines=1000).log_tail
        assert read.endswith("the end")
        assert len(read) <= 64_000
        return best(lambda: read_failure(context, log_lines=1000))

    assert measured(5 * MEGABYTES) < 5 * measured(MEGABYTES // 2)


def test_half_a_secret_is_never_the_first_line(log):
    """A secret of several lines is redacted before the last lines are taken; half a line at the start is dropped."""
    log("-----BEGIN", *["secret"] * 5, "-----END", "after")
    seen = []
    assert tail(3, redact=lambda text: seen.append(text) or text.replace("secret", "***")) == "***\n-----END\nafter"
    assert seen[0].startswith("-----BEGIN")
    log("KEY" * 200_000, "after")
    assert tail(3) == "after"


def test_a_log_elsewhere_is_not_read(log, tmp_path):
    """Neither a folder, nor what an id or a link leads to outside of Airflow's folder of logs."""
    log("x")
    outside = tmp_path.parent / "outside.log"
    outside.write_text("secret")
    file = tmp_path / "dag_id=orders" / "run_id=run-1" / "task_id=load" / "attempt=1.log"
    file.unlink()
    assert tail() is None
    file.symlink_to(outside)
    assert tail() is None
    file.unlink()
    file.mkdir()
    assert tail() is None
    assert tail(task_id="/../../../../outside") is None


def test_of_several_failed_tasks_no_log_is_shown(log, monkeypatch):
    """Nobody could tell whose it is. Of one, the DAG's callback shows it too where the host has it."""
    log("mine")
    ti = task_context()["ti"]
    monkeypatch.setattr(details, "task_states", lambda *_: [TaskState("load", -1, "failed")])
    assert read_failure(dag_context(ti=ti), log_lines=3).log_tail == "mine"
    monkeypatch.setattr(
        details, "task_states", lambda *_: [TaskState("load", -1, "failed"), TaskState("x", -1, "failed")]
    )
    assert read_failure(dag_context(ti=ti), log_lines=3).log_tail is None
    monkeypatch.setattr(details, "task_states", lambda *_: [TaskState("other", -1, "failed")])
    assert read_failure(dag_context(ti=ti), log_lines=3).log_tail is None


# The runs before


class Run(SimpleNamespace):
    """One of a row of runs, the latest last; counts what is asked for."""

    asked = 0

    def get_previous_dagrun(self, run, state=None):
        type(self).asked += 1
        before = [each for each in self.row[: run.place] if state in (None, each.state)]
        return before[-1] if before else None


def runs(*states: str) -> Run:
    row: list[Run] = []
    Run.asked = 0
    for place, state in enumerate((*states, "running")):
        when = NOON + timedelta(days=place)
        row.append(
            Run(
                dag_id="orders", run_id=f"r{place}", row=row, place=place, state=state, logical_date=when, end_date=when
            )
        )
    return row[-1]


@pytest.mark.parametrize(
    ("states", "failures", "succeeded", "asked"),
    [
        ((), 0, None, 1),
        (("success",), 0, 0, 1),
        (("success", "failed"), 1, 0, 2),
        (("failed", "failed"), 2, None, 3),
        (("success", "failed", "failed", "failed"), 3, 0, 4),
        (("success", *["failed"] * 30), 10, 0, 12),
        (("success", "running"), 0, 0, 2),
        (("success", "failed", "running", "failed"), 1, 0, 3),
    ],
)
def test_the_runs_before_are_asked_for_once(states, failures, succeeded, asked):
    """How many failed in a row, and when one succeeded, in as few questions as can be."""
    failure = read_failure(task_context(dag_run=runs(*states)))
    assert failure.failures_before == failures
    assert failure.last_success == (None if succeeded is None else NOON + timedelta(days=succeeded))
    first = len(states) - failures
    assert failure.failing_since == (NOON + timedelta(days=first) if failures else None)
    assert Run.asked == asked


def test_a_run_that_stands_in_no_order_has_none_before_it():
    """A run without a logical date, and a deadline's, ask nothing."""
    run = runs("success")
    run.logical_date = None
    failure = read_failure(task_context(dag_run=run))
    assert (failure.failures_before, failure.last_success, Run.asked) == (None, None, 0)


# Trouble


class Bites:
    def __getattribute__(self, name):
        raise SystemExit(3)


ODD = {"bites": Bites, "number": lambda: 5, "text": lambda: "text", "list": list, "map": lambda: {"a": Bites()}}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize(
    "fact",
    ["owner_links", "description", "doc_md", "task_dict", "fileloc", "outlets", "run", "template", "task"],
)
def test_a_broken_fact_costs_only_itself(log, fact, kind):
    """Whatever one thing is or raises, the others are there."""
    log("the log")
    value = ODD[kind]()
    dag = graph({"load": ["publish"]}, load=[SimpleNamespace(name="orders")])
    vars(dag).update(owner_links={"d": "https://d.example"}, description="about", doc_md="[Runbook](https://r.example)")
    context = task_context(dag=dag, dag_run=runs("success"))
    lost = {
        "task_dict": ["downstream", "assets"],
        "outlets": ["assets"],
        "doc_md": ["runbook"],
        "run": ["last_success"],
    }
    if fact == "outlets":
        dag.task_dict["load"].outlets = value
    elif fact == "run":
        context["dag_run"] = value
    elif fact == "task":
        context["task"] = value
    elif fact == "template":
        context["map_index_template"] = value
    else:
        setattr(dag, fact, value)
    failure = read_failure(context, log_lines=3)
    told = {
        "owner_links": {"d": "https://d.example"},
        "description": "about",
        "runbook": "https://r.example",
        "downstream": ("publish",),
        "assets": ("orders",),
        "log_tail": "the log",
        "last_success": NOON,
    }
    for name, expected in told.items():
        if name not in lost.get(fact, [fact]):
            assert getattr(failure, name) == expected, name


def test_what_hangs_costs_what_comes_after_it(monkeypatch):
    """All of it has one limit; what was read before counts."""
    from airflow_incident.airflow_bridge.channel import callback

    for module in (details, reading):
        monkeypatch.setattr(module, "DETAIL_PATIENCE", 0.3)
    dag = graph({"load": ["publish"]})
    dag.description = "about"
    run = runs("success")
    run.get_previous_dagrun = lambda *_: time.sleep(5)
    began = time.monotonic()
    with callback(12):
        failure = read_failure(task_context(dag=dag, dag_run=run))
    assert time.monotonic() - began < 4
    assert (failure.description, failure.downstream, failure.last_success) == ("about", ("publish",), None)
