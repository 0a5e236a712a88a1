"""`airflow-incident sandbox` says where it is, what happens, and what is wrong."""

import contextlib
import functools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import types

import httpx
import pytest

from airflow_incident import __version__
from airflow_incident.cli import main as cli
from airflow_incident.sandbox import command, options
from airflow_incident.sandbox.server import Sandbox

from .conftest import BODY

COMMAND = [sys.executable, "-m", "airflow_incident.cli.main"]


@contextlib.contextmanager
def running(*arguments, **environment):
    process = subprocess.Popen(
        [*COMMAND, "sandbox", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
        # A shell's background job ignores it, and so does what that starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 -- there is no other thread
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process, pattern):
    for line in process.stdout:
        found = re.search(pattern, line)
        if found:
            return found
    raise AssertionError(f"it never said {pattern}: {process.stderr.read()}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_tells_the_connection_and_every_incident_and_ends_cleanly(number):
    """A name's control characters never reach the terminal; a signal ends it with 0 and no traceback."""
    options = ["--api-key", "secret", "--roles", "incident_creator", "--fault", "error-503:1"]
    with running(*options) as process:
        told = read_until(process, r"AIRFLOW_CONN_INCIDENT_IO_DEFAULT='(.*)'")
        connection = json.loads(told[1])
        assert connection["password"] == "secret"
        direct = read_until(process, r"without the fault it is at (\S+)")[1]
        headers = {"Authorization": "Bearer secret"}
        with httpx.Client(base_url=connection["host"], headers=headers, trust_env=False) as client:
            body = {**BODY, "name": "a\x1b[31m\ud800é"}
            kind = {"Content-Type": "application/json"}
            raw = {"content": json.dumps(body).encode(), "headers": kind}
            assert client.post("/v1/incidents", **raw).status_code == 503
            for _ in range(2):
                incident = client.post("/v1/incidents", **raw).json()["incident"]
            assert client.get("/v1/incidents").status_code == 403
        line = read_until(process, r"INC-1 +opened +(\S+)  (\S+)")
        assert line[1] == "a\ufffd[31m\ufffdé"
        assert line[2] == incident["permalink"]
        assert read_until(process, "INC-1 +repeated")
        path = f"{direct}/page/incidents/INC-1/close"
        assert httpx.post(path, headers={"Origin": direct}, trust_env=False).status_code == 200
        assert read_until(process, "INC-1 +closed")
        process.send_signal(number)
        assert process.wait(10) == 0
        assert process.stderr.read() == ""


def test_each_line_has_the_time_at_which_it_happened(monkeypatch):
    """Not the time at which it began to wait for it."""
    now, said = ["03:00:00"], []

    class Queue(list):
        put = list.append

        def get(self):
            now[0] = "03:07:00"
            box.create(BODY, "v2")
            return self.pop()

    def say(text):
        said.append(text)
        if "opened" in text:
            raise KeyboardInterrupt

    monkeypatch.setattr(command, "queue", types.SimpleNamespace(SimpleQueue=Queue))
    monkeypatch.setattr(command, "time", types.SimpleNamespace(strftime=lambda _: now[0]))
    monkeypatch.setattr(command, "_say", say)
    with Sandbox() as box, pytest.raises(KeyboardInterrupt):
        command._follow(box)
    assert re.match("03:07:00  INC-1 +opened", said[-1])


def test_a_terminal_that_knows_no_unicode_is_no_reason_to_fail():
    with running(PYTHONIOENCODING="ascii") as process:
        connection = json.loads(read_until(process, r"DEFAULT='(.*)'")[1])
        headers = {"Authorization": f"Bearer {connection['password']}"}
        body = {**BODY, "name": "é"}
        httpx.post(f"{connection['host']}/v1/incidents", json=body, headers=headers, trust_env=False)
        assert read_until(process, r"INC-1 +opened +\?")
        process.terminate()
        assert process.wait(10) == 0


def test_a_reader_that_goes_away_ends_it_quietly():
    with running() as process:
        connection = json.loads(read_until(process, r"DEFAULT='(.*)'")[1])
        process.stdout.close()
        headers = {"Authorization": f"Bearer {connection['password']}"}
        with contextlib.suppress(httpx.ConnectError):  # on a slow machine it ends with its greeting's last line
            httpx.post(f"{connection['host']}/v1/incidents", json=BODY, headers=headers, trust_env=False)
        assert process.wait(10) == 0
        assert process.stderr.read() == ""


def test_a_taken_port_is_told_in_one_line(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        before = signal.getsignal(signal.SIGTERM)
        try:
            assert cli.main(["sandbox", "--port", str(port)]) == 1
        finally:
            signal.signal(signal.SIGTERM, before)
    out, error = capsys.readouterr()
    assert out == ""
    assert error.count("\n") == 1
    assert f"cannot listen on port {port} (Address already in use); --port 0" in error


def test_without_a_port_it_takes_the_usual_one_or_else_any(monkeypatch, capsys):
    with Sandbox() as first:
        monkeypatch.setattr(options, "DEFAULT_PORT", first.port)
        box = command._start(functools.partial(Sandbox), None)
        box.stop()
    assert box.port != first.port
    assert f"Port {first.port} is taken" in capsys.readouterr().out
    box = command._start(functools.partial(Sandbox), None)
    box.stop()
    assert box.port == first.port


@pytest.mark.parametrize("module", sorted(command.EXTRA))
def test_what_is_missing_is_told_with_the_command_that_installs_it(module):
    code = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from airflow_incident.cli.main import main; sys.exit(main(['sandbox']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert f"needs {module}: pip install 'airflow-incident[sandbox]'" in done.stderr


def test_a_missing_module_of_its_own_is_not_blamed_on_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "airflow_incident.sandbox.server", None)
    with pytest.raises(ModuleNotFoundError):
        cli.main(["sandbox"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--port", "x"], "--port"),
        (["--port", "65536"], "--port"),
        (["--api-key", ""], "at least one character"),
        (["--api-key", "a b"], "visible ASCII"),
        (["--roles", "viewer,owner"], "unknown roles owner"),
        (["--repeat", "never"], "--repeat"),
        (["--expires-after", "-1"], "--expires-after"),
        (["--expires-after", "inf"], "--expires-after"),
        (["--rate-limit", "0"], "--rate-limit"),
        (["--fault", "fire"], "unknown fault 'fire'"),
        (["--fault", "hang:0"], "whole number"),
        (["--nothing"], "--nothing"),
    ],
)
def test_a_wrong_option_is_explained(capsys, arguments, told):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["sandbox", *arguments])
    assert stopped.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["--version"], 0), (["sandbox", "--help"], 0)])
def test_it_explains_itself(capsys, arguments, code):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == code
    out, error = capsys.readouterr()
    expected = {"--version": f"airflow-incident {__version__}\n"}.get(arguments[0] if arguments else "", "usage:")
    assert expected in out + error


def test_every_option_reaches_the_sandbox():
    some = "--roles viewer --repeat expires --expires-after 1.5 --rate-limit 5"
    more = "--fault hang:2 --port 0 --api-key k"
    args = cli.build_parser().parse_args(["sandbox", *some.split(), *more.split()])
    told = (args.roles, args.repeat, args.expires_after, args.rate_limit, args.fault, args.port, args.api_key)
    assert told == (("viewer",), "expires", 1.5, 5, "hang:2", 0, "k")


@pytest.mark.parametrize("name", command.SWITCHES)
def test_every_switch_reaches_the_sandbox_and_is_off_by_itself(monkeypatch, name):
    told = []

    def start(build, port):
        told.append(build().options)
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_start", start)
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert cli.main(["sandbox"]) == cli.main(["sandbox", f"--{name}"]) == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    attribute = {"remove-v1": "v1_removed"}.get(name, name.replace("-", "_"))
    assert [getattr(one, attribute) for one in told] == [False, True]


def test_a_word_says_what_became_of_an_incident():
    """Opened, repeated, moved, its alert resolved, or else changed."""
    with Sandbox() as box:
        told = []
        stop = box.store.listen(lambda change: told.append(change.last_event))
        for _ in range(2):
            box.store.create(BODY, "v2")
        box.move("INC-1", "learning")
        for status in ("firing", "resolved"):
            box.store.alert({"title": "x", "deduplication_key": "x", "status": status})
        box.store.edit("INC-1", {"name": "y"})
        stop()
    assert told == ["opened", "repeated", "post-incident", "opened", "alert resolved", "changed"]


def test_the_command_line_itself_imports_nothing_heavy():
    code = "import sys, airflow_incident.cli.main; print([m for m in sys.argv[1:] if m in sys.modules])"
    heavy = ["fastapi", "uvicorn", "httpx", "pydantic", "airflow", "markdown_it"]
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
