"""Where Airflow's database can be reached, the journal is read in one query, however long it is."""

from datetime import UTC, datetime

import pytest

from airflow_incident.airflow_bridge.variables import Variables
from airflow_incident.cli import main as cli
from tests.journal_records import INCIDENT, forget_all, keep
from tests.watcher.installation import session


@pytest.fixture
def full(airflow_db, connected, monkeypatch):
    """Fill a journal with two thousand open records."""
    from airflow.models import Variable

    monkeypatch.setenv("AIRFLOW__INCIDENT_IO__JOURNAL", "True")
    forget_all()
    record = keep(state="open", written_at=datetime.now(UTC))
    Variables().delete(record.name)
    key = record.key.removesuffix("r1")
    records = [record._replace(key=f"{key}r{n}", run_id=f"r{n}", incident=INCIDENT) for n in range(2000)]
    with session() as database:
        database.add_all(Variable(key=each.name, val=each.text()) for each in records)  # noqa: AIR311 -- no supervisor here
    yield
    forget_all()


@pytest.mark.parametrize("command", ["list", "flush"])
def test_two_thousand_records_are_read_in_one_query(full, command, capsys):
    from airflow import settings
    from sqlalchemy import event

    asked = []
    note = lambda *of: asked.append(of[2])  # noqa: E731
    event.listen(settings.engine, "before_cursor_execute", note)
    try:
        assert cli.main(["journal", command]) == 0
    finally:
        event.remove(settings.engine, "before_cursor_execute", note)
    assert len([query for query in asked if "variable" in query]) == 1
    assert len(asked) <= 2
    if command == "list":
        assert capsys.readouterr().out.count("INC-7") == 2000
