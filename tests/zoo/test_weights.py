"""The shipped weights: small, licensed, loaded by the libraries' own code, and good at what the card says."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from zoo.concepts import BACKGROUNDS
from zoo.recipe.data import draw_scenes, to_float
from zoo.recipe.judge import Judge, load_judge
from zoo.recipe.scenes import HELD_OUT, sample_scene
from zoo.registry import WEIGHTS

SCENES = [sample_scene(HELD_OUT + 500_000 + i) for i in range(64)]


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    return to_float(torch.from_numpy(draw_scenes(SCENES)[0]).permute(0, 3, 1, 2))


@pytest.fixture(scope="module")
def judge() -> Judge:
    return load_judge()


def test_together_they_stay_under_40_megabytes() -> None:
    assert sum(f.stat().st_size for f in WEIGHTS.rglob("*") if f.is_file()) <= 40e6


def test_no_pickles_ship() -> None:
    assert not [f for f in WEIGHTS.rglob("*") if f.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl")]


def test_the_card_names_the_licence() -> None:
    assert "MIT" in (WEIGHTS / "README.md").read_text(encoding="utf-8")


def test_the_judge_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    load_judge()
    assert torch.equal(torch.get_rng_state(), before)


def test_the_judge_names_objects_and_backgrounds(judge: Judge, pictures: torch.Tensor) -> None:
    verdicts = judge.judge(pictures)
    right = [
        (v.object == s.object) + (v.background == s.background) for v, s in zip(verdicts, SCENES, strict=True)
    ]
    assert sum(right) >= 2 * len(SCENES) - 2
    assert verdicts[0].probabilities["object"][verdicts[0].object] > 0.5


def test_the_autoencoder_keeps_what_makes_an_animal(judge: Judge, pictures: torch.Tensor) -> None:
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(WEIGHTS / "diffusion", subfolder="vae", dtype=torch.float32)
    with torch.no_grad():
        decoded = vae.decode(vae.encode(pictures).latent_dist.mean).sample.clamp(-1, 1)
    error = ((decoded - pictures) / 2).square().mean((1, 2, 3))
    assert (-10 * error.log10()).mean() >= 28
    assert sum(v.object == s.object for v, s in zip(judge.judge(decoded), SCENES, strict=True)) >= 61


def test_the_captioner_says_what_is_there() -> None:
    from editor.session import Editor

    editor = Editor("embedded")
    scenes = SCENES[:16]
    captions = [editor.caption(Image.fromarray(p)) for p in draw_scenes(scenes)[0]]
    named = [s.object in c and BACKGROUNDS[s.background] in c for s, c in zip(scenes, captions, strict=True)]
    assert sum(named) >= 14, captions
