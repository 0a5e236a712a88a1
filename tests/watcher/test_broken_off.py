"""A round that the database breaks off, and the one after it."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from airflow_incident.airflow_bridge import database
from airflow_incident.api.closing import CloseOptions
from airflow_incident.delivery.driver import run_all
from airflow_incident.delivery.record import OpenIncident, Record, utc_now
from airflow_incident.delivery.recovery import close_each
from airflow_incident.errors import TransportError
from airflow_incident.watcher import round as rounds
from airflow_incident.watcher.decide import Duties
from tests.journal_records import forget_all
from tests.memory_store import Texts

NAMES = ["a.py", "b.py", "c.py"]


@pytest.fixture
def broken_files(airflow_db):
    """Let Airflow know of three DAG files that cannot be imported."""
    from airflow.models.errors import ParseImportError
    from airflow.utils.session import create_session

    forget_all()
    with create_session() as session:
        session.add_all(ParseImportError(filename=name, stacktrace="ImportError") for name in NAMES)
    yield
    with create_session() as session:
        session.query(ParseImportError).delete()
    forget_all()


def test_what_a_round_was_about_to_try_the_next_one_tries(broken_files, monkeypatch):
    """Not ten minutes later, as something that was tried and had no effect."""
    told = []
    callbacks = SimpleNamespace(broken=lambda context: told.append(context["dag"]["dag_id"]))
    watcher = rounds.Watcher(Duties(import_after=timedelta(0)), callbacks)
    read = rounds._file_context

    def away(file, since):
        if file.path == "b.py":
            raise OperationalError("SELECT", {}, Exception("connection refused"))
        return read(file, since)

    monkeypatch.setattr(rounds, "_file_context", away)
    with pytest.raises(OperationalError):
        watcher.round()
    assert told == ["a.py"]
    monkeypatch.undo()
    watcher.round()
    assert told[1:] == NAMES
    watcher.round()
    assert told[1:] == NAMES


def test_a_round_that_takes_too_long_leaves_the_rest_to_the_next_one(broken_files, monkeypatch):
    """What it has read may not be so any more; what it has done is not done again."""
    told = []

    def late(context):
        told.append(context["dag"]["dag_id"])
        monkeypatch.setattr(rounds, "LONGEST_ROUND", 0.0)

    watcher = rounds.Watcher(Duties(import_after=timedelta(0)), SimpleNamespace(broken=late))
    for number in range(1, 4):
        monkeypatch.setattr(rounds, "LONGEST_ROUND", 60.0)
        assert watcher.round().broken == 1
        assert told == NAMES[:number]


def test_too_many_broken_files_are_read_in_the_order_in_which_they_broke(broken_files, monkeypatch):
    """One that fell out of the list would count as mended."""
    monkeypatch.setattr(database, "MOST_FILES", 2)
    with database.database() as read:
        read._session.execute(text("PRAGMA reverse_unordered_selects = ON"))
        found = [file.path for file in read.broken_files()]
        read._session.execute(text("PRAGMA reverse_unordered_selects = OFF"))
    assert found == NAMES[:2]


def test_an_outage_is_met_once_by_what_is_to_be_closed():
    """The others are left to a flush: a round that asks for each would last for hours."""
    store = Texts()
    records = [record(number) for number in range(3)]
    for each in records:
        store.set(each.name, each.text())
    asked = []

    def away(call, conn_id):
        asked.append(conn_id)
        raise TransportError("timed out")

    closings = [(each, "was deleted in Airflow") for each in records]
    closed = run_all(close_each(closings, {"c": CloseOptions("")}, utc_now), store, away)
    assert [settled.kind for settled in closed.settled] == ["kept"] * 3
    assert len(asked) == 1
    assert all(each.needs_closing for each in store.records())


def record(number):
    incident = OpenIncident(f"01H{number}", "INC-1")
    key = f"airflow/tests/dag/orders/run/r{number}"
    return Record("open", key, "orders", f"r{number}", "c", "dag", utc_now(), incident=incident)
