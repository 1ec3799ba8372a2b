"""Loading: the one module here that turns a location into models. Everything else is given them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from directions.errors import BadSetting, ModelUnavailable
from zoo.loading import device_refusal, load_from, one_at_a_time, whole

if TYPE_CHECKING:
    import torch

    from zoo.registry import ModelSet

__all__ = ["Encoder", "Knowledge", "Writer", "knowledge_of", "load_encoder", "load_writer", "pick_device"]

CONCEPTS_FILE = "concepts.json"
#: Texts that an encoder is given in one call at most.
MOST_A_CALL = 32
#: Bytes of activations that a processor handles at full speed; ViT-L/14 on two cores: 8 texts take 116 ms each,
#: 32 texts 153 ms each.
CACHED = 8 * 2**20


@dataclass(frozen=True)
class Encoder:
    """A Stable Diffusion text encoder with its tokenizer, ready to use.

    id: see `zoo.fingerprint`. Texts become `[tokens, dim]`, padded to the tokenizer's `model_max_length`.
    """

    text_encoder: Any
    tokenizer: Any
    clip_skip: int | None = None
    revision: str | None = None

    @cached_property
    def id(self) -> str:
        from zoo.fingerprint import encoder_id

        return encoder_id(self.text_encoder, self.tokenizer, self.clip_skip)

    @property
    def shape(self) -> tuple[int, int]:
        """`(tokens, dim)`."""
        return int(self.tokenizer.model_max_length), int(self.text_encoder.config.hidden_size)

    @property
    def precision(self) -> str:
        """The dtype that it computes in: "float32"."""
        return str(next(self.text_encoder.parameters()).dtype).removeprefix("torch.")

    @property
    def batch_size(self) -> int:
        """Texts a call: on a processor as many as leave the widest activations, the MLPs', in its caches."""
        tokens, width = self.shape[0], int(self.text_encoder.config.intermediate_size)
        fitting = CACHED // (4 * tokens * width) if self.text_encoder.device.type == "cpu" else MOST_A_CALL
        return max(1, min(MOST_A_CALL, fitting))

    def fits(self, text: str) -> bool:
        """Whether the whole text is read, none of it cut off."""
        from zoo.text import token_count

        return token_count(text, self.tokenizer) <= self.shape[0]


@dataclass(frozen=True)
class Knowledge:
    """What a captions model says about itself in `concepts.json`; a model without that file says nothing."""

    concepts: tuple[str, ...] = ()
    prompt: str | None = None


@dataclass(frozen=True)
class Writer:
    """A language model that writes captions. seq2seq: answers a prompt (T5); otherwise it continues one."""

    model: Any
    tokenizer: Any
    seq2seq: bool
    name: str
    knowledge: Knowledge = field(default_factory=Knowledge)


@one_at_a_time
def load_encoder(
    models: ModelSet, precision: str = "float32", clip_skip: int | None = None, device: str | None = None
) -> Encoder:
    """The text encoder of a diffusers folder or hub id; raises ModelUnavailable, BadSetting."""
    import torch
    from transformers import CLIPTextModel, CLIPTokenizer

    from zoo.registry import refusal
    from zoo.text import bound_length

    where, revision = models.diffusion, models.revision
    if (unknown := refusal(where)) is not None:
        raise ModelUnavailable(unknown)
    what = "the text encoder"
    tokenizer = _load(CLIPTokenizer.from_pretrained, what, where, subfolder="tokenizer", revision=revision)
    # float16 keeps what an identity is taken of; bfloat16 would not, so that its weights are rounded afterwards
    dtype = torch.float16 if precision == "float16" else torch.float32
    options = {"subfolder": "text_encoder", "revision": revision, "dtype": dtype}
    text_encoder = _load(whole(CLIPTextModel), what, where, **options)
    tokenizer = bound_length(tokenizer, text_encoder)
    layers = text_encoder.config.num_hidden_layers
    if clip_skip is not None and clip_skip >= layers:
        raise BadSetting(f"clip_skip is {clip_skip}; the text encoder of {where} has {layers} layers")
    commit = getattr(text_encoder.config, "_commit_hash", None) or revision
    text_encoder = text_encoder.to(pick_device(device)).eval().requires_grad_(False)
    encoder = Encoder(text_encoder, tokenizer, clip_skip or None, commit)
    if precision == "bfloat16":
        _ = encoder.id  # kept from here on
        text_encoder.to(torch.bfloat16)
    return encoder


@one_at_a_time
def load_writer(where: str, device: str | None = None) -> Writer:
    """The language model of a local folder or hub id: seq2seq (T5) or causal; raises ModelUnavailable.

    In bfloat16 on a GPU, where Flan-T5 XL then takes 6 GB, and in float32 elsewhere.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    what = "the captions model"
    config = _load(AutoConfig.from_pretrained, what, where)
    seq2seq = bool(config.is_encoder_decoder)
    kind = AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM
    tokenizer = _load(AutoTokenizer.from_pretrained, what, where)
    device = pick_device(device)
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    model = _load(whole(kind), what, where, dtype=dtype).to(device).eval().requires_grad_(False)
    return Writer(model, tokenizer, seq2seq, where, knowledge_of(where))


def knowledge_of(where: str) -> Knowledge:
    """What a local captions folder says that it knows: a list of concepts, or `{"concepts", "prompt"}`."""
    path = Path(where) / CONCEPTS_FILE
    if not path.is_file():
        return Knowledge()
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(stated, list):
            stated = {"concepts": stated}
        return Knowledge(tuple(map(str, stated["concepts"])), stated.get("prompt"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
        raise ModelUnavailable(
            f"{path} cannot be read: expected a JSON list of the concepts that the model knows ({fault})"
        ) from fault


def pick_device(device: str | torch.device | None = None) -> str:
    """`device`, or the best there is: cuda, mps, cpu. Raises BadSetting for one that is not there."""
    import torch

    if device is None:
        mps = torch.backends.mps.is_available()
        return "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    if (missing := device_refusal(device)) is not None:
        raise BadSetting(missing)
    return str(device)


def _load(loader: Callable[..., Any], what: str, where: str, **options: Any) -> Any:
    """`loader(where, **options)`; whatever goes wrong becomes one line that says what to do."""
    try:
        return load_from(loader, where, **options)
    except (OSError, ValueError, RuntimeError, TypeError, ImportError, AttributeError, KeyError) as fault:
        raise ModelUnavailable(_explain(fault, what, where)) from fault


def _explain(fault: Exception, what: str, where: str) -> str:
    flag = "--models" if "encoder" in what else "--captions-model"
    first = next(iter(str(fault).strip().splitlines()), type(fault).__name__)
    if Path(where).is_dir():
        return f"{what} in {where} cannot be loaded: {first}"
    if Path(where).is_absolute() or where.startswith((".", "~")):
        return f"{what} was looked for in {where}, and there is no such folder; name another with {flag}"
    return (
        f"{what} {where} is neither in the cache of this machine nor reachable; either fetch it where there "
        f"is a network (hf download {where}), or name a local folder with {flag} "
        f"({type(fault).__name__}: {first})"
    )
