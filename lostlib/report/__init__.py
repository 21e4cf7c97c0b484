"""What a chapter shows: numbers, figures, tables, verdicts and where they came from. No torch.

- `page`         what a chapter says to the book
- `drawing`      the look of figures; points, groups and curves with their intervals
- `interactive`  figures that a reader drives in the book
- `parameters`   a chapter's parameters, checked
- `myst`         the book's Markdown as any notebook shows it
"""

from lostlib.report.page import (
    BOOK,
    MARKS,
    NUMBER,
    VERDICT,
    Cell,
    Number,
    ParameterError,
    Published,
    check_parameters,
    escape,
    figure,
    files_folder,
    provenance,
    published,
    say,
    style,
    table,
    to_the_book,
    verdict,
)

__all__ = [
    "BOOK",
    "MARKS",
    "NUMBER",
    "VERDICT",
    "Cell",
    "Number",
    "ParameterError",
    "Published",
    "check_parameters",
    "escape",
    "figure",
    "files_folder",
    "provenance",
    "published",
    "say",
    "style",
    "table",
    "to_the_book",
    "verdict",
]
