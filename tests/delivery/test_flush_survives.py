"""Whatever one record does to a flush is that record's trouble: what waits behind it is delivered, and somebody is told."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from airflow.providers.common.compat.sdk import BaseHook
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_incident.api import exchange
from airflow_incident.api.client import Client
from airflow_incident.delivery import run as delivery
from airflow_incident.delivery.flush import MOST_ODD
from airflow_incident.delivery.record import PREFIX, Closing, OpenIncident, Record, read_record, record_name
from airflow_incident.errors import JournalError
from airflow_incident.sandbox.fault_answers import answer
from tests.cli.test_journal_command import journal  # noqa: F401 -- a fixture
from tests.doors import CREATED, Scripted
from tests.memory_store import Texts

pytestmark = pytest.mark.usefixtures("brisk")

KEY = "airflow/tests/dag/orders/run/{}"
DEEP = b"[" * 100_000
FINE = answer(200, CREATED)


@pytest.fixture
def store(monkeypatch):
    texts = Texts()
    monkeypatch.setattr(delivery, "Variables", lambda: texts)
    return texts


def keep(store, run, *, minutes=10, raw=None, **changes):
    """Write a record that waits; the more minutes ago, the earlier is its turn."""
    key = KEY.format(run)
    fields = {
        "state": "pending",
        "key": key,
        "dag_id": "orders",
        "run_id": run,
        "conn_id": "incident_io_default",
        "level": "dag",
        "written_at": datetime.now(UTC) - timedelta(minutes=minutes),
        "body": {"idempotency_key": key, "visibility": "public", "name": run},
    }
    record = Record(**(fields | changes))
    name = record_name("orders", key)
    store.texts[name] = json.dumps(json.loads(record.text()) | raw) if raw else record.text()
    return name


def alert(run, **more):
    key = KEY.format(run)
    return {
        "endpoint": "alert",
        "key": f"alert {key}",
        "body": {"deduplication_key": key, "title": "t", "status": "firing"} | more,
    }


# What an answer does


ODD_ANSWERS = {
    "deep": DEEP,
    "deep object": b'{"incident":' * 50_000,
    "page": b"<html>log in</html>",
    "nothing": b"",
    "no incident": b"{}",
    "id is a list": b'{"incident": {"id": [1]}}',
    "number too long": b'{"incident": {"id": "x", "name": 1' + b"0" * 5000 + b"}}",
    "bytes": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("content", ODD_ANSWERS.values(), ids=ODD_ANSWERS)
def test_an_odd_answer_to_one_keeps_nothing_back(store, connect, content):
    """The first record keeps the error and waits; the second one is delivered."""
    first, second = keep(store, "r1"), keep(store, "r2", minutes=5)
    with Scripted([*[answer(200, content)] * exchange.ATTEMPTS, FINE]) as server:
        connect(server.url)
        flushed = delivery.flush()
    records = {name: read_record(name, text) for name, text in store.texts.items()}
    assert (records[first].state, records[second].state) == ("pending", "open")
    assert "the answer is not what incident.io documents" in records[first].error
    assert records[first].maybe_delivered
    assert [record.run_id for record in flushed.pending] == ["r1"]
    assert flushed.stopped is None


def test_half_a_surrogate_pair_in_an_answer_is_replaced(store, connect):
    """An incident is open; that its text fits into no database is no reason to ask again."""
    first, second = keep(store, "r1"), keep(store, "r2", minutes=5)
    odd = b'{"incident": {"id": "01H", "name": "\\ud800", "reference": "INC-\\udc00", "permalink": "http://x/\\ud800"}}'
    with Scripted([answer(200, odd), FINE]) as server:
        connect(server.url)
        flushed = delivery.flush()
    assert [record.run_id for record in flushed.opened] == ["r1", "r2"]
    assert read_record(first, store.texts[first]).incident.reference == "INC-?"
    assert read_record(second, store.texts[second]).incident.reference == "INC-7"


def test_odd_answers_in_a_row_are_an_outage(store, connect):
    """A proxy that answers everything with its page would keep a flush of many records busy for hours."""
    for number in range(MOST_ODD + 5):
        keep(store, f"r{number}", minutes=60 - number)
    with Scripted([answer(200, b"<html>")]) as server:
        connect(server.url)
        flushed = delivery.flush()
    assert len(server.arrivals) == MOST_ODD * exchange.ATTEMPTS
    assert flushed.stopped
    assert len(flushed.pending) == MOST_ODD + 5


def test_an_outage_still_stops_a_flush(store, connect):
    """What does not answer the first will not answer the second."""
    keep(store, "r1"), keep(store, "r2", minutes=5)
    with Scripted([answer(503, b"")]) as server:
        connect(server.url)
        flushed = delivery.flush()
    assert len(server.arrivals) == exchange.ATTEMPTS
    assert "503" in flushed.stopped


# What a connection does


@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"),
        SystemExit(3),
        RecursionError(),
        OSError("sealed"),
        MemoryError(),
        AttributeError("x"),
        StopIteration(),
    ],
)
def test_a_connection_that_raises_anything_keeps_nothing_back(store, connected, monkeypatch, error):
    """A secrets backend may even want the process to exit."""
    read = BaseHook.get_connection

    def poisoned(conn_id):
        if conn_id == "poison":
            raise error
        return read(conn_id)

    monkeypatch.setattr(BaseHook, "get_connection", staticmethod(poisoned))
    first, _ = keep(store, "r1", conn_id="poison"), keep(store, "r2", minutes=5)
    flushed = delivery.flush()
    assert [record.run_id for record in flushed.opened] == ["r2"]
    record = read_record(first, store.texts[first])
    assert record.state == "pending"
    assert type(error).__name__ in record.error


@pytest.mark.parametrize("error", [KeyError("x"), SystemExit(3), TypeError("x"), RecursionError()])
def test_whatever_a_call_raises_keeps_nothing_back(store, connected, monkeypatch, error):
    """Our own mistake, too, costs the record that meets it."""
    call = Client.call

    def once(self, asked, *, budget):
        monkeypatch.setattr(Client, "call", call)
        raise error

    monkeypatch.setattr(Client, "call", once)
    keep(store, "r1"), keep(store, "r2", minutes=5)
    flushed = delivery.flush()
    assert [record.run_id for record in flushed.opened] == ["r2"]
    assert [record.run_id for record in flushed.pending] == ["r1"]
    assert type(error).__name__ in flushed.pending[0].error


UNUSABLE = {
    "no such type": {"conn_type": "postgres"},
    "no key": {"password": None},
    "plain http": {"host": "http://elsewhere.example"},
    "no such file": {"host": "https://127.0.0.1:9", "extra": {"ca_bundle": "/no/such/file"}},
    "no such proxy": {"host": "https://127.0.0.1:9", "extra": {"proxy": "http://[::1"}},
    "no JSON": {"extra": "{"},
}


@pytest.mark.parametrize("fields", UNUSABLE.values(), ids=UNUSABLE)
def test_a_connection_that_cannot_be_used_keeps_nothing_back(store, connected, connect, fields):
    """The others have connections of their own."""
    connect(fields.pop("host", connected.url), conn_id="poison", **fields)
    keep(store, "r1", conn_id="poison"), keep(store, "r2", minutes=5)
    flushed = delivery.flush()
    assert [record.run_id for record in flushed.opened] == ["r2"]
    assert [record.run_id for record in (*flushed.pending, *flushed.dead)] == ["r1"]


# What the record itself does

FORGED = {
    "a draft without a key": {"body": None, "draft": {"name": "x"}},
    "a draft with odd names": {"body": None, "draft": {"idempotency_key": KEY.format("r1"), "self": 1}},
    "a draft with a deep field": {
        "body": None,
        "draft": {"idempotency_key": KEY.format("r1"), "custom_fields": {"x": json.loads("[" * 100 + "]" * 100)}},
    },
    "before all time": {"written_at": "0001-01-01T00:00:00+14:00"},
    "after all time": {"written_at": "9999-12-31T23:59:59-12:00"},
    "failed before all time": {"failed_at": "0001-01-01T00:00:00Z"},
    "due after all time": {"due_at": "9999-12-31T23:59:59Z"},
    "countless attempts": {"attempts": 10**400},
    "a negative count": {"attempts": -1, "clear_count": -5},
    "an odd state": {"state": "open", "closing": {"title": "x"}, "incident": None},
    "an odd body": {"body": {"idempotency_key": KEY.format("r1"), "visibility": "public", "name": ["x"]}},
}


@pytest.mark.parametrize("raw", FORGED.values(), ids=FORGED)
def test_a_forged_record_keeps_nothing_back(store, connected, raw):
    """It is delivered, refused or left alone."""
    keep(store, "r1", raw=raw), keep(store, "r2", minutes=5)
    flushed = delivery.flush()
    assert "r2" in [record.run_id for record in flushed.opened]


def test_a_body_that_is_no_json_keeps_nothing_back(store, connected, connect):
    """An alert's metadata may be anything that a text can say; not all of it can be sent."""
    connect(connected.url, extra={"alert_source_id": "01SRC", "alert_source_token": "token"})
    run = alert("r1", metadata={"x": float("nan")})
    name = record_name("orders", run["key"])
    kept = keep(store, "r1")
    first = read_record(kept, store.texts.pop(kept))._replace(**run, written_at=datetime.now(UTC))
    store.texts[name] = first.text()
    assert '"x":NaN' in store.texts[name]
    keep(store, "r2", minutes=5)
    flushed = delivery.flush()
    assert [record.run_id for record in flushed.opened] == ["r2"]
    assert [record.run_id for record in flushed.dead] == ["r1"]
    assert "JSON" in flushed.dead[0].error


times = st.sampled_from(["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "2026-11-01T00:00:00Z", None, "x"])
things = (
    st.none()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from([[], {}, "task", "dag", "alert", "v1", "v2", "auto"])
)
forged = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("written_at", "failed_at", "due_at", "opened_at", "run_at"), times),
        **dict.fromkeys(
            ("attempts", "suppressed", "clear_count", "endpoint", "api_version", "level", "task", "scope"), things
        ),
        "state": st.sampled_from(["pending", "open", "grouped", "dead"]),
        "closing": st.none()
        | st.fixed_dictionaries({"title": st.text(max_size=3)}, optional={"status": things, "url": things}),
        "incident": st.none() | st.fixed_dictionaries({"id": st.text(max_size=3)}, optional={"began": things}),
        "draft": st.none()
        | st.dictionaries(
            st.sampled_from(["idempotency_key", "severity", "custom_fields", "roles", "self", "status", "name"]),
            things | st.just(KEY.format("r1")) | st.just({"x": {"y": []}}),
        ),
        "body": st.none() | st.just({"idempotency_key": KEY.format("r1"), "visibility": "public"}),
        "maybe_delivered": st.booleans(),
    },
)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(raw=forged)
def test_no_forged_record_ends_a_flush(store, connected, raw):
    """Nor the lines and tables that tell of it."""
    from airflow_incident.cli.records import record_json, record_row
    from airflow_incident.delivery.outcome import problems, record_line, summary_line

    store.texts.clear()
    keep(store, "r1", raw=raw or {"attempts": 1}), keep(store, "r2", minutes=5)
    flushed = delivery.flush()
    assert "r2" in [record.run_id for record in flushed.opened]
    records, _ = delivery.list_records()
    for record in (*flushed.opened, *flushed.pending, *flushed.dead, *records):
        record_line(record), record_row(record, {}), record_json(record)
    summary_line(flushed), problems(flushed, datetime.now(UTC)), [settled.log_event(str) for settled in flushed.settled]


# What a recovery does


def recovered(store, run, **changes):
    """Write a record whose run has recovered, and whose incident is still to be closed."""
    left = {"closing": Closing(title="recovered"), "incident": OpenIncident(id=f"id-{run}", reference=run)}
    return keep(store, run, state="open", body=None, opened_at=datetime.now(UTC), **(left | changes))


CLOSED = answer(200, b'{"incident": {"id": "id-r2", "incident_status": {"id": "s", "category": "closed"}}}')


@pytest.mark.parametrize("content", ODD_ANSWERS.values(), ids=ODD_ANSWERS)
def test_an_odd_answer_to_one_recovery_keeps_nothing_back(store, connect, content):
    """What is behind it is closed, and it is told."""
    first, second = recovered(store, "r1"), recovered(store, "r2", minutes=5)
    order = sorted(store.texts)
    odd_first = [*[answer(200, content)] * exchange.ATTEMPTS, CLOSED]
    with Scripted(odd_first) as server:
        connect(server.url)
        flushed = delivery.flush()
    assert {first, second} == set(order)
    assert [name for name in store.texts if name.startswith(PREFIX)] == [order[0]]
    assert sorted(settled.kind for settled in flushed.settled) == ["already_closed", "kept"]
    (line,) = [settled.log_event(str).line for settled in flushed.settled if settled.kind == "kept"]
    assert "the answer is not what incident.io documents" in line
    assert read_record(order[0], store.texts[order[0]]).closing.error is None


def test_an_outage_of_one_connection_leaves_the_others_recoveries(store, connected, connect):
    """A flush does not stop at it."""
    connect("http://127.0.0.1:9", conn_id="away")
    names = [recovered(store, "r1", conn_id="away"), recovered(store, "r2")]
    with Scripted([CLOSED]) as server:
        connect(server.url)
        flushed = delivery.flush()
    assert [settled.kind for settled in flushed.settled] == ["already_closed"]
    assert [name for name in store.texts if name.startswith(PREFIX)] == [names[0]]


def test_a_store_that_fails_altogether_still_ends_a_flush(store, connected):
    """Whatever it was about to write."""

    def fail():
        raise OSError("read-only")

    recovered(store, "r1")
    store.failing["set"] = store.failing["delete"] = fail
    with pytest.raises(JournalError, match="the journal cannot be"):
        delivery.flush()
    keep(store, "r2")
    with pytest.raises(JournalError, match="the journal cannot be"):
        delivery.flush()


# What the command says


def test_the_command_delivers_the_rest_and_says_what_it_left(journal, connect):  # noqa: F811 -- a fixture
    """`flush`, `retry` and `list` alike."""
    from tests.journal_records import keep as keep_in_airflow
    from tests.journal_records import kept

    first, second = keep_in_airflow("r1", written_at=datetime.now(UTC) - timedelta(hours=1)), keep_in_airflow("r2")
    with Scripted([*[answer(200, DEEP)] * exchange.ATTEMPTS, FINE]) as server:
        connect(server.url)
        code, out, _ = journal("flush")
    assert code == 1
    assert "the answer is not what incident.io documents" in out
    assert "1 delivered, 1 waiting" in out
    assert (kept(first.name).state, kept(second.name).state) == ("pending", "open")
    code, out, _ = journal("list", "--state", "pending")
    assert (code, "the answer is not what" in out) == (0, True)


def test_a_retry_goes_on_after_one_that_cannot_be_read(journal, connect):  # noqa: F811 -- a fixture
    """Both were refused before; the first one's answer is odd, and the second one is delivered."""
    from tests.journal_records import keep as keep_in_airflow

    records = [keep_in_airflow(run, state="dead", error="422") for run in ("r1", "r2")]
    with Scripted([*[answer(200, DEEP)] * exchange.ATTEMPTS, FINE]) as server:
        connect(server.url)
        code, out, _ = journal("retry", *(record.name for record in records))
    assert code == 1
    assert "1 delivered, 1 waiting" in out


def test_the_command_says_what_stays_open(journal, connect):  # noqa: F811 -- a fixture
    """A recovery that could not be read is left to do."""
    from tests.journal_records import keep as keep_in_airflow

    keep_in_airflow(state="open", closing=Closing(title="recovered"))
    with Scripted([answer(200, DEEP)]) as server:
        connect(server.url)
        code, out, _ = journal("flush")
        assert code == 1
        assert "stays open for now" in out
        code, out, _ = journal("flush", "--json")
    assert code == 1
    assert [record["run_id"] for record in json.loads(out)["left_open"]] == ["r1"]
