"""What a step computes on an NVIDIA GPU, recorded once as a CUDA graph: one launch where Python makes a thousand.

At one or two rows a UNet's kernels end sooner than Python can launch them, so that the GPU waits for the processor.
A graph launches them all. Source: "CUDA Graphs" in torch's notes on CUDA semantics.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping
from functools import cache
from threading import Lock
from typing import Any

import torch

from editor.steps import predict

logger = logging.getLogger(__name__)

#: What a recorded function returns: tensors by name.
Tensors = dict[str, torch.Tensor]

#: Whose modules and attention processors are known to compute and no more.
KNOWN = ("torch", "diffusers", "peft")
#: What accelerate and diffusers leave on a module that they call by way of hooks.
HOOKED = ("_hf_hook", "_diffusers_hook")

#: A process records one graph at a time.
_RECORDING = Lock()


class Replay:
    """Calls functions of tensors; on a GPU the second call with inputs of the same shapes is recorded, and replayed.

    The first call is made as it is, because kernels prepare themselves then, and shapes that come once (the first
    step's) are not worth recording. A function must do the same with the same inputs; what it takes from elsewhere,
    Python's numbers among it, belongs into `name`. Results are the caller's own. Elsewhere than on an NVIDIA GPU, and
    for a UNet that is not `plain`, every call is made as it is; also from then on where recording fails or memory runs
    out. Graphs, and the memory that they work in, live as long as this object: one inversion, or one edit. Meanwhile
    the UNet must stay as it is, and while one is recorded no other thread may wait for the GPU.
    """

    def __init__(self, unet: Any, unet_kwargs: Mapping[str, Any] | None = None) -> None:
        self._unet, self._unet_kwargs = unet, unet_kwargs
        self.active = not unet_kwargs and replayable(unet)
        self._met: set[Hashable] = set()
        self._graphs: dict[Hashable, Graph] = {}
        self._pool = torch.cuda.graph_pool_handle() if self.active else None

    def __call__(
        self, name: Hashable, function: Callable[..., Tensors], *inputs: torch.Tensor | float
    ) -> Tensors:
        """`function(*inputs)`; where it is recorded, numbers among the inputs are given as tensors."""
        if not self.active:
            return function(*inputs)
        device = next(x.device for x in inputs if isinstance(x, torch.Tensor))
        given = [x if isinstance(x, torch.Tensor) else torch.full((), x, device=device) for x in inputs]
        try:
            graph = self._graph(name, function, given)
            return function(*given) if graph is None else graph(given)
        except torch.OutOfMemoryError as fault:
            if not self._graphs:
                raise
            self._give_up(fault)
        # Out of the `except`: until its end the error holds on to the tensors of what failed.
        return function(*given)

    def _graph(
        self, name: Hashable, function: Callable[..., Tensors], inputs: list[torch.Tensor]
    ) -> Graph | None:
        """The function's, recorded now if it was called before; None where it is to be called."""
        weights = next(self._unet.parameters()).data_ptr()
        key = (name, weights, *((x.shape, x.dtype) for x in inputs))
        if key not in self._graphs:
            if key not in self._met:
                self._met.add(key)
                return None
            try:
                self._graphs[key] = Graph(function, inputs, self._pool)
            except RuntimeError as fault:  # a call that waits for its numbers, or no room for a graph
                self._give_up(fault)
                return None
        return self._graphs[key]

    def _give_up(self, fault: RuntimeError) -> None:
        logger.warning("steps are no longer recorded as CUDA graphs, and are slower: %s", str(fault))
        self.active = False
        self._graphs.clear()

    def predict(self, name: str, inputs: torch.Tensor, timestep: float, embeds: torch.Tensor) -> torch.Tensor:
        """`editor.steps.predict` of the UNet."""

        def call(inputs: torch.Tensor, timestep: float | torch.Tensor, embeds: torch.Tensor) -> Tensors:
            return {"output": predict(self._unet, inputs, timestep, embeds, self._unet_kwargs)}

        return self(name, call, inputs, timestep, embeds)["output"]


class Graph:
    """A function's kernels, recorded with inputs of their own that each replay fills."""

    def __init__(self, function: Callable[..., Tensors], inputs: list[torch.Tensor], pool: Any) -> None:
        device = inputs[0].device
        self._inputs = [x.clone() for x in inputs]
        self._graph = torch.cuda.CUDAGraph()
        # The outer context restores the stream where recording fails.
        with _RECORDING, torch.cuda.device(device), torch.cuda.stream(torch.cuda.current_stream(device)):
            stream = _stream(device)
            with torch.cuda.graph(self._graph, pool, stream, capture_error_mode="thread_local"):
                self._results = function(*self._inputs)

    def __call__(self, inputs: list[torch.Tensor]) -> Tensors:
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._graph.replay()
        return {name: result.clone() for name, result in self._results.items()}


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """One for all recordings on a device, because cuBLAS keeps a workspace for every stream that it has seen."""
    return torch.cuda.Stream(device)


def replayable(unet: Any) -> bool:
    """Whether all of a UNet lies on one NVIDIA GPU, and it is `plain`."""
    devices = {parameter.device for parameter in unet.parameters()}
    if torch.version.cuda is None or len(devices) != 1 or next(iter(devices)).type != "cuda":
        return False
    return plain(unet)


def plain(unet: Any) -> bool:
    """Whether a UNet's calls do nothing but launch the same kernels again: all of it is torch's, diffusers' or PEFT's.

    What hooks, replaced methods, attention processors of others and compiled modules do beside is not known; an
    offloaded UNet has hooks, which move its weights.
    """
    return all(_plain(module) for module in unet.modules())


def _plain(module: Any) -> bool:
    parts = (module, module.processor) if hasattr(module, "processor") else (module,)
    return (
        all(type(part).__module__.split(".")[0] in KNOWN for part in parts)
        and not type(module).__module__.startswith("torch._dynamo")
        and "forward" not in vars(module)
        and not module._forward_hooks
        and not module._forward_pre_hooks
        and module._compiled_call_impl is None
        and not any(hasattr(module, mark) for mark in HOOKED)
    )
