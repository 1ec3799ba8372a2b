"""The documented interface of the pipeline: every parameter, every way in and out, every refusal."""

from __future__ import annotations

import copy
import io
import logging
import pickle
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMInverseScheduler,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    StableDiffusionPipeline,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from editor import StableDiffusionPix2PixZeroPipeline
from editor.errors import PictureError
from editor.images import to_pixels
from editor.pipeline_inputs import split_image
from editor.pipeline_output import Pix2PixInversionPipelineOutput
from zoo.registry import WEIGHTS
from zoo.text import encode_text

from .conftest import GOLDEN, relative
from .peer import ours, seeded

CAPTION = "a photo of a cat on the grass"


@pytest.fixture(scope="module")
def pipe() -> Any:
    return ours()


@pytest.fixture(scope="module")
def embeds(golden: Any) -> dict[str, torch.Tensor]:
    text = golden("text")
    return {"source_embeds": text["source_embeds"], "target_embeds": text["target_embeds"]}


def noise(count: int = 1, height: int = 8, width: int = 8) -> torch.Tensor:
    return torch.randn(count, 4, height, width, generator=seeded(count))


def test_the_examples_of_the_documentation(
    captioner_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a prompt and embeddings in files; then from a picture, with a generated caption."""
    from transformers import BlipForConditionalGeneration, BlipProcessor

    monkeypatch.chdir(tmp_path)
    pipeline = StableDiffusionPix2PixZeroPipeline.from_pretrained(
        GOLDEN / "tiny_sd", conditions_input_image=False, torch_dtype=torch.float32
    )
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.to("cpu")
    for concept in ("cat", "dog"):
        torch.save(pipeline.get_embeds([f"a photo of a {concept}", f"a {concept}"]), f"{concept}.pt")
    src_embeds, target_embeds = torch.load("cat.pt"), torch.load("dog.pt")
    images = pipeline(
        "a high resolution painting of a cat in the style of van gogh",
        source_embeds=src_embeds,
        target_embeds=target_embeds,
        num_inference_steps=2,
        cross_attention_guidance_amount=0.15,
    ).images
    images[0].save("edited_image_dog.png")

    processor = BlipProcessor.from_pretrained(captioner_folder)
    model = BlipForConditionalGeneration.from_pretrained(captioner_folder, torch_dtype=torch.float32)
    pipeline = StableDiffusionPix2PixZeroPipeline.from_pretrained(
        GOLDEN / "tiny_sd",
        caption_generator=model,
        caption_processor=processor,
        torch_dtype=torch.float32,
        safety_checker=None,
    )
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.inverse_scheduler = DDIMInverseScheduler.from_config(pipeline.scheduler.config)
    raw_image = Image.open(GOLDEN / "input.png").convert("RGB").resize((64, 64))
    caption = pipeline.generate_caption(raw_image)
    assert caption.startswith("a photography of")
    generator = torch.Generator().manual_seed(0)
    inv_latents = pipeline.invert(
        caption, image=raw_image, generator=generator, num_inference_steps=2
    ).latents
    source_embeds = pipeline.get_embeds(["a cat sitting on the street", "a face of a cat"], batch_size=2)
    target_embeds = pipeline.get_embeds(["a dog sitting on the street", "a face of a dog"], batch_size=2)
    image = pipeline(
        caption,
        source_embeds=source_embeds,
        target_embeds=target_embeds,
        num_inference_steps=2,
        cross_attention_guidance_amount=0.15,
        generator=generator,
        latents=inv_latents,
        negative_prompt=caption,
    ).images[0]
    assert image.size == (64, 64)


def test_round_trip_keeps_everything(pipe: Any, captioner_folder: Path, tmp_path: Path) -> None:
    from transformers import BlipForConditionalGeneration, BlipProcessor

    fresh = ours()
    fresh.caption_generator = BlipForConditionalGeneration.from_pretrained(captioner_folder)
    fresh.caption_processor = BlipProcessor.from_pretrained(captioner_folder)
    fresh.save_pretrained(tmp_path)
    again = StableDiffusionPix2PixZeroPipeline.from_pretrained(tmp_path)
    assert isinstance(again.inverse_scheduler, DDIMInverseScheduler)
    assert isinstance(again.scheduler, DDIMScheduler)
    assert again.config.requires_safety_checker is False
    picture = Image.open(GOLDEN / "input.png")
    assert again.generate_caption(picture) == fresh.generate_caption(picture)
    assert again.generate_caption([picture, picture]) == [fresh.generate_caption(picture)] * 2
    other = StableDiffusionPipeline.from_pretrained(GOLDEN / "tiny_sd", requires_safety_checker=False)
    assert StableDiffusionPix2PixZeroPipeline.from_pipe(other).unet is other.unet


def test_a_captioner_that_lacks_the_usual_start_begins_by_itself() -> None:
    from transformers import BlipForConditionalGeneration, BlipProcessor

    pipe, folder = ours(), WEIGHTS / "captioner"
    pipe.caption_generator = BlipForConditionalGeneration.from_pretrained(folder)
    pipe.caption_processor = BlipProcessor.from_pretrained(folder)
    picture = Image.open(GOLDEN / "input.png").convert("RGB")
    both = pipe.generate_caption([picture, picture])
    assert both == [pipe.generate_caption(picture)] * 2
    assert not both[0].startswith("a of")


def test_output_types(pipe: Any, embeds: Any) -> None:
    def run(kind: str | None, **options: Any) -> Any:
        return pipe(CAPTION, num_inference_steps=1, output_type=kind, latents=noise(2), **embeds, **options)

    with pytest.raises(ValueError, match=r"has shape \(2, 4, 8, 8\); expected \(1, 4, 8, 8\)"):
        run("pil")
    both = {"num_images_per_prompt": 2}
    pil, array, tensor = (run(kind, **both).images for kind in ("pil", "np", "pt"))
    assert isinstance(pil, list) and pil[0].size == (64, 64)
    assert array.shape == (2, 64, 64, 3) and array.min() >= 0 and array.max() <= 1
    assert tensor.shape == (2, 3, 64, 64)
    assert np.array_equal(array, tensor.permute(0, 2, 3, 1).numpy())
    for kind in (None, "numpy", "np.array"):
        assert np.array_equal(run(kind, **both).images, array)
    images = pipe.invert(CAPTION, latents=noise(), num_inference_steps=1, output_type=None).images
    assert isinstance(images, np.ndarray)
    assert run("latent", **both).images.shape == (2, 4, 8, 8)
    images, flags = run("np", return_dict=False, **both)
    assert np.array_equal(images, array) and flags is None
    with pytest.raises(ValueError, match="`output_type` is 'gif'; expected one of pil, np, pt, latent"):
        run("gif", **both)


def test_inversion_output(pipe: Any) -> None:
    options = {"image": noise(), "num_inference_steps": 1}
    output = pipe.invert(CAPTION, **options)
    assert output.images[0].size == (64, 64)
    assert output["latents"] is output[0] is output.latents
    assert output[1] is output.images is output["images"]
    with pytest.raises(KeyError, match="expected 'latents' or 'images'"):
        output["noise"]
    assert output[-1] is output.images and output[:1] == (output.latents,)
    assert dict(output.items()) == dict(zip(output, output.values(), strict=True))
    assert output.get("latents") is output.latents and output.get("noise", 5) == 5
    with pytest.raises(IndexError):
        output[2]
    latents, images = pipe.invert(CAPTION, return_dict=False, output_type="np", **options)
    assert torch.equal(latents, output.latents) and images.shape == (1, 64, 64, 3)
    assert pipe.invert(CAPTION, output_type="latent", **options).images is not None
    explicit = pipe.invert(CAPTION, latents=noise().half(), num_inference_steps=1)
    assert relative(explicit.latents, output.latents) < 1e-2


def test_inversion_output_is_pickled_with_its_images(pipe: Any) -> None:
    output = pipe.invert(CAPTION, image=noise(), num_inference_steps=1, output_type="np")
    file = io.BytesIO()
    torch.save(output, file)
    file.seek(0)
    for again in (pickle.loads(pickle.dumps(output)), torch.load(file, weights_only=False)):
        assert torch.equal(again.latents, output.latents)
        assert np.array_equal(again.images, output.images)


def test_a_part_of_an_inversion_output_decodes_nothing() -> None:
    output = Pix2PixInversionPipelineOutput(noise(), lambda latents: pytest.fail("decoded"))
    assert output[0] is output[-2] is output[:1][0] is output.get("latents")
    assert "images" in output


def test_latents_are_inverted_without_an_autoencoder(pipe: Any) -> None:
    bare = StableDiffusionPix2PixZeroPipeline(**{**pipe.components, "vae": None})
    options = {"num_inference_steps": 1, "output_type": "latent"}
    expected = pipe.invert(CAPTION, latents=noise(), **options).latents
    assert torch.equal(bare.invert(CAPTION, image=noise(), **options).latents, expected)
    with pytest.raises(ValueError, match="there is no autoencoder to encode `image` with"):
        bare.invert(CAPTION, image=torch.rand(1, 3, 8, 8), **options)


def test_sizes_of_any_number(pipe: Any, embeds: Any) -> None:
    image = pipe(CAPTION, height=50, width=61, num_inference_steps=1, **embeds).images[0]
    assert image.size == (61, 50)
    latents = pipe.invert(CAPTION, image=image, num_inference_steps=1).latents
    assert latents.shape == (1, 4, 7, 8)
    options = {"latents": latents, "num_inference_steps": 1, **embeds}
    assert pipe(CAPTION, height=50, width=61, **options).images[0].size == (61, 50)
    assert pipe(CAPTION, **options).images[0].size == (64, 56)
    with pytest.raises(
        ValueError, match=r"`height` is 64 but `latents` of shape \(1, 4, 7, 8\) are for 49 to 56"
    ):
        pipe(CAPTION, height=64, **options)


def test_a_unet_that_names_no_size(embeds: Any) -> None:
    fresh = ours()
    fresh.unet.register_to_config(sample_size=None)
    fresh.vae.register_to_config(sample_size=48)
    options = {"num_inference_steps": 1, **embeds}
    assert fresh(CAPTION, latents=noise(), **options).images[0].size == (64, 64)
    assert fresh(CAPTION, height=40, width=32, **options).images[0].size == (32, 40)
    assert fresh(CAPTION, **options).images[0].size == (48, 48)
    fresh.vae = None
    assert fresh._noise(None, None, None, 1, seeded(0), torch.device("cpu")).shape == (1, 4, 64, 64)


def test_callbacks(pipe: Any, embeds: Any) -> None:
    old: list[tuple[int, float]] = []
    stages: list[tuple[str, int]] = []

    def at_end(pipeline: Any, i: int, t: float, kwargs: dict[str, Any]) -> dict[str, Any]:
        assert set(kwargs) == {"latents", "prompt_embeds"}
        stages.append((pipeline.stage, i))
        return {"latents": torch.zeros_like(kwargs["latents"])} if (pipeline.stage, i) == ("edit", 2) else {}

    result = pipe(
        CAPTION,
        latents=noise(),
        num_inference_steps=3,
        output_type="latent",
        callback=lambda i, t, latents: old.append((i, t)),
        callback_steps=2,
        callback_on_step_end=at_end,
        callback_on_step_end_tensor_inputs=["latents", "prompt_embeds"],
        **embeds,
    )
    assert old == [(0, 667), (0, 667), (2, 1), (2, 1)]
    assert stages == [(stage, i) for i in range(3) for stage in ("reference", "edit")]
    assert pipe.stage is None
    assert not result.images.any()
    stages.clear()
    pipe.invert(
        CAPTION,
        image=noise(),
        num_inference_steps=2,
        callback_on_step_end=at_end,
        callback_on_step_end_tensor_inputs=["latents", "prompt_embeds"],
    )
    assert stages == [("invert", 0), ("invert", 1)]
    with pytest.raises(ValueError, match=r"has \['unet'\]; expected some of \['latents'"):
        pipe.invert(
            CAPTION, image=noise(), callback_on_step_end=at_end, callback_on_step_end_tensor_inputs=["unet"]
        )


def test_a_callback_can_replace_nothing_but_latents(pipe: Any, embeds: Any) -> None:
    names = ["latents", "prompt_embeds"]

    def run(at_end: Any) -> torch.Tensor:
        options = {"callback_on_step_end": at_end, "callback_on_step_end_tensor_inputs": names, **embeds}
        return pipe(CAPTION, latents=noise(), num_inference_steps=1, output_type="latent", **options).images

    assert torch.equal(run(lambda pipe, i, t, kwargs: kwargs), run(lambda pipe, i, t, kwargs: None))
    with pytest.raises(ValueError, match="returned another prompt_embeds; only latents can be replaced"):
        run(lambda pipe, i, t, kwargs: {**kwargs, "prompt_embeds": 0 * kwargs["prompt_embeds"]})
    assert pipe.stage is None


def test_embeddings_instead_of_texts(pipe: Any, embeds: Any) -> None:
    prompt, negative = pipe.encode_prompt(CAPTION, "cpu", 1, True, "blurry")
    options = {"latents": noise(), "num_inference_steps": 2, "output_type": "latent", **embeds}
    expected = pipe(CAPTION, negative_prompt="blurry", **options).images
    found = pipe(prompt_embeds=prompt, negative_prompt_embeds=negative, **options).images
    assert torch.equal(found, expected)
    inverted = pipe.invert(prompt_embeds=prompt, image=noise(), num_inference_steps=2).latents
    assert torch.equal(inverted, pipe.invert(CAPTION, image=noise(), num_inference_steps=2).latents)


def test_embeddings_of_another_length(pipe: Any, embeds: Any) -> None:
    """The negative prompt is encoded at the length of short embeddings; of long ones it has to be given."""
    short = {name: value[:, :4] for name, value in embeds.items()}
    prompt, options = noise()[0, :1, :4].repeat(1, 1, 4), {"num_inference_steps": 1, **short}
    _, negative = pipe.encode_prompt(None, prompt_embeds=prompt, negative_prompt="a")
    assert negative.shape == prompt.shape
    assert torch.equal(negative, encode_text(["a"], pipe.tokenizer, pipe.text_encoder, length=4))
    found = pipe(prompt_embeds=prompt, output_type="latent", **options).images
    assert torch.isfinite(found).all()
    for wrong in (torch.zeros(1, 78, 32), torch.zeros(1, 1, 32)):
        with pytest.raises(ValueError, match=r"`prompt_embeds` has (78|1) tokens, and a negative .* 2 to 77"):
            pipe(prompt_embeds=wrong, **options)
    with pytest.raises(
        ValueError, match=r"`prompt_embeds` has shape \(1, 4, 64\); expected \[batch, 4, 32\]"
    ):
        pipe(prompt_embeds=torch.zeros(1, 4, 64), **options)


def test_lists_of_everything(pipe: Any, embeds: Any) -> None:
    """Prompts × copies, one negative prompt for all, a generator for each picture."""
    options = {"num_inference_steps": 2, "output_type": "latent", "height": 64, "width": 64, **embeds}
    together = pipe(
        ["a cat", CAPTION],
        num_images_per_prompt=2,
        negative_prompt="blurry",
        generator=[seeded(k) for k in range(4)],
        eta=0.5,
        **options,
    ).images
    for k, prompt in enumerate(["a cat", "a cat", CAPTION, CAPTION]):
        alone = pipe(prompt, negative_prompt="blurry", generator=seeded(k), eta=0.5, **options).images
        assert relative(together[k : k + 1], alone) < 1e-4
    pictures = [Image.open(GOLDEN / "input.png").resize((64, 64)).rotate(angle) for angle in (0, 90)]
    both = pipe.invert(
        CAPTION, image=pictures, num_inference_steps=2, generator=[seeded(1), seeded(2)]
    ).latents
    for k, picture in enumerate(pictures):
        alone = pipe.invert(CAPTION, image=picture, num_inference_steps=2, generator=seeded(k + 1)).latents
        assert relative(both[k : k + 1], alone) < 1e-4
    two = pipe.invert(["a cat", CAPTION], image=pictures[0], num_inference_steps=2).latents
    assert two.shape[0] == 2
    options = {"image": pictures[0], "num_inference_steps": 1}
    found = [
        pipe.invert(["a cat", CAPTION], generator=kind([seeded(1), seeded(2)]), **options).latents
        for kind in (list, tuple)
    ]
    assert torch.equal(*found)
    with pytest.raises(ValueError, match="2 pictures and 3 prompts; expected as many, or one of either"):
        pipe.invert(["a", "b", "c"], image=pictures)


def test_schedulers_replaced_or_refused(caplog: pytest.LogCaptureFixture) -> None:
    pipe = ours()
    assert isinstance(pipe.scheduler, DDIMScheduler)
    assert "PNDMScheduler cannot be guided step by step" in caplog.text
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    assert isinstance(pipe.scheduler, DDIMScheduler)
    assert pipe.scheduler.config.beta_schedule == "scaled_linear"
    with pytest.raises(ValueError, match="FlowMatchEulerDiscreteScheduler\\) has no beta schedule"):
        pipe.scheduler = FlowMatchEulerDiscreteScheduler()


def test_the_inverse_follows_the_scheduler_until_one_is_given(tmp_path: Path) -> None:
    pipe = ours()
    config = pipe.scheduler.config

    def kind_after(kind: str) -> str:
        pipe.scheduler = DDIMScheduler.from_config(config, prediction_type=kind)
        return pipe.inverse_scheduler.config.prediction_type

    assert kind_after("v_prediction") == "v_prediction"
    pipe.save_pretrained(tmp_path)
    pipe = StableDiffusionPix2PixZeroPipeline.from_pretrained(tmp_path)
    assert kind_after("epsilon") == "epsilon"
    pipe.inverse_scheduler = None
    assert pipe.invert(CAPTION, image=noise(), num_inference_steps=1).latents.shape == (1, 4, 8, 8)
    assert kind_after("sample") == "sample"
    velocity = DDIMScheduler.from_config(config, prediction_type="v_prediction")
    for again in (
        StableDiffusionPix2PixZeroPipeline.from_pretrained(tmp_path, scheduler=velocity),
        StableDiffusionPix2PixZeroPipeline(
            **{**pipe.components, "scheduler": velocity}, requires_safety_checker=False
        ),
    ):
        assert again.inverse_scheduler.config.prediction_type == "v_prediction"
    pipe.inverse_scheduler = given = DDIMInverseScheduler.from_config(config)
    kind_after("v_prediction")
    assert pipe.inverse_scheduler is given
    own = {**pipe.components, "inverse_scheduler": given}
    pipe = StableDiffusionPix2PixZeroPipeline(**own, requires_safety_checker=False)
    kind_after("sample")
    assert pipe.inverse_scheduler is given


def test_refusals(pipe: Any, embeds: Any) -> None:
    good = {"num_inference_steps": 1, **embeds}
    wide, few, flat = torch.zeros(1, 77, 64), torch.zeros(1, 3, 8, 8), torch.zeros(77, 32)
    cases: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (ValueError, "neither `prompt` nor `prompt_embeds`", {"prompt": None}),
        (ValueError, "both `prompt`", {"prompt_embeds": embeds["source_embeds"]}),
        (TypeError, "`prompt` is a int", {"prompt": 7}),
        (TypeError, "`prompt` is a list of int", {"prompt": [7]}),
        (ValueError, "`prompt` is an empty list", {"prompt": []}),
        (ValueError, r"`prompt_embeds` has shape \(77, 32\)", {"prompt": None, "prompt_embeds": flat}),
        (ValueError, r"shape \(1, 77, 64\); expected \[batch, 77, 32\]", dict.fromkeys(embeds, wide)),
        (ValueError, r"`target_embeds` has shape \(1, 77, 64\)", {"target_embeds": wide}),
        (TypeError, "`source_embeds` is a ndarray", {"source_embeds": np.zeros((1, 77, 32))}),
        (ValueError, "3 negative prompts for 1 prompts", {"negative_prompt": ["b"] * 3}),
        (ValueError, r"`negative_prompt_embeds` has shape", {"negative_prompt_embeds": wide}),
        (ValueError, "`callback_steps` is 0", {"callback_steps": 0}),
        (ValueError, "2 generators for 1 pictures", {"generator": [seeded(0)] * 2}),
        (TypeError, "`generator` is a int", {"generator": 5}),
        (ValueError, "`num_images_per_prompt` is 0", {"num_images_per_prompt": 0}),
        (ValueError, "number of steps is 0", {"num_inference_steps": 0}),
        (ValueError, "`height` is 0; expected a positive whole number", {"height": 0}),
        (ValueError, "eta is 2", {"eta": 2}),
        (ValueError, r"`latents` has shape \(1, 3, 8, 8\); expected \(1, 4, 8, 8\)", {"latents": few}),
        (ValueError, r"`latents` is torch.Size\(\[3, 8, 8\]\)", {"latents": few[0]}),
        (ValueError, "clip_skip is 99", {"clip_skip": 99}),
    ]
    for error, message, options in cases:
        with pytest.raises(error, match=message):
            pipe(**{"prompt": "a", **good, **options})
    for message, options in (
        ("expected one of `image` and `latents`", {}),
        ("expected one of `image` and `latents`", {"image": noise(), "latents": noise()}),
    ):
        with pytest.raises(ValueError, match=message):
            pipe.invert(CAPTION, **options)
    with pytest.raises(PictureError, match=r"tensor of shape \(1, 5, 8, 8\) is no picture"):
        pipe.invert(CAPTION, image=torch.zeros(1, 5, 8, 8))
    with pytest.raises(ValueError, match="`batch_size` is 0"):
        pipe.get_embeds(["a"], batch_size=0)
    with pytest.raises(ValueError, match="there is no captioner"):
        pipe.generate_caption(Image.new("RGB", (8, 8)))
    with pytest.raises(ValueError, match="needs a `feature_extractor`"):
        StableDiffusionPix2PixZeroPipeline(**{**pipe.components, "safety_checker": torch.nn.Identity()})


def test_whole_numbers_of_numpy(pipe: Any, embeds: Any) -> None:
    options = {
        "num_inference_steps": 2,
        "num_images_per_prompt": 2,
        "height": 64,
        "width": 61,
        "clip_skip": 1,
    }
    expected = pipe(CAPTION, output_type="np", **options, **embeds).images
    numbers = {name: np.int64(value) for name, value in options.items()}
    numbers["callback_steps"] = np.int32(1)
    assert np.array_equal(pipe(CAPTION, output_type="np", **numbers, **embeds).images, expected)
    assert torch.equal(pipe.get_embeds(["a", "b"], np.int64(1)), pipe.get_embeds(["a", "b"], 1))
    inverted = pipe.invert(CAPTION, noise(), np.int64(2), callback_steps=None).latents
    assert torch.equal(inverted, pipe.invert(CAPTION, noise(), 2).latents)
    for name in numbers:
        for wrong in (True, np.bool_(True), np.float64(1)):
            with pytest.raises(ValueError, match="whole number"):
                pipe(CAPTION, **{**options, name: wrong}, **embeds)
    with pytest.raises(ValueError, match="`batch_size` is True"):
        pipe.get_embeds(["a"], batch_size=True)


def test_the_safety_checker_is_missed_aloud(pipe: Any, caplog: pytest.LogCaptureFixture) -> None:
    StableDiffusionPix2PixZeroPipeline(**pipe.components)
    assert "The safety checker is off" in caplog.text


def test_the_safety_checker_takes_arrays_too() -> None:
    from transformers import CLIPImageProcessor

    class Checker(torch.nn.Module):
        def forward(self, images: Any, clip_input: torch.Tensor) -> tuple[Any, list[bool]]:
            return images, [bool(value > 0) for value in clip_input.mean((1, 2, 3))]

    checked = ours()
    checked.safety_checker = Checker()
    checked.feature_extractor = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=16)
    pictures = np.stack([np.zeros((16, 16, 3), np.float32), np.ones((16, 16, 3), np.float32)])
    images, flags = checked.run_safety_checker(pictures, torch.device("cpu"), torch.float32)
    assert images is pictures and flags == [False, True]
    tensor = 2 * torch.from_numpy(pictures).permute(0, 3, 1, 2) - 1
    assert checked.run_safety_checker(tensor, torch.device("cpu"), torch.float32)[1] == flags


def test_a_prompt_too_long_is_cut_aloud(pipe: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        pipe.encode_prompt("cat " * 300, "cpu", 1, False)
    assert "The text encoder reads 77 tokens" in caplog.text


def test_a_tokenizer_without_a_length_has_its_encoders(
    pipe: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = pipe.get_embeds(["a cat"])
    monkeypatch.setattr(pipe, "tokenizer", copy.deepcopy(pipe.tokenizer))
    pipe.tokenizer.model_max_length = int(1e30)
    assert torch.equal(pipe.get_embeds(["a cat"]), expected)
    pipe.encode_prompt("cat " * 300, "cpu", 1, False)
    assert "The text encoder reads 77 tokens" in caplog.text


def test_works_inside_inference_mode(pipe: Any, embeds: Any) -> None:
    options = {"num_inference_steps": 2, "output_type": "latent", **embeds}
    expected = pipe(CAPTION, latents=noise(), **options).images
    with torch.inference_mode():
        latents = noise().clone()
        assert torch.equal(pipe(CAPTION, latents=latents, **options).images, expected)
        assert pipe.invert(CAPTION, image=latents, num_inference_steps=1).latents.shape == latents.shape


def test_cross_attention_kwargs_reach_the_unet(pipe: Any, embeds: Any) -> None:
    seen: list[Any] = []
    handle = pipe.unet.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs.get("cross_attention_kwargs")), with_kwargs=True
    )
    try:
        pipe(CAPTION, latents=noise(), num_inference_steps=1, cross_attention_kwargs={"extra": 1}, **embeds)
    finally:
        handle.remove()
    assert seen and all(kwargs["extra"] == 1 for kwargs in seen)


def test_a_lora_scale_needs_no_peft(pipe: Any, embeds: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffusers.utils.USE_PEFT_BACKEND", False)
    monkeypatch.setattr("editor.pipeline.USE_PEFT_BACKEND", False, raising=False)
    monkeypatch.setitem(sys.modules, "peft", None)
    monkeypatch.setitem(sys.modules, "peft.tuners.tuners_utils", None)
    options = {"latents": noise(), "num_inference_steps": 1, "output_type": "latent", **embeds}
    scaled = pipe(CAPTION, cross_attention_kwargs={"scale": 0.5}, **options).images
    assert torch.equal(scaled, pipe(CAPTION, **options).images)


def test_latents_of_a_half_precision_pipeline_can_be_decoded(embeds: Any) -> None:
    pipe = ours().to(torch.bfloat16)

    def decode(latents: torch.Tensor) -> torch.Tensor:
        return pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample

    seen: list[torch.Tensor] = []
    options = {"latents": noise(), "num_inference_steps": 1, "output_type": "latent", **embeds}
    latents = pipe(CAPTION, callback=lambda i, t, latents: seen.append(decode(latents)), **options).images
    assert torch.equal(decode(latents), seen[-1])
    assert pipe.invert(CAPTION, latents=noise(), num_inference_steps=1).latents.dtype == torch.float32


def test_arrays_from_minus_one_to_one() -> None:
    """As the tensors of the same numbers; the range of the others, and of what is not RGB, stays [0, 1]."""
    signed = np.random.default_rng(0).uniform(-1, 1, (2, 9, 10, 3))
    expected = to_pixels(torch.from_numpy(signed).permute(0, 3, 1, 2))
    for image in (signed, list(signed), signed.astype(np.float32)):
        _, pixels = split_image(image, 4, 1)
        assert pixels is not None and torch.allclose(pixels, expected, atol=1e-6)
    barely = np.maximum(signed, -1e-4)
    assert torch.equal(split_image(barely, 4, 1)[1], to_pixels(barely))
    for wrong, least in ((signed[..., :1], "0"), (2 * signed, "-1"), (signed[0, ..., 0], "0")):
        with pytest.raises(PictureError, match=f"expected {least} to 1"):
            split_image(wrong, 4, 1)


@settings(max_examples=25, deadline=None)
@given(
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "F"]),
    form=st.sampled_from(["pil", "file", "array", "tensor", "list"]),
    seed=st.integers(0, 9),
)
def test_any_picture_goes_in(width: int, height: int, mode: str, form: str, seed: int) -> None:
    """All modes, sizes and containers: the latents have the size rounded up, and are finite."""
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    deep = Image.fromarray(values[..., 0].astype(np.uint16) << 8)
    picture: Any = deep if mode == "I;16" else Image.fromarray(values).convert(mode)
    if form == "file":
        buffer = io.BytesIO()
        picture.convert(
            "RGBA" if mode in ("LA", "P") else "RGB" if mode in ("CMYK", "F", "YCbCr") else mode
        ).save(buffer, "PNG")
        picture = Image.open(buffer)
    elif form == "array":
        picture = values
    elif form == "tensor":
        picture = torch.from_numpy(values).permute(2, 0, 1).float() / 255
    elif form == "list":
        picture = [picture]
    latents = shared_pipe().invert(CAPTION, image=picture, num_inference_steps=1).latents
    assert latents.shape == (1, 4, -(-height // 8), -(-width // 8))
    assert torch.isfinite(latents).all()


@cache
def shared_pipe() -> Any:
    """A pipeline for the drawn examples, which cannot take a fixture of a narrower scope."""
    return ours()
