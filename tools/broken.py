"""`make test-broken` breaks one compatibility line at a time; the matrix must notice each, or it watches nothing."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tools.matrix import ROOT, environment
from tools.versions import VERSIONS

NOTICED = {1, 2}
"""A test failed, or a module of tests could not even be read. https://docs.pytest.org/en/stable/reference/exit-codes.html"""


class Broken(NamedTuple):
    """A line that one Airflow needs, how it reads without that Airflow in mind, and the test that must notice."""

    airflow: str
    file: str
    line: str
    instead: str
    test: str


LINES = (
    Broken(
        "2.11",
        "airflow_bridge/config.py",
        'if major >= 3 else ("webserver", "core")',
        "",
        "airflow_bridge/test_installation.py::test_airflow_cfg_is_read_from_where_it_is_set",
    ),
    Broken(
        "2.11",
        "airflow_bridge/config.py",
        "if self.major >= 3 else",
        "if True else",
        "airflow_bridge/test_installation.py::test_one_without_a_name_says_where_its_address_is_set",
    ),
    Broken(
        "2.11",
        "core/failure.py",
        "if airflow < 3:",
        "if airflow < 2:",
        "test_recovery.py::test_a_cleared_run_that_succeeds_closes_its_incident",
    ),
    Broken(
        "2.11",
        "airflow_bridge/compat.py",
        ', "airflow.secrets.cache")',
        ",)",
        "delivery/test_journal.py::test_a_cache_of_airflow_s_is_read_past",
    ),
    Broken(
        "2.11",
        "airflow_bridge/variables.py",
        'default = "default_var" if self._in_database else "default"',
        'default = "default"',
        "delivery/test_journal.py::test_one_run_is_one_request_whatever_calls",
    ),
    Broken(
        "2.11",
        "airflow_bridge/reading.py",
        "ChainMap({}, known,",
        "ChainMap({}, dict(known),",
        "airflow/test_oldest.py::test_a_template_touches_no_variable_that_it_does_not_name",
    ),
    Broken(
        "2.11",
        "links.py",
        "airflow_incident.airflow_bridge.compat import Base",
        "airflow.sdk import Base",
        "airflow/test_oldest.py::test_one_failed_run_is_one_incident",
    ),
    Broken(
        "2.11",
        "provider.py",
        "(PasswordField if option.secret else StringField)(",
        "StringField(",
        "airflow/test_oldest.py::test_the_connection_form_is_drawn",
    ),
    Broken(
        "3.0",
        "airflow_bridge/compat.py",
        '"BaseHook": ("airflow.sdk", "airflow.hooks.base")',
        '"BaseHook": ("airflow.sdk",)',
        "airflow_bridge/test_compat.py::test_each_name_is_what_airflow_s_own_bridge_calls_so",
    ),
    Broken(
        "3.1",
        "airflow_bridge/compat.py",
        '"DagBag": ("airflow.dag_processing.dagbag", "airflow.models.dagbag")',
        '"DagBag": ("airflow.dag_processing.dagbag",)',
        "cli/test_explain_dag_file.py::test_a_severity_of_the_dag_s_file_is_known",
    ),
    Broken(
        "3.0",
        "cli/terminal.py",
        'os.environ[PROCESS_CONTEXT] = "server"',
        "pass",
        "cli/test_tools_command.py::test_a_connection_in_airflow_s_database_is_found",
    ),
    Broken(
        "3.0",
        "airflow_bridge/context.py",
        'return has_exception or safe_get(context, "ti.start_date", "task_instance.start_date") is not None',
        "return has_exception",
        "airflow_bridge/test_callbacks.py::test_a_task_that_gives_up_with_retries_left_opens_an_incident",
    ),
    Broken(
        "3.0",
        "airflow_bridge/reading.py",
        'if processor is not None and not hasattr(processor, "GetTaskStates"):',
        "if False:",
        "airflow_bridge/test_contexts.py::test_a_dag_processor_that_would_never_answer_is_not_asked",
    ),
    Broken(
        "3.1",
        "airflow_bridge/variables.py",
        'if not hasattr(self._variable, "keys"):',
        "if False:",
        "airflow/test_journal.py",
    ),
    Broken(
        "3.1",
        "airflow_bridge/compat.py",
        'hasattr(channel, "_async_writer")',
        "False",
        "airflow_bridge/test_supervised.py::test_eight_deadlines_at_once_share_the_triggerer_s_channel",
    ),
    Broken(
        "3.1",
        "airflow_bridge/connections.py",
        "is_in_processor() or is_triggerers(supervisor())",
        "False",
        "airflow_bridge/test_supervised.py::test_an_odd_connection_id_does_not_end_the_triggerer",
    ),
    Broken(
        "3.3",
        "provider.py",
        'schema["format"] = "password"',
        "pass",
        "test_provider.py::test_the_form_has_the_options_of_a_connection",
    ),
)


def notice(broken: Broken, python: Path) -> str | None:
    """Run the test in a copy as it is, and again with the line broken; return what is wrong if it does not notice."""
    with tempfile.TemporaryDirectory(prefix="airflow-incident-broken-") as folder:
        copy = Path(folder)
        for name in ("airflow_incident", "dags", "docs", "tests", "tools"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "CHANGELOG.md"):
            shutil.copy(ROOT / name, copy / name)
        whole = _test(broken.test, copy, python)
        if whole.returncode:
            return f"it fails with the line as it is\n{whole.stdout[-2000:]}{whole.stderr[-2000:]}"
        file = copy / "airflow_incident" / broken.file
        text = file.read_text()
        if broken.line not in text:
            return f"{broken.file} has no such line any more"
        file.write_text(text.replace(broken.line, broken.instead))
        ended = _test(broken.test, copy, python)
        if ended.returncode not in NOTICED:
            return f"the test ended with exit {ended.returncode}\n{ended.stdout[-2000:]}{ended.stderr[-2000:]}"
        return None


def _test(test: str, folder: Path, python: Path) -> subprocess.CompletedProcess[str]:
    command = [python, "-m", "pytest", "-qx", "--no-header", "-p", "no:cacheprovider", f"tests/{test}"]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)


def run(versions: list[str]) -> Iterator[bool]:
    """Break each line of these versions in turn, and tell what became of it."""
    for broken in LINES:
        if broken.airflow not in versions:
            continue
        print(f"{broken.airflow:5} {broken.file}: {broken.line}", flush=True)
        python = environment(broken.airflow)
        trouble = python if isinstance(python, str) else notice(broken, python)
        verdict = f"NOT NOTICED: {trouble}" if trouble else f"noticed by {broken.test}"
        print(f"      {verdict}", flush=True)
        yield trouble is None


def main() -> int:
    """Break every line, or those of some versions; all must be noticed."""
    parser = argparse.ArgumentParser(prog="python -m tools.broken", description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(VERSIONS), choices=VERSIONS, help="these versions of Airflow")
    return 0 if all(list(run(parser.parse_args().only or list(VERSIONS)))) else 1


if __name__ == "__main__":
    sys.exit(main())
