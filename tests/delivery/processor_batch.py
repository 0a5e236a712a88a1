"""A batch of failed runs, handed to a child of the DAG processor as Airflow hands it: with its in-process API.

Run it as a process of its own, with a DAG file and DAG ids; what ends the DAG processor ends this process, too.
"""

import inspect
import io
import selectors
import sys
import uuid
from pathlib import Path


def main(path: str, *dag_ids: str) -> None:
    """Have the callbacks of a run of each DAG called, and wait for the child's end."""
    import structlog
    from airflow.api_fastapi.execution_api.app import InProcessExecutionAPI
    from airflow.callbacks.callback_requests import DagCallbackRequest
    from airflow.dag_processing.processor import DagFileProcessorProcess
    from airflow.sdk.api.client import Client

    file = Path(path)
    client = Client(base_url=None, token="", dry_run=True, transport=InProcessExecutionAPI().transport)
    client.base_url = "http://in-process.invalid./"
    client.variables.get(
        "nothing"
    )  # Airflow makes the API at the first question, which takes seconds of processor time
    requests = [
        DagCallbackRequest(
            filepath=file.name, bundle_name="dags-folder", bundle_version=None, msg="no", dag_id=dag_id, run_id="r1"
        )
        for dag_id in dag_ids
    ]
    offered = {
        "id": uuid.uuid4(),
        "path": path,
        "bundle_path": file.parent,
        "bundle_name": "dags-folder",
        "dag_file_rel_path": file.name,
        "callbacks": requests,
        "selector": selectors.DefaultSelector(),
        "logger": structlog.get_logger("dag_processor"),
        "logger_filehandle": io.BytesIO(),
        "client": client,
    }
    optional = {"bundle_name", "dag_file_rel_path"} - set(inspect.signature(DagFileProcessorProcess.start).parameters)
    process = DagFileProcessorProcess.start(**{name: value for name, value in offered.items() if name not in optional})
    while not process.is_ready:
        process._service_subprocess(max_wait_time=0.2)
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
