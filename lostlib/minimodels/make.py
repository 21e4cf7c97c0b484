"""From a name to a trained, examined and saved mini model."""

from __future__ import annotations

from pathlib import Path

from lostlib import paths
from lostlib.minimodels import cards, planting, recipes, training
from lostlib.text import among, check_seed


def named(recipe: str, seed: int) -> str:
    """What a trained model is called: after its recipe, and after its seed where that is not 0."""
    return f"{recipe}-s{seed}" if seed else recipe


def train(
    name: str, seed: int = 0, device: str = "cpu", out: Path | None = None, work: Path | None = None,
    replace: bool = False,
) -> Path:  # fmt: skip
    """Train a mini model, examine it on held-out scenes, and save it in hub format with its card and training log.

    Parameters
    ----------
    name : str
        A row of `lostlib.minimodels.recipes.RECIPES` or of `lostlib.minimodels.planting.PLANTINGS`.
    seed : int
        Of the initial weights and of the training scenes. A model of another seed than 0 is named after it.
    device : str
        ``"cpu"`` or ``"cuda"``.
    out : Path, optional
        Folder of models; the model becomes ``out/name``, or with seed 1 ``out/name-s1``. `data/models` by default.
    work : Path, optional
        Where the resumable state is kept; ``_build/train`` by default.
    replace : bool
        Take the place of a model that is there. Shipped tables belong to the shipped weights.
    """
    known = recipes.RECIPES | planting.PLANTINGS
    if name not in known:
        raise ValueError(f"no recipe {name!r}; there are {among(name, known)}")
    check_seed(seed)
    folder = (out or paths.MODELS) / named(name, seed)
    paths.settle(folder)
    if folder.exists() and not replace:
        raise ValueError(f"{folder} is there already: say `--out` to put the new model elsewhere, or `--replace`")
    kind = planting.Planter if name in planting.PLANTINGS else training.Trainer
    trainer = kind(name, known[name], seed, (work or Path("_build/train")) / f"{name}-seed{seed}", device)  # type: ignore[arg-type]
    trainer.run()
    return cards.publish(trainer, folder)
