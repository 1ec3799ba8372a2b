"""`Footprint`: the most memory that a computation holds, found without data by following its shapes.

On torch's meta device every operation runs as always but computes nothing; what it would have
allocated, and what autograd and the code's own variables keep alive, is counted.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

#: Operations that copy an input to the order that oneDNN computes in: the places of that input and of the weight.
CONVOLUTIONS = {aten.convolution.default: (0, 1), aten.convolution_backward.default: (0, 2)}


class Footprint(TorchDispatchMode):
    """Counts, while it is entered, the bytes of all tensors alive, those of `known` apart: `live`, `peak`.

    `equal` is what `torch.equal` answers, since there is no data to look at. Memory that an operation takes for
    itself is counted for convolutions, the only ones where it matters.
    """

    def __init__(self, known: Iterable[torch.Tensor] = (), equal: bool = False) -> None:
        super().__init__()
        self.live, self.peak, self.equal = 0, 0, equal
        self._alive = {tensor.untyped_storage()._cdata for tensor in known}
        self._results: dict[tuple[Any, ...], Any] = {}
        self._fresh: dict[Any, bool] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch loads its compiler, which takes seconds, to leave this class out

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is aten.equal.default:
            return self.equal
        out = self._run(func, args, kwargs or {})
        for tensor in _tensors(out):
            self._count(tensor.untyped_storage())
        scratch = 0
        if func in CONVOLUTIONS and args[CONVOLUTIONS[func][1]].shape[-1] > 1:
            scratch = sum(args[place].nbytes for place in CONVOLUTIONS[func])
        self.peak = max(self.peak, self.live + scratch)
        return out

    def _run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The operation's result; what depends on nothing but shapes is worked out once."""
        if func not in self._fresh:
            schema = func._schema
            self._fresh[func] = not (schema.is_mutable or any(value.alias_info for value in schema.returns))
        if not self._fresh[func]:
            return func(*args, **kwargs)
        key = (func, *map(_shape, args), *map(_shape, kwargs.values()))
        if key in self._results:
            return _made(self._results[key])
        out = func(*args, **kwargs)
        if all(tensor.is_meta for tensor in _tensors(out)):
            self._results[key] = _shape(out)
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        place = storage._cdata
        if place not in self._alive:
            self._alive.add(place)
            self.live += storage.nbytes()
            weakref.finalize(storage, self._forget, place, storage.nbytes())

    def _forget(self, place: int, size: int) -> None:
        self._alive.discard(place)
        self.live -= size


class _Shape(tuple):
    """Size, strides, dtype and kind of device of a tensor."""


def _tensors(out: Any) -> list[torch.Tensor]:
    """The tensors among an operation's results."""
    results = out if isinstance(out, (tuple, list)) else (out,)
    return [result for result in results if isinstance(result, torch.Tensor)]


def _shape(value: Any) -> Any:
    """A value with the shapes of tensors in their place."""
    if isinstance(value, torch.Tensor):
        return _Shape((value.shape, value.stride(), value.dtype, value.device.type))
    return tuple(map(_shape, value)) if isinstance(value, (tuple, list)) else value


def _made(value: Any) -> Any:
    """What `_shape` stands for, with new tensors."""
    if isinstance(value, _Shape):
        size, strides, dtype, device = value
        return torch.empty_strided(size, strides, dtype=dtype, device=device)
    return tuple(map(_made, value)) if isinstance(value, tuple) else value


class _FusedAttention(TorchFunctionMode):
    """Scaled dot-product attention as real devices do it; the meta device alone would write out its scores."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            query, key, value = (*args, *(kwargs[n] for n in ("query", "key", "value")[len(args) :]))[:3]
            return aten._scaled_dot_product_flash_attention_for_cpu(query, key, value)[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def footprint(known: Iterable[torch.Tensor] = (), equal: bool = False) -> Iterator[Footprint]:
    """Count what the block, working on the meta device, would hold at most: `.peak` in bytes."""
    with Footprint(known, equal) as counted, _FusedAttention():
        yield counted
