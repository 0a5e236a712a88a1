"""The time that reports share."""

from airflow_incident.airflow_bridge.process import TimeBudget


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_twenty_reports_in_an_outage_stay_below_their_batch():
    """Each uses its whole share, and Airflow takes its own time; each has a try, and the sum stays far below 50 s."""
    shares = outage(reports=20)
    assert shares[0] == 12.0
    assert sum(shares) < 35.0
    assert all(share >= 0.5 for share in shares)


def test_a_hundred_reports_in_an_outage_stay_below_their_batch():
    """When even the last reserve is used up, reports are not tried any more, rather than killed."""
    shares = outage(reports=100, overhead=0.0)
    assert sum(shares) < 38.0
    assert all(share >= 0 for share in outage(reports=100))


def outage(reports, overhead=0.03):
    clock = Clock()
    meter = TimeBudget(clock)
    shares = []
    for _ in range(reports):
        shares.append(meter.allot(longest=12.0, batch=25.0))
        clock.now += shares[-1] + overhead
        meter.record(shares[-1] + overhead)
    return shares


def test_reports_that_go_well_leave_the_rest_its_time():
    """A hundred quick reports cost the last one nothing that matters."""
    clock = Clock()
    meter = TimeBudget(clock)
    for _ in range(20):
        meter.record(0.05)
    assert meter.allot(longest=12.0, batch=25.0) == 12.0


def test_time_spent_long_ago_is_forgotten():
    """A process that lives longer than a batch begins anew."""
    clock = Clock()
    meter = TimeBudget(clock)
    meter.record(24.0)
    assert meter.allot(longest=12.0, batch=25.0) == 0.5
    clock.now += 51.0
    assert meter.allot(longest=12.0, batch=25.0) == 12.0


def test_what_is_written_down_needs_no_try():
    """With the journal the sum stays below half of what Airflow allows, and the last ones only write."""
    clock = Clock()
    meter = TimeBudget(clock)
    shares = []
    for _ in range(40):
        share = meter.allot(longest=12.0, batch=25.0, written=True)
        shares.append(share)
        clock.now += share
        meter.record(share)
    assert sum(shares) <= 25.0
    assert shares[-1] < 0.01
