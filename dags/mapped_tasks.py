"""Ten mapped tasks, four of which fail together: one incident that names all four."""

from airflow.sdk import DAG, task

from airflow_incident import open_incident

UNREACHABLE = {1, 2, 3, 4}
on_failure = {"on_failure_callback": open_incident()}  # a task opens it, the run completes it

with DAG("mapped_tasks", schedule=None, default_args=on_failure, **on_failure):

    @task(map_index_template="shop {{ task.op_kwargs['shop'] }}")
    def fetch_orders(shop: int) -> int:
        if shop in UNREACHABLE:
            raise ConnectionError(f"shop {shop} does not answer")
        return shop * 100

    fetch_orders.expand(shop=list(range(1, 11)))
