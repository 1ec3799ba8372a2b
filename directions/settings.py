"""Everything that decides what a direction becomes, apart from the words and the models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from directions.errors import BadSetting

__all__ = ["Settings"]

KINDS = ("model", "templates")
PRECISIONS = ("float32", "float16", "bfloat16")
MOST_CAPTIONS = 1_000_000


@dataclass(frozen=True)
class Settings:
    """How captions are written and embedded.

    captions: a side; None means 200 for the embedded models and 1000, the paper's number, for others.
    temperature, top_k, max_new_tokens: the sampling of the pix2pix-zero documentation; draw: captions asked
    for in one call. top_p: None is the model's own, 1 where it has none. writer: "model" or "templates".
    paired: both sides share their sentences; None is the model set's own way where a model writes both sides,
    else no. batch_size, precision: of the embedding; batch_size None: what suits the encoder and the device.
    clip_skip: as Stable Diffusion pipelines define it.

    Raises BadSetting.
    """

    captions: int | None = None
    seed: int = 0
    writer: str = "model"
    prompt: str | None = None
    temperature: float = 0.8
    top_k: int = 10
    top_p: float | None = None
    max_new_tokens: int = 128
    draw: int = 64
    paired: bool | None = None
    clip_skip: int | None = None
    batch_size: int | None = None
    precision: str = "float32"

    def __post_init__(self) -> None:
        for (
            name
        ) in self.__dataclass_fields__:  # numpy's numbers are taken as Python's, which a record can hold
            value = getattr(self, name)
            if getattr(value, "ndim", None) == 0:
                object.__setattr__(self, name, value.item())
        if self.captions is not None:
            _within("captions", self.captions, 1, MOST_CAPTIONS)
        _within("seed", self.seed, 0, 2**63 - 1)
        _within("temperature", self.temperature, 0.01, 100)
        _within("top_k", self.top_k, 1, 1_000_000)
        if self.top_p is not None:
            _within("top_p", self.top_p, 0.01, 1)
        _within("max_new_tokens", self.max_new_tokens, 1, 4096)
        _within("draw", self.draw, 1, 4096)
        if self.batch_size is not None:
            _within("batch_size", self.batch_size, 1, 4096)
        _within("clip_skip", self.clip_skip or 0, 0, 100)
        if self.writer not in KINDS:
            raise BadSetting(f"writer is {self.writer!r}; expected one of {', '.join(KINDS)}")
        if self.precision not in PRECISIONS:
            raise BadSetting(f"precision is {self.precision!r}; expected one of {', '.join(PRECISIONS)}")
        if self.prompt is not None and "{concept}" not in self.prompt and "{a_concept}" not in self.prompt:
            raise BadSetting(f"the prompt {self.prompt!r} must contain {{concept}} or {{a_concept}}")

    def writing(self) -> dict[str, Any]:
        """What decides which captions a model writes for one concept, besides their number."""
        keys = ("seed", "temperature", "top_k", "top_p", "max_new_tokens", "draw")
        return {key: getattr(self, key) for key in keys}

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """Settings of a record; keys that are none are ignored."""
        return cls(**{k: v for k, v in values.items() if k in cls.__dataclass_fields__})


def _within(name: str, value: float, low: float, high: float) -> None:
    kind, what = ((int, float), "number") if name in ("temperature", "top_p") else (int, "whole number")
    if isinstance(value, bool) or not isinstance(value, kind):
        raise BadSetting(f"{name} is {value!r}; expected a {what}")
    if not low <= value <= high:
        raise BadSetting(f"{name} is {value}; expected {low} to {high}")
