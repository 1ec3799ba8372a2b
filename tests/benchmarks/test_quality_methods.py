"""The methods on the embedded models, two pictures and two steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.quality import methods, rivals, tasks
from benchmarks.quality.batch import GUIDANCE_SCALE, Batch, Sample
from benchmarks.quality.costs import measure_costs
from benchmarks.quality.prompt_to_prompt import Injection, align, injecting, prompt_to_prompt
from editor.session import Editor
from editor.settings import EditSettings

STEPS = 2


@pytest.fixture(scope="module")
def samples(editor: Editor, prompt_direction: Callable[..., Any]) -> list[Sample]:
    """Two held-out cats."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "found_direction", prompt_direction)
        return tasks.scene_tasks(editor, 2)[0].load([0, 1])


@pytest.fixture
def batch(editor: Editor, samples: list[Sample]) -> Batch:
    return Batch(editor, samples, STEPS)


@pytest.fixture
def by_name(editor: Editor) -> dict[str, methods.Method]:
    return {method.name: method for method in methods.all_methods(editor)}


def grey_levels(a: list[Any], b: list[Any]) -> float:
    """The mean difference of two lists of pictures."""
    return float(
        np.mean([np.abs(np.asarray(x).astype(int) - np.asarray(y)).mean() for x, y in zip(a, b, strict=True)])
    )


def test_published_is_the_peer(batch: Batch, by_name: dict[str, methods.Method]) -> None:
    if not methods.has_peer():
        pytest.skip("this diffusers no longer has the deprecated pipeline")
    before = [id(m.processor) for m in batch.editor.models.unet.modules() if hasattr(m, "processor")]
    theirs = by_name["peer"].run(batch, 1.0)
    ours = by_name["published"].run(batch, 1.0)
    assert grey_levels(ours.images, theirs.images) < 0.05
    assert grey_levels(ours.images, batch.originals) > 1
    after = [id(m.processor) for m in batch.editor.models.unet.modules() if hasattr(m, "processor")]
    assert before == after


def test_published_names_every_setting() -> None:
    """A new option of EditSettings has to be switched off here by name, whatever the defaults become."""
    technical = {"steps", "guidance_limit", "max_rows"}
    assert set(asdict(EditSettings())) - technical == set(methods.PUBLISHED)


def test_the_fast_preset_takes_half_of_the_steps(batch: Batch, by_name: dict[str, methods.Method]) -> None:
    method, editor = by_name[methods.FAST_NAME], batch.editor
    longer = Batch(editor, batch.samples, 4)
    inversions = editor.invert_all(
        longer.pictures,
        longer.captions,
        2,
        [s.seed for s in longer.samples],
        regulariser=editor.regulariser(),
    )
    jobs = [(inv, sample.direction, 1.0) for inv, sample in zip(inversions, longer.samples, strict=True)]
    expected = [edit.image for edit in editor.edit_all(jobs, preset="fast")]
    assert grey_levels(method.run(longer, 1.0).images, expected) == 0
    assert method.settings["part of the steps"] == 0.5 and method.settings["cross_attention_guidance"] == 0


def test_names_and_settings(editor: Editor) -> None:
    found = methods.all_methods(editor)
    names = [method.name for method in found]
    assert len(set(names)) == len(names)
    assert {*methods.RIVALS, *methods.ABLATION} - {methods.PEER_NAME} <= set(names)
    for options in methods.OPTIONS:
        assert options.knob == methods.STRENGTH or options.knob in asdict(EditSettings())
    published = next(m for m in found if m.name == "published")
    default = next(m for m in found if m.name == "default")
    assert published.settings["cross_attention_guidance"] == 0.1
    assert default.settings["regulariser"] == asdict(editor.regulariser())
    synthetic = {m.name: m for m in methods.all_methods(editor, synthetic=True)}
    assert synthetic["published"].settings["cross_attention_guidance"] == 0.15


def test_inversions_are_shared(
    batch: Batch, by_name: dict[str, methods.Method], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    invert_all = batch.editor.invert_all

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs["regulariser"])
        return invert_all(*args, **kwargs)

    monkeypatch.setattr(batch.editor, "invert_all", counted)
    for name in ("DDIM + word swap", "prompt-to-prompt", "published", "reuse forward"):
        by_name[name].run(batch, by_name[name].values[0])
    assert len(calls) == 2
    assert torch.equal(
        batch.latents.cpu(), torch.cat([inv.latents for inv in batch.inversions(rivals.PLAIN)])
    )


def test_sdedit_changes_more_with_strength(batch: Batch) -> None:
    longer = Batch(batch.editor, batch.samples, 5)
    changes = [grey_levels(rivals.sdedit(longer, s).images, longer.originals) for s in (0.2, 0.6, 1.0)]
    assert changes[0] < changes[1] < changes[2]


def test_prompt_to_prompt_between_its_limits(batch: Batch) -> None:
    """Without injection it is DDIM with word swap; the same prompt twice gives the source again."""
    models, noise = batch.editor.models, batch.noise(rivals.PLAIN)
    source, swapped = batch.conditioning(batch.captions), batch.editor.encode(batch.targets)
    swap = align(batch.captions, batch.targets, models.tokenizer)
    plain, kept = prompt_to_prompt(
        models.unet, batch.schedule, noise, source, swapped, swap, GUIDANCE_SCALE, 0, 0
    )
    alone = batch.denoise(noise, batch.conditioning(batch.targets), GUIDANCE_SCALE)
    assert torch.allclose(plain, alone, atol=1e-4)
    assert torch.allclose(kept, batch.denoise(noise, source, GUIDANCE_SCALE), atol=1e-4)
    held, _ = prompt_to_prompt(
        models.unet, batch.schedule, noise, source, swapped, swap, GUIDANCE_SCALE, 1, 1
    )
    assert (held - kept).norm() < (plain - kept).norm()
    same = align(batch.captions, batch.captions, models.tokenizer)
    again, once = prompt_to_prompt(
        models.unet, batch.schedule, noise, source, source.prompt, same, GUIDANCE_SCALE, 1, 1
    )
    assert torch.allclose(again, once, atol=1e-4)


def test_alignment(editor: Editor) -> None:
    tokenizer = editor.models.tokenizer
    length = tokenizer.model_max_length
    swap = align(["a cat on the grass"], ["a dog on the grass"], tokenizer)
    assert torch.equal(swap.mapper[0], torch.eye(length)) and not swap.own.any()
    added = align(["a cat on the grass"], ["a cat wearing a hat on the grass"], tokenizer)
    assert added.own[0].nonzero().flatten().tolist() == [3, 4, 5]
    assert added.mapper[0, 3, 6] == 1  # "on" attends as "on" did
    assert (added.mapper[0].sum(dim=0) + added.own[0] == 1).all()
    longer = align(["a cat at night"], ["a flat drawing at night"], tokenizer)
    assert longer.mapper[0, 2, 2:4].tolist() == [0.5, 0.5]
    maps = torch.softmax(torch.randn(3, 2, 5, length, generator=torch.Generator().manual_seed(0)), dim=3)
    held = Injection(added, cross=True).replaced(maps, crosses=True)
    assert torch.equal(held[:2], maps[:2])
    assert torch.equal(held[2, :, :, 6], maps[1, :, :, 3]) and torch.equal(held[2, :, :, 4], maps[2, :, :, 4])


def test_processors_come_back_after_an_error(editor: Editor) -> None:
    layers = [m for m in editor.models.unet.modules() if hasattr(m, "processor")]
    before = [layer.processor for layer in layers]
    alignment = align(["a cat"], ["a dog"], editor.models.tokenizer)
    with pytest.raises(RuntimeError, match="stop"), injecting(editor.models.unet, Injection(alignment)):
        assert all(layer.processor is not was for layer, was in zip(layers, before, strict=True))
        raise RuntimeError("stop")
    assert all(layer.processor is was for layer, was in zip(layers, before, strict=True))


def test_synthetic_pictures_go_through_every_kind(editor: Editor, quick_directions: None) -> None:
    task = tasks.synthetic_tasks(editor, 1)[0]
    sample = task.load([0])[0]
    assert sample.caption.startswith("a ") and " of a cat " in sample.caption
    batch = Batch(editor, [sample], STEPS)
    with pytest.raises(ValueError, match="no picture of their own"):
        _ = batch.pictures
    found = {m.name: m for m in methods.all_methods(editor, synthetic=True)}
    names = ["SDEdit + word swap", "prompt-to-prompt", "published", "source correction", "default"]
    names += ["peer"] if methods.has_peer() else []
    made = {name: found[name].run(batch, found[name].values[0]) for name in names}
    assert all(outcome.images[0].size == (64, 64) for outcome in made.values())
    assert grey_levels(made["published"].references or [], batch.originals) < 0.05
    if methods.has_peer():
        assert grey_levels(made["published"].images, made["peer"].images) < 0.05


def test_costs(editor: Editor, samples: list[Sample], by_name: dict[str, methods.Method]) -> None:
    task = tasks.Task("cat → dog", ("0", "1"), lambda numbers: [samples[n] for n in numbers])
    found = measure_costs(editor, task, by_name["default"], STEPS)
    assert len(found) == 2 and all(values["seconds"] > 0 for values in found)
