"""Sphinx extension of this book: what the executed chapters say becomes pages.

1. Before reading, the numbers of all notebooks and the scorecard's grid go into one ledger (`collect`).
2. A notebook's outputs that bring their own page text turn into markdown cells (`for_the_book`), so that figures and
   tables are numbered, labelled and checked like hand-written ones.
3. The role `num` prints a number and links it to the cell that computed it; the directive `glance` shows the scorecard,
   `coverage` the papers' figures and tables, `models` the checkpoints, `tables` the shipped tables.
4. Each chapter ends with a box that tells what ran it (`finish_page`).
"""

import csv
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from docutils.writers.html5_polyglot import HTMLTranslator
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

from lostlib import checkpoints, claims, machine
from lostlib.report import BOOK, GRID, MARKS, NUMBER, live, myst

NUMERIC = re.compile(r"(≤ |below )?[-+−]?[\d.,]+(-\d+)?(e[-+]?\d+)?( ?%)?\??( \[[-+−\d., %]+\])?|–")
log = logging.getLogger(__name__)


# --- the ledger -------------------------------------------------------------------------------------------------------


def collect(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Gather the numbers and the grid of the book's notebooks; a key said twice is an error of the book."""
    env.lost_numbers, env.lost_grid = {}, None
    for docname in sorted(env.found_docs):
        path = Path(env.doc2path(docname))
        for cell in json.loads(path.read_text("utf-8"))["cells"] if path.suffix == ".ipynb" else ():
            for output in cell.get("outputs", ()):
                record = {"docname": docname, "path": str(path), "cell": cell["id"]}
                if number := output.get("data", {}).get(NUMBER):
                    enter(env.lost_numbers, number | record)
                if grid := output.get("data", {}).get(GRID):
                    env.lost_grid = grid | record


def enter(numbers: dict[str, dict], number: dict) -> None:
    """Put a number under its key, which must be new."""
    if other := numbers.get(number["key"]):
        log.warning("number %r is said in %s and in %s", number["key"], other["docname"], number["docname"])
    numbers[number["key"]] = number


# --- notebooks become pages -------------------------------------------------------------------------------------------


def for_the_book(app: Sphinx, docname: str, source: list[str]) -> None:
    """Move outputs that bring their own page text into markdown cells behind their code cell."""
    if not app.env.doc2path(docname).endswith(".ipynb"):
        return
    notebook = json.loads(source[0])
    notebook["cells"] = [page_cell for cell in notebook["cells"] for page_cell in page_cells(cell)]
    source[0] = json.dumps(notebook)


def page_cells(cell: dict) -> list[dict]:
    """The cell with its plain outputs, then what it says to the book; numbers it says are for the prose to show."""
    if cell["cell_type"] != "code":
        return [cell]
    told = [output["data"][BOOK]["markdown"] for output in cell["outputs"] if BOOK in output.get("data", {})]
    plain = [output for output in cell["outputs"] if not {BOOK, NUMBER} & output.get("data", {}).keys()]
    metadata = cell["metadata"] | {"lost_cell": cell["id"]}
    if "solution" in cell["metadata"].get("tags", ()):
        metadata["mystnb"] = {"code_prompt_show": "Show a solution", "code_prompt_hide": "Hide the solution"}
    pages = [{"cell_type": "markdown", "id": f"{cell['id']}-{i}", "source": t} for i, t in enumerate(told) if t]
    return [cell | {"outputs": plain, "metadata": metadata}, *({"metadata": {}} | page for page in pages)]


def finish_page(app: Sphinx, doctree: nodes.document) -> None:
    """Give every code cell the anchor that numbers link to, set numeric table cells to the right, add provenance."""
    for cell in doctree.findall(nodes.container):
        if name := cell.get("cell_metadata", {}).get("lost_cell"):
            cell["ids"].append(name)
    for entry in doctree.findall(nodes.entry):
        if NUMERIC.fullmatch(entry.astext()):
            entry["classes"].append("lost-number")
    sidecar = Path(app.env.doc2path(app.env.docname)).with_suffix(".json")
    if sidecar.exists():
        doctree += provenance(json.loads(sidecar.read_text("utf-8")))


def provenance(run: dict) -> nodes.container:
    """The box at a chapter's end: source, parameters, versions, time."""
    minutes = math.ceil(run["seconds"] / 60)
    rows = {
        "Source": f"{run['source']} (sha256 {run['sha256'][:12]})",
        "Parameters": ", ".join(f"{name}={value}" for name, value in run["parameters"].items()),
        "Software": ", ".join(
            f"{name} {found}" for name, found in {"Python": run["python"], **run["versions"]}.items()
        ),
        "Hardware": run["hardware"],
        "Run time": f"under {minutes} minute{'s' * (minutes > 1)}",
    }
    box = nodes.container(classes=["lost-provenance"])
    box += nodes.paragraph("", "", nodes.strong(text="How this page was made"))
    for name, text in rows.items():
        box += nodes.paragraph("", "", nodes.emphasis(text=f"{name}: "), nodes.Text(text))
    return box


# --- roles and directives ---------------------------------------------------------------------------------------------


class Num(SphinxRole):
    """``{num}`key` ``, ``{num}`key:.1%` `` or, with its interval, ``{num}`key:.3f:ci` ``: linked to its cell."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Print the number; an unknown key or format is a warning, which fails the build."""
        key, _, spec = self.text.partition(":")
        number = self.env.lost_numbers.get(key.strip())
        try:
            text = myst.shown(number, spec)
        except (TypeError, ValueError) as error:
            problem = "no chapter says it" if number is None else error
            log.warning("number %r cannot be shown: %s", self.text, problem, location=self.get_location())
            return [nodes.problematic(text=self.text)], []
        self.env.note_dependency(number["path"])
        return [self.link(number, text)], []

    def link(self, number: dict, text: str) -> nodes.reference:
        """The number as a link to the cell that said it, the full value in its hover text."""
        page = self.env.app.builder.get_relative_uri(self.env.docname, number["docname"])
        hint = "{key} = {value!r}, computed in {docname}, {cell}".format(**number)
        link = nodes.reference("", text, internal=True, refuri=f"{page}#{number['cell']}", reftitle=hint)
        link["classes"].append("lost-num")
        return link


class Glance(SphinxDirective):
    """``{glance}``: the scorecard's claims and models, each cell linked to its estimates; the content is a caption.

    With a name it is the numbered table of its chapter, where links to a claim lead.
    """

    has_content = True
    option_spec: ClassVar = {"name": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """Build the table from the record that the chapter handed on."""
        grid = self.env.lost_grid
        if grid is None:
            log.warning("no chapter has a scorecard to show", location=self.get_location())
            return []
        self.env.note_dependency(grid["path"])
        page = "" if grid["docname"] == self.env.docname else self.env.app.builder.get_relative_uri(
            self.env.docname, grid["docname"]
        )  # fmt: skip
        width = len(grid["models"])
        table, group = nodes.table(classes=["lost-glance"]), nodes.tgroup(cols=width + 1)
        if self.content:
            words, _ = self.state.inline_text(" ".join(self.content), self.lineno)
            table += nodes.title("", "", *words)
        table += group
        group += [nodes.colspec(colwidth=1) for _ in range(width + 1)]
        head = nodes.row("", *(nodes.entry("", nodes.paragraph(text=model)) for model in [*grid["models"], ""]))
        group += nodes.thead("", head)
        rows = [row for line in grid["lines"] for row in self.rows(line, grid["models"], page)]
        group += nodes.tbody("", *rows)
        if "name" in self.options:
            self.add_name(table)
        return [table]

    def rows(self, line: dict, models: list[str], page: str) -> list[nodes.row]:
        """A claim's words, and below them a cell for each model and what they come to."""
        claim = line["claim"]
        box = nodes.container()
        text = f"{{ref}}`{claim} <verdict-{claim.lower()}>` {myst.escape(line['text'])}"
        self.state.nested_parse(StringList([text], source="glance"), 0, box)
        words = nodes.entry("", *box.children, morecols=len(models), classes=["lost-claim"])
        if "name" in self.options:
            anchor = nodes.target("", "", ids=[f"claim-{claim.lower()}"], names=[f"claim-{claim.lower()}"])
            self.state.document.note_explicit_target(anchor)
            words.children[0].insert(0, anchor)
        cells = [
            cell_of(status, told, f"{page}#{myst.behind(claim, model)}")
            for model, (status, told) in zip(models, line["cells"], strict=True)
        ]
        end = nodes.entry("", nodes.paragraph(text=line["end"]), classes=["lost-end"])
        return [nodes.row("", words), nodes.row("", *cells, end)]


def cell_of(status: str, told: str, target: str) -> nodes.entry:
    """A verdict's mark in its colour, with all that it says in its hover text and for those who listen."""
    mark = nodes.inline(text=MARKS[status], classes=["lost-mark"])
    words = nodes.inline(text=f" {told}", classes=["visually-hidden"])
    link = nodes.reference("", "", mark, words, internal=True, refuri=target, reftitle=told)
    return nodes.entry("", nodes.paragraph("", "", link), classes=[f"lost-{status.replace(' ', '-')}"])


class Coverage(SphinxDirective):
    """``{coverage}``: the papers' figures and tables, from `book/coverage.csv`, and what the scorecard found."""

    CELLS = "notebooks/scorecard_files/tab-cells.csv"

    def run(self) -> list[nodes.Node]:
        """Build the table from MyST, so that its links are checked like all others."""
        found = listed(self, f"../{self.CELLS}")
        rows = [
            (
                f"{line['paper']}, {line['place']}",
                line["what"],
                linked("; ".join(outcomes(line, found))) if line["claims"] else line["status"],
                linked(place(line["where"])),
                line["note"],
            )
            for line in listed(self, "coverage.csv")
        ]
        return csv_table(self, ("Place", "What", "Found", "Here", "Note"), rows, look="lost-coverage")


def place(label: str) -> str:
    """A link to a chapter, or to a numbered figure or table; a dash where there is none."""
    return "–" if not label else f"{{ref}}`{label}`" if label.startswith("ch-") else f"{{numref}}`{label}`"


def outcomes(line: dict[str, str], found: list[dict[str, str]]) -> list[str]:
    """For each claim of a line what the scorecard's cells come to, linked to the claim's row."""
    return [
        f"{{ref}}`{claim} <claim-{claim.lower()}>` {outcome(claim, line['benchmark'], found)}"
        for claim in line["claims"].split("+")
        if claim
    ]


def outcome(claim: str, benchmark: str, found: list[dict[str, str]]) -> str:
    """One word for the cells of a claim, of one benchmark where it is named."""
    rows = [row for row in found if row["claim"] == claim and benchmark in ("", row["benchmark"])]
    cells = {(row["model"], row["benchmark"]): row["status"] for row in rows}
    told = [status for status in cells.values() if status in claims.TOLD]
    if not told:
        return claims.UNMEASURABLE if claims.UNMEASURABLE in cells.values() else "not run"
    holds = told.count(claims.HOLDS)
    word = "reproduced" if holds == len(told) else "in part" if holds else "differs"
    printed = [row["size"] for row in rows if row["size"] in ("yes", "no")]
    sizes = f"; size in {printed.count('yes')} of {len(printed)}" if printed else ""
    return f"**{word}** (holds in {holds} of {len(told)}{sizes})"


class Models(SphinxDirective):
    """``{models}``: the checkpoints of `lostlib.checkpoints`, their memory and an estimate of the time they take."""

    def run(self) -> list[nodes.Node]:
        """Build the table from the package's own data."""
        self.env.note_dependency(checkpoints.__file__)
        rows = [
            (
                card.id,
                str(card.layers),
                card.visual_tokens,
                f"{card.gigabytes:.3g}" + "?" * ("parameters" in card.unconfirmed),
                f"{minutes:.2g}" if (minutes := machine.minutes(card)) >= 0.1 else "below 0.1",
            )
            for card in checkpoints.CARDS.values()
        ]
        return csv_table(self, ("Model", "Layers", "Visual tokens", "GB", "Minutes (estimated)"), rows)


class Tables(SphinxDirective):
    """``{tables}``: the shipped tables, from `book/tables.csv`, which the build writes."""

    SHOWN = ("experiment", "model", "benchmark", "intervention", "parameters", "seed", "n", "rows", "hash", "date")

    def run(self) -> list[nodes.Node]:
        """Build the table; scripts of the page search and sort it."""
        rows = [tuple(line[name] for name in self.SHOWN) for line in listed(self, "tables.csv")]
        return csv_table(self, self.SHOWN, rows, look="lost-sortable")


def listed(directive: SphinxDirective, name: str) -> list[dict[str, str]]:
    """The lines of a CSV file beside the pages of `book/`."""
    path = Path(directive.env.srcdir) / "book" / name
    directive.env.note_dependency(str(path))
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def csv_table(
    directive: SphinxDirective, head: Iterable[str], rows: Iterable[Iterable[object]], look: str = ""
) -> list:
    """A table by way of MyST, so that links in it are checked like all others."""
    box = nodes.container()
    lines = myst.csv_table(head, rows, look=look).splitlines()
    directive.state.nested_parse(StringList(lines, source=directive.name), 0, box)
    return box.children


def linked(text: str) -> myst.Cell:
    """A cell that is MyST."""
    return myst.Cell(text, text)


# --- the finished pages -----------------------------------------------------------------------------------------------


def drop_repeated_scripts(app: Sphinx, pagename: str, template: str, context: dict, doctree: nodes.Node | None) -> None:
    """The theme lists inline scripts twice, and a `let` said twice is a script error."""
    seen: set[str] = set()
    scripts = []
    for script in context.get("script_files", ()):
        body = getattr(script, "attributes", {}).get("body", "")
        if not body or body not in seen:
            scripts.append(script)
            seen.add(body)
    context["script_files"] = scripts


def open_citation(writer: HTMLTranslator, node: nodes.citation) -> None:
    """An entry of the bibliography is an item of the list that Sphinx opens around it."""
    HTMLTranslator.visit_citation(writer, node)
    writer.body[-1] = writer.body[-1].replace("doc-biblioentry", "listitem")


def close_citation(writer: HTMLTranslator, node: nodes.citation) -> None:
    """As Sphinx does."""
    HTMLTranslator.depart_citation(writer, node)


def bring_models(app: Sphinx, failure: Exception | None) -> None:
    """The models and the world of the page on which they run."""
    if failure is None and app.builder.format == "html":
        live.write(Path(app.outdir) / "_static" / "live")


def setup(app: Sphinx) -> dict[str, object]:
    """Register everything."""
    app.add_role("num", Num())
    app.add_directive("glance", Glance)
    app.add_directive("coverage", Coverage)
    app.add_directive("models", Models)
    app.add_directive("tables", Tables)
    app.add_node(nodes.citation, override=True, html=(open_citation, close_citation))
    app.connect("env-before-read-docs", collect)
    app.connect("source-read", for_the_book)
    app.connect("doctree-read", finish_page)
    app.connect("html-page-context", drop_repeated_scripts, priority=900)  # after the theme's own
    app.connect("build-finished", bring_models)
    return {"version": "1", "parallel_read_safe": False}
