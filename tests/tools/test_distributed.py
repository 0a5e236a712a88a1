"""`make e2e-celery` is green only when every failed run has its one incident; the run itself is its own test."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tools import cluster, distributed
from tools.failure import Failure
from tools.postgres import program
from tools.tally import Tally
from tools.watch import Trouble

FAILED = datetime(2026, 3, 4, 9, 30, tzinfo=UTC)


def failure(number):
    return Failure("orders", f"orders-{number}", FAILED, ["raises", "exits"])


def incident(number, *, run=None, seconds=1.5):
    return {
        "reference": f"INC-{number}",
        "summary": f"- **Run:** orders-{run or number}\n- **Failed at:** {FAILED:%Y-%m-%d %H:%M:%S} UTC",
        "created_at": (FAILED + timedelta(seconds=seconds)).isoformat(),
    }


GREEN = Tally(
    triggered=3,
    failures=[failure(1), failure(2)],
    incidents=[incident(1), incident(2, seconds=61.5)],
    journal=Counter(opened=2),
    tasks={"worker-1": 3, "worker-2": 2},
    redelivered=1,
    flushed=1,
    lost={"orders/orders-2/raises": "failed"},
    away=60.2,
    to_fail=(2, 2),
)


def test_a_run_in_which_all_holds_is_told_in_figures():
    assert GREEN.wrong() == []
    rows = dict(GREEN.rows())
    assert (rows["failed runs"], rows["failed tasks"], rows["incidents"]) == ("2", "4", "2")
    assert (rows["duplicates"], rows["lost"], rows["journal: pending"]) == ("0", "0", "0")
    assert rows["failure to incident, median"] == "31.5 s"
    assert rows["failure to incident, longest"] == "61.5 s"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"incidents": [incident(1)]}, "orders-2, has 0 incidents"),
        ({"incidents": [incident(1), incident(2), incident(3, run=2)]}, "orders-2, has 2 incidents"),
        ({"incidents": [incident(1), incident(2), incident(3, run="sound")]}, "no failed run explains INC-3"),
        ({"failures": [failure(1)], "incidents": [incident(1)]}, "1 runs failed instead of 2"),
        ({"failures": [failure(1), replace(failure(2), tasks=["raises"])]}, "orders-2 has 1 failed tasks instead of 2"),
        ({"journal": Counter(opened=1, pending=1)}, "instead of 2 opened records"),
        ({"journal": Counter(opened=2, dead=1)}, "instead of 2 opened records"),
        ({"tasks": {"worker-1": 5, "worker-2": 0}}, "worker-2 has begun no task"),
        ({"lost": {}}, "no task was killed"),
        ({"lost": {"orders/orders-2/raises": "not failed"}}, "killed with its worker, is not failed"),
    ],
)
def test_whatever_should_not_be_is_told(change, told):
    assert any(told in wrong for wrong in replace(GREEN, **change).wrong())


def test_the_plan_fails_fifty_runs_and_no_two_share_a_name():
    runs = [run_id for _, run_id in distributed.PLAN]
    assert len(distributed.FAILING) == 50
    assert len(set(runs)) == len(runs) == 55
    # A run is recognized by its name in an incident's text.
    assert not any(one != other and one in other for one in runs for other in runs)


def test_a_missing_program_is_told_with_the_packages_to_install():
    with pytest.raises(Trouble, match="apt-get install postgresql redis-server"):
        program("no-such-program", cluster.MISSING)
