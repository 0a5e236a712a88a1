"""What the documents say is what the code does."""

import html
import re
import tomllib
from configparser import ConfigParser

import pytest

import airflow_incident
from airflow_incident.core.settings import OPTIONS, Settings, merge, options_in
from tools.pages import PAGES, ROOT, filled
from tools.reference import PARTS

DOORS = [ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
ARCHITECTURE = ROOT / "docs" / "architecture.md"
PACKAGE = ROOT / "airflow_incident"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_takes_from_elsewhere_is_as_it_is_there(page):
    """`make pages` writes examples, options, commands and errors; here it would change nothing."""
    assert filled(page.read_text()) == page.read_text()


def test_every_example_and_option_has_a_place():
    examples, options = ((ROOT / "docs" / page).read_text() for page in ("how-to/examples.md", "reference/options.md"))
    for example in (ROOT / "dags").glob("*.py"):
        assert example.read_text() in examples
    for name in OPTIONS:
        assert f"| [`{name}`](#{name}) |" in options


def test_the_readme_is_read_in_a_minute():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("index", ["how-to/README.md", "reference.md"])
def test_each_page_of_a_folder_has_a_line_in_its_index(index):
    """In the list that people read, and in the tree that the site is built from."""
    page = ROOT / "docs" / index
    folder = page.parent if page.name == "README.md" else page.with_suffix("")
    text = page.read_text()
    others = sorted(str(file.relative_to(page.parent)) for file in folder.glob("*.md") if file != page)
    assert [other for other in others if f"]({other})" not in text] == []
    tree = re.findall(r"^(?:.* <)?([\w/-]+)>?$", re.findall(r"```{toctree}(.*?)```", text, re.DOTALL)[0], re.MULTILINE)
    assert sorted(f"{entry}.md" for entry in tree) == others


def test_the_picture_of_the_flow_shows_what_its_source_says():
    """`make pictures` draws it anew."""
    images = ROOT / "docs" / "images"
    labels = re.findall(r'label="([^"]+)"', (images / "flow.dot").read_text())
    drawn = html.unescape(" ".join(re.findall(r">([^<>]+)</text>", (images / "flow.svg").read_text())))
    assert len(labels) > 8
    assert [line for label in labels for line in label.split(r"\n") if line not in drawn] == []


def test_every_picture_is_shown():
    """One that no page shows grows old unseen."""
    shown = "".join(page.read_text() for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
    pictures = [*(ROOT / "docs" / "images").glob("*.png"), *(ROOT / "docs" / "images").glob("*.svg")]
    assert [picture.name for picture in pictures if f"images/{picture.name})" not in shown] == []


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
