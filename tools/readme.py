"""Write into the README what stands elsewhere: the example DAGs and the table of options."""

import re
from pathlib import Path

from airflow_incident.core.settings import OPTIONS, Option

ROOT = Path(__file__).parents[1]


def filled(text: str) -> str:
    """Return the README's text with every marked place filled anew."""
    text = re.sub(r"(<!-- (dags/\w+\.py) -->\n)(?:```python\n.*?```\n)?", _example, text, flags=re.DOTALL)
    return re.sub(r"(<!-- options -->\n)(?:\|.*\n)*", lambda place: place[1] + _table(), text)


def _example(place: re.Match[str]) -> str:
    return f"{place[1]}```python\n{(ROOT / place[2]).read_text()}```\n"


def _table() -> str:
    head = "| option | argument | connection | airflow.cfg | default | what it does |\n|---|---|---|---|---|---|\n"
    return head + "".join(map(_row, OPTIONS.values()))


def _row(option: Option) -> str:
    places = " | ".join("✓" if place in option.places else "" for place in ("argument", "connection", "config"))
    default = "" if option.default is None else f"`{str(option.default).lower()}`"
    choices = f" One of: {', '.join(f'`{choice}`' for choice in option.choices)}." if len(option.choices) > 1 else ""
    return f"| `{option.name}` | {places} | {default} | {option.help}{choices} |\n"


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(filled(readme.read_text()))
