"""What an editor and mypy know of the operators, the sensor and the flush DAG; nothing here runs."""

from typing import assert_type

from airflow.sdk import DAG

from airflow_incident import (
    CreateIncidentOperator,
    IncidentClosedSensor,
    ResolveIncidentOperator,
    journal_flush_dag,
)

opened = CreateIncidentOperator(
    task_id="open",
    name="Orders are late",
    severity="Major",
    roles={"Incident Lead": "bob@example.com"},
    then_fail=True,
    trigger_rule="one_failed",
)
closed = ResolveIncidentOperator(task_id="close", incident_id="{{ ti.xcom_pull('open')['id'] }}", note="Reloaded")
wait = IncidentClosedSensor(task_id="wait", severity="Major", deferrable=True, poke_interval=60, timeout=3600)

assert_type(opened, CreateIncidentOperator)
assert_type(opened.execute({}), dict[str, str | None] | None)
assert_type(closed.execute({}), list[dict[str, str | None]])
assert_type(wait.execute({}), None)
opened >> closed >> wait
assert_type(journal_flush_dag(), DAG)
assert_type(journal_flush_dag("flush", schedule=None, tags=["ops"]), DAG)

CreateIncidentOperator(task_id="open", severity=3)  # type: ignore[arg-type]
CreateIncidentOperator(task_id="open", then_fail="yes")  # type: ignore[arg-type]
CreateIncidentOperator("open")  # type: ignore[call-arg]  # by name only
ResolveIncidentOperator(task_id="close", incident_id=["01H"])  # type: ignore[arg-type]
IncidentClosedSensor(task_id="wait", severity=["Major"])  # type: ignore[arg-type]
IncidentClosedSensor(task_id="wait", deferrable="yes")  # type: ignore[arg-type]
journal_flush_dag(3)  # type: ignore[arg-type]
