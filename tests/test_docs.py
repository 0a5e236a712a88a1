"""What the documents say is what the code does."""

import json
import re
import shlex
import subprocess
import textwrap
import tomllib
from configparser import ConfigParser

import pytest
import yaml

import airflow_incident
from airflow_incident.cli.main import build_parser
from airflow_incident.core.settings import OPTIONS, Settings, merge, options_in
from airflow_incident.hooks import IncidentHook
from tools.pages import PAGES, ROOT, filled
from tools.reference import PARTS

DOORS = [ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
ARCHITECTURE = ROOT / "docs" / "architecture.md"
PACKAGE = ROOT / "airflow_incident"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_takes_from_elsewhere_is_as_it_is_there(page):
    """`make pages` writes examples, options, commands and errors; here it would change nothing."""
    assert filled(page.read_text()) == page.read_text()


def test_the_readme_shows_every_example_and_option():
    text = (ROOT / "README.md").read_text()
    for example in (ROOT / "dags").glob("*.py"):
        assert example.read_text() in text
    for name in OPTIONS:
        assert f"| `{name}` |" in text


def test_everything_that_the_code_says_of_itself_is_on_a_page():
    """No part is made for nobody, and each page of the reference has its own."""
    shown = {part for page in PAGES for part in re.findall(r"<!-- from the code: ([\w. ]+) -->", page.read_text())}
    assert shown == set(PARTS)


def test_the_section_of_airflow_cfg_can_be_used_as_it_is():
    """With the comment signs of its options taken away it has every option, each with its default."""
    section = PARTS["airflow.cfg"]().strip("`\n").removeprefix("ini")
    config = ConfigParser(interpolation=None)
    config.read_string(re.sub(r"^# (\w+ =)", r"\1", section, flags=re.MULTILINE))
    told = dict(config["incident_io"])
    assert list(told) == [option.name for option in options_in("config")]
    settings, problems, _ = merge(arguments={}, connection={}, config=told)
    assert settings == Settings()
    assert problems == []


@pytest.mark.parametrize("page", [*PAGES, *DOORS], ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    """Relative links name files that exist, and headings that do."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        path, _, heading = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        if heading:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", [*DOORS, ARCHITECTURE, ROOT / "docs" / "security.md"], ids=lambda page: page.name)
def test_every_file_that_a_page_names_exists(page):
    """By its path, or by its name where it may move: the tests, and modules beside one that was named."""
    named = set(re.findall(r"`([\w./-]+\.(?:py|toml|yml|json|md))`", page.read_text()))
    everywhere = {file.name for folder in (PACKAGE, ROOT / "tests") for file in folder.rglob("*.py")}
    assert [name for name in named if not (ROOT / name).is_file() and name not in everywhere] == []


def test_contributing_lists_every_command():
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    listed = set(re.findall(r"^\| `make ([a-z0-9-]+)`", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE))
    assert targets <= listed


def test_the_picture_of_the_layers_is_what_import_linter_holds():
    """Each module in its layer, from the top down."""
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
    held = [set(re.findall(r"airflow_incident\.(\w+)", layer)) for layer in layers]
    (picture,) = re.findall(r"```text\n(┌.*?)```", ARCHITECTURE.read_text(), re.DOTALL)
    assert [set(re.findall(r"\w+", row)) & set.union(*held) for row in re.split("[├└]", picture)] == held


def test_every_module_that_the_architecture_names_exists():
    named = re.findall(r"`?\b((?:core|api|airflow_bridge|delivery)/\w+)\b", ARCHITECTURE.read_text())
    assert len(named) > 10
    assert [name for name in named if not (PACKAGE / f"{name}.py").is_file()] == []


def test_the_reference_describes_every_public_name():
    """With its docstring, which the documentation's build puts there."""
    described = re.findall(
        r"^.. auto\w+:: airflow_incident\.(\w+)$", (ROOT / "docs/reference/python.md").read_text(), re.MULTILINE
    )
    assert sorted(described) == sorted(set(airflow_incident.__all__) - {"__version__"})


def test_the_table_of_errors_holds_every_public_error():
    told = set(re.findall(r"^\| `(\w+)`", PARTS["errors"](), re.MULTILINE))
    errors = {name for name in airflow_incident.__all__ if name.endswith("Error")} - {"IncidentIoError"}
    assert told == errors


def test_the_python_in_the_documents_is_python():
    """Each block compiles, also one that stands in a list or ends in a `with` line."""
    for page in PAGES:
        for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
            source = textwrap.dedent(block)
            compile(source + "    ...\n" if source.rstrip().endswith(":") else source, page.name, "exec")


def blocks(*languages):
    """Return every code block in one of these languages, with the name of its page."""
    found = [
        pytest.param(textwrap.dedent(block), id=f"{page.name}-{number}")
        for page in PAGES
        for number, block in enumerate(
            re.findall(rf"```(?:{'|'.join(languages)})\n(.*?)```", page.read_text(), re.DOTALL)
        )
    ]
    assert found
    return found


@pytest.mark.parametrize("block", blocks("sh"))
def test_every_command_of_ours_is_one(block):
    """A shell reads each block, and our own commands take the arguments that they are given."""
    subprocess.run(["bash", "-n"], input=block, text=True, check=True)
    for line in re.findall(r"^(?:.* -- )?airflow-incident (.*)$", block, re.MULTILINE):
        build_parser().parse_args(shlex.split(line, comments=True))


@pytest.mark.parametrize("block", blocks("ini"))
def test_every_option_of_airflow_cfg_is_one(block):
    config = ConfigParser(interpolation=None)
    config.read_string(block if block.startswith("[") else f"[incident_io]\n{block}")
    given = dict(config["incident_io"]) if "incident_io" in config else {}
    assert merge(arguments={}, connection={}, config=given)[1] == []
    assert set(given) <= {option.name for option in options_in("config")}
    if "secrets" in config:
        json.loads(config["secrets"]["backend_kwargs"])


@pytest.mark.parametrize("block", blocks("sh", "json"))
def test_every_connection_is_one(block, monkeypatch):
    """Its type is ours, and each field of its extra is an option that a connection may have."""
    for text in re.findall(r"""\{"conn_type".*\}(?=['\n])""", block):
        monkeypatch.setenv("AIRFLOW_CONN_INCIDENT_IO_DEFAULT", text.replace("…", "a-key"))
        config = IncidentHook().config()
        assert config.conn_type == "incident_io"
        assert set(json.loads(text).get("extra", {})) <= {option.name for option in options_in("connection")}


def test_the_values_for_kubernetes_are_what_airflow_reads():
    """Every option in the chart's `config` is one, with a value that can be read."""
    (values,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/how-to/kubernetes.md").read_text(), re.DOTALL)
    config = yaml.safe_load(values)["config"]["incident_io"]
    assert set(config) <= {option.name for option in options_in("config")}
    assert merge(arguments={}, connection={}, config=config)[1] == []
