"""Whatever is asked, in the document's words or against them, the sandbox answers as documented."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from airflow_incident.sandbox.server import Sandbox
from tests.contract import check_response, document, document_path

PATHS = ("/v1/incidents", "/v1/incidents/{id}", "/v1/identity", "/v1/incident_attachments")


def operations():
    """Return the document's operations that the sandbox has, or none without the document."""
    if document_path() is None:
        return []
    paths = {path: document()["paths"][path] for path in PATHS}
    schema = schemathesis.openapi.from_dict({**document(), "paths": paths})
    return [found.ok() for found in schema.get_all_operations()]


@pytest.fixture(scope="module")
def crowd():
    with Sandbox(rate_limit=1_000_000) as box:
        yield box


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=str)
@pytest.mark.parametrize("operation", operations(), ids=lambda operation: operation.label)
def test_random_requests_get_documented_answers(operation, mode, crowd):
    if mode.is_negative and (operation.method == "get") and operation.path != "/v1/incidents":
        pytest.skip("it takes nothing, or any text, so nothing can be wrong")

    @settings(
        max_examples=20,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case):
        answer = case.call(base_url=crowd.url, headers={"Authorization": f"Bearer {crowd.api_key}"})
        assert answer.status_code in (200, 201, 404, 405, 413, 415, 422)
        check_response(case.method, case.operation.path.replace("{id}", "x"), answer.status_code, answer.json())

    check()
