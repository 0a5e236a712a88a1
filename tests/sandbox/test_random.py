"""Whatever is asked, in the document's words or against them, the sandbox answers as documented."""

import re

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from airflow_incident.sandbox import options
from airflow_incident.sandbox.server import Sandbox
from tests.contract import check_response, document, document_path

from .conftest import BODY, speak

# Of an alert source, but no alerts.
ABSENT = ("/v2/heartbeat/{alert_source_config_id}/ping",)


def operations():
    """Return the document's operations that the sandbox has, or none without the document."""
    if document_path() is None:
        return []
    paths = {path: document()["paths"][path] for path in document()["paths"] if path not in ABSENT}
    schema = schemathesis.openapi.from_dict({**document(), "paths": paths})
    return [found.ok() for found in schema.get_all_operations()]


def takes_nothing_wrong(operation):
    """Tell whether whatever may be asked is a text, which cannot be wrong."""
    asked = [row["schema"].get("type") for row in operation.definition.raw.get("parameters", [])]
    return operation.method == "get" and set(asked) <= {"string"}


def existing(path, box):
    """Return an ID that a path leads to, so that more than the 404 is asked for."""
    known = {
        "incidents": box.incidents,
        "severities": box.catalogue.severities,
        "incident_types": box.catalogue.incident_types,
        "incident_statuses": box.catalogue.statuses,
        "incident_roles": box.catalogue.roles,
        "custom_fields": box.catalogue.custom_fields,
        "alert_events": [{"id": options.ALERT_SOURCE_ID}],
    }
    return known[path.split("/")[2]][0]["id"]


@pytest.fixture(scope="module")
def crowd():
    with Sandbox(rate_limit=1_000_000, alert_rate_limit=1_000_000) as box, speak(box) as client:
        client.post("/v1/incidents", json=BODY)
        yield box


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=str)
@pytest.mark.parametrize("operation", operations(), ids=lambda operation: operation.label)
def test_random_requests_get_documented_answers(operation, mode, crowd):
    if mode.is_negative and takes_nothing_wrong(operation):
        pytest.skip("it takes nothing, or any text, so nothing can be wrong")

    @settings(
        max_examples=20,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case):
        secret = options.ALERT_SOURCE_TOKEN if "alert" in case.operation.path else crowd.api_key
        for name in case.path_parameters:
            case.path_parameters[name] = existing(case.operation.path, crowd)
        if operation.path == "/v1/incident_attachments" and isinstance(case.body, dict):
            case.body |= {"incident_id": crowd.incidents[0]["id"]} if "incident_id" in case.body else {}
        answer = case.call(base_url=crowd.url, headers={"Authorization": f"Bearer {secret}"})
        assert answer.status_code in (200, 201, 202, 404, 405, 413, 415, 422)
        path = re.sub(r"\{\w+\}", "x", case.operation.path)
        check_response(case.method, path, answer.status_code, answer.json())

    check()
