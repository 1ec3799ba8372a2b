"""Every known defect of the deprecated pipeline, absent here and shown to be present there.

Each test runs on both. On the deprecated class it must fail, strictly: one that passes there holds nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMInverseScheduler,
    DDIMScheduler,
    DDPMScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
)
from PIL import Image

from editor import StableDiffusionPix2PixZeroPipeline
from editor.images import to_pixels

from .conftest import GOLDEN, relative
from .peer import ours, seeded, theirs

CAPTION = "a photo of a cat on the grass"
SUBJECTS = ["ours", pytest.param("peer", marks=pytest.mark.xfail(strict=True, reason="the known defect"))]


@pytest.fixture(scope="module")
def components() -> Any:
    return ours().components


@pytest.fixture(params=SUBJECTS)
def pipe(request: pytest.FixtureRequest, components: Any) -> Any:
    """A fresh pipeline with a UNet of its own: ours, or the deprecated one."""
    fresh = {**components, "unet": copy.deepcopy(components["unet"])}
    mine = StableDiffusionPix2PixZeroPipeline(**fresh, requires_safety_checker=False)
    mine.set_progress_bar_config(disable=True)
    if request.param == "ours":
        return mine
    peer = theirs(mine)
    peer.scheduler = DDIMScheduler.from_config(mine.scheduler.config)
    return peer


@pytest.fixture(scope="module")
def embeds(golden: Any) -> dict[str, torch.Tensor]:
    text = golden("text")
    return {"source_embeds": text["source_embeds"], "target_embeds": text["target_embeds"]}


def noise(count: int = 1) -> torch.Tensor:
    return torch.randn(count, 4, 8, 8, generator=seeded(count))


def run(pipe: Any, embeds: Any, prompt: Any = CAPTION, **options: Any) -> torch.Tensor:
    options = {"num_inference_steps": 2, "output_type": "latent", "latents": noise(), **embeds, **options}
    return pipe(prompt, **options).images


def picture(mode: str = "RGB", size: tuple[int, int] = (64, 64)) -> Image.Image:
    return Image.open(GOLDEN / "input.png").convert("RGB").resize(size).convert(mode)


def up(pipe: Any, image: Any, **options: Any) -> torch.Tensor:
    options = {"num_inference_steps": 2, "generator": seeded(0), **options}
    return pipe.invert(CAPTION, image=image, **options).latents


def test_every_prompt_of_a_batch_is_edited(pipe: Any, embeds: Any) -> None:
    prompts, start = [CAPTION, "a cat"], noise(2)
    together = run(pipe, embeds, prompts, latents=start)
    for k, prompt in enumerate(prompts):
        assert relative(together[k : k + 1], run(pipe, embeds, prompt, latents=start[k : k + 1])) < 1e-4


def test_every_image_of_a_prompt_is_edited(pipe: Any, embeds: Any) -> None:
    together = run(pipe, embeds, latents=noise().repeat(2, 1, 1, 1), num_images_per_prompt=2)
    alone = run(pipe, embeds)
    assert relative(together[:1], alone) < 1e-4
    assert relative(together[1:], alone) < 1e-4


def test_edits_without_classifier_free_guidance(pipe: Any, embeds: Any) -> None:
    same = {"source_embeds": embeds["source_embeds"], "target_embeds": embeds["source_embeds"]}
    options = {"guidance_scale": 1.0, "cross_attention_guidance_amount": 0.0}
    assert relative(run(pipe, embeds, **options), run(pipe, same, **options)) > 1e-3


def test_the_scheduler_that_stable_diffusion_ships(pipe: Any, embeds: Any) -> None:
    expected = run(pipe, embeds)
    pipe.scheduler = PNDMScheduler.from_config(pipe.scheduler.config)
    assert relative(run(pipe, embeds), expected) < 1e-6


def plain(components: Any, scheduler: Any, **options: Any) -> torch.Tensor:
    """What diffusers' own text-to-image pipeline makes of the same noise."""
    parts = {k: components[k] for k in ("vae", "text_encoder", "tokenizer", "unet")}
    reference = StableDiffusionPipeline(
        **parts,
        scheduler=copy.deepcopy(scheduler),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    reference.set_progress_bar_config(disable=True)
    return reference(
        CAPTION,
        latents=noise(),
        num_inference_steps=3,
        output_type="latent",
        generator=seeded(3),
        height=64,
        width=64,
        **options,
    ).images


@pytest.mark.parametrize("kind", [EulerDiscreteScheduler, LMSDiscreteScheduler])
def test_schedulers_that_scale_the_model_input(pipe: Any, components: Any, embeds: Any, kind: Any) -> None:
    pipe.scheduler = kind.from_config(pipe.scheduler.config)
    same = {"source_embeds": embeds["source_embeds"], "target_embeds": embeds["source_embeds"]}
    options = {"num_inference_steps": 3, "cross_attention_guidance_amount": 0.0, "generator": seeded(3)}
    assert relative(run(pipe, same, **options), plain(components, pipe.scheduler)) < 1e-4


@pytest.mark.parametrize("kind", [DDPMScheduler, EulerAncestralDiscreteScheduler, DDIMScheduler])
def test_both_passes_draw_the_same_noise(pipe: Any, components: Any, embeds: Any, kind: Any) -> None:
    pipe.scheduler = kind.from_config(pipe.scheduler.config)
    eta = {"eta": 1.0} if kind is DDIMScheduler else {}
    same = {"source_embeds": embeds["source_embeds"], "target_embeds": embeds["source_embeds"]}
    found = run(pipe, same, num_inference_steps=3, generator=seeded(3), **eta)
    assert relative(found, plain(components, pipe.scheduler, **eta)) < 1e-4


def test_components_assigned_later_are_saved(pipe: Any, tmp_path: Any) -> None:
    pipe.register_modules(inverse_scheduler=None)
    config = {**pipe.scheduler.config, "beta_end": 0.013}
    pipe.inverse_scheduler = DDIMInverseScheduler.from_config(config)
    pipe.save_pretrained(tmp_path)
    again = type(pipe).from_pretrained(tmp_path, requires_safety_checker=False)
    assert again.inverse_scheduler.config.beta_end == 0.013


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_pictures_of_other_modes(pipe: Any, mode: str) -> None:
    image = picture(mode)
    assert relative(up(pipe, image), up(pipe, image.convert("RGB"))) < 1e-5


def test_the_smallest_picture(pipe: Any) -> None:
    latents = up(pipe, picture(size=(8, 8)))
    assert latents.shape == (1, 4, 1, 1) and torch.isfinite(latents).all()


def test_pictures_are_not_squashed(pipe: Any) -> None:
    seen: list[torch.Tensor] = []
    encode = pipe.vae.encode
    pipe.vae.encode = lambda pixels, *args, **kwargs: seen.append(pixels) or encode(pixels, *args, **kwargs)
    try:
        image = picture(size=(71, 67))
        up(pipe, image)
    finally:
        del pipe.vae.encode
    assert torch.equal(seen[0][..., :67, :71], to_pixels(image))


class Stop(Exception):
    pass


def stop(*args: Any) -> None:
    raise Stop


def test_as_many_steps_as_training_timesteps(pipe: Any, embeds: Any) -> None:
    with pytest.raises(Stop):
        run(pipe, embeds, num_inference_steps=1000, callback=stop)


def test_a_list_of_generators_inverts(pipe: Any) -> None:
    assert relative(up(pipe, picture(), generator=[seeded(4)]), up(pipe, picture(), generator=seeded(4))) == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_generator_inverts(pipe: Any) -> None:
    pipe.to("cuda")
    up(pipe, picture(), generator=torch.Generator("cuda").manual_seed(0))


def test_the_global_generator_is_left_alone(pipe: Any) -> None:
    before = torch.get_rng_state()
    first = up(pipe, picture(), generator=None)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, up(pipe, picture(), generator=None))


def test_the_same_call_gives_the_same_picture(pipe: Any, embeds: Any) -> None:
    options = {"latents": None, "height": 64, "width": 64}
    assert torch.equal(run(pipe, embeds, **options), run(pipe, embeds, **options))


def test_the_callback_fires_in_the_guided_pass(pipe: Any, embeds: Any) -> None:
    seen: list[torch.Tensor] = []
    result = run(pipe, embeds, callback=lambda i, t, latents: seen.append(latents))
    assert len(seen) == 4
    assert torch.equal(seen[-1], result)


def test_clip_skip(pipe: Any, embeds: Any) -> None:
    assert relative(run(pipe, embeds, clip_skip=1), run(pipe, embeds)) > 1e-4


def test_learned_tokens(pipe: Any, embeds: Any) -> None:
    """Textual inversion, by diffusers' own loader; on a copy of the text encoder and tokenizer."""
    pipe.text_encoder, pipe.tokenizer = copy.deepcopy(pipe.text_encoder), copy.deepcopy(pipe.tokenizer)
    pipe.load_textual_inversion({"<toy>": torch.ones(2, 32)})
    assert relative(run(pipe, embeds, "a photo of <toy>"), run(pipe, embeds, "a photo of")) > 1e-4


def test_lora_layers_can_be_loaded(pipe: Any) -> None:
    assert callable(pipe.load_lora_weights) and callable(pipe.unload_lora_weights)


def test_the_unet_is_left_as_found(pipe: Any, embeds: Any) -> None:
    def state() -> Any:
        return [p.requires_grad for p in pipe.unet.parameters()], list(pipe.unet.attn_processors.values())

    before = state()
    up(pipe, picture())
    run(pipe, embeds)
    assert state() == before
    with pytest.raises(Stop):
        run(pipe, embeds, callback=stop)
    assert state() == before
    assert all(p.grad is None for p in pipe.unet.parameters())


def test_latents_of_another_dtype(pipe: Any, embeds: Any) -> None:
    pipe.unet.to(torch.bfloat16)
    encode = pipe.text_encoder
    pipe.text_encoder = copy.deepcopy(encode).to(torch.bfloat16)
    assert torch.isfinite(run(pipe, embeds, latents=noise().float())).all()


def velocity(pipe: Any) -> None:
    config = {**pipe.scheduler.config, "prediction_type": "v_prediction"}
    pipe.scheduler = DDIMScheduler.from_config(config)
    pipe.inverse_scheduler = DDIMInverseScheduler.from_config(config)


def test_velocity_inversion_reads_the_noise_at_the_samples_level(pipe: Any) -> None:
    """One KL step by autograd, with the noise of a sample at the level that it has."""
    velocity(pipe)
    x = noise() * 0.7
    options = {"lambda_auto_corr": 0.0, "num_reg_steps": 1, "num_inference_steps": 3}
    seen: list[torch.Tensor] = []
    up(pipe, x, callback=lambda i, t, latents: seen.append(latents), **options)
    alphas, (start, end) = pipe.scheduler.alphas_cumprod, (1, 334)
    before = seen[0]  # at level 1, on its way to 334
    with torch.no_grad():
        prompt = pipe.encode_prompt(CAPTION, "cpu", 1, False)[0]
        v = pipe.unet(before, end, encoder_hidden_states=prompt).sample
    v.requires_grad_()
    a, b = alphas[start], alphas[end]
    eps = a.sqrt() * v + (1 - a).sqrt() * before
    kl = eps.var() + eps.mean() ** 2 - 1 - torch.log(eps.var() + 1e-7)
    v = (v - 20 * torch.autograd.grad(kl, v)[0]).detach()
    eps, clean = a.sqrt() * v + (1 - a).sqrt() * before, a.sqrt() * before - (1 - a).sqrt() * v
    assert relative(seen[1], b.sqrt() * clean + (1 - b).sqrt() * eps) < 1e-5


def test_velocity_guidance_does_not_explode(pipe: Any, embeds: Any) -> None:
    velocity(pipe)
    calm = run(pipe, embeds, cross_attention_guidance_amount=0.0)
    strong = run(pipe, embeds, cross_attention_guidance_amount=1e4)
    assert strong.std() < 2 * calm.std()


class Prude(torch.nn.Module):
    """Finds everything unsafe, and says nothing."""

    device = torch.device("cpu")

    def forward(self, images: torch.Tensor, clip_input: torch.Tensor) -> tuple[torch.Tensor, list[bool]]:
        return torch.zeros_like(images), [True] * len(images)


def test_a_withheld_picture_is_announced(pipe: Any, embeds: Any, caplog: pytest.LogCaptureFixture) -> None:
    from transformers import CLIPImageProcessor

    pipe.safety_checker = Prude()
    pipe.feature_extractor = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=16)
    output = pipe(CAPTION, latents=noise(), num_inference_steps=1, **embeds)
    assert output.nsfw_content_detected == [True]
    assert "withheld picture 0" in caplog.text


def test_inversion_does_not_decode_noise(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(pipe.vae, "decode", fail)
    assert up(pipe, picture()).shape == (1, 4, 8, 8)


def test_one_concept_alone_is_refused(pipe: Any, embeds: Any) -> None:
    with pytest.raises(ValueError, match="are both needed"):
        run(pipe, {"source_embeds": embeds["source_embeds"]})


def test_a_batch_is_regularised_picture_by_picture(pipe: Any) -> None:
    generators: Callable[[], list[torch.Generator]] = lambda: [seeded(1), seeded(2)]  # noqa: E731
    x = torch.cat([noise(), 3 * noise()])
    together = pipe.invert([CAPTION, CAPTION], image=x, num_inference_steps=2, generator=generators()).latents
    for k, generator in enumerate(generators()):
        alone = pipe.invert(CAPTION, image=x[k : k + 1], num_inference_steps=2, generator=generator).latents
        assert relative(together[k : k + 1], alone) < 1e-4
