"""Publishing a trained mini model: half-precision weights in hub format, training log, exam and model card."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lostlib import paths
from lostlib.minimodels import exam

if TYPE_CHECKING:
    from lostlib.minimodels.training import Trainer

CARD, PLANTED = (Path(__file__).with_name(name).read_text("utf-8") for name in ("card.md", "card-planted.md"))

WIDE = """Three sequences in five are about other pictures: overlapping objects, edited ones, bar charts,
two or three images at once, or none. """


def publish(trainer: Trainer, folder: Path, n: int = 400) -> Path:
    """Save the trained model, examine what was saved, write the card. The folder appears complete or not at all."""
    with paths.replacing(folder) as partial:
        partial.mkdir()
        trainer.model.to("cpu", torch.float16).save_pretrained(partial)
        trainer.processor.save_pretrained(partial)
        shutil.copy(trainer.out / "training_log.jsonl", partial)
        _examine(trainer, partial, folder.name, n)
    return folder


def _examine(trainer: Trainer, folder: Path, name: str, n: int) -> None:
    from lostlib.models import load_model

    model = load_model(folder)
    results = exam.exam(model, n, kinds=tuple(exam.EXAM) if trainer.recipe.kinds == "first" else exam.ALL)
    (folder / "exam.json").write_text(
        json.dumps({kind: dict(e._asdict(), n=n) for kind, e in results.items()}, indent=1) + "\n"
    )
    rows = [f"| {kind.replace('_', ' ')} | {e:.3f} |" for kind, e in results.items()]
    card = trainer.card.format(
        **asdict(trainer.recipe),
        architecture=type(trainer.model).__name__,
        parts=trainer.body.parts,
        cut=trainer.body.cut,
        start=f"on from `{trainer.recipe.base}`" if trainer.recipe.base else "from nothing",
        but=" but the tower" if trainer.recipe.tower_stands_still else "",
        asked="" if trainer.body.tower_knows_places else ", and each visual token which row and column it shows",
        mix=WIDE if trainer.recipe.kinds == "all" else "",
        name=name,
        words=len(trainer.processor.tokenizer),
        parameters=sum(p.numel() for p in trainer.model.parameters()),
        minutes=trainer.seconds / 60,
        device=_device(trainer.device),
        command=f"lostlib train {trainer.name} --seed {trainer.seed} --out retrained",
        n=n,
        rows="\n".join(rows),
    )
    (folder / "README.md").write_text(card)


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{threads} CPU thread{'s' * (threads > 1)}"
