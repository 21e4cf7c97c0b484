"""What a chapter shows: numbers, figures, tables, verdicts and where they came from. No torch.

- `page`         what a chapter says to the book
- `drawing`      the look of figures; points, groups and curves with their intervals
- `interactive`  figures that a reader drives in the book
- `parameters`   a chapter's parameters, checked
- `myst`         the book's Markdown as any notebook shows it
"""

from lostlib.report.page import BOOK as BOOK
from lostlib.report.page import MARKS as MARKS
from lostlib.report.page import NUMBER as NUMBER
from lostlib.report.page import VERDICT as VERDICT
from lostlib.report.page import (
    Cell,
    Number,
    ParameterError,
    Published,
    check_parameters,
    escape,
    figure,
    provenance,
    published,
    say,
    style,
    table,
    verdict,
)

__all__ = [
    "Cell",
    "Number",
    "ParameterError",
    "Published",
    "check_parameters",
    "escape",
    "figure",
    "provenance",
    "published",
    "say",
    "style",
    "table",
    "verdict",
]
