"""Sphinx builds the pages of this folder, and the public names' docstrings, into one site."""

import inspect
import os
import sys
import tempfile
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parents[1]))

import airflow_incident
from tools.pages import filled

# Airflow, imported for its classes, writes into its home; it must not be the reader's.
home = tempfile.TemporaryDirectory(prefix="airflow-incident-docs-")
os.environ |= {"AIRFLOW_HOME": home.name}

project = "airflow-incident"
version = release = airflow_incident.__version__
copyright = "the authors of airflow-incident, Apache-2.0"  # noqa: A001 -- Sphinx's name

extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "index"
exclude_patterns = ["images", "static"]
smartquotes = False  # JSON stays JSON
html_theme = "furo"
html_title = f"airflow-incident {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_use_index = html_domain_indices = False  # the reference and the search lead there

# Headings are link targets, spelled as GitHub spells them.
myst_heading_anchors = 4
myst_links_external_new_tab = False

# A reference that leads nowhere is an error; of the types in signatures, only public names have a place here.
nitpicky = True
nitpick_ignore_regex = [("py:class", rf"(?!(?:airflow_incident\.)?(?:{'|'.join(airflow_incident.__all__)})$).*")]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
maximum_signature_line_length = 110
python_display_short_literal_types = True
default_role = "code"  # docstrings write code between single backticks

# Examples and this machine have no page to be found.
linkcheck_ignore = [r"https?://(127\.0\.0\.1|localhost)\b.*", r"https?://([\w-]+\.)*example\.com\b.*"]
linkcheck_timeout = 20


def fill(_: Sphinx, __: str, source: list[str]) -> None:
    """Fill the marked places of a page from the code as it is now."""
    source[0] = filled(source[0])


def is_async_version(_: Sphinx, __: str, ___: str, member: object, skip: bool, ____: object) -> bool:  # noqa: FBT001 -- Sphinx's
    """Leave out the coroutine that stands beside each method of the hook."""
    return skip or inspect.iscoroutinefunction(member)


def setup(app: Sphinx) -> None:
    """Tell Sphinx who fills the pages and leaves out what is said already."""
    app.connect("source-read", fill)
    app.connect("autodoc-skip-member", is_async_version)
