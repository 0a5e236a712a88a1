"""A record of the journal is untrusted text: every field is read by its own rule, and says what it was when written."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from airflow_incident.delivery import record as records
from airflow_incident.delivery.ledger import Ledger, Opening
from airflow_incident.delivery.outcome import record_line
from airflow_incident.delivery.record import (
    STATES,
    Closing,
    OpenIncident,
    Record,
    UnreadableRecordError,
    read_record,
)

NOW = datetime(2026, 3, 4, 9, 30, 0, 123456, tzinfo=UTC)
KEY = "airflow/tests/dag/orders/run/r1"
BODY = {"idempotency_key": KEY, "visibility": "public", "name": "DAG orders failed: ü"}
WHOLE = Record(
    state="pending",
    key=KEY,
    dag_id="orders",
    run_id="r1",
    conn_id="incident_io_default",
    level="task",
    written_at=NOW,
    api_version="v1",
    endpoint="v1",
    task="load[3]",
    failed_at=NOW,
    opened_at=NOW,
    due_at=NOW + timedelta(seconds=5),
    attempts=2,
    maybe_delivered=True,
    error="503",
    draft={"idempotency_key": KEY, "severity": "Major"},
    own_fields=("severity",),
    body=BODY,
    incident=OpenIncident("01H", "INC-1", "x", "https://app.incident.io/1", "live", was_assigned=True),
    suppressed=4,
    attached_late=True,
    storm="airflow/tests/storm/x",
    clear_count=1,
    scope="run",
    run_at=NOW,
    recovered=True,
    closing=Closing("recovered", "https://airflow.example.com", always=True, status="Closed", error="404"),
    started_at=NOW,
    asked_key=KEY,
    next_keys=((f"{KEY}/started/x", NOW),),
    already_closed=True,
    of_dag="airflow/tests/dag/orders",
    on_dags_key=True,
    members={"orders": 2},
    told=1,
    like={"visibility": "public"},
    link=("https://airflow.example.com", "DAG orders failed"),
    notes=("Left out: Severity.",),
)


def test_the_table_reads_each_field():
    assert set(records._FIELDS) == set(Record._fields)
    assert set(records._INCIDENT) == set(OpenIncident._fields)
    assert set(records._CLOSING) == set(Closing._fields)
    assert all(
        getattr(WHOLE, name) != default for name, default in Record._field_defaults.items() if name != "endpoint"
    )


def test_a_record_with_every_field_reads_as_it_was_written():
    assert read_record(WHOLE.name, WHOLE.text()) == WHOLE


def test_what_is_a_default_is_not_written():
    small = Record("open", KEY, "orders", "r1", "incident_io_default", "dag", NOW)
    assert json.loads(small.text()).keys() == {*small._fields[:7], "version"}
    assert read_record(small.name, small.text()) == small


@pytest.mark.parametrize("field", Record._fields)
@pytest.mark.parametrize("wrong", [3.5, [{}], {"x": []}], ids=["number", "list", "object"])
def test_a_field_of_the_wrong_type_makes_the_record_unreadable(field, wrong):
    text = json.dumps(json.loads(WHOLE.text()) | {field: wrong})
    with pytest.raises(UnreadableRecordError):
        read_record(WHOLE.name, text)


@pytest.mark.parametrize("field", ["state", "level", "api_version", "endpoint"])
def test_an_unknown_word_makes_it_unreadable(field):
    with pytest.raises(UnreadableRecordError):
        read_record(WHOLE.name, json.dumps(json.loads(WHOLE.text()) | {field: "new"}))


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", "{}", "3", '{"version":2}', "[" * 100_000, WHOLE.text().replace("r1", r"\ud800")],
    ids=["empty", "list", "null", "object", "number", "version", "deep", "surrogate"],
)
def test_what_is_no_record_is_unreadable(text):
    with pytest.raises(UnreadableRecordError):
        read_record(WHOLE.name, text)


def test_a_field_of_a_later_version_is_ignored():
    assert read_record(WHOLE.name, json.dumps(json.loads(WHOLE.text()) | {"new": {"x": 1}})) == WHOLE


def test_a_moment_without_a_zone_makes_it_unreadable():
    with pytest.raises(UnreadableRecordError):
        read_record(WHOLE.name, json.dumps(json.loads(WHOLE.text()) | {"failed_at": "2026-03-04T09:30:00"}))


@pytest.mark.parametrize("state", STATES)
def test_what_no_incident_stands_for_has_something_to_send(state):
    """A state is one or the other, a new one as well; a record that has neither is not read."""
    record = WHOLE._replace(state=state, body=None, draft=None)
    if record.is_delivered:
        assert read_record(record.name, record.text()) == record
    else:
        with pytest.raises(UnreadableRecordError, match="no body"):
            read_record(record.name, record.text())


@pytest.mark.parametrize("incident", [WHOLE.incident, None], ids=["known", "unknown"])
@pytest.mark.parametrize("error", ["503", None])
@pytest.mark.parametrize("state", STATES)
def test_each_state_has_a_sentence(state, error, incident):
    """It has no place that nothing fills, and names the run."""
    told = record_line(WHOLE._replace(state=state, error=error, incident=incident, already_closed=False))
    assert not set("{}") & set(told)
    assert "None" not in told
    assert "DAG orders, run r1" in told


def test_a_ledger_reads_as_it_was_written():
    ledger = Ledger((Opening(NOW, "orders", KEY),), (("orders", KEY),), "airflow/tests/storm/x", NOW, v1_gone_at=NOW)
    assert Ledger.read(ledger.text()) == ledger


def test_what_a_later_version_knows_of_an_earlier_incident_costs_nothing():
    """Both may run side by side: without the ledger, storm limits would not hold."""
    entry = ["orders", NOW.isoformat(), "incident_io.orders.1", "INC-1", "https://app.incident.io/x", "public"]
    (read,) = Ledger.read(json.dumps({"earlier": [[*entry, "later"]]})).earlier
    assert read.may_be_named(private=False)
    assert not read._replace(visibility="").may_be_named(private=False)


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"openings":3}', '{"waiting":[3]}', "[" * 100_000])
def test_a_ledger_that_cannot_be_read_is_empty(text):
    assert Ledger.read(text) == Ledger()
