"""Sphinx extension: docstrings as people write them in code become the reStructuredText that autodoc expects.

Three habits of this project mean something else there: bars for absolute values and norms, |x|; lists of fields set in
two columns; and examples that follow a section without a heading of their own.
"""

import re

from sphinx.application import Sphinx

FIELD = re.compile(r"(?P<indent> *)(?P<names>[\w,` ]*[\w,`])  +(?P<text>\S.*)")
CODE = re.compile(r"(``.*?``|`[^`]*`)")


def process(app: Sphinx, what: str, name: str, object_: object, options: object, lines: list[str]) -> None:
    """Rewrite a docstring in place; examples and indented code stay as they are."""
    lines[:] = [line if line.lstrip().startswith((">>>", "...")) else barred(line) for line in headed(columns(lines))]


def headed(lines: list[str]) -> list[str]:
    """The first example gets the heading that ends the section before it, where there are sections."""
    first = next((i for i, line in enumerate(lines) if line.startswith(">>>")), 0)
    if not first or "Examples" in lines or not any(set(line) == {"-"} for line in lines[:first]):
        return lines
    return [*lines[:first], "Examples", "--------", *lines[first:]]


def barred(line: str) -> str:
    """Bars outside of code are bars."""
    return "".join(part if part.startswith("`") else part.replace("|", r"\|") for part in CODE.split(line))


def columns(lines: list[str]) -> list[str]:
    """A field in two columns becomes a definition: its names, then its text and whatever stands in that column."""
    made: list[str] = []
    column = 0  # where the text of the present field begins; 0 outside of such a list
    for line in lines:
        field = FIELD.fullmatch(line)
        if field and not made_of_code(line):
            if not column and made and made[-1].strip():
                made.append("")
            column = field.start("text")
            made += [f"{field['indent']}{field['names'].replace('`', '')}", f"{field['indent']}    {field['text']}"]
        elif column and line.strip() and len(line) - len(line.lstrip()) == column:
            made.append(" " * 4 + line.strip())
        else:
            if column and line.strip():
                made.append("")
            column = 0
            made.append(line)
    return made


def made_of_code(line: str) -> bool:
    """Is this an example or a sum that is set in columns: no list of fields."""
    return line.lstrip().startswith((">>>", "...", "-", "|")) or "=" in line.split("  ")[0]


def setup(app: Sphinx) -> dict[str, object]:
    """Listen before napoleon does."""
    app.connect("autodoc-process-docstring", process, priority=400)
    return {"version": "1", "parallel_read_safe": True}
