"""What the embedded models reach on held-out scenes: ``python -m benchmarks.zoo``.

Every scene comes from a seed that no training saw. The judge, an independent classifier, names what a picture
shows; ground truth comes from the scene that it was drawn from.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.report import Row, arguments, at_least, measured, report
from editor.session import Editor
from editor.sheets import contact_sheet
from zoo.concepts import BACKGROUNDS, OBJECTS, known_concepts
from zoo.recipe.data import draw_scenes, to_float
from zoo.recipe.judge import Verdict, load_judge
from zoo.recipe.scenes import HELD_OUT, Scene, sample_scene
from zoo.registry import WEIGHTS

BATCH = 20
#: What the model card recommends.
GUIDANCE_SCALE = 4.0


def held_out(count: int, start: int = 0, **fixed: object) -> list[Scene]:
    """The first ``count`` held-out scenes from seed ``HELD_OUT + start`` on."""
    return [sample_scene(HELD_OUT + start + i, **fixed) for i in range(count)]


def as_tensor(images: list[Image.Image] | np.ndarray) -> torch.Tensor:
    """Pictures to ``[B, 3, 64, 64] float32`` in [-1, 1]."""
    array = np.stack([np.asarray(i.convert("RGB")) for i in images]) if isinstance(images, list) else images
    return to_float(torch.from_numpy(array.copy()).permute(0, 3, 1, 2))


def psnr(a: np.ndarray, b: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio in dB of two ``uint8`` pictures, over the pixels where ``mask`` is set."""
    error = (a.astype(float) - b.astype(float)) ** 2
    mean = error.mean() if mask is None else error[mask].mean()
    return float(10 * np.log10(255**2 / max(mean, 1e-9)))


def share(hits: list[bool]) -> float:
    """Per cent."""
    return 100 * sum(hits) / len(hits)


def matches(verdicts: list[Verdict], scenes: list[Scene], field: str) -> float:
    return share(
        [getattr(v, field) == (getattr(s, field) or "none") for v, s in zip(verdicts, scenes, strict=True)]
    )


class Bench:
    def __init__(self, quick: bool) -> None:
        self.quick = quick
        self.judge = load_judge()
        self.editor = Editor("embedded")
        self.sheet: list[list[tuple[str, Image.Image]]] = []

    def count(self, full: int) -> int:
        return max(4, full // 25) if self.quick else full

    def judge_rows(self) -> list[Row]:
        scenes = held_out(self.count(1000))
        verdicts = self.judge.judge(as_tensor(draw_scenes(scenes)[0]))
        return [
            at_least("judge: right object", matches(verdicts, scenes, "object"), "%", 99),
            at_least("judge: right background", matches(verdicts, scenes, "background"), "%", 99),
            measured("judge: right style", matches(verdicts, scenes, "style"), "%"),
            measured("judge: right accessory", matches(verdicts, scenes, "accessory"), "%"),
        ]

    @torch.no_grad()
    def autoencoder_rows(self) -> list[Row]:
        scenes = held_out(self.count(500), 2000)
        pictures, _ = draw_scenes(scenes)
        vae = self.editor.models.vae
        parts = [vae.decode(vae.encode(x).latent_dist.mean).sample for x in as_tensor(pictures).split(50)]
        decoded = torch.cat(parts).clamp(-1, 1)
        back = ((decoded.permute(0, 2, 3, 1).numpy() + 1) * 127.5).round().astype(np.uint8)
        self.sheet.append([("picture", Image.fromarray(p)) for p in pictures[:8]])
        self.sheet.append([("autoencoder", Image.fromarray(p)) for p in back[:8]])
        right = matches(self.judge.judge(decoded), scenes, "object")
        quality = float(np.mean([psnr(a, b) for a, b in zip(pictures, back, strict=True)]))
        return [
            at_least("autoencoder: PSNR", quality, "dB", 28),
            at_least("autoencoder: object still right", right, "%", 98),
        ]

    def text_to_image_rows(self) -> list[Row]:
        from diffusers import StableDiffusionPipeline

        pipeline = StableDiffusionPipeline.from_pretrained(WEIGHTS / "diffusion", dtype=torch.float32)
        pipeline.set_progress_bar_config(disable=True)
        wanted = [(o, b) for o in OBJECTS for b in BACKGROUNDS]
        wanted = [wanted[(i * 37) % len(wanted)] for i in range(self.count(200))]
        images: list[Image.Image] = []
        for i in range(0, len(wanted), BATCH):
            prompts = [f"a {o} {BACKGROUNDS[b]}" for o, b in wanted[i : i + BATCH]]
            generator = torch.Generator().manual_seed(i)
            images += pipeline(
                prompts, num_inference_steps=50, guidance_scale=GUIDANCE_SCALE, generator=generator
            ).images
        verdicts = self.judge.judge(as_tensor(images))
        pairs = list(zip(verdicts, wanted, strict=True))
        self.sheet.append([(f"{o}, {b}", im) for (o, b), im in zip(wanted[:8], images[:8], strict=True)])
        return [
            at_least("text to image: right object", share([v.object == o for v, (o, _) in pairs]), "%", 95),
            at_least(
                "text to image: right background", share([v.background == b for v, (_, b) in pairs]), "%", 95
            ),
        ]

    def inversion_rows(self) -> list[Row]:
        """Invert, regenerate without an edit, and compare with the autoencoder's own reconstruction."""
        scenes = held_out(self.count(100), 4000)
        pictures = [Image.fromarray(p) for p in draw_scenes(scenes)[0]]
        figures: list[float] = []
        for i in range(0, len(pictures), BATCH):
            inversions = self.editor.invert_all(pictures[i : i + BATCH])
            nothing = self.no_direction()
            edits = self.editor.edit_all(
                [(inv, nothing, 0.0) for inv in inversions],
                cross_attention_guidance=0.0,
                source_correction=False,
                keep_background=0.0,
            )
            own = [inv.autoencoded() for inv in inversions]
            figures += [psnr(np.asarray(e.image), np.asarray(o)) for e, o in zip(edits, own, strict=True)]
            if i == 0:
                self.sheet.append([("inverted and back", e.image) for e in edits[:8]])
        return [at_least("inversion and back: PSNR to the autoencoder's", float(np.mean(figures)), "dB", 32)]

    def no_direction(self) -> object:
        from library.direction import Direction

        models = self.editor.models
        shape = (models.tokenizer.model_max_length, models.text_encoder.config.hidden_size)
        return Direction(name="nothing", tensor=np.zeros(shape, np.float32), encoder=models.encoder_id)

    def captioner_rows(self) -> list[Row]:
        scenes = held_out(self.count(200), 6000)
        captions = [self.editor.caption(Image.fromarray(p)) for p in draw_scenes(scenes)[0]]
        pairs = list(zip(scenes, captions, strict=True))
        return [
            at_least("captioner: right object", share([s.object in c.split() for s, c in pairs]), "%", 95),
            at_least(
                "captioner: right background",
                share([BACKGROUNDS[s.background] in c for s, c in pairs]),
                "%",
                90,
            ),
            measured("captioner: right style", share([s.style in c for s, c in pairs]), "%"),
        ]

    def language_rows(self) -> list[Row]:
        from directions.generate import sample
        from directions.models import load_writer
        from directions.settings import Settings

        writer, settings = load_writer(str(WEIGHTS / "captions")), Settings(draw=100)
        named, distinct = [], []
        for concept in known_concepts()[:: 6 if self.quick else 1]:
            captions = next(sample(writer, concept, settings))
            named += [concept in c for c in captions]
            distinct.append(len(set(captions)))
        return [
            at_least("caption model: names the concept", share(named), "%", 100),
            at_least("caption model: distinct captions of 100, least", min(distinct), "", 50),
        ]

    def edit_rows(self) -> list[Row]:
        """The main job: cat to dog on held-out cats, with a direction made by ``discover``."""
        from directions import discover

        direction = discover("cat", "dog", models="embedded", seed=0)
        scenes = held_out(self.count(50), 9000, object="cat", accessory=None)
        arrays, masks = draw_scenes(scenes)
        pictures = [Image.fromarray(p) for p in arrays]
        verdicts: list[Verdict] = []
        kept: list[float] = []
        for i in range(0, len(pictures), 10):
            inversions = self.editor.invert_all(pictures[i : i + 10])
            edits = self.editor.edit_all([(inv, direction, 1.0) for inv in inversions])
            verdicts += self.judge.judge(as_tensor([e.image for e in edits]))
            truth = draw_scenes(
                [sample_scene(s.seed, object="dog", accessory=None) for s in scenes[i : i + 10]]
            )[1]
            for k, (inversion, edit) in enumerate(zip(inversions, edits, strict=True)):
                outside = ~(masks[i + k] | truth[k])
                kept.append(psnr(np.asarray(edit.image), np.asarray(inversion.autoencoded()), outside))
            if i == 0:
                self.sheet.append([("cat", p) for p in pictures[:8]])
                self.sheet.append([("cat to dog", e.image) for e in edits[:8]])
        return [
            at_least("cat→dog: judged a dog", share([v.object == "dog" for v in verdicts]), "%", 90),
            measured("cat→dog: background kept, PSNR", float(np.mean(kept)), "dB"),
            measured("cat→dog: background still named right", matches(verdicts, scenes, "background"), "%"),
        ]


def main() -> int:
    parser = arguments(__doc__ or "")
    parser.add_argument("--sheet", type=Path, metavar="FILE.png", help="write a sheet of pictures")
    parser.add_argument("--only", action="append", help="one part: judge, autoencoder, captioner, …")
    options = parser.parse_args()
    bench = Bench(options.quick)
    parts = ("judge", "autoencoder", "captioner", "language", "text_to_image", "inversion", "edit")
    rows = [
        row
        for part in parts
        if not options.only or part in options.only
        for row in getattr(bench, f"{part}_rows")()
    ]
    if options.sheet:
        contact_sheet(bench.sheet).save(options.sheet)
    return report(rows, options.json)


if __name__ == "__main__":
    sys.exit(main())
