"""A running sandbox, and a client that holds its key."""

import httpx
import pytest

from airflow_incident.sandbox import catalogue
from airflow_incident.sandbox.server import Sandbox
from tests.contract import check_response

BODY = {"idempotency_key": "airflow/prod/dag/orders/run/1", "visibility": "public"}


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


def speak(box: Sandbox) -> httpx.Client:
    return httpx.Client(base_url=box.url, headers={"Authorization": f"Bearer {box.api_key}"}, trust_env=False)


def field_id(name):
    return next(row["id"] for row in catalogue.CUSTOM_FIELDS if row["name"] == name)


def refused(answer, status, kind):
    """Check an error answer's form, and return what it says is wrong."""
    assert answer.status_code == status, answer.text
    check_response(answer.request.method, answer.request.url.path, status, answer.json())
    assert answer.json()["type"] == kind
    return answer.json()["errors"]


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(scope="module")
def shared():
    with Sandbox() as box:
        yield box


@pytest.fixture
def box(shared):
    shared.clear()
    return shared


@pytest.fixture
def client(box):
    with speak(box) as client:
        yield client
