"""The DDIM arithmetic against recorded tensors and diffusers' own schedulers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler, EulerDiscreteScheduler

from editor.errors import EditorError
from editor.schedule import Schedule, ddim_twin

from .conftest import relative


@pytest.mark.parametrize("steps", [10, 50])
def test_recorded_jumps(golden: Any, meta: Any, scheduler_config: Any, steps: int) -> None:
    units = golden("units")
    down = Schedule.from_config(scheduler_config, steps)
    up = down.reversed()
    assert list(down.timesteps) == meta["units"][f"timesteps_{steps}"]["ddim"]
    assert list(up.timesteps) == meta["units"][f"timesteps_{steps}"]["inverse"]
    for i in (0, 1, steps - 1):
        x, eps = units["sched_x"], units["sched_eps"]
        assert relative(down.step(i, eps, x), units[f"ddim_{steps}_{i}"]) < 2e-6
        assert relative(up.step(i, eps, x), units[f"inv_{steps}_{i}"]) < 2e-6


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("steps", [1, 7, 25])
@pytest.mark.parametrize("extra", [{}, {"clip_sample": True}, {"set_alpha_to_one": True}])
def test_equals_diffusers(
    scheduler_config: Any, kind: str, spacing: str, steps: int, extra: dict[str, bool]
) -> None:
    config = {**scheduler_config, "prediction_type": kind, "timestep_spacing": spacing, **extra}
    x, out = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(steps))
    peer = DDIMScheduler.from_config(config)
    peer.set_timesteps(steps)
    down = Schedule.from_config(config, steps)
    assert list(down.timesteps) == peer.timesteps.tolist()
    for i, t in enumerate(peer.timesteps):
        assert relative(down.step(i, out, x), peer.step(out, t, x).prev_sample) < 2e-6
    if spacing == "trailing" or (kind == "sample" and extra.get("set_alpha_to_one")):
        return  # diffusers' inverse takes other levels than its own forward jumps here
    inverse = DDIMInverseScheduler.from_config(config)
    inverse.set_timesteps(steps)
    up = down.reversed()
    assert list(up.timesteps) == inverse.timesteps.tolist()
    for i, t in enumerate(inverse.timesteps):
        assert relative(up.step(i, out, x), inverse.step(out, t, x).prev_sample) < 2e-6


def test_inversion_walks_the_same_levels_back(scheduler_config: Any) -> None:
    for steps in (3, 30, 1000):
        down = Schedule.from_config(scheduler_config, steps)
        up = down.reversed()
        assert up.levels == tuple((b, a) for a, b in reversed(down.levels))
        assert up.reversed() == down
        x, eps = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        for i in range(steps):
            back = down.step(steps - 1 - i, eps, up.step(i, eps, x))
            assert torch.allclose(back, x, atol=1e-3, rtol=1e-3)


def test_as_many_steps_as_training_timesteps(scheduler_config: Any) -> None:
    down = Schedule.from_config(scheduler_config, 1000)
    assert down.timesteps == tuple(range(999, -1, -1))


@pytest.mark.parametrize("steps", [0, -1, 1001, 2.5, True, None])
def test_wrong_number_of_steps(scheduler_config: Any, steps: Any) -> None:
    with pytest.raises(ValueError, match="expected a whole number from 1 to 1000"):
        Schedule.from_config(scheduler_config, steps)


def test_silent_config_does_not_clip() -> None:
    """A PNDM or Euler config names neither key, and the DDIM class's own defaults would clip latents."""
    config = {k: v for k, v in EulerDiscreteScheduler().config.items() if k != "clip_sample"}
    twin = ddim_twin(config)
    assert twin.config.clip_sample is False
    assert twin.config.set_alpha_to_one is False


def test_refusals(scheduler_config: Any) -> None:
    with pytest.raises(EditorError, match="has no beta schedule"):
        Schedule.from_config(
            {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000}, 5
        )
    with pytest.raises(EditorError, match="dynamic thresholding"):
        Schedule.from_config({**scheduler_config, "thresholding": True}, 5)
    with pytest.raises(EditorError, match="timestep_spacing is 'odd'"):
        Schedule.from_config({**scheduler_config, "timestep_spacing": "odd"}, 5)
    with pytest.raises(EditorError, match="prediction_type is 'flow'"):
        Schedule.from_config({**scheduler_config, "prediction_type": "flow"}, 5)
    sample = {**scheduler_config, "prediction_type": "sample", "set_alpha_to_one": True}
    with pytest.raises(EditorError, match="cannot be inverted"):
        Schedule.from_config(sample, 5).reversed()
