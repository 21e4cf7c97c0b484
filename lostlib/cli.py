"""The command line: `lostlib models | benchmarks | run | train | check`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from lostlib import benchmarks, paths, results

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
    sinks = "sinks"
    heads = "heads"


def _stop(error: Exception) -> typer.Exit:
    """A mistake of the user's: the message, no traceback."""
    typer.echo(f"error: {error}", err=True)
    return typer.Exit(2)


@app.command()
def models() -> None:
    """List the models that are shipped here."""
    from lostlib.models import FAMILIES, shipped

    typer.echo(f"{'model':<20}{'family':<8}{'layers':>7}{'hidden':>7}{'heads':>6}{'visual tokens':>15}  where")
    for name in shipped():
        config = json.loads((paths.MODELS / name / "config.json").read_text())
        text = config["text_config"]
        typer.echo(
            f"{name:<20}{config['model_type']:<8}{text['num_hidden_layers']:>7}{text['hidden_size']:>7}{text['num_attention_heads']:>6}"
            f"{config['image_seq_length']:>15}  {paths.MODELS / name}"
        )
    typer.echo(f"\nA folder in hub format or a hub id works too, for the families {', '.join(FAMILIES)}.")


@app.command(name="benchmarks")
def benchmarks_() -> None:
    """List the benchmarks."""
    for name, rules in benchmarks.NAMESAKES.items():
        about = (rules.__doc__ or "").splitlines()[0]
        typer.echo(f"{name:<20}version {benchmarks.VERSIONS[name]}, {benchmarks.SIZE} items by default. {about}")


@app.command()
def run(
    experiment: Annotated[Experiment, typer.Argument(help="What to measure.")],
    model: Annotated[
        str, typer.Option(help="A shipped model, a folder in hub format, or a hub id.")
    ] = "mini-llava-1.5",
    benchmark: Annotated[str, typer.Option(help="See `lostlib benchmarks`.")] = "mini-pope",
    intervention: Annotated[str, typer.Option(help="For example 'sap:keys=visual,weights=gaussian'.")] = "none",
    seed: Annotated[int, typer.Option(min=0, help="Of random interventions and controls.")] = 0,
    n: Annotated[int, typer.Option(min=1, help="Items.")] = benchmarks.SIZE,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")] = "cpu",
    out: Annotated[
        Path, typer.Option(help="Folder of tables; the table's place in it follows from what it measures.")
    ] = Path("_build/results"),
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="The experiment's own parameters, name=value.")
    ] = None,
) -> None:
    """Measure one table and write it."""
    from lostlib import measure

    try:
        table = measure.measure(
            experiment.value,
            model=model,
            benchmark=benchmark,
            n=n,
            intervention=intervention,
            seed=seed,
            device=device,
            **_parameters(set_ or []),
        )
    except (ValueError, TypeError) as error:
        raise _stop(error) from None
    typer.echo(f"{results.write(table, out)}: {len(table.frame)} rows in {table.about['seconds']} s")


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
