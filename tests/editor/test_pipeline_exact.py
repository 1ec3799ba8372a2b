"""The drop-in pipeline against recorded tensors and against the live deprecated pipeline."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from .conftest import GOLDEN, relative
from .peer import ours, seeded, theirs

CAPTION = "a photo of a cat on the grass"


@pytest.fixture(scope="module")
def pipe() -> Any:
    return ours()


@pytest.fixture(scope="module")
def peer(pipe: Any) -> Any:
    return theirs(pipe)


def test_recorded_embeddings(pipe: Any, golden: Any, meta: Any) -> None:
    text = golden("text")
    prompt, negative = pipe.encode_prompt(CAPTION, "cpu", 1, True)
    assert relative(prompt, text["caption_embeds"]) < 1e-5
    assert relative(negative, text["empty_embeds"]) < 1e-5
    source = pipe.get_embeds(meta["source_prompts"])
    target = pipe.get_embeds(meta["target_prompts"], batch_size=3)
    assert relative(source, text["source_embeds"]) < 1e-5
    assert relative(target, text["target_embeds"]) < 1e-5
    assert relative(pipe.construct_direction(source, target), text["direction"]) < 1e-4


@pytest.mark.parametrize(
    ("name", "options"), [("noreg", {"lambda_auto_corr": 0.0, "lambda_kl": 0.0}), ("reg", {})]
)
def test_recorded_inversion(pipe: Any, golden: Any, name: str, options: dict[str, float]) -> None:
    recorded = golden(f"invert_{name}")
    generator = seeded(0)
    torch.randn(1, 4, 16, 16, generator=generator)  # the draw that encoding a picture takes
    path: list[torch.Tensor] = []
    result = pipe.invert(
        CAPTION,
        image=recorded["x0"],
        num_inference_steps=10,
        generator=generator,
        callback=lambda i, t, latents: path.append(latents),
        **options,
    )
    assert relative(torch.stack(path), recorded["latents"]) < 1e-5
    assert relative(result.latents, recorded["final"]) < 1e-5
    whole = pipe.invert(
        CAPTION,
        image=Image.open(GOLDEN / "input.png"),
        num_inference_steps=10,
        generator=seeded(0),
        **options,
    )
    assert relative(whole.latents, recorded["final"]) < 1e-3


@pytest.mark.parametrize("amount", [0.0, 0.1])
def test_recorded_edit(pipe: Any, golden: Any, amount: float) -> None:
    recorded, text = golden(f"edit_real_{amount}"), golden("text")
    options = {
        "source_embeds": text["source_embeds"],
        "target_embeds": text["target_embeds"],
        "num_inference_steps": 10,
        "latents": recorded["init"],
        "negative_prompt": CAPTION,
        "cross_attention_guidance_amount": amount,
    }
    latents = pipe(CAPTION, output_type="latent", **options).images
    assert relative(latents, recorded["final"]) < 1e-4
    image = pipe(CAPTION, output_type="np", **options).images
    assert np.abs(image[:, ::4, ::4] - recorded["image_slice"].numpy()).max() < 1e-3


def draw(seed: int) -> dict[str, Any]:
    """One configuration: everything that the published arithmetic depends on."""
    r = random.Random(seed)
    return {
        "steps": r.choice([1, 2, 3, 5]),
        "guidance": r.choice([1.5, 3.0, 5.0, 7.5, 12.0]),
        "amount": r.choice([0.0, 0.05, 0.1, 0.15, 0.5]),
        "negative": r.choice([None, "", CAPTION, "blurry"]),
        "size": (8 * r.randint(7, 12), 8 * r.randint(7, 12)),
        "seed": r.randint(0, 999),
        "image": r.random() < 0.6,
        "inversion_guidance": r.choice([1, 1, 2.5]),
        "regulariser": r.choice(
            [{}, {"lambda_kl": 0.0}, {"lambda_auto_corr": 5.0, "num_auto_corr_rolls": 2}]
        ),
        "prompt": r.choice([CAPTION, "a dog", "a cat in the snow at night"]),
    }


@pytest.mark.parametrize("seed", range(24))
def test_equals_the_deprecated_pipeline(pipe: Any, peer: Any, golden: Any, seed: int) -> None:
    case = draw(seed)
    width, height = case["size"]
    latents = None
    if case["image"]:
        noise = np.random.default_rng(case["seed"]).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
        picture = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
        options = {
            "image": picture,
            "num_inference_steps": case["steps"],
            "guidance_scale": case["inversion_guidance"],
            **case["regulariser"],
        }
        expected = peer.invert(case["prompt"], generator=seeded(case["seed"]), **options).latents
        latents = pipe.invert(case["prompt"], generator=seeded(case["seed"]), **options).latents
        assert relative(latents, expected) < 1e-4
        latents = expected
    text = golden("text")
    options = {
        "source_embeds": text["source_embeds"],
        "target_embeds": text["target_embeds"],
        "height": height,
        "width": width,
        "num_inference_steps": case["steps"],
        "guidance_scale": case["guidance"],
        "negative_prompt": case["negative"],
        "cross_attention_guidance_amount": case["amount"],
        "latents": latents,
        "output_type": "latent",
    }
    expected = peer(case["prompt"], generator=seeded(case["seed"]), **options).images
    found = pipe(case["prompt"], generator=seeded(case["seed"]), **options).images
    assert relative(found, expected) < 1e-4
