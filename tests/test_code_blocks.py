"""Every block of code in the documents is run or read by what would run or read it, or has a reason here why not."""

import ast
import inspect
import json
import re
import shlex
import subprocess
import textwrap
import tomllib
from argparse import ArgumentParser
from collections.abc import Iterator
from configparser import ConfigParser
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

import airflow_incident
from airflow_incident import CreateIncidentOperator, open_incident, resolve_incident
from airflow_incident.airflow_bridge.stats import PREFIX, SECONDS
from airflow_incident.cli.main import build_parser
from airflow_incident.cli.route_checks import examine_file
from airflow_incident.core.settings import merge, options_in
from airflow_incident.delivery.outcome import OUTCOMES
from airflow_incident.hooks import IncidentHook
from tests.airflow_dags import read_dags
from tests.airflow_versions import AIRFLOW
from tools.columns import LONGEST
from tools.pages import PAGES, ROOT

SHOWN = {"", "text", "{eval-rst}", "{toctree}", "fish", "sql"}
"""What is output or a file without a grammar, is read by the documentation's build, or needs a shell that few have.

The SQL is run by `make watched`.
"""
READ = {"python", "sh", "ini", "yaml", "json", "toml", "dockerfile"}

PRELUDE = """
from airflow.sdk import DAG, task
from airflow_incident import *
outer = DAG("documented")
outer.__enter__()
@task
def work(): ...
publish, migrate = work(), work()
"""
"""What a block takes for known; whatever it makes outside of a DAG of its own belongs to this one."""
BESIDES = {
    "metrics.md": 'import json, re; line = "said (outcome=opened dag_id=orders)"',
    "moving.md": "send_pagerduty_notification = lambda **_: print",  # its provider is not installed here
    "platforms.md": "BashOperator = lambda **_: None",  # it moved between versions; the page leaves open where from
}
"""What the blocks of a page take for known, too."""
NOT_RUN = {
    (
        "sandbox.md",
        "with Sandbox(",
    ): "shows the tests of a project, whose DAGs are not here; tests/sandbox does the same",
    ("hook.md", "hook = IncidentHook("): "sends; a test of its own below lets it",
    ("testing.md", "# tests/"): "belongs to a project with tests of its own, which runs outside of this repository",
}
"""Python that no DAG file is made of, by its page and by what is in it: why."""

ELSEWHERE = {
    ".": "the tutorial's environment; tests/airflow/test_tutorial.py does without",
    "aws": "needs an account",
    "docker": "needs Docker",
    "eval": "a shell's own",
    "export": "a shell's own",
    "gcloud": "needs an account",
    "kubectl": "needs a cluster",
    "mkdir": "a shell's own",
    "pip": "asks the package index; `make package` installs what is built",
    "python3": "makes an environment",
    "unset": "a shell's own",
    "vault": "needs a server",
}
"""Commands that no parser of ours or of Airflow's reads: why."""


class Block(NamedTuple):
    """A block of code, and where it is."""

    page: Path
    language: str
    text: str


def _blocks() -> Iterator[Block]:
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for indent, language, text in re.findall(
            r"^( *)```(\S*)\n(.*?)^ *```$", page.read_text(), re.MULTILINE | re.DOTALL
        ):
            yield Block(page, language, textwrap.dedent(text) if indent else text)


BLOCKS = list(_blocks())


def written_in(*languages: str) -> pytest.MarkDecorator:
    """Give a test each block in one of these languages."""
    found = [block for block in BLOCKS if block.language in languages]
    assert found
    return pytest.mark.parametrize("block", found, ids=lambda block: f"{block.page.stem}-{found.index(block)}")


def test_no_block_is_in_a_language_that_nobody_reads():
    assert {block.language for block in BLOCKS} <= SHOWN | READ


def test_every_block_fits_its_column():
    """`make docs` measures the same in a browser, where there is one."""
    shown = [block for block in BLOCKS if not block.language.startswith("{")]
    lines = [(block.page.name, line) for block in shown for line in block.text.splitlines()]
    assert [found for found in lines if len(found[1]) > LONGEST] == []


@written_in("python")
def test_airflow_reads_every_block_of_python_as_a_dag_file(block, airflow_db):
    """Its policies and our own checks of arguments see it, too."""
    ast.parse(block.text)
    if any(block.page.name == page and words in block.text for page, words in NOT_RUN):
        return
    if "DeadlineAlert" in block.text and AIRFLOW < (3, 2):
        pytest.skip("Airflow before 3.2 has deadline alerts elsewhere, as the block says, or not at all")
    file = airflow_db / "dags" / "documented.py"
    source = f"{PRELUDE}{BESIDES.get(block.page.name, '')}\n{block.text}\nouter.__exit__(None, None, None)\n"
    sdk = "airflow.sdk" if AIRFLOW >= (3, 0) else "airflow.providers.common.compat.sdk"
    file.parent.mkdir(exist_ok=True)
    file.write_text(source.replace("airflow.sdk", sdk))
    try:
        assert "documented" in read_dags(file)
    finally:
        file.unlink()


def test_what_is_not_run_is_there():
    """As long as its page is."""
    for page, words in NOT_RUN:
        texts = [block.text for block in BLOCKS if block.page.name == page]
        assert not texts or any(words in text for text in texts)


def test_the_page_of_the_hook_does_what_it_says(connected, capsys):
    """It opens an incident, changes it, lists the severities, and closes it."""
    (block,) = [block for block in BLOCKS if block.page.name == "hook.md"]
    exec(compile(block.text, "hook.md", "exec"), {})
    assert "Major" in capsys.readouterr().out
    (incident,) = connected.incidents_v2
    assert incident["summary"] == "Half of the tables are done."
    assert incident["incident_status"]["category"] == "closed"


def airflow_parser() -> ArgumentParser:
    from airflow.cli.cli_parser import get_parser

    return get_parser()


@written_in("sh")
def test_every_command_takes_the_arguments_that_it_is_given(block):
    """A shell reads the block; our parser, Airflow's and make's file read their lines."""
    subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)
    lines = re.sub(r"\\\n\s*", " ", block.text)
    for line in re.split(r"\n|&&", lines):
        words = shlex.split(line, comments=True) if line.count("'") % 2 == 0 else []
        match words:
            case ["airflow-incident", *given]:
                build_parser().parse_args(given)
            case ["airflow", *given]:
                airflow_parser().parse_args(given)
            case ["make", *targets]:
                made = re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
                assert {target for target in targets if "=" not in target} <= set(made)
            case [word, *rest] if "=" not in word:
                assert word in ELSEWHERE, line
                if "airflow-incident" in rest and "--" in rest:
                    build_parser().parse_args(rest[rest.index("airflow-incident") + 1 :])


@written_in("dockerfile")
def test_every_dockerfile_has_instructions_only(block):
    for line in re.sub(r"\\\n\s*", " ", block.text).splitlines():
        instruction, rest = line.split(maxsplit=1)
        assert instruction in {"FROM", "RUN"}
        if instruction == "RUN":
            subprocess.run(["bash", "-n"], input=rest, text=True, check=True)


@written_in("ini")
def test_every_option_of_airflow_cfg_is_one(block):
    config = ConfigParser(interpolation=None)
    config.read_string(block.text if block.text.startswith("[") else f"[incident_io]\n{block.text}")
    given = dict(config["incident_io"]) if "incident_io" in config else {}
    assert merge(arguments={}, connection={}, config=given)[1] == []
    assert set(given) <= {option.name for option in options_in("config")}
    if "secrets" in config:
        json.loads(config["secrets"]["backend_kwargs"])


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "mistakes.md"], ids=lambda page: page.name)
def test_every_environment_variable_is_an_option(page):
    """On the page of mistakes some are misspelt, which is the point there."""
    named = {name.lower() for name in re.findall(r"AIRFLOW__INCIDENT_IO__([A-Z_]+)", page.read_text())}
    named |= set(re.findall(r"^incident_io\.(\w+) ", page.read_text(), re.MULTILINE))
    assert named <= {option.name for option in options_in("config")}


@written_in("sh", "json", "text")
def test_every_connection_is_one(block, monkeypatch):
    """Its type is ours, and each field of its extra is an option that a connection may have."""
    for found in re.finditer(r'{"conn_type"', block.text):
        value, _ = json.JSONDecoder().raw_decode(block.text[found.start() :].replace("…", "a-key"))
        monkeypatch.setenv("AIRFLOW_CONN_INCIDENT_IO_DEFAULT", json.dumps(value))
        assert IncidentHook().config().conn_type == "incident_io"
        assert set(value.get("extra", {})) <= {option.name for option in options_in("connection")}


@written_in("json")
def test_every_block_of_json_is_json(block):
    json.loads(block.text)


def test_every_block_of_toml_is_toml():
    for block in BLOCKS:
        if block.language == "toml":
            tomllib.loads(block.text)


@written_in("yaml")
def test_every_block_of_yaml_is_what_its_reader_takes(block, tmp_path):
    """Rules by `routes check`, values of the chart by the options, a compose file by its schema."""
    match yaml.safe_load(block.text):
        case [{"set": _}, *_]:
            file = tmp_path / "routes.yaml"
            file.write_text(block.text)
            assert [finding.level for finding in examine_file(str(file))] == ["ok"]
        case {"config": {"incident_io": options}}:
            assert set(options) <= {option.name for option in options_in("config")}
            assert merge(arguments={}, connection={}, config=options)[1] == []
        case {"services": _} as compose if spec := find_spec("check_jsonschema"):
            import jsonschema

            schema = Path(spec.origin).parent / "builtin_schemas" / "vendor" / "compose-spec.json"
            jsonschema.validate(compose, json.loads(schema.read_text()))
        case {"groups": [{"rules": rules}]}:
            expressions = " ".join(rule["expr"] for rule in rules)
            assert set(re.findall(r"airflow_incident_io_(\w+)_total", expressions)) <= {*OUTCOMES, "watcher_rounds"}
        case {"mappings": mappings}:
            names = (SECONDS, "*", f"watcher.{SECONDS}", "watcher.*")
            assert {mapping["match"] for mapping in mappings} == {f"airflow.{PREFIX}{name}" for name in names}
        case other:
            assert isinstance(other, dict)


@pytest.mark.parametrize(
    "call",
    sorted(
        set(
            re.findall(
                r"`((?:open_incident|resolve_incident|(?:Create|Resolve)IncidentOperator|IncidentHook)\(.*?\))`",
                (ROOT / "docs/how-to/moving.md").read_text(),
            )
        )
    ),
)
def test_what_to_write_instead_can_be_written(call, airflow_db):
    """Each call on the page about moving is one, with arguments that exist."""
    eval(
        call.replace(", …", ""),
        vars(airflow_incident) | {name: getattr(airflow_incident, name) for name in airflow_incident.__all__},
    )


def test_the_arguments_to_write_instead_exist():
    """In the column of the page about moving that is ours."""
    rows = re.findall(r"^\|(?:[^|]*)\|([^|]*)\|", (ROOT / "docs/how-to/moving.md").read_text(), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)=", row)} - {
        "on_failure_callback",
        "on_success_callback",
    }
    known = {
        name
        for door in (open_incident, resolve_incident, CreateIncidentOperator)
        for name in inspect.signature(door).parameters
    }
    assert named
    assert named <= known
