"""The dashboard and the alert rules ask for what the package really counts, by the names that Prometheus has for it."""

import gzip
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import yaml

from airflow_incident.airflow_bridge.stats import PREFIX, SECONDS
from airflow_incident.delivery.outcome import OUTCOMES
from tests.airflow_versions import since
from tools.pages import ROOT

DASHBOARD = json.loads((ROOT / "docs/grafana/airflow-incident.json").read_text())
PAGE = (ROOT / "docs/how-to/grafana.md").read_text()
COUNTERS = {f"airflow_incident_io_{outcome}_total" for outcome in OUTCOMES}
TIMER = "airflow_incident_io_seconds"
OF_WATCHER = {f"airflow_incident_io_watcher_{name}_total" for name in ("rounds", "differences")}
TIMER_OF_WATCHER = "airflow_incident_io_watcher_seconds"
COUNT = """
from airflow_incident.airflow_bridge.stats import count
from airflow_incident.delivery.outcome import OUTCOMES
for outcome in OUTCOMES:
    count(outcome, seconds=0.5 if outcome == "opened" else None)
"""


def named(expression):
    """List the metrics that an expression asks for."""
    return set(re.findall(r"airflow_incident_io_\w+", expression))


def test_the_dashboard_shows_everything_that_is_counted_and_nothing_else():
    asked = {name for panel in DASHBOARD["panels"] for target in panel["targets"] for name in named(target["expr"])}
    assert asked == COUNTERS | OF_WATCHER | {f"{TIMER}_bucket", f"{TIMER_OF_WATCHER}_bucket"}


def test_the_dashboard_is_one_that_grafana_imports():
    """Panels and queries have names of their own, and ask the data source that was chosen."""
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    (variable,) = DASHBOARD["templating"]["list"]
    for panel in panels:
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for asked in (panel, *panel["targets"]):
            assert asked["datasource"] == {"type": variable["query"], "uid": f"${{{variable['name']}}}"}


def test_the_alert_rules_ask_for_what_is_counted():
    (groups,) = re.findall(r"```yaml\n(groups:.*?)```", PAGE, re.DOTALL)
    for rule in yaml.safe_load(groups)["groups"][0]["rules"]:
        assert named(rule["expr"])
        assert named(rule["expr"]) <= COUNTERS | OF_WATCHER


def test_statsd_exporter_makes_these_names_of_what_airflow_sends():
    """The first mapping that fits counts, and a star is one part of a name."""
    (text,) = re.findall(r"```yaml\n(mappings:.*?)```", PAGE, re.DOTALL)
    mappings = yaml.safe_load(text)["mappings"]

    def renamed(sent):
        for mapping in mappings:
            if found := re.fullmatch(re.escape(mapping["match"]).replace(r"\*", r"([^.]+)"), sent):
                return re.sub(r"\$\{(\d)\}", lambda part: found[int(part[1])], mapping["name"])
        return None

    assert {renamed(f"airflow.{PREFIX}{outcome}") for outcome in OUTCOMES} == COUNTERS
    assert renamed(f"airflow.{PREFIX}{SECONDS}") == TIMER
    assert {renamed(f"airflow.{PREFIX}watcher.{name}") for name in ("rounds", "differences")} == OF_WATCHER
    assert renamed(f"airflow.{PREFIX}watcher.{SECONDS}") == TIMER_OF_WATCHER


@pytest.fixture
def collector():
    """Listen as an OpenTelemetry Collector does; give its port and what it was sent."""
    service = pytest.importorskip("opentelemetry.proto.collector.metrics.v1.metrics_service_pb2")
    received = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            plain = gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body
            received.append(service.ExportMetricsServiceRequest.FromString(plain))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, received
        server.shutdown()


@since("3.3", "export of OpenTelemetry metrics outside of its own processes")
def test_opentelemetry_gets_what_can_be_added_up(collector, tmp_path):
    """A process that ends at once, as a callback's does, exports each count; as a difference, as the page says."""
    port, received = collector
    (preference,) = re.findall(r"^export (OTEL_\w+)=(\w+)$", PAGE, re.MULTILINE)
    environment = {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__METRICS__OTEL_ON": "True",
        "AIRFLOW__METRICS__OTEL_HOST": "127.0.0.1",
        "AIRFLOW__METRICS__OTEL_PORT": str(port),
        preference[0]: preference[1],
    }
    subprocess.run([sys.executable, "-c", COUNT], check=True, env=os.environ | environment)
    metrics = {
        metric.name: metric
        for request in received
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name.startswith(f"airflow.{PREFIX}")
    }
    timer = metrics.pop(f"airflow.{PREFIX}{SECONDS}")
    assert timer.unit == "ms"
    assert timer.exponential_histogram.data_points[0].sum == 500
    assert {f"{name.replace('.', '_')}_total" for name in metrics} == COUNTERS
    delta = 1  # AGGREGATION_TEMPORALITY_DELTA
    assert {metric.sum.aggregation_temporality for metric in metrics.values()} == {delta}
    assert {metric.sum.is_monotonic for metric in metrics.values()} == {True}
