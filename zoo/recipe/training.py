"""One training loop for every embedded model: seeded, checkpointed, resumable, with averaged weights."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from zoo.recipe.optim import make_optimizers

#: ``loss(step, generator)``; every random draw of a step comes from its generator, so a resumed run repeats.
LossFunction = Callable[[int, torch.Generator], Tensor]


def train(
    models: Sequence[nn.Module],
    loss: LossFunction,
    *,
    steps: int,
    checkpoint: Path,
    muon_lr: float = 0.02,
    adam_lr: float = 1e-3,
    warmup: int = 100,
    ema: float = 0.998,
    seed: int = 0,
    label: str = "training",
    save_every: int = 100,
    stop: Callable[[], bool] = lambda: False,
) -> list[nn.Module]:
    """Train the models together and return them holding the moving average of their weights.

    The learning rate warms up, stays, and falls linearly to nothing over the last 40% of the steps. The state is
    written to ``checkpoint`` every ``save_every`` steps and found there when the run is started again.
    """
    optimizers = make_optimizers(models, muon_lr, adam_lr)
    rates = [[g["lr"] for g in o.param_groups] for o in optimizers]
    parameters = [p for m in models for p in m.parameters()]
    averages = [p.detach().clone() for p in parameters]
    start = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        start = state["step"]
        for model, saved in zip(models, state["models"], strict=True):
            model.load_state_dict(saved)
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        averages = state["averages"]
    for model in models:
        model.train()
    running, began = None, time.monotonic()
    bar = tqdm(range(start, steps), initial=start, total=steps, desc=label, mininterval=10)
    for step in bar:
        factor = min(1.0, (step + 1) / warmup, (steps - step) / (0.4 * steps))
        for optimizer, initial in zip(optimizers, rates, strict=True):
            for group, rate in zip(optimizer.param_groups, initial, strict=True):
                group["lr"] = rate * factor
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        value = loss(step, generator)
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        keep = min(ema, (step + 1) / (step + 10))
        torch._foreach_lerp_(averages, [p.detach() for p in parameters], 1 - keep)
        running = value.item() if running is None else 0.98 * running + 0.02 * value.item()
        if not math.isfinite(running):
            raise FloatingPointError(f"{label}: the loss became {running} at step {step}")
        bar.set_postfix(loss=f"{running:.4f}", refresh=False)
        if (step + 1) % save_every == 0 or step + 1 == steps or stop():
            _save(checkpoint, step + 1, models, optimizers, averages)
            print(f"{label} step {step + 1} loss {running:.5f} {time.monotonic() - began:.0f}s", flush=True)
            if stop():
                break
    with torch.no_grad():
        for p, average in zip(parameters, averages, strict=True):
            p.copy_(average)
    for model in models:
        model.eval()
    return list(models)


def _save(
    path: Path,
    step: int,
    models: Sequence[nn.Module],
    optimizers: Sequence[torch.optim.Optimizer],
    averages: list[Tensor],
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    torch.save(
        {
            "step": step,
            "models": [m.state_dict() for m in models],
            "optimizers": [o.state_dict() for o in optimizers],
            "averages": averages,
        },
        temporary,
    )
    os.replace(temporary, path)
