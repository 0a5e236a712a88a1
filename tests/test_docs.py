"""What the documents say is what the code does."""

import re
import textwrap
from pathlib import Path

import pytest

from airflow_incident import errors
from airflow_incident.core.settings import OPTIONS
from tools.readme import filled

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md")]


def test_the_readme_shows_the_examples_and_options_as_they_are():
    """`make readme` writes them; here it would change nothing."""
    text = (ROOT / "README.md").read_text()
    assert filled(text) == text
    for example in (ROOT / "dags").glob("*.py"):
        assert example.read_text() in text
    for name in OPTIONS:
        assert f"| `{name}` |" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
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


def test_the_reference_names_every_error():
    reference = (ROOT / "docs" / "reference.md").read_text()
    for name, value in vars(errors).items():
        if (
            isinstance(value, type)
            and issubclass(value, errors.IncidentIoError)
            and name not in {"IncidentIoError", "APIError"}
        ):
            assert f"`{name}`" in reference


def test_the_python_in_the_documents_is_python():
    """Each block compiles, also one that stands in a list or ends in a `with` line."""
    for page in PAGES:
        for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
            source = textwrap.dedent(block)
            compile(source + "    ...\n" if source.rstrip().endswith(":") else source, page.name, "exec")
