"""Recorded steps: what a GPU replays is what each step would compute, whatever changes from step to step."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import accelerate.hooks
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from editor import graphs
from editor.edit import edit
from editor.graphs import Replay, Tensors, plain, replayable
from editor.invert import invert
from editor.regularize import Regulariser
from editor.schedule import Schedule
from editor.settings import EditSettings
from editor.steps import Conditioning

from .conftest import relative

STEPS = 6
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
VARIANTS: dict[str, dict[str, Any]] = {
    "published": {},
    "half of the steps guided": {"guidance_until": 0.5, "reuse_forward": True},
    "trajectory": {"source_correction": True, "keep_background": 0.5, "cross_attention_guidance": 0.0},
    "rows one by one": {"max_rows": 1},
    "an edit at a time": {"max_rows": 2},
    "one half": {"conditional_only": True, "attention_resolution": 8},
    "without guidance": {"guidance_scale": 1.0},
    "noise correction": {"noise_correction": True, "source_correction": True, "interpolation": 0.5},
}


class Emulated:
    """A graph without a GPU: what the function closed over when it was recorded is what every replay sees."""

    replays: ClassVar[Counter[str]] = Counter()

    def __init__(self, function: Callable[..., Tensors], inputs: list[torch.Tensor], pool: Any) -> None:
        self.function, self.inputs = function, [x.clone() for x in inputs]
        self.results = self.function(*self.inputs)

    def __call__(self, inputs: list[torch.Tensor]) -> Tensors:
        for own, given in zip(self.inputs, inputs, strict=True):
            own.copy_(given)
        for name, value in self.function(*self.inputs).items():
            self.results[name].copy_(value)
        self.replays["all"] += 1
        return {name: result.clone() for name, result in self.results.items()}


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    monkeypatch.setattr(graphs, "Graph", Emulated)
    monkeypatch.setattr(graphs, "replayable", lambda unet: True)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    Emulated.replays.clear()
    yield Emulated.replays


def inverted_and_edited(
    unet: Any, golden: Any, config: dict[str, Any], settings: dict[str, Any], device: str = "cpu"
) -> list[torch.Tensor]:
    text = {name: tensor.to(device) for name, tensor in golden("text").items()}
    latents = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(1)).to(device)
    schedule = Schedule.from_config(config, STEPS)
    caption = Conditioning(text["caption_embeds"].repeat(2, 1, 1))
    inverted = invert(unet, latents, caption, schedule.reversed(), keep_trajectory=True)
    change = text["caption_embeds"].flip(1) - text["caption_embeds"]
    edits = torch.cat([text["caption_embeds"] + strength * change for strength in (0.5, 1.0, 0.25)])
    result = edit(
        unet,
        inverted.noise,
        Conditioning(caption.prompt, caption.prompt),
        edits,
        schedule,
        EditSettings(steps=STEPS, **settings),
        sources=[0, 0, 1],
        trajectory=inverted.trajectory,
    )
    return [x.cpu() for x in (inverted.noise, result.edits, result.reference, result.drift)]


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_replays_are_the_steps_themselves(
    unet: Any, golden: Any, scheduler_config: Any, emulated: Counter[str], variant: str, kind: str
) -> None:
    config = {**scheduler_config, "prediction_type": kind}
    replayed = inverted_and_edited(unet, golden, config, VARIANTS[variant])
    assert emulated["all"] > STEPS
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "replayable", lambda unet: False)
        plain = inverted_and_edited(unet, golden, config, VARIANTS[variant])
    assert all(torch.equal(one, other) for one, other in zip(replayed, plain, strict=True))


def test_a_replays_result_is_the_callers(unet: Any, emulated: Counter[str]) -> None:
    replay = Replay(unet)
    results = [replay("twice", lambda x: {"y": 2 * x}, torch.tensor([float(k)]))["y"] for k in range(5)]
    assert [float(result) for result in results] == [0, 2, 4, 6, 8]
    assert emulated["all"] == 4, "the first call prepares"


@pytest.mark.parametrize(
    "fault",
    [
        RuntimeError("operation not permitted when stream is capturing"),
        torch.OutOfMemoryError("no room for a graph beside the call itself"),
    ],
)
def test_what_cannot_be_recorded_is_called(
    unet: Any, emulated: Counter[str], monkeypatch: pytest.MonkeyPatch, fault: RuntimeError
) -> None:
    def refuse(*args: Any) -> None:
        raise fault

    monkeypatch.setattr(graphs, "Graph", refuse)
    replay = Replay(unet)
    assert [float(replay("f", lambda x: {"y": x + 1}, torch.ones(1) * k)["y"]) for k in range(4)] == [
        1,
        2,
        3,
        4,
    ]
    assert not replay.active


def test_memory_that_runs_out_later_gives_the_graphs_up(unet: Any, emulated: Counter[str]) -> None:
    replay, room = Replay(unet), [2]

    def hungry(x: torch.Tensor) -> Tensors:
        if len(x) == 3 and room.pop() == 2:
            raise torch.OutOfMemoryError("out of memory")
        return {"y": x + 1}

    for _ in range(3):
        replay("small", hungry, torch.ones(1))
    room.insert(0, 1)
    assert replay("large", hungry, torch.ones(3))["y"].tolist() == [2, 2, 2]
    assert not replay.active and not room


def test_a_lack_of_memory_without_graphs_is_not_hidden(unet: Any, emulated: Counter[str]) -> None:
    def full(x: torch.Tensor) -> Tensors:
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        Replay(unet)("f", full, torch.ones(1))


def test_a_processor_replays_nothing(unet: Any) -> None:
    assert not replayable(unet)
    assert not Replay(unet).active


class Counting:
    """An attention processor that does something else at every call."""

    def __call__(self, attn: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return hidden_states


@pytest.mark.parametrize(
    "change",
    [
        lambda unet: unet.conv_in.register_forward_hook(lambda *_: None),
        lambda unet: unet.mid_block.register_forward_pre_hook(lambda *_: None),
        lambda unet: setattr(unet, "forward", unet.forward),
        lambda unet: unet.mid_block.compile(),
        lambda unet: unet.set_attn_processor(Counting()),
        lambda unet: accelerate.hooks.add_hook_to_module(unet, accelerate.hooks.ModelHook()),
    ],
)
def test_a_unet_that_may_do_more_than_compute_is_not_recorded(
    unet: Any, change: Callable[[Any], Any]
) -> None:
    changed = copy.deepcopy(unet)
    assert plain(changed)
    change(changed)
    assert not plain(changed)


def test_adapters_are_recorded(unet: Any) -> None:
    peft = pytest.importorskip("peft")
    adapted = copy.deepcopy(unet)
    adapted.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q"]))
    assert plain(adapted)


@pytest.fixture
def exact() -> Iterator[None]:
    """A GPU that gives the same numbers twice, and float32 ones."""
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = True, False
    with sdpa_kernel(SDPBackend.MATH):
        yield
    torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = before


@GPU
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_gpu_replays_what_it_computes(
    unet: Any, golden: Any, scheduler_config: Any, monkeypatch: pytest.MonkeyPatch, exact: None, variant: str
) -> None:
    there = copy.deepcopy(unet).cuda()
    made = []
    record = graphs.Graph
    monkeypatch.setattr(graphs, "Graph", lambda *args: made.append(record(*args)) or made[-1])
    replayed = inverted_and_edited(there, golden, scheduler_config, VARIANTS[variant], "cuda")
    assert made
    monkeypatch.setattr(graphs, "replayable", lambda unet: False)
    plain = inverted_and_edited(there, golden, scheduler_config, VARIANTS[variant], "cuda")
    here = inverted_and_edited(unet, golden, scheduler_config, VARIANTS[variant])
    for one, other, third in zip(replayed, plain, here, strict=True):
        assert torch.equal(one, other) or relative(one, other) < 1e-6
        assert torch.equal(one, third) or relative(one, third) < 1e-2


@GPU
def test_a_unet_that_looks_at_its_numbers_is_called(
    unet: Any, golden: Any, scheduler_config: Any, exact: None, caplog: pytest.LogCaptureFixture
) -> None:
    there = copy.deepcopy(unet).cuda()
    normed = torch.nn.GroupNorm.forward
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            torch.nn.GroupNorm, "forward", lambda self, x: normed(self, x) + 0 * float(x.detach().mean())
        )
        looked = inverted_and_edited(there, golden, scheduler_config, {}, "cuda")
    assert "no longer recorded" in caplog.text
    plain = inverted_and_edited(there, golden, scheduler_config, {}, "cuda")
    assert all(relative(one, other) < 1e-6 for one, other in zip(looked, plain, strict=True))


@GPU
def test_a_unet_on_a_gpu_is_recorded(unet: Any) -> None:
    assert replayable(copy.deepcopy(unet).cuda())


@GPU
def test_the_regulariser_alone_may_be_off(unet: Any, golden: Any, scheduler_config: Any) -> None:
    there = copy.deepcopy(unet).cuda()
    schedule = Schedule.from_config(scheduler_config, STEPS).reversed()
    caption = Conditioning(golden("text")["caption_embeds"].cuda())
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1)).cuda()
    assert invert(there, latents, caption, schedule, regulariser=Regulariser(0, 0)).noise.isfinite().all()
