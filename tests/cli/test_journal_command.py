"""`airflow-incident journal` shows, delivers, retries and drops what is written down."""

import io
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from airflow_incident.airflow_bridge.variables import Variables
from airflow_incident.cli import main as cli
from airflow_incident.delivery.record import PREFIX
from tests.airflow_versions import AIRFLOW
from tests.journal_records import forget_all, keep, kept

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


def test_a_list_has_a_line_for_each_record(journal):
    """State, DAG, run, times, attempts, the error or the incident; and what is not ours, with why."""
    waits = keep("r1", attempts=2, error="503 from incident.io")
    keep("r2", "billing", "open", suppressed=3)
    keep("r3", state="grouped", storm="airflow/tests/storm/x")
    keep("r4", state="dead", error="422 severity is unknown")
    Variables().set(FOREIGN, "{}")
    code, out, err = journal("list")
    assert (code, err) == (0, "")
    first, second, third, fourth, last = out.splitlines()
    assert first.startswith(f"{waits.name.rpartition('.')[2][:8]} pending: DAG orders, run r1 waits since ")
    assert "(failed at 2026-03-04 09:30:00 UTC), tried 2 times: 503 from incident.io" in first
    assert "INC-7 https://app.incident.io/x/incidents/7 is open for DAG billing, run r2" in second
    assert "grouped under airflow/tests/storm/x" in third
    assert "was refused: 422 severity is unknown" in fourth
    assert last.startswith(f"{FOREIGN} unreadable: it cannot be read")


def test_a_terminal_gets_a_table(journal, monkeypatch):
    """An id is never read as markup, and nothing in it talks to the terminal."""
    keep("[red]r1[/red]\x1b[2J", attempts=2, error="503 from incident.io")
    keep("r2", "billing", "open", suppressed=3)
    keep("r3", state="grouped", storm="airflow/tests/storm/x")
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setattr(sys, "stdout", screen := Terminal())
    assert cli.main(["journal", "list"]) == 0
    head, first, second, third = screen.getvalue().splitlines()
    assert re.split(r" {2,}", re.sub(r"\x1b\S*?m", "", head).strip()) == [
        "id", "state", "DAG", "run", "failed (UTC)", "attempts", "suppressed", "incident or error",
    ]  # fmt: skip
    assert "[red]r1[/red]" in first
    assert "\x1b[2J" not in screen.getvalue()
    assert "https://app.incident.io/x/incidents/7" in second
    assert "under airflow/tests/storm/x" in third


def test_a_narrow_terminal_gets_lines(journal, monkeypatch):
    """A link that is cut in pieces cannot be clicked."""
    keep(state="open")
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setattr(sys, "stdout", screen := Terminal())
    assert cli.main(["journal", "list"]) == 0
    assert " open: INC-7 https://app.incident.io/x/incidents/7 is open for DAG orders" in screen.getvalue()


@pytest.mark.parametrize(
    ("arguments", "runs", "unreadable"),
    [
        (["--state", "pending"], ["r1", "r2"], 0),
        (["--state", "dead"], ["r3"], 0),
        (["--state", "unreadable"], [], 1),
        (["--dag", "billing"], ["r2"], 0),
        (["--dag", "orders"], ["r1", "r3"], 1),
        (["--dag", "orders", "--state", "dead"], ["r3"], 0),
        (["--dag", "order"], [], 0),
    ],
)
def test_a_list_can_be_narrowed(journal, arguments, runs, unreadable):
    keep("r1")
    keep("r2", "billing")
    keep("r3", state="dead")
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


@pytest.mark.parametrize("arguments", [["list"], ["flush"], ["retry"], ["drop", "x", "--yes"], ["list", "--json"]])
def test_without_a_database_it_is_one_clear_line(arguments, tmp_path):
    """No traceback, and nothing on standard output."""
    environment = os.environ | {"AIRFLOW_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "airflow_incident.cli.main", "journal", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    *others, line = done.stderr.splitlines()
    assert others == [] or AIRFLOW < (3, 3), "only those Airflows have something to say themselves"
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
    monkeypatch.setattr("airflow_incident.cli.journal._digest", lambda _: "0123456789abcdef")
    assert "stands for 2 records; give the name of one" in journal("drop", "01234567", "--yes")[2]
    assert [kept(record.name) for record in records] == records


def test_without_airflow_it_is_one_clear_line():
    code = "import sys; sys.modules['airflow'] = None; from airflow_incident.cli.main import main; sys.exit(main(['journal', 'list']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("airflow-incident journal: there is no module airflow")


@pytest.mark.parametrize("arguments", [[], ["lsit"], ["list", "--state", "odd"], ["drop"], ["flush", "extra"]])
def test_wrong_words_are_told_as_such(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["journal", *arguments])
    assert "usage: airflow-incident" in capsys.readouterr().err
