"""The command line: `lostlib models | benchmarks | run | train | check`."""

from __future__ import annotations

import json
import shutil
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from lostlib import benchmarks, paths, results, zoo

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Measure what attention does in vision-language models.",
    pretty_exceptions_enable=False,
)


class Experiment(StrEnum):
    """What `run` can measure."""

    answers = "answers"
    residual = "residual"
    attention = "attention"
    maps = "maps"
    sinks = "sinks"
    heads = "heads"


def _stop(error: Exception) -> typer.Exit:
    """A mistake of the user's: the message, no traceback."""
    typer.echo(f"error: {error}", err=True)
    return typer.Exit(2)


@app.command()
def models() -> None:
    """List the checkpoints this companion is about, and which of them this machine holds.

    GB is the memory of the weights (10^9 bytes) in bfloat16, of 4-bit weights for AWQ, in float32 for the mini models;
    "fits" asks for a fifth more, since activations and cache need room too. Any other folder in hub format or hub id of
    these families works as well.
    """
    here = zoo.memory()
    head = ("model", "family", "layers", "heads/kv", "hidden", "visual tokens", "prompt", "GB", "fits")
    lines = [head, *(_line(card, here) for card in zoo.CARDS.values())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    typer.echo("\n? found in no source, check before quoting. Memory here: " + _sizes(here))


def _line(card: zoo.Card, here: dict[str, float]) -> tuple[str, ...]:
    def known(text: str, *names: str) -> str:
        return text + "?" * bool({*names} & {*card.unconfirmed})

    return (
        card.id,
        card.family,
        known(str(card.layers), "layers"),
        known(f"{card.heads}/{card.kv_heads}", "heads", "kv_heads"),
        known(str(card.hidden), "hidden"),
        card.visual_tokens,
        card.prompt,
        known(f"{card.gigabytes:.1f}" if card.gigabytes >= 0.1 else f"{card.gigabytes:.3f}", "parameters"),
        zoo.fits(card, here),
    )


def _sizes(here: dict[str, float]) -> str:
    return ", ".join(f"{place} {size:.0f} GB" for place, size in here.items()) or "unknown"


@app.command(name="benchmarks")
def benchmarks_() -> None:
    """List the benchmarks: items, kinds of answers, where the rows are from."""
    typer.echo(f"{'benchmark':<18}{'version':>7}{'items':>7}  {'answers':<21}  where from")
    for name, rules in benchmarks.RULES.items():
        version = benchmarks.VERSIONS[name]
        if name in benchmarks.NAMESAKES:
            kinds = benchmarks.load_benchmark(name, n=1).items[0].kind
            typer.echo(f"{name:<18}{version:>7}{'any':>7}  {kinds:<21}  generated, {benchmarks.SIZE} by default")
            continue
        for variant, sources in rules.SOURCES.items():
            shown = name if variant == next(iter(rules.SOURCES)) else f"  {variant}"
            where = " or ".join(dict.fromkeys(source.id for source in sources))
            splits = "+".join(sources[0].splits)
            items = rules.EXPECTED[variant]["items"]
            typer.echo(f"{shown:<18}{version:>7}{items:>7}  {'+'.join(rules.KINDS):<21}  {where}, {splits}")
    typer.echo("\nThose not generated are fetched from the hub, or read from Parquet files in $LOST_DATA/<name>.")


@app.command()
def run(
    experiment: Annotated[Experiment, typer.Argument(help="What to measure.")],
    model: Annotated[
        str, typer.Option(help="A shipped model, a folder in hub format, or a hub id.")
    ] = "mini-llava-1.5",
    benchmark: Annotated[
        str, typer.Option(help="See `lostlib benchmarks`; 'pope:prompt=lmms' asks as lmms-eval does.")
    ] = "mini-pope",
    intervention: Annotated[str, typer.Option(help="For example 'sap:keys=visual,weights=gaussian'.")] = "none",
    seed: Annotated[int, typer.Option(min=0, help="Of random interventions and controls.")] = 0,
    n: Annotated[int, typer.Option(min=1, help="Items.")] = benchmarks.SIZE,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, auto.")] = "cpu",
    out: Annotated[
        Path, typer.Option(help="Folder of tables; the table's place in it follows from what it measures.")
    ] = Path("_build/results"),
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="The experiment's own parameters, name=value.")
    ] = None,
) -> None:
    """Measure one table and write it. Answers that were interrupted go on where they were."""
    from lostlib import measure

    work = out.with_name(f"{out.name}.unfinished")
    try:
        table = measure.measure(
            experiment.value,
            model=model,
            benchmark=benchmark,
            n=n,
            intervention=intervention,
            seed=seed,
            device=device,
            work=work,
            **_parameters(set_ or []),
        )
    except (ValueError, TypeError, ImportError) as error:
        raise _stop(error) from None
    typer.echo(f"{results.write(table, out)}: {len(table.frame)} rows in {table.about['seconds']} s")
    shutil.rmtree(measure.unfinished(work, table.key), ignore_errors=True)
    if "error" in table.frame and (failed := int(table.frame["error"].notna().sum())):
        typer.echo(f"{failed} items could not be asked; the column error says why", err=True)


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


@app.command()
def train(
    name: Annotated[str, typer.Argument(help="A mini model, for example mini-llava-1.5.")],
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    out: Annotated[Path | None, typer.Option(help="Folder of models; data/models by default.")] = None,
) -> None:
    """Train a mini model from nothing; a stopped training goes on where it was."""
    from lostlib.miniworld.train import train as train_model

    try:
        typer.echo(train_model(name, seed, device, out))
    except ValueError as error:
        raise _stop(error) from None


@app.command()
def check(
    folder: Annotated[Path, typer.Option(help="Tables to check.")] = paths.RESULTS,
    sample: Annotated[int, typer.Option(min=1, help="Items to measure again per table.")] = 12,
    all_: Annotated[bool, typer.Option("--all", help="Measure every item of every table again.")] = False,
) -> None:
    """Measure shipped tables again, a sample or all of them, and compare."""
    from lostlib.checking import check_table

    failed = 0
    for path in results.shipped_tables(folder):
        verdict = check_table(path, None if all_ else sample)
        failed += not verdict.agrees
        typer.echo(f"{'same' if verdict.agrees else 'DIFFERS':<8}{path.relative_to(folder)}: {verdict.text}")
    if failed:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
