"""What measurements in processes of their own share: the process, its memory, and Stable Diffusion's architecture."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.peer import PEER, pipeline

MEBIBYTE = 2**20

#: UNet and VAE of Stable Diffusion 1.4, at a size that a processor still edits in minutes.
FULL: dict[str, Any] = {
    "size": 256,
    "tokens": 77,
    "unet": {"sample_size": 64, "cross_attention_dim": 768},
    "vae": {
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
    },
}
#: The same shape with next to nothing in it.
QUICK: dict[str, Any] = {
    "size": 64,
    "tokens": 16,
    "unet": {
        "sample_size": 16,
        "cross_attention_dim": 32,
        "block_out_channels": (32, 64),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
    },
    "vae": {
        "block_out_channels": (32, 32, 32, 32),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
    },
}
SCHEDULER: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


def random_models(config: dict[str, Any], device: str = "cpu") -> tuple[Any, Any]:
    """UNet and VAE of a configuration, in evaluation mode, with the same random weights every time on a device."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel

    torch.manual_seed(0)
    with torch.device(device):
        unet = UNet2DConditionModel(**config["unet"]).eval()
        vae = AutoencoderKL(latent_channels=4, scaling_factor=0.18215, **config["vae"]).eval()
    return unet, vae


def pipeline_class(which: str) -> Any:
    """The drop-in pipeline ("ours"), or the deprecated one that it stands in for ("peer")."""
    if which == "ours":
        from editor import StableDiffusionPix2PixZeroPipeline

        return StableDiffusionPix2PixZeroPipeline
    return import_module(PEER).StableDiffusionPix2PixZeroPipeline


def build(which: str, config: dict[str, Any]) -> Any:
    """The pipeline, ours or the peer, on the same random weights."""
    unet, vae = random_models(config)
    return pipeline(pipeline_class(which), SCHEDULER, vae=vae, unet=unet)


def smooth_picture(size: int) -> Any:
    """A seeded picture without detail, `[1, 3, size, size]` float32 in [0, 1]."""
    import torch

    image = torch.rand(1, 3, size // 8, size // 8, generator=torch.Generator().manual_seed(3))
    return torch.nn.functional.interpolate(image, size=(size, size), mode="bicubic").clamp(0, 1)


def resident() -> int:
    """Bytes of memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak() -> int:
    """The most that this process has held since `forget_peak`, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this system does not report peak memory in /proc/self/status")


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def in_own_process(module: str, arguments: Sequence[str], threads: int | None = 1) -> Any:
    """What `python -m module` prints as JSON in its last line; CalledProcessError where it fails.

    threads None: as many as torch chooses.
    """
    done = subprocess.run(check=True, stdout=subprocess.PIPE, **_process(module, arguments, threads))
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def standing(module: str, arguments: Sequence[str], threads: int | None = 1) -> Iterator[Callable[[], Any]]:
    """Like `in_own_process`, of a process that answers each line it is given with one, until the block ends."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(**pipes, **_process(module, arguments, threads)) as process:
        assert process.stdin is not None and process.stdout is not None
        asked, answers = process.stdin, process.stdout

        def ask() -> Any:
            with suppress(BrokenPipeError):  # which its empty answer tells
                asked.write("\n")
                asked.flush()
            if not (answer := answers.readline()):
                raise subprocess.CalledProcessError(process.wait(), process.args)
            return json.loads(answer)

        yield ask
        with suppress(BrokenPipeError):
            asked.close()


def _process(module: str, arguments: Sequence[str], threads: int | None) -> dict[str, Any]:
    return {
        "args": [sys.executable, "-m", module, *arguments],
        "env": {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})},
        "cwd": Path(__file__).parents[1],
        "text": True,
    }
