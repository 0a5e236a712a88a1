"""What import-linter does not hold: no file of the package needs one that needs it."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import airflow_incident

ROOT = Path(airflow_incident.__file__).parent
NAME = airflow_incident.__name__


def _name_of(file: Path) -> str:
    return ".".join([NAME, *file.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")


MODULES = {_name_of(file): file for file in ROOT.rglob("*.py")}


def _needs(file: Path) -> set[str]:
    """Name the modules that a file imports, wherever in it, and if only for their types."""
    found = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)]
    named = {(node.module or "", alias.name) for node in found for alias in node.names}
    needed = {f"{module}.{name}" if f"{module}.{name}" in MODULES else module for module, name in named}
    return (needed & MODULES.keys()) - {_name_of(file)}


def test_no_file_needs_one_that_needs_it():
    """`airflow_incident` itself hands its public names on when they are asked for: it needs nothing."""
    needs = {name: _needs(file) - {NAME} for name, file in MODULES.items() if name != NAME}
    TopologicalSorter(needs).prepare()
    assert needs[f"{NAME}.delivery.run"] > {f"{NAME}.delivery.reporter"}
