"""Which page a task instance's button leads to, by the journal in Airflow's database; incident.io is not asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_incident.core.failure import Failure
from airflow_incident.delivery.journal import dag_prefix
from airflow_incident.delivery.opened import page_of
from airflow_incident.variables import Variables, texts_in_database

if TYPE_CHECKING:
    from airflow.sdk.types import TaskInstanceKey


def read_page(ti_key: TaskInstanceKey) -> str:
    """Return the page of the incident that a task instance's run is in; empty if there is none.

    :raises Exception: whatever the database raises.
    :raises ForeignRecordError: if what the journal holds of the run cannot be read.
    """
    dag_id, task_id, run_id, map_index = ti_key.dag_id, ti_key.task_id, ti_key.run_id, ti_key.map_index
    failure = Failure(dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index)
    return page_of(failure, texts_in_database(dag_prefix(dag_id)), Variables().get)
