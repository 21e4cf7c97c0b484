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

CARD = """---
license: apache-2.0
pipeline_tag: image-text-to-text
library_name: transformers
---

# {name}

A small vision-language model of a real architecture (`{architecture}`: {parts}), trained {start} on the mini world of
*Lost in Attention*: pictures of up to six coloured shapes on a four by four grid, and questions about them. It exists
to be taken apart. It knows {words} words and nothing outside its world.

| part | size |
|---|---|
| decoder | {layers} layers, {heads} heads, hidden size {hidden}, MLP {mlp} |
| vision tower | {vision_layers} layers, hidden size {vision_hidden} |
| visual tokens | {cut} |
| parameters | {parameters:,} |

## Training

In stages, as LLaVA is trained: the vision tower alone on dense labels ({tower_steps} steps), captions that describe
each object and say how objects lie to one another with the tower frozen ({captions_steps}), then everything{but} on six
questions per image in one sequence ({instruct_steps}, one batch in eight with the captions first). In the last two
stages linear read-outs of the residual stream ask each reference ("the red object") what it refers to{asked}; they are
not part of the model. {mix}{batch} sequences a step, AdamW, peak rate {learning_rate}, bf16 autocast.
It took {minutes:.0f} minutes on {device}. Scenes are drawn from a seed and split by a hash of their content, so no test
scene was trained on. Repeat it with

    {command}

`training_log.jsonl` has the loss and the share of right answer tokens every 50 steps.

## Exam

Greedy answers to {n} questions of each kind about held-out scenes; exact match; 95 % intervals. Arithmetic asks sums
that training never asks, known arithmetic those that it does.

| kind | right |
|---|---|
{rows}
"""

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
    rows = [f"| {kind.replace('_', ' ')} | {e.value:.3f} [{e.low:.3f}, {e.high:.3f}] |" for kind, e in results.items()]
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
