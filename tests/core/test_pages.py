"""Links into Airflow's UI, and what may be taken for a link to an incident."""

import pytest

from airflow_incident.core.account import is_incident_page
from airflow_incident.core.failure import Failure, with_pages

FAILURE = Failure(dag_id="a b/c", run_id="manual__2026+1:00", level="task", task_id="löad", map_index=2, attempt=3)


def test_airflow_3_has_a_page_for_a_run_and_one_for_a_task():
    """Ids are quoted whole, the attempt chooses the log."""
    failure = with_pages(FAILURE, base_url="https://airflow.example.com/x/", airflow=3, local=False)
    assert failure.run_url == "https://airflow.example.com/x/dags/a%20b%2Fc/runs/manual__2026%2B1%3A00"
    assert failure.log_url == f"{failure.run_url}/tasks/l%C3%B6ad/mapped/2?try_number=3"


def test_airflow_2_has_the_grid():
    """Run and task are parameters there."""
    failure = with_pages(FAILURE, base_url="https://airflow.example.com", airflow=2, local=False)
    assert failure.run_url == "https://airflow.example.com/dags/a%20b%2Fc/grid?dag_run_id=manual__2026%2B1%3A00"
    assert failure.log_url == f"{failure.run_url}&task_id=l%C3%B6ad&map_index=2&tab=logs"


@pytest.mark.parametrize("base_url", [None, "", "http://localhost:8080", "http://127.0.0.1:8080"])
def test_an_address_that_only_this_machine_knows_is_no_link(base_url):
    """A responder elsewhere would land on their own machine."""
    assert with_pages(FAILURE, base_url=base_url, airflow=3, local=False).run_url is None


def test_a_sandbox_on_this_machine_may_link_to_it():
    """There the reader sits before the same machine."""
    failure = with_pages(Failure(dag_id="a", run_id="b"), base_url="http://localhost:8080", airflow=3, local=True)
    assert failure.run_url == "http://localhost:8080/dags/a/runs/b"
    assert failure.log_url is None


@pytest.mark.parametrize(
    "url",
    [
        "https://app.incident.io/acme/incidents/123",
        "https://incident.io",
        "https://app.staging-2.incident.io/a?b=c&d=%20#e",
        "http://127.0.0.1:8910/incidents/INC-1",
        "http://localhost/incidents/INC-1",
        "http://[::1]:8910/",
    ],
)
def test_pages_of_incident_io_and_of_a_sandbox_are_taken(url):
    assert is_incident_page(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "javascript:alert(1)",
        "javascript://app.incident.io/%0aalert(1)",
        "JavaScript:alert(1)//https://app.incident.io/",
        "data:text/html,<script>alert(1)</script>",
        "//app.incident.io/1",
        "app.incident.io/1",
        "http://app.incident.io/1",
        "https://evil.example/app.incident.io",
        "https://incident.io.evil.example/1",
        "https://evilincident.io/1",
        "https://app.incident.io@evil.example/1",
        "https://evil.example\\@app.incident.io/1",
        "https://evil.example#.incident.io",
        "https://evil.example?.incident.io",
        "https://app.incident.io:443@evil.example/",
        "https://app.incident.io\\.evil.example/",
        "https://app.incident.io/1\n",
        "https://app.incident.io/1 2",
        'https://app.incident.io/"onclick="alert(1)',
        "https://app.incident.io/<script>",
        "\thttps://app.incident.io/1",
        "https://app.incident\u3002io/1",
        "https://\u0430pp.incident.io/1",
        "http://localhost.evil.example/",
        "http://localhost:8910@evil.example/",
        "http://127.0.0.1.evil.example/",
    ],
)
def test_no_other_address_is_taken(url):
    """Nothing that a browser would run, or read as another host than it seems to name."""
    assert not is_incident_page(url)
