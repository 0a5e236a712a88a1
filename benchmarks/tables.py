"""Medians, spreads, ratios and verdicts as aligned text."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Write a median with the smallest and the largest value."""
    if not values:
        return "not measured"
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}..{max(values):.{digits}f})"


def ratios(values: Sequence[float], base: Sequence[float]) -> list[float]:
    """Divide round by round, so that a slow moment of the machine touches both."""
    return [value / other for value, other in zip(values, base, strict=False)]


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = (
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in (head, ["-" * width for width in widths], *rows)
    )
    return "\n".join((title, *lines))


@dataclass(frozen=True)
class Limit:
    """A figure that should not be exceeded."""

    what: str
    unit: str
    most: float

    def verdict(self, values: Sequence[float]) -> str:
        """Say whether the median keeps the limit, loudly if it does not."""
        if not values:
            return f"NOT MEASURED    {self.what}"
        value = median(values)
        word = "within limit   " if value <= self.most else "OVER THE LIMIT "
        return f"{word} {self.what}: {value:.3g}{self.unit} (limit {self.most:g}{self.unit})"
