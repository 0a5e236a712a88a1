"""What runs on a change and on a release: workflows that GitHub accepts, and that do what the Makefile and tools say."""

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest
import yaml

from tests.conftest import ROOT
from tools.versions import NEWEST, VERSIONS

FOLDER = ROOT / ".github" / "workflows"
CI, RELEASE = (yaml.safe_load((FOLDER / f"{name}.yml").read_text()) for name in ("ci", "release"))
WORKFLOWS = pytest.mark.parametrize("workflow", [CI, RELEASE], ids=["ci", "release"])


def steps(workflow):
    """Return every step, whichever job it belongs to."""
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def schema_errors(*files):
    """Return what `make lint` says of workflows."""
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", *files]
    return subprocess.run(check, capture_output=True, text=True, check=False)


@pytest.mark.skipif(not find_spec("check_jsonschema"), reason="only the environment of `make lint` can check them")
def test_lint_notices_a_broken_workflow(tmp_path):
    """It passes as it is, and fails with one key misspelled; without the network."""
    broken = tmp_path / "ci.yml"
    shutil.copy(FOLDER / "ci.yml", broken)
    assert schema_errors(broken).returncode == 0
    broken.write_text(broken.read_text().replace("runs-on:", "run-on:"))
    ended = schema_errors(broken)
    assert ended.returncode == 1
    assert "run-on" in ended.stdout


def test_ci_runs_every_supported_airflow_on_the_python_of_the_matrix():
    rows = CI["jobs"]["airflow"]["strategy"]["matrix"]["include"]
    assert {row["airflow"]: row["python"] for row in rows} == {name: v.python for name, v in VERSIONS.items()}


@WORKFLOWS
def test_every_command_is_a_target_of_the_makefile(workflow):
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    wanted = set(workflow["jobs"].get("check", {}).get("strategy", {}).get("matrix", {}).get("command", []))
    wanted |= {name for step in steps(workflow) for name in re.findall(r"\bmake ([a-z-]+)", step.get("run", ""))}
    assert wanted
    assert wanted <= targets


@WORKFLOWS
def test_actions_are_pinned_by_major_version(workflow):
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert used
    assert [action for action in used if not re.search(r"@(release/)?v\d+$", action)] == []


@WORKFLOWS
def test_a_workflow_may_read_and_nothing_else(workflow):
    """Only what proves to PyPI who it is, and what makes the release, may more. No job keeps the token of its checkout."""
    assert workflow["permissions"] == {"contents": "read"}
    asked = {name: job["permissions"] for name, job in workflow["jobs"].items() if "permissions" in job}
    more = {"publish": {"id-token": "write"}, "release": {"contents": "write"}}
    assert asked == (more if workflow is RELEASE else {})
    for step in steps(workflow):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_a_release_is_published_from_a_tag_by_trusted_publishing_with_attestations():
    """What is published was built and checked by a job that may publish nothing."""
    build, publish = RELEASE["jobs"]["build"], RELEASE["jobs"]["publish"]
    assert RELEASE[True] == {"push": {"tags": ["v*"]}}  # YAML 1.1 reads `on` as true
    assert "make package" in [step.get("run") for step in build["steps"]]
    assert (publish["needs"], publish["environment"]["name"]) == ("build", "pypi")
    *_, upload = publish["steps"]
    assert upload["uses"].startswith("pypa/gh-action-pypi-publish@")
    assert upload["with"] == {"attestations": True}


def test_a_release_has_what_was_published_and_what_came_with_it():
    """Files of the job that built and checked them; whoever may write to the repository runs none of its code."""
    kept = {
        step["with"]["name"]: step["with"]["path"]
        for step in RELEASE["jobs"]["build"]["steps"]
        if "name" in step.get("with", {})
    }
    assert kept == {"dist": "dist/", "bom": "build/bom/"}
    assert RELEASE["jobs"]["release"]["needs"] == "publish"
    fetch, make = RELEASE["jobs"]["release"]["steps"]
    assert fetch["with"] == {"path": "assets/", "merge-multiple": True}
    assert "gh release create" in make["run"]


def test_pre_commit_runs_the_pinned_ruff():
    """It formats as `make lint` does."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    (revision,) = [each["rev"] for each in hooks if each["repo"].endswith("/ruff-pre-commit")]
    (pinned,) = re.findall(r"^ruff==(.*)$", (ROOT / "constraints" / f"airflow-{NEWEST}.txt").read_text(), re.MULTILINE)
    assert revision == f"v{pinned}"
