"""Ten mapped tasks, four of which fail together: one incident, not four."""

from airflow.sdk import DAG, task

from airflow_incident import open_incident

UNREACHABLE = {1, 2, 3, 4}

with DAG("mapped_tasks", schedule=None, default_args={"on_failure_callback": open_incident()}):

    @task
    def fetch_orders(shop: int) -> int:
        if shop in UNREACHABLE:
            raise ConnectionError(f"shop {shop} does not answer")
        return shop * 100

    fetch_orders.expand(shop=list(range(1, 11)))
