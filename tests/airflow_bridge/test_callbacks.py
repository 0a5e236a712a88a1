"""Failures in a real Airflow, DAG by DAG through `dag.test()`: from the callback to the incident."""

import asyncio
import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from airflow_incident.airflow_bridge.context import read_failure
from tests.airflow_dags import as_stored, load_dag, stored
from tests.airflow_versions import AIRFLOW, TELLS_EXCEPTION, since
from tests.doors import dag_named
from tests.journal_records import forget_all

TOLD_THE_EXCEPTION = pytest.mark.skipif(not TELLS_EXCEPTION, reason="dag.test() tells no exception on 3.0 to 3.2")

HEAD = """
from datetime import timedelta
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, BaseHook, Param, task
from airflow_incident import CreateIncidentOperator, open_incident

def raises(context):
    raise RuntimeError("the neighbour is broken")

def boom():
    raise ValueError("no such table: orders")
"""

BOOM = "task(boom)()"
RUN_DATE = "logical_date" if AIRFLOW >= (3, 0) else "execution_date"
DAYS = (datetime(2026, 1, day, tzinfo=UTC) for day in range(1, 30))


@pytest.fixture
def run(airflow_db, connected):
    """Run a DAG that is built from the body given; return its run."""

    def test(body: str, name: str, arguments: str = "", **options):
        lines = "\n".join(f"    {line}" for line in body.splitlines())
        source = f"{HEAD}\nwith DAG({name!r}, {arguments}) as dag:\n{lines}\n"
        dag = load_dag(airflow_db, source, name)
        return dag.test(**options)

    return test


def printed(capfd, caplog) -> str:
    """Return what was printed and logged, but for the lines in which Airflow 3.0's `dag.test()` names what it masks."""
    lines = ("".join(capfd.readouterr()) + caplog.text).splitlines()
    return "\n".join(line for line in lines if "MaskSecret" not in line)


@pytest.mark.parametrize(
    ("name", "arguments", "body"),
    [
        pytest.param("at_dag", "on_failure_callback=open_incident()", BOOM, id="DAG"),
        pytest.param("at_task", "", "task(on_failure_callback=open_incident())(boom)()", id="task"),
        pytest.param("at_default", "default_args={'on_failure_callback': open_incident()}", BOOM, id="default_args"),
        pytest.param(
            "at_both",
            "default_args={'on_failure_callback': open_incident()}, on_failure_callback=open_incident()",
            BOOM,
            id="both",
        ),
        pytest.param("after_broken", "on_failure_callback=[raises, open_incident()]", BOOM, id="after-one-that-raises"),
        pytest.param(
            "before_broken", "on_failure_callback=[open_incident(), raises]", BOOM, id="before-one-that-raises"
        ),
        pytest.param("twice", "on_failure_callback=[open_incident(), open_incident()]", BOOM, id="twice"),
        pytest.param(
            "task_list",
            "default_args={'on_failure_callback': [raises, open_incident(), raises]}",
            BOOM,
            id="task-between-two-that-raise",
        ),
        pytest.param(
            "mapped",
            "default_args={'on_failure_callback': open_incident()}, on_failure_callback=open_incident()",
            "@task\ndef check(number):\n    raise ValueError(number)\ncheck.expand(number=[1, 2, 3])",
            id="mapped-tasks-together",
        ),
        pytest.param(
            "several",
            "default_args={'on_failure_callback': open_incident()}",
            "task(task_id='a')(boom)(), task(task_id='b')(boom)() >> task(task_id='c')(boom)()",
            id="several-tasks",
        ),
    ],
)
def test_one_failed_run_is_one_incident(run, connected, name, arguments, body):
    """Wherever the callback stands, whoever stands beside it: one failed run, one incident."""
    failed = run(body, name, arguments)
    assert failed.state == "failed"
    (incident,) = connected.incidents
    assert dag_named(incident["name"]) == name
    key = f"airflow/tests/dag/{name}/run/{failed.run_id.replace(':', '%3A').replace('+', '%2B')}"
    assert {seen.body["idempotency_key"] for seen in connected.requests} == {key}


@TOLD_THE_EXCEPTION
def test_a_task_tells_what_the_dag_cannot(run, connected):
    """A task's incident has the exception and the attempt."""
    run(BOOM, "telling", "default_args={'on_failure_callback': open_incident()}, tags=['night'], schedule=None")
    text = connected.incidents[0]["summary"]
    assert re.match(
        r"\*\*Error:\*\* `ValueError` in `boom`, at `/.*/telling.py:\d+`\n```\nno such table: orders\n```", text
    )
    assert "**Failed task:** `boom`" in text
    assert "- **Attempt:** 1 of 1" in text
    assert "- **Tags:** `night`" in text


def test_rows_of_the_database_tell_as_much(airflow_db, run):
    """A context made of a stored DAG and of rows, by whoever has the database, tells what the DAG's callback does."""
    from airflow.models import DagRun, TaskInstance
    from airflow.utils.session import create_session

    body = """
@task(doc_md="Loads the prices of a shop.")
def load(shop):
    raise ValueError(shop)

@task
def publish():
    pass

load.expand(shop=["london"]) >> publish()
"""
    for _ in range(2):
        run(body, "rows", "schedule=None, dagrun_timeout=timedelta(hours=1)", **{RUN_DATE: next(DAYS)})
    dag = stored(load_dag(airflow_db, (airflow_db / "dags" / "rows.py").read_text(), "rows"))
    with create_session() as session:
        last = session.query(DagRun).filter_by(dag_id="rows").order_by(DagRun.id.desc()).first()
        ti = session.query(TaskInstance).filter_by(dag_id="rows", run_id=last.run_id, state="failed").one()
        context = {"dag": dag, "dag_run": last, "ti": ti, "run_id": last.run_id, "reason": "task_failure"}
        failure = read_failure(context)
        late = read_failure(context | {"reason": "timed_out"})
    assert (failure.level, failure.failed_tasks, failure.downstream) == ("dag", ("load[0]",), ("publish",))
    assert (failure.operator, failure.task_doc) == ("@task", "Loads the prices of a shop.")
    assert failure.file.endswith("rows.py")
    assert failure.host
    assert failure.failures_before == 1
    assert failure.failing_since < failure.failed_at
    assert late.time_limit == timedelta(hours=1)


@TOLD_THE_EXCEPTION
def test_two_runs_of_one_dag_are_two_incidents_with_their_own_texts(airflow_db, connected):
    """All runs of a DAG share one notifier in one process, and none is told another's story."""
    source = f"""{HEAD}
callback = open_incident(name="{{{{ run_id }}}} of {{{{ dag.dag_id }}}}: {{{{ exception }}}} {{{{ reason }}}}")
with DAG("shared", default_args={{"on_failure_callback": callback}}) as dag:
    {BOOM}
"""
    dag = load_dag(airflow_db, source, "shared")
    runs = [dag.test().run_id, dag.test().run_id]
    assert [row["name"] for row in connected.incidents] == [f"{run} of shared: no such table: orders" for run in runs]


def test_a_run_that_succeeds_opens_nothing(run, connected):
    """No failure, no request."""
    done = run("@task\ndef fine():\n    pass\nfine()", "fine", "on_failure_callback=open_incident()")
    assert done.state == "success"
    assert connected.requests == []


def test_an_attempt_with_retries_to_come_opens_nothing(run, connected):
    """Only the last attempt opens an incident."""
    body = """
@task(retries=1, retry_delay=timedelta(0))
def flaky(**context):
    if context["ti"].try_number == 1:
        raise ValueError("not yet")
flaky()"""
    done = run(body, "recovers", "default_args={'on_failure_callback': open_incident()}")
    assert done.state == "success"
    assert connected.requests == []


def test_the_last_attempt_opens_an_incident(run, connected):
    """When the retries are used up, the incident tells so."""
    arguments = "default_args={'on_failure_callback': open_incident(), 'retries': 1, 'retry_delay': timedelta(0)}"
    assert run(BOOM, "exhausted", arguments).state == "failed"
    assert [seen.path for seen in connected.requests] == ["/v1/incidents"]
    assert "- **Attempt:** 2 of 2" in connected.incidents[0]["summary"]


def test_a_task_that_gives_up_with_retries_left_opens_an_incident(run, connected):
    """AirflowFailException ends a task for good, whatever its attempts say."""
    body = "@task(retries=3)\ndef gives_up():\n    raise AirflowFailException('the file is empty')\ngives_up()"
    assert run(body, "gives_up", "default_args={'on_failure_callback': open_incident()}").state == "failed"
    assert "- **Attempt:** 1 of 4" in connected.incidents[0]["summary"]


@TOLD_THE_EXCEPTION
@since("3.0", "word of what a task left by")
def test_sys_exit_in_a_task_opens_an_incident(run, connected):
    """A task that leaves by `sys.exit` has failed as any other."""
    body = "@task\ndef leave():\n    raise SystemExit(3)\nleave()"
    assert run(body, "leaves", "default_args={'on_failure_callback': open_incident()}").state == "failed"
    assert "`SystemExit`" in connected.incidents[0]["summary"]


@TOLD_THE_EXCEPTION
@since("3.0", "dag.test() that outlives a task's timeout")
def test_a_task_that_runs_out_of_time_opens_an_incident(run, connected):
    """The alarm that ended the task does not end its callback."""
    body = """
import time
@task(execution_timeout=timedelta(milliseconds=200))
def slow():
    time.sleep(30)
slow()"""
    assert run(body, "too_slow", "default_args={'on_failure_callback': open_incident()}").state == "failed"
    assert "Timeout`" in connected.incidents[0]["summary"]


def test_ids_may_have_letters_of_any_alphabet(run, connected):
    """Airflow takes any letter in an id; in the key it is percent-encoded."""
    run(BOOM, "zähler.täglich-日", "on_failure_callback=open_incident(), dag_display_name='Zähler'")
    (seen,) = connected.requests
    assert seen.body["idempotency_key"].startswith("airflow/tests/dag/z%C3%A4hler.t%C3%A4glich-%E6%97%A5/run/")
    assert connected.incidents[0]["name"] == "DAG zähler.täglich-日 failed"


def test_a_callback_of_a_task_group_is_inherited(run, connected):
    """A task group's default_args reach its tasks."""
    body = """
from airflow.providers.common.compat.sdk import TaskGroup
with TaskGroup("loads", default_args={"on_failure_callback": open_incident()}):
    task(boom)()"""
    assert run(body, "grouped").state == "failed"
    assert "`loads.boom`" in connected.incidents[0]["summary"]


@since("3.0", "run without a logical date")
def test_a_run_without_a_logical_date_opens_an_incident(run, connected):
    """`ds` and its kin are missing from the context then; even a template that asks for them does no harm."""
    arguments = (
        "schedule=None, on_failure_callback=open_incident(name='{{ dag.dag_id }} of {{ ds }}{{ nothing.at.all }}')"
    )
    assert run(BOOM, "dateless", arguments, logical_date=None).state == "failed"
    assert connected.incidents[0]["name"] == "dateless of"
    assert "Logical date" not in connected.incidents[0]["summary"]


def test_the_scope_task_is_one_incident_a_task(run, connected):
    """Two failed tasks, one of them mapped, are two incidents then."""
    body = """
@task
def check(number):
    raise ValueError(number)
check.expand(number=[1, 2]), task(boom)()"""
    run(body, "by_task", "default_args={'on_failure_callback': open_incident(scope='task')}")
    assert sorted(row["name"].removesuffix(" (ValueError)").partition("[")[0] for row in connected.incidents) == [
        "Task by_task.boom failed",
        "Task by_task.check",
    ]


@pytest.mark.parametrize("trouble", ["no connection", "wrong key", "nobody listens"])
def test_trouble_with_incident_io_is_one_line(run, connect, sandbox, monkeypatch, caplog, capfd, trouble):
    """A run fails as it would without us, its other callbacks are called, and a line says what to do."""
    if trouble == "wrong key":
        connect(sandbox.url, password="wrong-key-4711")
    elif trouble == "nobody listens":
        connect("http://127.0.0.1:9")
    else:
        monkeypatch.delenv("AIRFLOW_CONN_INCIDENT_IO_DEFAULT")
    name = f"trouble_{trouble.replace(' ', '_')}"
    arguments = "default_args={'on_failure_callback': [open_incident(), raises]}"
    assert run(BOOM, name, arguments).state == "failed"
    out = printed(capfd, caplog)
    assert f"NO incident was opened for DAG {name}" in out
    assert "the neighbour is broken" in out
    assert "wrong-key-4711" not in out
    assert sandbox.incidents == []


def test_turned_off_nothing_is_asked_for(run, connected, monkeypatch):
    """On a laptop one environment variable keeps everything quiet."""
    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__ENABLED", "false")
    body = "task(boom)() >> CreateIncidentOperator(task_id='tell', trigger_rule='one_failed')"
    assert run(body, "quiet", "on_failure_callback=open_incident()").state == "success"
    assert connected.requests == []


@TOLD_THE_EXCEPTION
def test_a_secret_in_an_exception_is_not_sent(run, connected, connect):
    """What Airflow knows as a secret, and the key itself, is redacted from the incident's text."""
    connect(connected.url)
    connect("db.example.com", conn_id="orders_db", conn_type="postgres", password="swordfish-77")
    body = """
@task
def leak():
    secret = BaseHook.get_connection("orders_db").password
    key = BaseHook.get_connection("incident_io_default").password
    raise ValueError(f"cannot log in with <{secret}> or <{key}>")
leak()"""
    run(body, "leaks", "default_args={'on_failure_callback': open_incident(exception_detail='traceback')}")
    (seen,) = connected.requests
    assert b"cannot log in with <***> or <***>" in seen.raw
    assert b"swordfish-77" not in seen.raw
    assert b"sandbox-key" not in seen.raw


def test_the_key_is_printed_nowhere(run, connected, airflow_home, caplog, capfd):
    """Neither a log file nor what Airflow prints holds the API key."""
    run(BOOM, "quiet_key", "default_args={'on_failure_callback': open_incident()}, on_failure_callback=open_incident()")
    out = printed(capfd, caplog)
    assert "INC-1" in out
    assert "sandbox-key" not in out
    files = [file for file in (airflow_home / "logs").rglob("*.log") if "sandbox-key" in file.read_text()]
    assert files == []


@pytest.fixture
def kept_in_database(airflow_db, sandbox, monkeypatch):
    """Keep the connection where the web form puts it, and nowhere else."""
    from airflow.models import Connection
    from airflow.utils.session import create_session

    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    given = {"conn_type": "incident_io", "host": sandbox.url, "password": sandbox.api_key}
    row = Connection(conn_id="incident_io_default", **given)  # noqa: AIR311 -- the row in the database
    with create_session() as session:
        session.add(row)
    yield sandbox
    forget_all()
    with create_session() as session:
        session.delete(session.merge(row))


AT_DAG = "on_failure_callback=open_incident()"
AT_TASK = "default_args={'on_failure_callback': open_incident()}"


# What the command does with a task is what `dag.test()` does with it.
@pytest.mark.parametrize(
    ("by", "level", "arguments"),
    [("dag.test()", "dag", AT_DAG), ("dag.test()", "task", AT_TASK), ("airflow dags test", "dag", AT_DAG)],
)
def test_a_connection_in_the_database_is_found_at_both_levels(airflow_db, kept_in_database, level, arguments, by):
    """Nothing supervises a DAG's callbacks there, so Airflow's look-up finds the environment's connections alone."""
    name = f"in_database_{level}_{len(by)}"
    dag = load_dag(airflow_db, f"{HEAD}\nwith DAG({name!r}, {arguments}) as dag:\n    {BOOM}\n", name)
    if by == "dag.test()":
        assert dag.test().state == "failed"
    else:
        command = [sys.executable, "-m", "airflow", "dags", "test", name]
        subprocess.run(command, check=False, capture_output=True, timeout=120)
    (incident,) = kept_in_database.incidents
    assert incident["name"].startswith(f"DAG {name} failed: boom" if level == "task" else f"DAG {name} failed")
    assert ("- **Attempt:** 1 of 1" in incident["summary"]) is (level == "task")


def test_airflow_dags_test_opens_one_incident(airflow_db, connected):
    """The command line runs both levels, one of them with a DAG that cannot make a template environment."""
    source = f"""{HEAD}
callback = open_incident(name="{{{{ run_id }}}} of {{{{ dag.dag_id }}}}", mode="test")
with DAG("by_hand", default_args={{"on_failure_callback": callback}}, on_failure_callback=callback) as dag:
    {BOOM}
"""
    load_dag(airflow_db, source, "by_hand")
    command = [sys.executable, "-m", "airflow", "dags", "test", "by_hand"]
    subprocess.run(command, check=False, capture_output=True, timeout=120)
    (incident,) = connected.incidents
    assert incident["name"].endswith(" of by_hand")
    assert len(connected.requests) == 2


def test_a_dag_is_serialized_the_same_at_each_parse(airflow_db):
    """A DAG that changes at each parse would get a new version each time; no address of an object is in it."""
    source = f"""{HEAD}
callback = open_incident(severity="Major")
with DAG("stable", schedule=None, default_args={{"on_failure_callback": callback}}, on_failure_callback=[callback]) as dag:
    {BOOM} >> CreateIncidentOperator(task_id="tell", custom_fields={{"b": 1, "a": {{"value_text": "x"}}}})
"""
    texts = [json.dumps(as_stored(load_dag(airflow_db, source, "stable"))) for _ in range(2)]
    assert texts[0] == texts[1]
    assert " at 0x" not in texts[0]


@pytest.mark.parametrize("then_fail", [True, False])
def test_an_operator_as_last_task_opens_an_incident(run, connected, then_fail):
    """As a DAG's only leaf it keeps the run failed with `then_fail`; the incident can be read from its XCom."""
    name = f"leaf_{then_fail}".lower()
    body = f"task(boom)() >> CreateIncidentOperator(task_id='tell', trigger_rule='one_failed', then_fail={then_fail})"
    ended = run(body, name, "on_failure_callback=open_incident()")
    assert ended.state == ("failed" if then_fail else "success")
    (incident,) = connected.incidents
    ti = next(ti for ti in ended.get_task_instances() if ti.task_id == "tell")
    told = {field: incident[field] for field in ("id", "reference", "permalink")}
    assert ti.xcom_pull(task_ids="tell", key="incident_io") == told
    assert ti.xcom_pull(task_ids="tell") == told
    assert ti.state == ended.state


def test_an_operators_incident_is_named_by_its_templates(run, connected):
    """Arguments are templates, with the run's parameters; the link leads to the incident, also after a failure."""
    body = """
tell = CreateIncidentOperator(
    task_id="tell", name="{{ params.what }} in {{ run_id }}", key="{{ params.what }}", mode="test", then_fail=True
)"""
    ended = run(body, "deliberate", "params={'what': Param('Drift')}, schedule=None")
    (incident,) = connected.incidents
    assert incident["name"] == f"Drift in {ended.run_id}"
    assert incident["mode"] == "test"
    assert connected.requests[0].body["idempotency_key"].endswith("/key/Drift")


def test_a_mapped_operator_opens_one_incident_per_key(run, connected):
    """Each mapped step with a key of its own has its own incident; templates are rendered for each."""
    body = """
CreateIncidentOperator.partial(task_id="tell", mode="test").expand_kwargs(
    [{"name": "Drift of {{ dag.dag_id }}", "key": "drift"}, {"name": "Gap", "key": "gap"}]
)"""
    assert run(body, "many").state == "success"
    assert sorted(row["name"] for row in connected.incidents) == ["Drift of many", "Gap"]


def test_a_refused_operator_fails_at_once(run, connected, connect):
    """What a retry cannot mend is not retried, and the log says what to do."""
    connect(connected.url, password="revoked")
    body = "CreateIncidentOperator(task_id='tell', retries=3, retry_delay=timedelta(0))"
    ended = run(body, "refused")
    assert ended.state == "failed"
    assert [seen.status for seen in connected.requests] == [401]


@since("3.1", "deadline alerts")
def test_the_trigger_of_a_deadline_opens_an_incident(connected):
    """Airflow's own trigger awaits the notifier with the little that a deadline's context has."""
    if AIRFLOW >= (3, 2):
        from airflow.triggers.callback import CallbackTrigger as Trigger
    else:
        from airflow.triggers.deadline import DeadlineCallbackTrigger as Trigger

    context = {
        "dag_run": {
            "dag_id": "late",
            "dag_run_id": "monday",
            "logical_date": "2026-11-23T04:00:00Z",
            "run_type": "manual",
        },
        "deadline": {"id": "0f9a", "deadline_time": "2026-11-23T05:00:00Z"},
    }
    trigger = Trigger(
        "airflow_incident.notifications.IncidentNotifier",
        {"severity": "01SANDB0XSEV00000000000001", "context": json.loads(json.dumps(context))},
    )

    async def events():
        return [event.payload["state"] async for event in trigger.run()]

    assert asyncio.run(events()) == ["running", "success"]
    (incident,) = connected.incidents
    assert incident["name"] == "DAG late missed a deadline"
    assert connected.requests[0].body["idempotency_key"] == "airflow/tests/dag/late/run/monday"
    assert "- **Deadline:** 2026-11-23 05:00:00 UTC" in incident["summary"]
