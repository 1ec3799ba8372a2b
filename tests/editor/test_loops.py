"""Inversion, reference and guided loops against the recorded pipeline, and what batches must keep."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch

from editor.edit import EditSettings, edit
from editor.invert import invert
from editor.regularize import Regulariser
from editor.schedule import Schedule
from editor.steps import Conditioning, combine, dtype_of, predict

from .conftest import relative

OFF = Regulariser(auto_corr=0, kl=0)
GEN = torch.Generator()


@pytest.fixture(scope="module")
def text(golden: Any) -> Any:
    return golden("text")


@pytest.fixture(scope="module")
def schedule(scheduler_config: Any) -> Schedule:
    return Schedule.from_config(scheduler_config, 10)


@pytest.fixture(scope="module")
def short(scheduler_config: Any) -> Schedule:
    return Schedule.from_config(scheduler_config, 3)


def noises(count: int, height: int = 16, width: int = 16) -> torch.Tensor:
    return torch.randn(count, 4, height, width, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize(("name", "regulariser"), [("invert_noreg", OFF), ("invert_reg", Regulariser())])
def test_recorded_inversion(
    golden: Any, unet: Any, text: Any, schedule: Schedule, name: str, regulariser: Regulariser
) -> None:
    recorded = golden(name)
    generator = torch.Generator().manual_seed(0)
    torch.randn(1, 4, 16, 16, generator=generator)
    result = invert(
        unet,
        recorded["x0"],
        Conditioning(text["caption_embeds"]),
        schedule.reversed(),
        regulariser=regulariser,
        generator=generator,
        keep_trajectory=True,
    )
    assert result.trajectory is not None
    assert torch.equal(result.trajectory[0], recorded["x0"])
    assert relative(result.trajectory[1:], recorded["latents"]) < 1e-5
    assert relative(result.noise, recorded["final"]) < 1e-5


@pytest.mark.parametrize("amount", [0.0, 0.1])
def test_recorded_edit(golden: Any, unet: Any, text: Any, schedule: Schedule, amount: float) -> None:
    recorded, caption = golden(f"edit_real_{amount}"), text["caption_embeds"]
    path: dict[str, list[torch.Tensor]] = {"reference": [], "edit": []}
    result = edit(
        unet,
        recorded["init"],
        Conditioning(caption, caption),
        caption + text["direction"],
        schedule,
        EditSettings(steps=10, guidance_scale=7.5, cross_attention_guidance=amount),
        on_step=lambda stage, i, t, latents: path[stage].append(latents),
    )
    assert relative(torch.stack(path["edit"]), recorded["edit_latents"]) < 1e-4
    assert relative(result.edits, recorded["final"]) < 1e-4
    if amount:
        assert relative(torch.stack(path["reference"]), recorded["ref_latents"]) < 5e-5


def test_the_dtype_is_looked_for_once_and_again_after_a_change(unet: Any, monkeypatch: Any) -> None:
    unet, asked = copy.deepcopy(unet), []
    kind = type(unet)
    monkeypatch.setattr(
        kind, "dtype", property(lambda self: asked.append(self) or next(self.parameters()).dtype)
    )
    assert [dtype_of(unet), dtype_of(unet)] == [torch.float32] * 2
    assert len(asked) == 1
    assert dtype_of(unet.half()) == torch.float16


def test_batched_inversion_equals_single_ones(unet: Any, text: Any, short: Schedule) -> None:
    x0, prompts = noises(3), torch.cat([text["caption_embeds"], text["empty_embeds"], text["source_embeds"]])

    def run(rows: slice, seeds: list[int]) -> torch.Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return invert(
            unet, x0[rows], Conditioning(prompts[rows]), short.reversed(), generator=generators
        ).noise

    together = run(slice(None), [4, 5, 6])
    for k in range(3):
        assert relative(together[k : k + 1], run(slice(k, k + 1), [4 + k])) < 1e-5
    alone = invert(
        unet,
        x0[:1],
        Conditioning(prompts[:1]),
        short.reversed(),
        generator=torch.Generator().manual_seed(4),
    )
    assert torch.equal(alone.noise, run(slice(0, 1), [4]))


def test_inversion_leaves_the_global_generator_alone(unet: Any, text: Any, short: Schedule) -> None:
    before = torch.get_rng_state()
    first = invert(unet, noises(1), Conditioning(text["caption_embeds"]), short.reversed())
    again = invert(unet, noises(1), Conditioning(text["caption_embeds"]), short.reversed())
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first.noise, again.noise)


VARIANTS = [
    {},
    {"guidance_scale": 1.0},
    {"cross_attention_guidance": 0.0},
    {"guidance_until": 0.3},
    {"conditional_only": True},
    {"attention_resolution": 8},
    {"reuse_forward": True},
    {"conditional_only": True, "reuse_forward": True},
    {"noise_correction": True, "interpolation": 1.0},
    {"source_correction": True},
]


def _case(text: Any, negative: str, count: int) -> tuple[Conditioning, torch.Tensor]:
    prompt = text["caption_embeds"].expand(count, -1, -1)
    strengths = torch.linspace(0.5, 1.5, count)[:, None, None]
    return Conditioning(prompt, text[negative].expand_as(prompt)), prompt + strengths * text["direction"]


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("negative", ["caption_embeds", "empty_embeds"])
def test_batches_equal_single_runs(
    unet: Any, text: Any, short: Schedule, options: dict[str, Any], negative: str
) -> None:
    """Pictures × directions in one call, sliced or not, give what calls for one of each give."""
    settings = EditSettings(steps=3, guidance_scale=5.0, cross_attention_guidance=0.1)
    settings = replace(settings, **options)
    noise, (conditioning, edited) = noises(2), _case(text, negative, 2)
    trajectory = torch.stack([noises(2) * (k + 1) for k in range(4)])
    pairs = [(1, 0), (1, 1), (0, 1)]

    def run(pictures: list[int], directions: list[int], sources: list[int], **more: Any) -> Any:
        return edit(
            unet,
            noise[pictures],
            Conditioning(conditioning.prompt[pictures], conditioning.negative[pictures]),  # type: ignore[index]
            edited[directions],
            short,
            replace(settings, **more),
            sources=sources,
            trajectory=trajectory[:, pictures],
        )

    together = run([0, 1], [d for _, d in pairs], [p for p, _ in pairs])
    sliced = run([0, 1], [d for _, d in pairs], [p for p, _ in pairs], max_rows=2)
    assert relative(sliced.edits, together.edits) < 1e-5
    for k, (picture, direction) in enumerate(pairs[:2]):
        single = run([picture], [direction], [0])
        assert relative(together.edits[k : k + 1], single.edits) < 1e-4
        assert relative(together.reference[picture : picture + 1], single.reference) < 1e-4
        assert torch.allclose(together.drift[:, k], single.drift[:, 0], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("options", VARIANTS[1:], ids=str)
def test_each_option_changes_the_result(unet: Any, text: Any, short: Schedule, options: Any) -> None:
    conditioning, edited = _case(text, "empty_embeds", 1)
    settings = EditSettings(steps=3, guidance_scale=5.0, cross_attention_guidance=0.1)
    path = torch.stack([noises(1) * (k + 1) for k in range(4)])
    plain = edit(unet, noises(1), conditioning, edited, short, settings)
    other = edit(unet, noises(1), conditioning, edited, short, replace(settings, **options), trajectory=path)
    assert relative(other.edits, plain.edits) > 1e-4


def test_equal_negative_prompt_saves_half_of_the_reference(unet: Any, text: Any, short: Schedule) -> None:
    """So does the first step's negative half, which is the reference's own row."""
    rows: Counter[int] = Counter()
    handle = unet.register_forward_pre_hook(
        lambda module, args, kwargs: rows.update([args[0].shape[0]]), with_kwargs=True
    )
    conditioning, edited = _case(text, "caption_embeds", 1)
    try:
        edit(unet, noises(1), conditioning, edited, short, EditSettings(steps=3))
    finally:
        handle.remove()
    # Three reference rows; the first step's guided row and its second evaluation; two rows of each after that.
    assert rows == {1: 3 + 2, 2: 4}


def test_zero_direction_reconstructs(unet: Any, text: Any, short: Schedule) -> None:
    conditioning, _ = _case(text, "empty_embeds", 1)
    result = edit(unet, noises(1), conditioning, conditioning.prompt, short, EditSettings(steps=3))
    assert relative(result.edits, result.reference) < 1e-5
    assert result.drift.abs().max() < 1e-6


def test_mask_keeps_the_reference(unet: Any, text: Any, short: Schedule) -> None:
    conditioning, edited = _case(text, "empty_embeds", 1)
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 8:] = 1
    result = edit(unet, noises(1), conditioning, edited, short, EditSettings(steps=3), mask=mask)
    assert torch.equal(result.edits[..., :8], result.reference[..., :8])
    assert relative(result.edits[..., 8:], result.reference[..., 8:]) > 1e-2


def test_source_correction_ends_on_the_picture(unet: Any, text: Any, short: Schedule) -> None:
    caption = Conditioning(text["caption_embeds"])
    up = invert(unet, noises(1), caption, short.reversed(), regulariser=OFF, keep_trajectory=True)
    conditioning, edited = _case(text, "empty_embeds", 1)
    settings = EditSettings(steps=3, source_correction=True)
    result = edit(unet, up.noise, conditioning, edited, short, settings, trajectory=up.trajectory)
    assert torch.equal(result.reference, noises(1))


def test_callback_sees_every_pass_and_may_replace(unet: Any, text: Any, short: Schedule) -> None:
    seen: list[tuple[str, int, float]] = []

    def watch(stage: str, i: int, timestep: float, latents: torch.Tensor) -> torch.Tensor | None:
        seen.append((stage, i, timestep))
        return torch.zeros_like(latents) if stage == "edit" and i == 2 else None

    conditioning, edited = _case(text, "empty_embeds", 1)
    result = edit(unet, noises(1), conditioning, edited, short, EditSettings(steps=3), on_step=watch)
    assert seen == [(s, i, t) for i, t in enumerate(short.timesteps) for s in ("reference", "edit")]
    assert not result.edits.any()
    counted = edit(
        unet, noises(1), conditioning, edited, short, EditSettings(steps=3), on_step=lambda *_: True
    )
    plain = edit(unet, noises(1), conditioning, edited, short, EditSettings(steps=3))
    assert torch.equal(counted.edits, plain.edits), "only a tensor takes the latents' place"
    with pytest.raises(ValueError, match=r"the callback returned latents of shape \(1,\)"):
        edit(
            unet,
            noises(1),
            conditioning,
            edited,
            short,
            EditSettings(steps=3),
            on_step=lambda *_: torch.zeros(1),
        )


def test_wrong_shapes_are_named(unet: Any, text: Any, short: Schedule) -> None:
    conditioning, edited = _case(text, "empty_embeds", 1)
    good, up = EditSettings(steps=3), short.reversed()

    def run(**changed: Any) -> None:
        arguments = {"noise": noises(1), "edited": edited, "settings": good, **changed}
        edit(unet, conditioning=conditioning, sampler=short, **arguments)

    cases: list[tuple[str, Any]] = [
        (r"the noise has shape \(4, 16, 16\)", lambda: run(noise=noises(1)[0])),
        ("1 prompts for 2 pictures", lambda: run(noise=noises(2))),
        (r"edited embeddings have shape \(1, 5, 32\)", lambda: run(edited=edited[:, :5])),
        ("takes 3 steps, the settings say 4", lambda: run(settings=EditSettings(steps=4))),
        ("needs the inversion's traj", lambda: run(settings=replace(good, source_correction=True))),
        (r"the trajectory has shape \(2,", lambda: run(trajectory=noises(2)[:, None])),
        (r"sources is \[3\]", lambda: run(sources=[3])),
        (r"latents have shape \(4, 16, 16\)", lambda: invert(unet, noises(1)[0], conditioning, up)),
        ("1 prompts for 2 pictures", lambda: invert(unet, noises(2), conditioning, up)),
        ("2 generators for 1", lambda: invert(unet, noises(1), conditioning, up, generator=[GEN] * 2)),
        (r"negative embeddings have shape \(1, 3, 32\)", lambda: Conditioning(edited, edited[:, :3])),
        (r"prompt embeddings have shape \(77, 32\)", lambda: Conditioning(edited[0])),
        ("guidance_until is 2", lambda: EditSettings(guidance_until=2)),
        ("interpolation is -1", lambda: EditSettings(interpolation=-1)),
        ("max_rows is 0", lambda: EditSettings(max_rows=0)),
    ]
    for message, call in cases:
        with pytest.raises(ValueError, match=message):
            call()


def test_half_precision_follows_float32(unet: Any, text: Any, short: Schedule) -> None:
    """The loss and the latents are float32, so half-precision weights stay close to the full ones.

    bfloat16 rounds to 2⁻⁸; processors that multiply it natively round elsewhere than those that do not.
    """
    import copy

    conditioning, edited = _case(text, "empty_embeds", 1)
    settings = EditSettings(steps=3, guidance_scale=5.0)
    full = edit(unet, noises(1), conditioning, edited, short, settings)
    for dtype, bound in ((torch.float16, 5e-3), (torch.bfloat16, 6e-2)):
        half = edit(copy.deepcopy(unet).to(dtype), noises(1), conditioning, edited, short, settings)
        assert half.edits.dtype == torch.float32
        assert relative(half.edits, full.edits) < bound


def test_noise_correction_moves_by_what_the_direction_changes(unet: Any, text: Any, short: Schedule) -> None:
    """Lee et al. 2024, equation 5: the reference's estimate plus the edit's own change, in the published form."""
    conditioning, edited = _case(text, "empty_embeds", 1)
    settings = EditSettings(steps=3, guidance_scale=2.0, cross_attention_guidance=0.0, noise_correction=True)
    result = edit(unet, noises(1), conditioning, edited, short, settings)
    source, sample = noises(1), noises(1)
    for i, t in enumerate(short.timesteps):
        reference = combine(
            predict(unet, torch.cat([source] * 2), t, conditioning.rows), conditioning.halves, 2.0
        ).combined
        change = predict(unet, sample, t, edited) - predict(unet, sample, t, conditioning.prompt)
        sample = short.step(i, reference + 2.0 * change, sample)
        source = short.step(i, reference, source)
    assert relative(result.edits, sample) < 1e-5
    assert relative(result.reference, source) < 1e-5


def test_noise_correction_on_a_trajectory_needs_no_reference(unet: Any, text: Any, short: Schedule) -> None:
    caption = Conditioning(text["caption_embeds"])
    up = invert(unet, noises(1), caption, short.reversed(), regulariser=OFF, keep_trajectory=True)
    settings = EditSettings(
        steps=3, cross_attention_guidance=0.0, noise_correction=True, source_correction=True
    )
    conditioning = Conditioning(caption.prompt, caption.prompt)
    rows: list[int] = []
    hook = unet.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    try:
        same = edit(unet, up.noise, conditioning, caption.prompt, short, settings, trajectory=up.trajectory)
    finally:
        hook.remove()
    assert rows == [2, 2, 2]  # both halves of the edit, nothing for the reference
    assert relative(same.edits, noises(1)) < 1e-5  # no change: the picture itself


def test_a_known_reference_is_evaluated_only_where_something_asks_for_it(
    unet: Any, text: Any, scheduler_config: Any
) -> None:
    """Its maps in guided steps, its estimate while the implicit mask collects."""
    conditioning, edited = _case(text, "caption_embeds", 1)
    six, caption = Schedule.from_config(scheduler_config, 6), Conditioning(conditioning.prompt)
    up = invert(unet, noises(1), caption, six.reversed(), regulariser=OFF, keep_trajectory=True)
    settings = EditSettings(
        steps=6, guidance_scale=2.0, guidance_until=0.3, source_correction=True, keep_background=0.5
    )
    calls, stages = Counter[str](), ["reference"]

    def on_step(finished: str, *_: Any) -> None:
        stages.append("edit" if finished == "reference" else "reference")

    hook = unet.register_forward_pre_hook(lambda *_: calls.update(stages[-1:]))
    try:
        edit(unet, up.noise, conditioning, edited, six, settings, trajectory=up.trajectory, on_step=on_step)
    finally:
        hook.remove()
    assert stages == ["reference", "edit"] * 6 + ["reference"]
    assert calls["reference"] == 3  # two guided steps, and one more in which the mask collects
