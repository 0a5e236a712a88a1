"""`make e2e` passes an Airflow only where each failed run had its one incident and nothing ended; a session is its own test."""

from collections import Counter
from dataclasses import replace

import pytest

from tools.e2e.names import IDS, LONGEST, SCENARIOS, dag_id, runs_of
from tools.e2e.verdict import Ending, Leftover, Seen, shown

NAMES = ["twin", "umlaut"]
RUNS = [run for scenario in (SCENARIOS["dag"], SCENARIOS["server"]) for run in runs_of(scenario, NAMES)]
RUN_IDS = {run.run_id for run in RUNS}


def incident(number, run, *, status="closed"):
    return {"reference": f"INC-{number}", "summary": f"- **Run:** {run.run_id}", "status": status}


def ended(*, is_shaken=True, reason="sqlalchemy.exc.OperationalError", is_ours=False):
    return Ending("triggerer", 1, is_shaken, reason, is_ours)


STACK = """Current thread 0x1 (most recent call first):
  File "/venv/lib/site-packages/comms.py", line 9 in get
  File "airflow_incident/airflow_bridge/config.py", line 8 in read
"""
INCIDENTS = [incident(number, run) for number, run in enumerate(RUNS)]
GREEN = Seen(
    refused={"quotes": "The key has to be made of alphanumeric characters"},
    runs=RUNS,
    failed=RUN_IDS,
    recovered=RUN_IDS,
    incidents=INCIDENTS,
    starts=Counter({"scheduler": 2, "triggerer": 1}),
    endings=[Ending("scheduler", 1, is_shaken=True, reason="sqlalchemy.exc.OperationalError", is_ours=False)],
    neighbour={"waits.e2e": "success", "works.0.e2e": "success"},
    silence=1.2,
)


def test_an_airflow_that_was_not_harmed_is_told_in_figures():
    assert GREEN.wrong() == []
    lines = list(GREEN.table())
    assert [line.split() for line in lines if line.startswith("dag")] == [
        ["dag", "rec_u", "1", "1", "1", "0", "0", "1", "1"],
        ["dag", "rec_ü", "1", "1", "1", "0", "0", "1", "1"],
    ]
    assert any(IDS["quotes"] in line and "refused by Airflow: The key has" in line for line in lines)
    assert [line.split() for line in lines if line.startswith("scheduler")] == [["scheduler", "2", "1", "0"]]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"incidents": INCIDENTS[1:]}, "dag: run e2e.dag.twin.0. of rec_u has 0 incidents"),
        ({"incidents": [*INCIDENTS, incident(9, RUNS[1])]}, "dag: run e2e.dag.umlaut.0. of rec_ü has 2 incidents"),
        ({"incidents": [*INCIDENTS[1:], incident(9, RUNS[0], status="triage")]}, "its incident is not closed"),
        ({"incidents": [*INCIDENTS, {"reference": "INC-9", "summary": "-"}]}, "no failed run explains INC-9"),
        ({"failed": RUN_IDS - {RUNS[2].run_id}}, "server: run e2e.server.twin.0. of rec_u has not failed"),
        ({"recovered": RUN_IDS - {RUNS[0].run_id}}, "e2e.dag.twin.0. of rec_u was cleared and has not recovered"),
        ({"too_early": ["INC-1"]}, "closed before anything recovered: INC-1"),
        ({"endings": [ended(is_shaken=False)]}, "the triggerer ended by itself"),
        ({"endings": [ended(is_ours=True)]}, "the triggerer ended by itself"),
        ({"endings": [ended(reason="UnicodeDecodeError")]}, "(exit 1): UnicodeDecodeError"),
        ({"neighbour": {"waits.e2e": "deferred"}}, "the neighbour's waits.e2e is deferred"),
        ({"silence": 31}, "the neighbour's trigger was silent for 31 s"),
        ({"leftovers": [Leftover("scheduler", 7, "")]}, "process 7 of the scheduler has not ended: none of ours"),
        (
            {"leftovers": [Leftover("scheduler", 7, STACK)]},
            "comms.py:9, get < airflow_incident/airflow_bridge/config.py:8, read",
        ),
        ({"remarks": ["not healthy: triggerer"]}, "not healthy: triggerer"),
    ],
)
def test_whatever_should_not_be_is_told(change, told):
    assert any(told in wrong for wrong in replace(GREEN, **change).wrong())


def test_a_run_is_recognized_by_its_name_in_an_incident():
    runs = [run.run_id for scenario in SCENARIOS.values() for run in runs_of(scenario, list(IDS))]
    assert len(set(runs)) == len(runs)
    assert not any(one != other and one in other for one in runs for other in runs)


def test_no_id_is_longer_than_airflow_takes():
    assert len(dag_id("long", "both")) == len(dag_id("long", "deadline")) == LONGEST
    assert dag_id("umlaut", "task") == "rec_ü.task"
    assert shown("long") == f"{LONGEST} of x"
