"""A secrets backend that is out of order, and a process of Airflow's that meets it: run as a module, it fails once."""

import sys
from typing import Any

from airflow.secrets import BaseSecretsBackend


class SealedBackend(BaseSecretsBackend):
    """Raises whatever is asked for a connection, and has no Variable."""

    def get_connection(self, conn_id: str) -> Any:
        """Fail, as a vault does that is sealed."""
        raise RuntimeError(f"vault is sealed: no {conn_id}, token=s.abcdefgh")

    def get_variable(self, key: str) -> None:
        """Leave Variables to the database."""

    def get_config(self, key: str) -> None:
        """Leave the configuration to its file."""


if __name__ == "__main__":
    from airflow_incident import open_incident
    from tests.doors import call_async, call_sync, task_context

    (call_async if sys.argv[1] == "async" else call_sync)(open_incident(), task_context())
