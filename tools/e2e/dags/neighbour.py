"""A neighbour's DAGs, which know nothing of ours: one waits in the triggerer all the time, one has a plain task."""

from typing import Any

from airflow.providers.common.compat.sdk import DAG, BaseOperator, task

from tools.e2e.trigger import Word


class Wait(BaseOperator):
    """Wait for the word that all is over, without a worker's slot."""

    def execute(self, context: Any) -> None:  # noqa: ARG002 -- Airflow's signature
        """Wait."""
        self.defer(trigger=Word("over"), method_name="go_on")

    def go_on(self, context: Any, event: Any) -> None:
        """Have waited."""


with DAG("neighbour_waits", schedule=None):
    Wait(task_id="waits")

with DAG("neighbour_works", schedule=None):
    task(task_id="works")(lambda: None)()
