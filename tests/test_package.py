"""What is built holds what belongs there, and its page on PyPI leads somewhere."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.util import find_spec

import pytest

import airflow_incident
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(not find_spec("build"), reason="only the environment of `make test` can build")

URLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
TAG = f"v{airflow_incident.__version__}"
OURS = (
    f"{URLS['Homepage']}/blob/{TAG}/",
    f"{URLS['Homepage'].replace('github.com', 'raw.githubusercontent.com')}/{TAG}/",
)
"""What the README's own links begin with on PyPI: pages, and pictures."""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build sdist and wheel with what is installed, from the checkout."""
    from tools.package import build

    return build(tmp_path_factory.mktemp("dist") / "built")


@pytest.fixture(scope="module")
def wheel(built):
    (file,) = [file for file in built if file.suffix == ".whl"]
    with zipfile.ZipFile(file) as opened:
        yield opened


@pytest.fixture(scope="module")
def metadata(built):
    from tools.package import metadata_of

    return metadata_of(built[0])


def test_pypi_takes_both(built):
    """Its own check of the metadata and the page; a warning would be an error."""
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *built], check=True)


def test_whoever_builds_it_gets_the_same_bytes(built, tmp_path):
    """Elsewhere, at another moment, from what the sdist holds: both, to the last byte."""
    from tools.package import differing

    assert differing(built, tmp_path) == []


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    """With the sandbox's page, and the mark that it is typed; no test, no tool."""
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    files = {file for file in ROOT.glob("airflow_incident/**/*") if file.is_file() and file.suffix != ".pyc"}
    assert held == {str(file.relative_to(ROOT)) for file in files}
    assert held >= {"airflow_incident/py.typed", "airflow_incident/sandbox/page/index.html"}


def test_the_sdist_holds_what_its_tests_need(built):
    (file,) = [file for file in built if file.suffix == ".gz"]
    with tarfile.open(file) as opened:
        names = opened.getnames()
    held = {name.split("/")[1] for name in names}
    assert held >= {"airflow_incident", "tests", "tools", "constraints", "dags", "docs", "Makefile", "LICENSE"}
    assert not {name for name in held if name.startswith((".venv", "build", "dist"))}
    assert not {name for name in names if "__pycache__" in name or name.endswith((".pyc", ".db", ".log"))}


def test_every_link_and_picture_of_the_page_leads_somewhere(built, metadata):
    """PyPI shows the README alone: each target is absolute, and is in the repository where it is the project's own."""
    from tools.package import LEADS, targets

    page = metadata.get_payload()
    assert [target for target in targets(built[0]) if not LEADS.match(target)] == []
    written = re.findall(r"\]\(([^)\s]+)\)", page)
    pictures = re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", page)
    assert pictures
    assert all(picture.startswith("https://raw.githubusercontent.com/") for picture in pictures)
    assert all(target.startswith("https://") for target in written)
    paths = [
        target.removeprefix(start).partition("#")[0] for target in written for start in OURS if target.startswith(start)
    ]
    assert len(paths) > 20
    assert [path for path in paths if not path or not (ROOT / path).exists()] == []


def test_the_project_has_one_address():
    """It stands in pyproject.toml only; whoever moves the project replaces it there."""
    owner_and_name = URLS["Homepage"].removeprefix("https://github.com/")
    for address in re.findall(
        r"https://(?:raw\.githubusercontent|github)\.com/([\w-]+/[\w-]+)", (ROOT / "pyproject.toml").read_text()
    ):
        assert address == owner_and_name
    for file in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("airflow_incident/**/*.py")]:
        assert owner_and_name not in file.read_text(), file


def test_the_metadata_says_where_everything_is(metadata):
    told = dict(line.split(", ", 1) for line in metadata.get_all("Project-URL"))
    assert told == URLS
    assert set(told) == {"Homepage", "Documentation", "Changelog", "Issues"}
    assert metadata["Version"] == airflow_incident.__version__
    assert (metadata["License-Expression"], metadata.get_all("License-File")) == ("Apache-2.0", ["LICENSE"])


def test_the_changelog_tells_of_this_version():
    newest, *_ = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest == airflow_incident.__version__
