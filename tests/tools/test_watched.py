"""`make watched` passes an Airflow only where each failed run had its one incident in time; a session is its own test."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tools.e2e.told import GRACE, Failing, Incident, Told, Words, plan
from tools.e2e.verdict import Ending

FAILED = datetime(2026, 3, 4, 9, 30, tzinfo=UTC)
RUNS = [Failing("processor", kind, "unaware_07") for kind in ("raises", "killed", "lost")]
RAISES, KILLED, LOST = RUNS
SAID = """
10:00:00 INFO incident.io: INC-2 is open for … (outcome=opened dag_id=unaware_07 run_id=processor.killed.07. source=dag)
10:00:01 INFO incident.io: INC-3 is open for … (failed at 9) (outcome=replayed run_id=processor.lost.07. task=load)
10:00:01 INFO incident.io: watcher: failed runs without an incident: 1, delivered or closed from the journal: 1 (1.5 s)
"""


def incident(number, run, *, seconds=1.0, is_closed=False):
    return Incident(f"INC-{number}", f"DAG failed\n{run.run_id}", FAILED + timedelta(seconds=seconds), is_closed)


INCIDENTS = [incident(1, RAISES), incident(2, KILLED, seconds=124), incident(3, LOST)]
GREEN = Told(
    runs=RUNS,
    every=5.0,
    ended={run.run_id: FAILED for run in RUNS},
    incidents=INCIDENTS,
    words=Words.read([SAID]),
    recovered={KILLED.run_id: "cleared"},
    closed={KILLED.run_id},
    neighbour={"waits.e2e": "success"},
)


def test_who_told_of_each_run_is_told_in_figures():
    """A callback at once, one that only wrote it down, or nobody but the watcher, and how late that was."""
    assert GREEN.wrong() == []
    rows = [line.split() for line in GREEN.table()]
    assert ["processor", "raises", "1", "1", "1", "0", "0", "1", "0", "0"] in rows
    assert ["processor", "killed", "1", "1", "1", "0", "0", "0", "0", "1", "+4.0", "s"] in rows
    assert ["processor", "lost", "1", "1", "1", "0", "0", "0", "1", "0"] in rows
    assert ["all", "3", "3", "3", "0", "0", "1", "1", "1", "+4.0", "s"] in rows


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"incidents": INCIDENTS[1:]}, "processor.raises.07. of unaware_07 has 0 incidents instead of one"),
        ({"incidents": [*INCIDENTS, incident(9, LOST)]}, "has 2 incidents instead of one: INC-3, INC-9"),
        ({"incidents": [INCIDENTS[0], incident(2, KILLED, seconds=134), INCIDENTS[2]]}, "14.0 s after the grace"),
        ({"ended": {run.run_id: FAILED for run in RUNS[1:]}}, "processor.raises.07. of unaware_07 has not failed"),
        ({"words": Words.read([])}, "the watcher was not tried"),
        ({"closed": set()}, "processor.killed.07. was cleared, and its incident is not closed"),
        ({"closed": {KILLED.run_id, LOST.run_id}}, "processor.lost.07. was left alone, and its incident is closed"),
        ({"endings": [Ending("scheduler", 1, is_shaken=False, reason="-", is_ours=False)]}, "the scheduler ended"),
        ({"neighbour": {"waits.e2e": "deferred"}}, "the neighbour's waits.e2e is deferred"),
        ({"silence": 31.0}, "the neighbour's trigger was silent for 31 s"),
        ({"remarks": ["watch-2 ended by itself"]}, "watch-2 ended by itself"),
    ],
)
def test_whatever_should_not_be_is_told(change, told):
    assert any(told in wrong for wrong in replace(GREEN, **change).wrong())


def test_what_was_opened_before_the_watcher_looked_was_told_by_a_callback():
    """One that could not write it down: the watcher asks once more, with the same key, and hears of that incident."""
    early = replace(GREEN, incidents=[INCIDENTS[0], incident(2, KILLED, seconds=119), INCIDENTS[2]])
    assert GREEN.teller(KILLED) == "watcher"
    assert early.teller(KILLED) == "callback"


@pytest.mark.parametrize("began", [-5, 3])
def test_a_watcher_is_not_late_while_something_is_away_that_it_needs(began):
    """Its two rounds begin when all is there again, also if it was cut off in the middle of them."""
    due = FAILED + GRACE
    away = [(due + timedelta(seconds=began), due + timedelta(seconds=60))]
    late = replace(GREEN, away=away, incidents=[INCIDENTS[0], incident(2, KILLED, seconds=185), INCIDENTS[2]])
    assert late.wrong() == []
    assert late.lateness(KILLED) == 5.0


def test_the_plan_fails_a_hundred_runs_and_no_two_share_a_name():
    runs = plan()
    names = [run.run_id for run in runs]
    assert len(set(names)) == len(runs) == 100
    assert len({run.dag_id for run in runs}) == 20
    assert not any(one != other and one in other for one in names for other in names)
