"""Who is measured: each is a DAG file with a callback, and the connection that it needs."""

from dataclasses import dataclass, field
from typing import Any

KEY = "a-key-of-twenty-chars"
RAW = "raw httpx.post"
FLOOR = "raw, key from an Airflow connection"
OURS = "airflow-incident: open_incident()"
OURS_NAMED = "airflow-incident: with names"


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One DAG file to parse, and to notify with if it defines `callback`.

    `connections` are Airflow connections by ID; `unmeasured` are lines that run between parsing and notifying.
    """

    name: str
    dag_file: str
    connections: dict[str, dict[str, Any]] = field(default_factory=dict)
    unmeasured: str = ""


def raw(url: str) -> Contestant:
    """Post an incident as one does without any package, and read the answer."""
    return Contestant(name=RAW, dag_file=_post(url, f'key = "{KEY}"'))


def floor(url: str) -> Contestant:
    """Do as `raw` does, but let Airflow keep the key, as every notifier must."""
    read = 'from airflow.sdk import BaseHook; key = BaseHook.get_connection("incident_io_default").password'
    return Contestant(name=FLOOR, dag_file=_post(url, read), connections=_connection(url))


def ours(url: str) -> Contestant:
    """Open an incident with this package."""
    return Contestant(
        name=OURS,
        dag_file="from airflow_incident import open_incident\ncallback = open_incident()",
        connections=_connection(url),
    )


def ours_named(url: str) -> Contestant:
    """Open an incident with names, which are looked up: a severity, and an option of a custom field."""
    return Contestant(
        name=OURS_NAMED,
        dag_file="""
from airflow_incident import open_incident
callback = open_incident(severity="Major", custom_fields={"Affected team": "Product"})
""",
        connections=_connection(url),
    )


def _post(url: str, read_key: str) -> str:
    return f"""
import httpx
def callback(context):
    {read_key}
    body = {{"idempotency_key": context["run_id"], "visibility": "public", "name": "DAG orders failed"}}
    headers = {{"Authorization": "Bearer " + key}}
    answer = httpx.post("{url}/v1/incidents", json=body, headers=headers, timeout=5)
    answer.raise_for_status()
    answer.json()["incident"]["id"]
"""


def _connection(url: str) -> dict[str, dict[str, Any]]:
    return {"incident_io_default": {"conn_type": "incident_io", "host": url, "password": KEY}}


PARSED_ONLY = (
    Contestant(name="  CreateIncidentOperator", dag_file="from airflow_incident import CreateIncidentOperator"),
    Contestant(name="  IncidentHook", dag_file="from airflow_incident import IncidentHook"),
)
"""Our other doors; no limit is set for them."""


def peers(url: str, smtp_port: int) -> list[Contestant]:
    """Return Airflow's own notifiers and incident.io's SDK, each with the arguments that it cannot do without."""
    return [_http(url), _smtp(smtp_port), _slack(url), _opsgenie(url), _pagerduty(url), _jira(url), _sdk(url)]


def _http(url: str) -> Contestant:
    return Contestant(
        name="http notifier",
        dag_file="""
from airflow.providers.http.notifications.http import HttpNotifier
callback = HttpNotifier(endpoint="/v1/incidents", json={"name": "DAG orders failed"})
""",
        connections={"http_default": {"conn_type": "http", "host": url}},
    )


def _smtp(port: int) -> Contestant:
    extra = {"disable_ssl": True, "disable_tls": True}
    return Contestant(
        name="smtp notifier",
        dag_file="""
from airflow.providers.smtp.notifications.smtp import SmtpNotifier
callback = SmtpNotifier(
    to="b@example.com", from_email="a@example.com", subject="DAG orders failed", html_content="It failed."
)
""",
        connections={"smtp_default": {"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": extra}},
    )


def _slack(url: str) -> Contestant:
    return Contestant(
        name="slack webhook notifier",
        dag_file="""
from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier
callback = SlackWebhookNotifier(text="DAG orders failed")
""",
        connections={"slack_default": {"conn_type": "slackwebhook", "host": url, "password": "T0/B0/token"}},
    )


def _opsgenie(url: str) -> Contestant:
    return Contestant(
        name="opsgenie notifier",
        dag_file="""
from airflow.providers.opsgenie.notifications.opsgenie import OpsgenieNotifier
callback = OpsgenieNotifier(payload={"message": "DAG orders failed"})
""",
        connections={"opsgenie_default": {"conn_type": "opsgenie", "host": url, "password": KEY}},
    )


def _pagerduty(url: str) -> Contestant:
    """Build the pagerduty notifier; its address is not to be chosen and its client refuses plain HTTP."""
    return Contestant(
        name="pagerduty notifier",
        dag_file="""
from airflow.providers.pagerduty.notifications.pagerduty import PagerdutyNotifier
callback = PagerdutyNotifier(summary="DAG orders failed", severity="error")
""",
        connections={"pagerduty_events_default": {"conn_type": "pagerduty_events", "password": KEY}},
        unmeasured=f"""
from pagerduty import EventsApiV2Client
EventsApiV2Client.url = EventsApiV2Client.default_base_url = "{url}"
""",
    )


def _jira(url: str) -> Contestant:
    return Contestant(
        name="jira notifier",
        dag_file="""
from airflow.providers.atlassian.jira.notifications.jira import JiraNotifier
callback = JiraNotifier(description="It failed.", summary="DAG orders failed", project_id=1, issue_type_id=1)
""",
        connections={"jira_default": {"conn_type": "jira", "host": url, "login": "a", "password": KEY}},
    )


def _sdk(url: str) -> Contestant:
    return Contestant(
        name="incident.io's own SDK",
        dag_file=f"""
from incident_io import AuthenticatedClient
from incident_io.api.incidents_v1 import incidents_v1_create
from incident_io.models import IncidentsCreatePayloadV1
def callback(context):
    body = {{"idempotency_key": context["run_id"], "visibility": "public", "name": "DAG orders failed"}}
    client = AuthenticatedClient(base_url="{url}", token="{KEY}")
    incidents_v1_create.sync(client=client, body=IncidentsCreatePayloadV1.from_dict(body))
""",
    )
