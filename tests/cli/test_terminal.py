"""Commands are quick and quiet: `--help` loads nothing, others' chatter stays away, and a terminal sees a sign of life."""

import logging
import os
import pty
import subprocess
import sys
import warnings

import pytest

from airflow_incident.cli import main as cli
from tests.journal_records import forget_all, keep

HEAVY = {
    "airflow",
    "pydantic",
    "httpx",
    "fastapi",
    "uvicorn",
    "jinja2",
    "sqlalchemy",
    "rich",
    "tabulate",
    "argcomplete",
}
CHATTER = """
import logging, sys, warnings
print("chatter on standard output")
print("chatter on standard error", file=sys.stderr)
warnings.warn("a warning of a provider", DeprecationWarning)
logging.getLogger("some.provider").warning("a log line")
"""


@pytest.fixture
def journal(airflow_db, capsys):
    with capsys.disabled():
        forget_all()
    keep()
    yield
    forget_all()


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], *([*name.split(), "--help"] for name in (
        "doctor", "send-test", "explain", "routes", "routes test", "routes check", "journal", "journal list",
        "journal flush", "journal retry", "journal drop", "sandbox", "completion",
    ))],
    ids=" ".join,
)  # fmt: skip
def test_help_loads_nothing_that_takes_time(arguments):
    code = (
        "import sys; from airflow_incident.cli.main import main\n"
        f"try: main({arguments})\n"
        f"except SystemExit: print(sorted({HEAVY} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def started(arguments, tmp_path, airflow_home, **more):
    """Run a command beside an Airflow whose local settings chatter when it is imported."""
    (tmp_path / "airflow_local_settings.py").write_text(CHATTER)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path, "PYTHONWARNINGS": "default", "AIRFLOW_HOME": str(airflow_home)}
    command = [sys.executable, "-m", "airflow_incident.cli.main", *arguments]
    return subprocess.run(command, env=environment, timeout=120, check=False, text=True, **more)


def test_what_others_say_is_not_heard(journal, tmp_path, airflow_home):
    """Neither what they print nor what they warn of or log, on whichever stream."""
    done = started(["journal", "list"], tmp_path, airflow_home, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ID", done.stdout.splitlines()[1].split()[0]]


def test_verbose_shows_what_others_say(journal, tmp_path, airflow_home):
    """On standard error: the answer stays alone."""
    done = started(["journal", "list", "--verbose"], tmp_path, airflow_home, capture_output=True)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2)
    for said in ("chatter on standard output", "chatter on standard error", "a warning of a provider", "a log line"):
        assert said in done.stderr


def test_a_terminal_sees_a_sign_of_life_that_goes_away(journal, tmp_path, airflow_home):
    """Where standard error is one; the answer goes where it should, and nothing of the sign is left."""
    ours, theirs = pty.openpty()
    done = started(["journal", "list"], tmp_path, airflow_home, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    seen = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert "Loading Airflow" in seen
    assert seen.endswith("\x1b[2K"), "the line is erased"
    assert len(done.stdout.splitlines()) == 2
    assert "Loading" not in done.stdout


def test_an_error_that_somebody_logs_is_one_line(journal, monkeypatch, capsys):
    """Once, without its traceback; warnings beside it are not shown."""
    from airflow_incident.delivery import run

    real = run.list_records

    def broken(*args):
        for _ in range(2):
            logging.getLogger("some.backend").error("the vault is sealed\nTraceback: …")
        logging.getLogger("some.backend").warning("slow")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("old", DeprecationWarning, stacklevel=1)
        return real(*args)

    monkeypatch.setattr(run, "list_records", broken)
    assert cli.main(["journal", "list"]) == 0
    assert capsys.readouterr().err == "airflow-incident journal: some.backend: the vault is sealed\n"


def test_a_traceback_is_shown_to_whoever_asks_for_it(journal, monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("odd")

    monkeypatch.setattr("airflow_incident.delivery.run.list_records", broken)
    assert cli.main(["journal", "list"]) == 1
    assert capsys.readouterr().err == "airflow-incident journal: RuntimeError: odd\n"
    assert cli.main(["journal", "list", "--verbose"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_what_ends_airflow_is_shown(tmp_path, airflow_home):
    """It has said why on a stream that is kept aside."""
    (tmp_path / "airflow_local_settings.py").write_text("")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    (tmp_path / "airflow_local_settings.py").write_text("import sys; print('no licence', file=sys.stderr); sys.exit(3)")
    command = [sys.executable, "-m", "airflow_incident.cli.main", "journal", "list"]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 3
    assert "no licence" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_what_it_runs(shell, capsys):
    assert cli.main(["completion", shell]) == 0
    assert "airflow-incident" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("jo", {"journal"}),
        ("journal ", {"list", "flush", "retry", "drop", "-h", "--help"}),
        ("journal list --state c", {"closed"}),
        ("completion z", {"zsh"}),
        ("explain ", {"-h", "--help", "--verbose", "--task", "--clear", "--all", "--conn-id", "--json"}),
        ("routes check rul", {"rules.yaml"}),
    ],
)
def test_tab_completes(typed, offered, tmp_path):
    """Commands, actions, options and choices; names of files only where a file is asked for."""
    (tmp_path / "rules.yaml").touch()
    line = f"airflow-incident {typed}"
    asked = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "answer"),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "COMP_TYPE": "9",
    }
    (tmp_path / "answer").touch()
    code = "from airflow_incident.cli.main import main; main()"
    command = [sys.executable, "-c", code]
    subprocess.run(command, env=os.environ | asked, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert set((tmp_path / "answer").read_text().split("\n")) == offered
