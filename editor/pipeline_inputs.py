"""The arguments of the pipeline's calls, checked and brought to one batch of pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from editor.images import RANGE_SLACK, pad_to_multiple, to_pixels
from editor.latents import seeded
from editor.settings import plain
from editor.steps import OnStep

OUTPUT_TYPES = ("pil", "np", "pt", "latent")
#: What diffusers, too, reads as "np".
ARRAY_TYPES = (None, "numpy", "np.array")


def as_texts(texts: Any, name: str = "prompt") -> list[str]:
    """A text or a list of texts as a list; TypeError names the type of anything else."""
    if isinstance(texts, str):
        return [texts]
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
        inner = f" of {type(texts[0]).__name__}" if isinstance(texts, (list, tuple)) and texts else ""
        raise TypeError(f"`{name}` is a {type(texts).__name__}{inner}; expected a str or a list of str")
    if not texts:
        raise ValueError(f"`{name}` is an empty list; expected at least one text")
    return list(texts)


def check_prompts(prompt: Any, prompt_embeds: torch.Tensor | None) -> int:
    """The number of prompts, of which there must be texts or embeddings, not both."""
    if prompt is not None and prompt_embeds is not None:
        raise ValueError(
            f"both `prompt` ({prompt!r}) and `prompt_embeds` (shape {tuple(prompt_embeds.shape)}) were "
            "given; expected one of them"
        )
    if prompt is not None:
        return len(as_texts(prompt))
    if prompt_embeds is None:
        raise ValueError("neither `prompt` nor `prompt_embeds` was given; expected one of them")
    check_embeds(prompt_embeds, "prompt_embeds")
    return prompt_embeds.shape[0]


def check_embeds(embeds: Any, name: str, like: tuple[int, ...] | None = None) -> None:
    """Refuse what is not `[batch, tokens, dim]`, with `like` the tokens and dim that it must have."""
    if not isinstance(embeds, torch.Tensor):
        raise TypeError(f"`{name}` is a {type(embeds).__name__}; expected a tensor [batch, tokens, dim]")
    expected = "batch, tokens, dim" if like is None else f"batch, {like[0]}, {like[1]}"
    if embeds.ndim != 3 or 0 in embeds.shape or (like is not None and tuple(embeds.shape[1:]) != like):
        raise ValueError(f"`{name}` has shape {tuple(embeds.shape)}; expected [{expected}]")


def positive(value: Any, name: str, of: str = "") -> int:
    """A positive whole number, Python's or NumPy's, as Python's."""
    number = plain(value)
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError(f"`{name}` is {value!r}; expected a positive whole number{of}")
    return number


def as_output_type(output_type: Any) -> str:
    """One of `OUTPUT_TYPES`; ValueError for what is none."""
    if output_type in ARRAY_TYPES:
        return "np"
    if output_type not in OUTPUT_TYPES:
        raise ValueError(f"`output_type` is {output_type!r}; expected one of {', '.join(OUTPUT_TYPES)}")
    return output_type


def as_generators(generator: Any, pictures: int) -> torch.Generator | list[torch.Generator]:
    """One generator, or a list of one for each picture; None is seed 0."""
    if generator is None:
        return seeded(0)
    if isinstance(generator, torch.Generator):
        return generator
    if not isinstance(generator, (list, tuple)) or not all(isinstance(g, torch.Generator) for g in generator):
        raise TypeError(
            f"`generator` is a {type(generator).__name__}; expected a torch.Generator or a list of them"
        )
    if len(generator) != pictures:
        raise ValueError(f"{len(generator)} generators for {pictures} pictures; expected one each")
    return list(generator)


def latent_size(
    height: int | None, width: int | None, latents: torch.Tensor | None, native: tuple[int, int], factor: int
) -> tuple[int, int]:
    """(rows, columns) of the latents for a picture of height × width pixels, rounded up.

    None is the size of the given latents, or the model's own. Given both, they must agree.
    """
    height = None if height is None else positive(height, "height", " of pixels")
    width = None if width is None else positive(width, "width", " of pixels")
    if latents is None:
        rows = native[0] if height is None else -(-height // factor)
        columns = native[1] if width is None else -(-width // factor)
        return rows, columns
    size = (latents.shape[-2], latents.shape[-1])
    for name, value, have in (("height", height, size[0]), ("width", width, size[1])):
        if value is not None and -(-value // factor) != have:
            raise ValueError(
                f"`{name}` is {value} but `latents` of shape {tuple(latents.shape)} are for "
                f"{(have - 1) * factor + 1} to {have * factor} pixels; leave it out or make them agree"
            )
    return size


def check_latents(latents: Any, shape: tuple[int, ...], name: str = "latents") -> torch.Tensor:
    """Latents of exactly this shape, as float32."""
    if not isinstance(latents, torch.Tensor):
        raise TypeError(f"`{name}` is a {type(latents).__name__}; expected a tensor {list(shape)}")
    if tuple(latents.shape) != shape:
        raise ValueError(f"`{name}` has shape {tuple(latents.shape)}; expected {shape}")
    return latents.detach().float()


def split_image(image: Any, channels: int, factor: int) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """(latents, None) where the image is a floating tensor of the latents' channels, else (None, pixels).

    Latents `[B, channels, h, w]`; pixels `[B, 3, H, W]` in [-1, 1], padded at the right and the bottom to
    what the autoencoder takes. RGB arrays of floats may be in [-1, 1], as tensors may. Pictures with
    transparency are arrays, PIL images or uint8 tensors.
    """
    tensors = image if isinstance(image, (list, tuple)) else [image]
    if tensors and all(_looks_like_latents(tensor, channels) for tensor in tensors):
        batches = [tensor if tensor.ndim == 4 else tensor[None] for tensor in tensors]
        shapes = {tuple(batch.shape[1:]) for batch in batches}
        if len(shapes) > 1:
            raise ValueError(f"the latents of one batch differ in shape: {sorted(shapes)}")
        return torch.cat(batches).detach().float(), None
    pictures = [_signed_as_tensor(picture) for picture in tensors]
    return None, pad_to_multiple(to_pixels(pictures), factor)


def _signed_as_tensor(picture: Any) -> Any:
    """An array `[..., H, W, 3]` of floats below 0 as the tensor `[..., 3, H, W]` in [-1, 1]; else the same."""
    signed = isinstance(picture, np.ndarray) and picture.dtype.kind == "f" and picture.ndim in (3, 4)
    # what rounding leaves below 0 in a picture in [0, 1] does not make it one in [-1, 1]
    if not signed or picture.shape[-1] != 3 or picture.min(initial=0.0) >= -RANGE_SLACK:
        return picture
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(picture, -1, -3), dtype=np.float32))


def _looks_like_latents(value: Any, channels: int) -> bool:
    return (
        isinstance(value, torch.Tensor)
        and value.ndim in (3, 4)
        and value.is_floating_point()
        and value.shape[-3] == channels
    )


def match_batch(pictures: int, prompts: int) -> int:
    """The common batch size: one picture serves many prompts, one prompt many pictures."""
    if pictures != prompts and 1 not in (pictures, prompts):
        raise ValueError(f"{pictures} pictures and {prompts} prompts; expected as many, or one of either")
    return max(pictures, prompts)


def as_on_step(
    pipe: Any,
    callback: Callable[[int, int, torch.Tensor], None] | None,
    callback_steps: int,
    on_step_end: Callable[..., Any] | None,
    tensor_inputs: Sequence[str],
    extra: dict[str, Any],
    advance: Callable[[], None],
) -> OnStep:
    """diffusers' two kinds of callback, and the progress bar, as the loops' one.

    `pipe.stage` says which pass the step belongs to ("invert", "reference" or "edit") while they run. The old
    kind gets latents that may go straight into the autoencoder.
    """

    def on_step(stage: str, i: int, timestep: float, latents: torch.Tensor) -> torch.Tensor | None:
        pipe.stage = stage
        replaced = None
        try:
            if callback is not None and i % callback_steps == 0:
                callback(i, timestep, pipe.decodable(latents))  # type: ignore[arg-type]
            if on_step_end is not None:
                values = {"latents": latents, **extra}
                given = {name: values[name] for name in tensor_inputs}
                answer = on_step_end(pipe, i, timestep, given) or {}
                replaced = answer.get("latents")
                others = [
                    name for name in answer if name != "latents" and answer[name] is not values.get(name)
                ]
                if others:
                    raise ValueError(
                        f"`callback_on_step_end` returned another {', '.join(others)}; only latents can be "
                        "replaced between steps: return the rest as it was given, or leave it out"
                    )
        finally:
            pipe.stage = None
        if stage != "reference":
            advance()
        return replaced

    return on_step
