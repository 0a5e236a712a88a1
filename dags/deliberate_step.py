"""An incident as a step of the DAG, in its own words; the run still counts as failed."""

from airflow.sdk import DAG, task

from airflow_incident import CreateIncidentOperator

with DAG("deliberate_step", schedule=None):

    @task
    def count_orders() -> int:
        return 0

    @task
    def publish(orders: int) -> None:
        if not orders:
            raise ValueError("no orders today: the shop has probably stopped sending them")

    publish(count_orders()) >> CreateIncidentOperator(
        task_id="open_incident",
        name="Today's orders are not published",
        summary="Dashboards show yesterday's orders. Ask the shop's team why before a new run.",
        trigger_rule="one_failed",
        then_fail=True,  # the only leaf decides: without this the run would be a success
    )
