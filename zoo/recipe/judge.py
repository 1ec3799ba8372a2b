"""A small independent classifier that names what a picture shows: it measures edits, and makes none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_model
from torch import Tensor, nn

from zoo.concepts import ACCESSORIES, BACKGROUNDS, NO_ACCESSORY, OBJECTS, STYLES
from zoo.registry import WEIGHTS

#: Head → the labels it chooses from.
HEADS: dict[str, tuple[str, ...]] = {
    "object": OBJECTS,
    "background": tuple(BACKGROUNDS),
    "style": STYLES,
    "accessory": (NO_ACCESSORY, *ACCESSORIES),
}


@dataclass(frozen=True)
class Verdict:
    """What the judge sees in one picture, with the probability of each label."""

    object: str
    background: str
    style: str
    accessory: str
    probabilities: dict[str, dict[str, float]]


class Judge(nn.Module):
    """Five convolutions and a linear layer a head."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 64, 96, 128, 128)
        strides = (2, 2, 1, 2, 1)
        layers: list[nn.Module] = []
        for i, (a, b, s) in enumerate(zip(widths[:-1], widths[1:], strides, strict=True)):
            layers += [
                nn.Conv2d(a, b, 5 if i == 0 else 3, s, padding=2 if i == 0 else 1),
                nn.GroupNorm(8, b),
                nn.SiLU(),
            ]
        self.body = nn.Sequential(*layers)
        self.heads = nn.ModuleDict({name: nn.Linear(256, len(labels)) for name, labels in HEADS.items()})

    def features(self, x: Tensor) -> Tensor:
        """``[B, 3, 64, 64]`` in [-1, 1] to spatial features ``[B, 128, 8, 8]``."""
        return self.body(x)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Logits ``[B, labels]`` of every head."""
        f = self.features(x)
        pooled = torch.cat([f.mean((2, 3)), f.amax((2, 3))], 1)
        return {name: head(pooled) for name, head in self.heads.items()}

    @torch.no_grad()
    def judge(self, x: Tensor) -> list[Verdict]:
        """What each picture ``[B, 3, 64, 64] float32`` in [-1, 1] shows."""
        p = {name: logits.softmax(1) for name, logits in self(x).items()}
        verdicts = []
        for i in range(len(x)):
            odds = {name: dict(zip(HEADS[name], p[name][i].tolist(), strict=True)) for name in HEADS}
            verdicts.append(
                Verdict(**{name: max(o, key=o.__getitem__) for name, o in odds.items()}, probabilities=odds)
            )
        return verdicts


def load_judge(path: Path = WEIGHTS / "judge" / "model.safetensors") -> Judge:
    with torch.random.fork_rng(devices=[]):  # weights are drawn that the file's replace
        judge = Judge()
    state = judge.half()
    load_model(state, path)
    return judge.float().eval()
