"""Train the judge on scenes, blurred and noised as a decoder would."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.recipe.captioner import augment
from zoo.recipe.data import to_float, training_pictures
from zoo.recipe.judge import HEADS, NO_ACCESSORY, Judge
from zoo.recipe.scenes import Scene, sample_scene
from zoo.recipe.training import train


def labels_of(scenes: list[Scene]) -> dict[str, Tensor]:
    """The right label of every head: ``[n] int64``."""
    return {
        head: torch.tensor([labels.index(getattr(s, head) or NO_ACCESSORY) for s in scenes])
        for head, labels in HEADS.items()
    }


def train_judge(work: Path, steps: int, pictures: int, batch: int = 48) -> Judge:
    data, _ = training_pictures(work, pictures)
    labels = labels_of([sample_scene(seed) for seed in range(len(data))])
    torch.manual_seed(1)
    judge = Judge()

    def loss(step: int, generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(data), (batch,), generator=generator)
        logits = judge(augment(to_float(data[rows]), generator))
        return torch.stack([F.cross_entropy(logits[h], labels[h][rows]) for h in HEADS]).sum()

    train([judge], loss, steps=steps, checkpoint=work / "judge.pt", adam_lr=2e-3, ema=0.99, label="judge")
    return judge
