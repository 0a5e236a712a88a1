"""What a watcher says while incident.io is away, and how it waits for a database that is."""

import logging
import threading

import pytest

from airflow_incident.sandbox.server import Sandbox
from airflow_incident.watcher.decide import Duties
from airflow_incident.watcher.process import Pace
from airflow_incident.watcher.round import Watcher
from tests.journal_records import forget_all, keep


@pytest.fixture
def watcher(airflow_db):
    forget_all()
    yield Watcher(Duties(), None)
    forget_all()


def test_an_outage_is_one_line_however_long_it_lasts(watcher, connect, caplog, brisk):
    """Each round tries again; only the first that meets an outage says so, and the one that delivers says that."""
    keep("r1")
    with Sandbox() as box:
        connect(box.url)
    caplog.set_level(logging.INFO, logger="airflow_incident")
    assert [watcher.round().delivered for _ in range(3)] == [0, 0, 0]
    assert [line.levelname for line in caplog.records if line.name.startswith("airflow_incident.")] == ["WARNING"]
    assert "1 waiting" in caplog.text
    with Sandbox(port=box.port):
        assert watcher.round().delivered == 1
    keep("r2")
    watcher.round()
    assert [line.levelname for line in caplog.records if line.name.startswith("airflow_incident.")] == [
        "WARNING",
        "INFO",
        "WARNING",
    ]


@pytest.mark.parametrize(
    ("every", "pauses"), [(5.0, [1, 2, 4, 5, 5]), (30.0, [1, 2, 4, 8, 16, 30, 30]), (600.0, [1, 2, 4, 8, 16, 30, 30])]
)
def test_a_database_that_is_away_is_tried_more_and_more_seldom_but_never_more_seldom_than_rounds_are(every, pauses):
    """What failed meanwhile has its incident within a round of the database's return."""

    def carry():
        raise OSError("connection refused")

    pace = Pace(carry, every=every, stop=threading.Event())
    assert [pace.step() for _ in pauses] == pauses
