"""diffusers' schedulers as samplers for the loops: which are taken as they are, and which are replaced."""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import logging
from collections.abc import Sequence
from typing import Any

import torch

from editor.latents import Generators, seeded
from editor.schedule import Schedule, ddim_twin

logger = logging.getLogger(__name__)

#: Where `inverse_twin` leaves its mark in a config: a private key, which diffusers keeps and passes to nobody.
TWIN = "_twin"
#: The schedulers that are stepped as they are. Each makes one jump a UNet evaluation.
SUPPORTED = (
    "DDIMScheduler",
    "DDPMScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "LMSDiscreteScheduler",
)


def usable(scheduler: Any) -> Any:
    """The scheduler itself where it is supported, else its DDIM twin, with a log line.

    PNDM (which Stable Diffusion 1.4 ships) evaluates the UNet twice for its first jump, and the solvers of
    higher order look ahead: neither has a reference step for each guided step. ValueError for a
    scheduler without a beta schedule (flow matching).
    """
    if scheduler is None or type(scheduler).__name__ in SUPPORTED:
        return scheduler
    twin = ddim_twin(scheduler.config, type(scheduler).__name__)
    logger.warning(
        "%s cannot be guided step by step; using the DDIMScheduler of the same noise levels instead",
        type(scheduler).__name__,
    )
    return twin


def inverse_twin(scheduler: Any) -> Any:
    """diffusers' DDIMInverseScheduler with the noise levels of a scheduler; `is_twin` knows it again."""
    from diffusers import DDIMInverseScheduler

    known = inspect.signature(DDIMInverseScheduler.__init__).parameters
    config = ddim_twin(scheduler.config, type(scheduler).__name__).config
    twin = DDIMInverseScheduler.from_config({k: v for k, v in config.items() if k in known})
    twin.register_to_config(**{TWIN: _digest(twin)})
    return twin


def is_twin(inverse: Any) -> bool:
    """Whether it was made by `inverse_twin` and is as it was made, also after saving and loading."""
    return inverse.config.get(TWIN) == _digest(inverse)


def _digest(scheduler: Any) -> str:
    config = json.loads(scheduler.to_json_string())
    text = json.dumps({k: v for k, v in config.items() if not k.startswith("_")}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def make_sampler(
    scheduler: Any, steps: int, pictures: int, generator: Generators, eta: float = 0.0
) -> Schedule | SchedulerSampler:
    """What the loops step with: the pure schedule for deterministic DDIM, else the scheduler wrapped."""
    if not 0 <= eta <= 1:
        raise ValueError(f"eta is {eta}; expected a number from 0 to 1")
    if type(scheduler).__name__ == "DDIMScheduler" and eta == 0:
        return Schedule.from_config(scheduler.config, steps)
    return SchedulerSampler(scheduler, steps, per_picture(generator, pictures), eta)


def per_picture(generator: Generators, pictures: int) -> list[torch.Generator]:
    """One generator for each picture, so that a picture and its edits can draw the same noise.

    A single generator serves a single picture as it is, and seeds one for each of several.
    """
    if generator is None:
        generator = seeded(0)
    if not isinstance(generator, torch.Generator):
        return list(generator)
    if pictures == 1:
        return [generator]
    device = generator.device
    seeds = torch.randint(2**62, (pictures,), generator=generator, device=device).tolist()
    return [torch.Generator(device).manual_seed(seed) for seed in seeds]


class SchedulerSampler:
    """A private copy of a diffusers scheduler, with the generators that its noise comes from.

    A fork has a copy of both, so the pass that follows draws the noise that the pass before it drew.
    """

    def __init__(
        self, scheduler: Any, steps: int, generators: Sequence[torch.Generator], eta: float = 0.0
    ) -> None:
        self.scheduler = copy.deepcopy(scheduler)
        count = self.scheduler.config.num_train_timesteps
        if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= count:
            raise ValueError(f"the number of steps is {steps!r}; expected a whole number from 1 to {count}")
        self.scheduler.set_timesteps(steps)
        times = self.scheduler.timesteps
        if times.max() >= count and not times.is_floating_point():
            # With as many steps as training timesteps the usual offset of 1 leaves the table.
            self.scheduler.timesteps = times - (times.max() - count + 1)
        self.generators = list(generators)
        accepted = inspect.signature(self.scheduler.step).parameters
        self.eta = {"eta": eta} if "eta" in accepted else {}
        self.draws = "generator" in accepted
        self.scales: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self.scheduler.timesteps)

    @property
    def timesteps(self) -> tuple[float, ...]:
        return tuple(self.scheduler.timesteps.tolist())

    @property
    def init_sigma(self) -> float:
        return float(self.scheduler.init_noise_sigma)

    def scale(self, i: int) -> float:
        if i not in self.scales:
            one = torch.ones((), dtype=torch.float64)
            self.scales[i] = float(self.scheduler.scale_model_input(one, self.scheduler.timesteps[i]))
        return self.scales[i]

    def step(self, i: int, output: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
        self.scale(i)  # some schedulers insist on having been asked
        generator = {"generator": self.generators} if self.draws else {}
        time = self.scheduler.timesteps[i]
        return self.scheduler.step(output, time, sample, **self.eta, **generator).prev_sample

    def fork(self, rows: list[int]) -> SchedulerSampler:
        twin = copy.copy(self)
        twin.scheduler = copy.deepcopy(self.scheduler)
        twin.generators = [_same(self.generators[row]) for row in rows]
        twin.scales = {}
        return twin


def _same(generator: torch.Generator) -> torch.Generator:
    """A generator that will draw what this one will draw."""
    twin = torch.Generator(generator.device)
    twin.set_state(generator.get_state())
    return twin
