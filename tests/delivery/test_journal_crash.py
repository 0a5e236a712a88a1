"""Laws 1 and 2 among real processes: killed anywhere, racing, frozen, in an outage, under a rate limit."""

import os
import random
import signal
import socket
import time
from collections import Counter
from datetime import UTC, datetime

import pytest

from airflow_incident.delivery.driver import run_all
from airflow_incident.delivery.flush import flush_all
from airflow_incident.errors import RateLimitError
from airflow_incident.sandbox.server import Sandbox
from tests.file_store import Dying, FileStore, client_of, ended, flush_to, fork, report_of, report_to, wait_for

# Python 3.12 warns of a fork beside threads; the sandbox's is idle then, and the child never uses it.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

KILLS = 160


@pytest.fixture
def store(tmp_path):
    folder = tmp_path / "journal"
    folder.mkdir()
    return FileStore(folder)


@pytest.fixture
def box():
    with Sandbox(rate_limit=10_000_000) as box:
        yield box


@pytest.fixture
def port():
    """Find a port where nobody listens yet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def nursery(url, store, *, seed):
    """Fork reporters from this warm process and kill each at a moment of its own."""
    rng = random.Random(seed)
    report_to(url, store, report_of("warm"))
    began = time.monotonic()
    wait_for(fork(lambda: report_to(url, store, report_of("warm-2"))))
    whole = time.monotonic() - began
    for number in range(KILLS):
        report = report_of(f"r{number}")
        if number % 6 == 0:
            write, after = [(1, False), (1, True), (2, False), (2, True)][number // 6 % 4]
            dying = Dying(store.folder, write=write, after=after)
            pid = fork(lambda: report_to(url, dying, report))  # noqa: B023 -- the child runs at once
        else:
            pid = fork(lambda: report_to(url, store, report))  # noqa: B023 -- as above
            time.sleep(rng.uniform(0, 1.2 * whole))
        os.kill(pid, signal.SIGKILL) if number % 6 else None
        wait_for(pid)


def test_killed_at_any_moment_every_failure_has_one_incident(box, store):
    """Before, during and after the request, and between the two writes: a flush finishes what was begun."""
    began = time.monotonic()
    pid = fork(lambda: nursery(box.url, store, seed=7))
    with ended([pid]):
        assert wait_for(pid) == [0]
    took = time.monotonic() - began
    opened = {row.request["idempotency_key"] for row in box.store.all()}
    found = Counter(
        f"{record.state}, {'asked for' if record.key in opened else 'not asked for'}" for record in store.records()
    )
    found["nothing written"] = KILLS + 2 - sum(found.values())
    print(f"\n{KILLS} kills in {took:.1f} s: {dict(found)}")  # noqa: T201 -- figures worth seeing
    assert all(found[kind] for kind in ("nothing written", "pending, not asked for", "pending, asked for"))
    before = {record.key: record for record in store.records()}
    # What was not written down was not sent either.
    assert opened <= set(before)
    result = flush_to(box.url, store)
    assert not result.pending
    assert not result.dead
    keys = Counter(row.request["idempotency_key"] for row in box.store.all())
    assert set(keys) == set(before)
    assert set(keys.values()) == {1}
    for number in range(KILLS):  # Airflow calls again what it does not know to have ended
        report_to(box.url, store, report_of(f"r{number}"))
    assert len(box.incidents) == KILLS + 2
    bodies = {}
    for seen in box.requests:
        if seen.body:  # else killed while it was sending
            bodies.setdefault(seen.body["idempotency_key"], set()).add(seen.raw)
    assert all(len(raw) == 1 for raw in bodies.values())


def test_two_thousand_mapped_failures_are_one_incident(box, store):
    """Sixteen processes at once: one incident, and hardly a request more than processes."""

    def work(place):
        client = client_of(box.url)
        for index in range(place, 2_000, 16):
            told = report_of("r", level="task", task_id="load", map_index=index, exception=f"no row {index}")
            report_to(box.url, store, told, client=client)

    began = time.monotonic()
    pids = [fork(lambda place=place: work(place)) for place in range(16)]
    with ended(pids):
        assert wait_for(*pids) == [0] * 16
    print(f"\n2,000 mapped failures: {len(box.requests)} requests, {time.monotonic() - began:.1f} s")  # noqa: T201
    assert len(box.incidents) == 1
    assert len(box.requests) <= 50
    (record,) = store.records()
    assert record.state == "open"


def report_storm(url, store, *, processes=8, **limits):
    """Report 500 failing runs of 50 DAGs during an outage: each process tries once, then has met it."""

    def work(place):
        client = client_of(url)
        for number in range(place, 500, processes):
            first = number == place
            told = report_of(f"r{number}", f"dag{number % 50}")
            report_to(url, store, told, client=client, send=first, seconds=1.0, **limits)

    pids = [fork(lambda place=place: work(place)) for place in range(processes)]
    with ended(pids):
        assert wait_for(*pids) == [0] * processes


def test_five_hundred_failures_of_an_outage_are_delivered_under_a_rate_limit(store, port):
    """500 incidents, none twice, none lost; no request comes before the moment that the API named."""
    report_storm(f"http://127.0.0.1:{port}", store)
    assert Counter(record.state for record in store.records()) == {"pending": 500}
    began = time.monotonic()
    seconds = [time.time()]
    with Sandbox(port=port, rate_limit=60, clock=lambda: seconds[0]) as box:
        client = client_of(box.url)
        waits_until = 0.0
        refused = early = flushes = 0

        def call(call, _):
            nonlocal waits_until, refused, early
            early += seconds[0] < waits_until
            try:
                return client.call(call, budget=0.5)
            except RateLimitError as error:
                refused += 1
                waits_until = time.time() + error.retry_after
                raise

        while any(record.state == "pending" for record in store.records()):
            assert flushes < 60
            run_all(flush_all(lambda: datetime.fromtimestamp(seconds[0], UTC)), store, call)
            flushes += 1
            seconds[0] += 30
        client.close()
        print(  # noqa: T201 -- figures worth seeing
            f"\n500 failures: {len(box.incidents)} incidents, {len(box.requests)} requests, {refused} times told to "
            f"wait, {flushes} flushes, {time.monotonic() - began:.1f} s"
        )
        assert refused > 3
        assert early == 0
        keys = [row.request["idempotency_key"] for row in box.store.all()]
        assert len(keys) == len(set(keys)) == 500


def test_a_storm_of_an_outage_is_a_dozen_incidents(store, port):
    """Ten, one that groups the rest, and one more for each process that raced; all 500 are accounted for."""
    processes = 8
    report_storm(f"http://127.0.0.1:{port}", store, processes=processes, storm_dag=3, storm_connection=10)
    with Sandbox(port=port, rate_limit=1_000_000) as box:
        result = flush_to(box.url, store)
        assert not result.pending
        keys = [row.request["idempotency_key"] for row in box.store.all()]
        print(f"\n500 failures, {processes} processes: {len(keys)} incidents, {len(box.requests)} requests")  # noqa: T201
        assert len(keys) == len(set(keys)) <= 11 + processes
        records = {record.key: record for record in store.records()}
        failures = [record for record in records.values() if record.level != "storm"]
        assert len(failures) == 500
        for record in failures:
            assert (record.key if record.state == "open" else record.storm) in keys


def test_a_flush_that_was_frozen_opens_nothing_twice(box, store):
    """Stopped in the middle, overtaken by another, and continued."""
    for number in range(40):
        report_to(box.url, store, report_of(f"r{number}"), send=False)
    pid = fork(lambda: flush_to(box.url, store))
    with ended([pid]):
        while len(box.incidents) < 5:
            time.sleep(0.001)
        os.kill(pid, signal.SIGSTOP)
        frozen_at = len(box.incidents)
        assert 5 <= frozen_at < 40, "not in the middle"
        assert not flush_to(box.url, store).pending
        asked = len(box.requests)
        os.kill(pid, signal.SIGCONT)
        assert wait_for(pid) == [0]
    print(f"\nfrozen after {frozen_at} of 40; it sent {len(box.requests) - asked} more when it went on")  # noqa: T201
    keys = [row.request["idempotency_key"] for row in box.store.all()]
    assert len(keys) == len(set(keys)) == 40
    assert {record.state for record in store.records()} == {"open"}
    assert len(box.requests) <= 42


def test_a_slow_store_never_lets_a_storm_have_anothers_incident(box, store, monkeypatch):
    """Sent without the store when its time was over, a failure's own incident is not taken for the storm's."""
    monkeypatch.setattr("airflow_incident.delivery.driver.STORE_PATIENCE", 0.2)
    report_to(box.url, store, report_of("r1"), storm_dag=1)
    get = store.get

    def slow(name):
        time.sleep(0.15)
        return get(name)

    store.get = slow
    report_to(box.url, store, report_of("r2"), storm_dag=1)
    storm = next(record for record in store.records() if record.level == "storm")
    opened = {row.incident["id"]: row.request["idempotency_key"] for row in box.store.all()}
    assert opened[storm.incident.id] == storm.key
