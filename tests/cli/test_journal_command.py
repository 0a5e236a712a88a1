"""`airflow-incident journal` shows, delivers, retries and drops what is written down."""

import io
import json
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from airflow.models import Variable as Row

from airflow_incident import IncidentHook
from airflow_incident.airflow_bridge.variables import Variables
from airflow_incident.cli import main as cli
from airflow_incident.constants import DEFAULT_CONN_ID
from airflow_incident.delivery.ledger import Ledger
from airflow_incident.delivery.record import PREFIX, OpenIncident
from tests.doors import API_KEY
from tests.journal_records import forget_all, keep, kept

KEY = {"Authorization": "Bearer sandbox-key"}
FOREIGN = PREFIX + "orders.from_somebody_else"


@pytest.fixture
def journal(airflow_db, capsys):
    """Run the command over an empty journal; return its exit code, what it printed and what it complained."""
    with capsys.disabled():  # the handlers that Airflow makes keep the stream that they find
        forget_all()

    def run(*arguments):
        code = cli.main(["journal", *arguments])
        return code, *capsys.readouterr()

    yield run
    forget_all()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_an_empty_journal_is_one_clear_line(journal):
    assert journal("list") == (0, "The journal is empty: nothing waits.\n", "")
    code, out, _ = journal("flush")
    assert (code, out) == (0, "Nothing waits.\n")


def columns(line):
    return re.split(r" {2,}", line)


def test_a_list_is_a_table(journal):
    """State, DAG, run, when, incident and link, an error; of what was opened it does not say that it is open."""
    waits = keep("r1", attempts=2, error="503 from incident.io")
    keep("r2", "billing", "open", suppressed=3)
    keep("r3", "billing", "open", already_closed=True)
    keep("r4", state="dead", error="422 severity is unknown")
    Variables().set(FOREIGN, "{}")
    code, out, err = journal("list")
    assert (code, err) == (0, "")
    head, *rows, last = out.splitlines()
    at, link = "2026-03-04 09:30:00", "https://app.incident.io/x/incidents/7"
    assert columns(head) == ["ID", "STATE", "DAG", "RUN", "FAILED (UTC)", "INCIDENT", "LINK", "TRIES", "ERROR"]
    assert columns(rows[0]) == [
        waits.name.rpartition(".")[2][:8], "pending", "orders", "r1", at, "2", "503 from incident.io",
    ]  # fmt: skip
    assert [columns(row)[1:] for row in rows[1:]] == [
        ["opened", "billing", "r2", at, "INC-7", link],
        ["closed", "billing", "r3", at, "INC-7", link],
        ["dead", "orders", "r4", at, "422 severity is unknown"],
    ]
    assert last.startswith(f"{FOREIGN} unreadable: it cannot be read")
    assert not re.search(r"\bopen\b", out)


def test_a_row_is_one_line_however_narrow_the_terminal(journal, monkeypatch):
    """A link that is cut in pieces cannot be clicked; and nothing in a row is markup or talks to the terminal."""
    keep("[red]r1[/red]\x1b[2J", state="open")
    monkeypatch.setenv("COLUMNS", "40")
    _, out, _ = journal("list")
    _, row = out.splitlines()
    assert row.endswith("  INC-7       https://app.incident.io/x/incidents/7")
    assert "[red]r1[/red]" in row
    assert "\x1b" not in out


def test_a_storm_is_no_dag(journal):
    """It has many failures of several DAGs; no DAG can have its name."""
    fields = {"level": "storm", "members": {"orders": 3, "billing": 1}, "key": "airflow/tests/storm/x"}
    keep("x", "storm", "open", **fields)
    keep("r1", "storm")
    _, out, _ = journal("list")
    assert [columns(line)[1:4] for line in out.splitlines()[1:]] == [
        ["pending", "storm", "r1"], ["opened", "storm of 2 DAGs", "4 failures"],
    ]  # fmt: skip
    assert [r["run_id"] for r in json.loads(journal("list", "--dag", "storm", "--json")[1])["records"]] == ["r1"]


def opened(box, name):
    body = {"idempotency_key": name, "name": name, "visibility": "public"}
    incident = httpx.post(f"{box.url}/v1/incidents", json=body, headers=KEY, timeout=9).json()["incident"]
    return OpenIncident(incident["id"], incident["reference"], name, incident["permalink"])


def test_a_check_asks_how_each_incident_stands(journal, connected):
    """One request for each incident, however many records it has; one that is not there is said to be gone."""
    triage, closed = opened(connected, "one"), opened(connected, "two")
    IncidentHook().resolve_incident(closed.id, always=True)
    keep("r1", state="open", incident=triage)
    keep("r2", state="open", incident=closed)
    keep("r3", state="grouped", incident=closed, storm="x")
    keep("r4", state="open")
    keep("r5")
    before = len(connected.requests)
    code, out, err = journal("list", "--check", "--json")
    stands = {r["run_id"]: r["incident"] and r["incident"]["status"] for r in json.loads(out)["records"]}
    assert (code, err) == (0, "")
    assert stands == {"r1": "Triage", "r2": "Closed", "r3": "Closed", "r4": "gone", "r5": None}
    assert len(connected.requests) - before == 3
    assert "STATUS" in journal("list", "--check")[1].splitlines()[0]
    assert "STATUS" not in journal("list")[1].splitlines()[0]


@pytest.mark.usefixtures("brisk")
def test_an_outage_of_a_check_is_one_line(journal, connect):
    """And one wait: the list comes all the same."""
    connect("http://127.0.0.1:9", password=API_KEY)
    for n in range(9):
        keep(f"r{n}", state="open", incident=OpenIncident(f"01H{n}"))
    code, out, err = journal("list", "--check")
    assert (code, len(out.splitlines())) == (0, 10)
    (line,) = err.splitlines()
    assert line.startswith(
        "airflow-incident journal: connection incident_io_default cannot tell how its incidents stand: ConnectError"
    )


def test_a_check_asks_about_the_newest_only(journal, connected, monkeypatch):
    monkeypatch.setattr("airflow_incident.cli.records.MOST_ASKED", 2)
    for n in range(5):
        at = datetime(2026, 3, 4, n, tzinfo=UTC)
        keep(f"r{n}", state="open", incident=OpenIncident(f"01H{n}"), written_at=at)
    _, out, err = journal("list", "--check", "--json")
    told = json.loads(out)
    assert [r["run_id"] for r in told["records"] if r["incident"]["status"]] == ["r3", "r4"]
    assert told["problems"] == ["only the newest 2 of 5 incidents were asked about"]
    assert told["problems"][0] in err


def test_a_list_of_two_thousand_takes_no_time_to_write(journal, capsys):
    """Beside reading them, which is one query: rows and table."""
    from airflow_incident.cli import journal as command

    record = keep(state="open")
    records = [record._replace(run_id=f"scheduled__{n}", key=f"{record.key}{n}") for n in range(2_000)]
    began = time.process_time()
    command._show(records, {}, {})
    took = time.process_time() - began
    assert len(capsys.readouterr().out.splitlines()) == 2_001
    assert took < 2


@pytest.mark.parametrize(
    ("arguments", "runs", "unreadable"),
    [
        (["--state", "pending"], ["r1", "r2"], 0),
        (["--state", "dead"], ["r3"], 0),
        (["--state", "opened"], ["r4"], 0),
        (["--state", "closed"], ["r5"], 0),
        (["--state", "unreadable"], [], 1),
        (["--dag", "billing"], ["r2"], 0),
        (["--dag", "orders"], ["r1", "r4", "r5", "r3"], 1),
        (["--dag", "orders", "--state", "dead"], ["r3"], 0),
        (["--dag", "order"], [], 0),
    ],
)
def test_a_list_can_be_narrowed(journal, arguments, runs, unreadable):
    keep("r1")
    keep("r2", "billing")
    keep("r3", state="dead")
    keep("r4", state="open")
    keep("r5", state="open", already_closed=True)
    Variables().set(FOREIGN, "{}")
    code, out, _ = journal("list", "--json", *arguments)
    told = json.loads(out)
    assert code == 0
    assert [record["run_id"] for record in told["records"]] == runs
    assert len(told["unreadable"]) == unreadable
    if not runs and not unreadable:
        assert journal("list", *arguments)[1] == "The journal has no such record.\n"


def test_a_flush_delivers_what_waits(journal, connected):
    """Each with its body as it was written down, and its failure's time."""
    keep("r1")
    keep("r2", "billing")
    code, out, _ = journal("flush")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[:-1]] == ["INC-1", "INC-2"]
    assert out.splitlines()[-1] == "2 delivered."
    assert all("2026-03-04 09:30:00 UTC" in incident["summary"] for incident in connected.incidents)
    assert journal("flush")[:2] == (0, "Nothing waits.\n")
    assert len(connected.incidents) == 2


def test_a_flush_counts_what_waits_and_what_was_refused(journal, connected):
    due = datetime.now(UTC) + timedelta(minutes=9)
    keep("r1", due_at=due, attempts=1, error="429 too many requests")
    keep("r2")
    keep("r3", state="dead", error="422 severity is unknown")
    code, out, _ = journal("flush")
    assert code == 1
    assert "tried once: 429 too many requests" in out
    assert "not tried yet" in out
    assert "was refused: 422 severity is unknown" in out
    asked = f"incident.io asked to wait until {due:%H:%M:%S} UTC"
    assert out.splitlines()[-1] == f"2 waiting ({asked}), 1 refused."
    assert connected.incidents == []


def test_a_flush_in_json_is_json_alone(journal, connected):
    keep("r1")
    keep("r2", state="dead", error="422")
    Variables().set(FOREIGN, "no record")
    code, out, _ = journal("flush", "--json")
    told = json.loads(out)
    assert code == 1
    assert [record["incident"]["reference"] for record in told["delivered"]] == ["INC-1"]
    assert [record["run_id"] for record in told["refused"]] == ["r2"]
    assert (told["waiting"], list(told["unreadable"]), told["stopped"]) == ([], [FOREIGN], None)


def test_a_retry_sends_what_was_refused(journal, connected):
    """All of it, or what is named; what waits for the next flush goes on waiting."""
    first, second = keep("r1", state="dead", error="422"), keep("r2", state="dead", error="422")
    waits = keep("r3")
    code, out, _ = journal("retry", first.key)
    assert (code, out.splitlines()[-1]) == (0, "1 delivered.")
    assert (kept(first.name).state, kept(second.name).state) == ("open", "dead")
    assert journal("retry", "--json")[0] == 0
    assert (kept(second.name).state, kept(waits.name).state) == ("open", "pending")
    assert journal("retry")[:2] == (0, "Nothing waits.\n")


@pytest.mark.usefixtures("brisk")
def test_a_retry_stops_at_a_connection_s_outage(journal, connected, connect):
    """What it keeps from being sent is told as refused still; other connections go on."""
    connect("http://127.0.0.1:9", conn_id="away")
    records = [keep(f"r{n}", state="dead", error="422", conn_id="away") for n in range(2)]
    records.append(keep("r3", state="dead", error="422"))
    code, out, _ = journal("retry")
    assert code == 1
    assert sorted(kept(record.name).state for record in records) == ["dead", "open", "pending"]
    assert re.fullmatch(r"1 delivered, 1 waiting \(.*\), 1 refused\.", out.splitlines()[-1])


def test_what_has_nothing_to_send_is_not_retried(journal):
    record = keep(state="open")
    Variables().set(FOREIGN, "{}")
    assert journal("retry", record.name)[::2] == (
        1,
        f"airflow-incident journal: {record.name} has nothing to send: it is open\n",
    )
    assert "cannot be sent: it cannot be read" in journal("retry", FOREIGN)[2]


@pytest.mark.parametrize("wanted", ["name", "key", "digest", "short"])
def test_a_record_is_dropped_by_name_key_or_digest(journal, wanted):
    record, other = keep("r1"), keep("r2")
    digest = record.name.rpartition(".")[2]
    given = {"name": record.name, "key": record.key, "digest": digest, "short": digest[:8]}[wanted]
    assert journal("drop", given, given, "--yes") == (0, "Deleted 1 record.\n", "")
    assert kept(record.name) is None
    assert kept(other.name) == other


def test_what_is_not_ours_is_dropped_by_its_exact_name_only(journal):
    Variables().set(FOREIGN, "{}")
    Variables().set("orders_password", "secret")
    for wanted in (FOREIGN[:-1], "from_somebody_else", "orders_password", PREFIX, ""):
        assert journal("drop", wanted, "--yes")[0] == 1
    assert Variables().get("orders_password") == "secret"
    assert journal("drop", FOREIGN, "--yes")[0] == 0
    assert Variables().get(FOREIGN) is None
    Variables().delete("orders_password")


def test_nothing_is_dropped_if_one_name_is_wrong(journal):
    record = keep()
    code, _, err = journal("drop", record.name, "nonsense", "--yes")
    assert (code, kept(record.name)) == (1, record)
    assert err == "airflow-incident journal: there is no record nonsense; airflow-incident journal list shows all\n"


def test_without_a_terminal_a_drop_takes_yes(journal, monkeypatch):
    record = keep()
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    code, out, err = journal("drop", record.name)
    assert (code, out, kept(record.name)) == (1, "", record)
    assert "--yes" in err


@pytest.mark.parametrize(
    ("answer", "code", "left"), [("y\n", 0, False), ("n\n", 1, True), ("\n", 1, True), ("", 1, True)]
)
def test_on_a_terminal_a_drop_asks(journal, monkeypatch, answer, code, left):
    """It says what is lost."""
    record = keep()
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    told = journal("drop", record.name)
    assert (told[0], kept(record.name) is not None) == (code, left)
    assert "Delete 1 record? 1 of them never became an incident, and then never will. [y/N]" in told[1]


@pytest.fixture
def settled(journal):
    """Keep a record, what deployments remember, the watcher's, what is not ours, and a Variable of a DAG."""
    keep("r1"), keep("r2", state="open")
    store, foreign = Variables(), {"incident_io_channel": "#data", "orders": "x"}
    for name in (FOREIGN, Ledger.name("tests", DEFAULT_CONN_ID), "incident_io_watcher"):
        store.set(name, "{}")
    for name, value in foreign.items():
        Row.set(name, value)  # noqa: AIR311 -- the row in the database, with no word of ours
    yield foreign
    for name in foreign:
        Variables().delete(name)


def test_before_it_is_uninstalled_all_that_is_ours_is_dropped(journal, settled):
    """What deployments remember and the watcher's record, too; a DAG's own Variables stay. It says what stays."""
    code, out, err = journal("drop", "--all", "--yes")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "Deleted 5 records."
    assert "What stays: incidents at incident.io, connections, [incident_io] in airflow.cfg" in out
    assert {name: Variables().get(name) for name in settled} == settled
    assert Variables().names("incident_io") == ["incident_io_channel"]
    assert journal("drop", "--all", "--yes")[1].splitlines()[0] == "Deleted 0 records."


def test_on_a_terminal_it_asks_before_all_is_dropped(journal, settled, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    code, out, _ = journal("drop", "--all")
    assert (code, len(Variables().names(PREFIX))) == (1, 3)
    assert "Delete 5 records? 1 of them never became an incident, and then never will. [y/N]" in out


@pytest.mark.parametrize("arguments", [["drop"], ["drop", "--all", "incident_io.x", "--yes"]])
def test_a_drop_takes_names_or_all(journal, arguments):
    record = keep()
    code, _, err = journal(*arguments)
    assert (code, kept(record.name)) == (2, record)
    assert err == "airflow-incident journal: name the records to delete, or give --all\n"


def test_a_script_learns_what_was_dropped(journal):
    record = keep()
    code, out, _ = journal("drop", record.key, "--yes", "--json")
    assert (code, json.loads(out)) == (0, {"version": 1, "deleted": [record.name]})


@pytest.mark.parametrize("arguments", [["list"], ["flush"], ["retry"], ["drop", "x", "--yes"], ["list", "--json"]])
def test_without_a_database_it_is_one_clear_line(arguments, tmp_path):
    """No traceback, and nothing on standard output."""
    environment = os.environ | {"AIRFLOW_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "airflow_incident.cli.main", "journal", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("airflow-incident journal: the journal cannot be listed: ")
    assert "airflow db check" in line


def test_trouble_of_any_kind_is_one_clear_line(journal, monkeypatch):
    """A broken airflow.cfg may raise anything; its secrets stay out."""

    def names(*_):
        raise KeyboardInterrupt

    def broken(*_):
        raise RuntimeError("sql_alchemy_conn\nis broken: password=hunter2secret")

    with monkeypatch.context() as patched:
        patched.setattr("airflow_incident.delivery.run.list_records", broken)
        code, out, err = journal("list")
        assert (code, out) == (1, "")
        assert err.startswith("airflow-incident journal: RuntimeError: sql_alchemy_conn is broken")
        assert "hunter2secret" not in err
        patched.setattr("airflow_incident.delivery.run.list_records", names)
        assert journal("list")[0] == 130


def test_a_digest_that_stands_for_several_records_drops_none(journal, monkeypatch):
    records = [keep("r1"), keep("r2")]
    monkeypatch.setattr("airflow_incident.cli.records.digest", lambda _: "0123456789abcdef")
    assert "stands for 2 records; give the name of one" in journal("drop", "01234567", "--yes")[2]
    assert [kept(record.name) for record in records] == records


def test_without_airflow_it_is_one_clear_line():
    code = "import sys; sys.modules['airflow'] = None; from airflow_incident.cli.main import main; sys.exit(main(['journal', 'list']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("airflow-incident journal: there is no module airflow")


@pytest.mark.parametrize("arguments", [[], ["lsit"], ["list", "--state", "odd"], ["flush", "extra"]])
def test_wrong_words_are_told_as_such(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["journal", *arguments])
    assert "usage: airflow-incident" in capsys.readouterr().err
