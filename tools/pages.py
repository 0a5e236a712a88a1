"""Write into the documents what stands elsewhere: the example DAGs, and what the code says of itself."""

import re
from pathlib import Path

from tools.reference import PARTS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/**/*.md"))]


def filled(text: str) -> str:
    """Return a page's text with every marked place filled anew."""
    text = re.sub(r"(<!-- (dags/\w+\.py) -->\n)(?:```python\n.*?```\n)?", _example, text, flags=re.DOTALL)
    return re.sub(r"(<!-- from the code: ([\w. ]+) -->\n).*?(<!-- end -->)", _part, text, flags=re.DOTALL)


def _example(place: re.Match[str]) -> str:
    return f"{place[1]}```python\n{(ROOT / place[2]).read_text()}```\n"


def _part(place: re.Match[str]) -> str:
    return f"{place[1]}\n{PARTS[place[2]]()}\n{place[3]}"


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text()))
