"""Which part of an inversion and edit takes how long, told by watching the calls of UNet and autoencoder."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch

from editor.graphs import Replay

#: A stage whose calls are recorded as graphs has one time for forward and backward pass.
BOTH = "guided forward and backward"
ENCODE, DECODE, NOISE_DECODE = "encode", "decode", "decode of the noise"
INVERSION, REGULARISER = "inversion: UNet", "inversion: regulariser"
REFERENCE, GUIDED, BACKWARD, SECOND = "reference", "guided forward", "backward", "second forward"
OTHER = "the rest of the edit"
#: The first word of what `Replay` is told → stage.
REPLAYED = {"inversion": INVERSION, "reference": REFERENCE, "guided": BOTH, "second": SECOND}
#: In the order in which they happen.
STAGES = (
    ENCODE,
    INVERSION,
    REGULARISER,
    NOISE_DECODE,
    REFERENCE,
    GUIDED,
    BACKWARD,
    BOTH,
    SECOND,
    DECODE,
    OTHER,
)


class Watch:
    """Seconds of each stage, and the rows that the UNet evaluated in it (for the backward pass: none).

    A call belongs to the reference when its last row is the caption itself, to the second forward when it is
    an edited one; with gradients it is the guided forward. What an inversion does beside the calls of UNet
    and autoencoder is the regulariser (and the few additions of the scheduler).
    """

    def __init__(self, caption: torch.Tensor) -> None:
        self.seconds: Counter[str] = Counter()
        self.rows: Counter[str] = Counter()
        self._caption, self._inverting, self._replaying = caption, True, False

    @contextmanager
    def phase(self, inverting: bool) -> Iterator[None]:
        """Time a whole inversion, or a whole edit; what no stage in it accounts for goes to the rest."""
        self._inverting = inverting
        before, begin = self.seconds.total(), now()
        yield
        self.seconds[REGULARISER if inverting else OTHER] += now() - begin - (self.seconds.total() - before)

    def timed(self, call: Callable[..., Any], stage: Callable[..., str | None]) -> Callable[..., Any]:
        """The call, timed under what `stage` says of its arguments; None is not timed."""

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            name = None if self._replaying else stage(*args, **kwargs)
            if name is None:
                return call(*args, **kwargs)
            begin = now()
            result = call(*args, **kwargs)
            self.seconds[name] += now() - begin
            return result

        return wrapped

    def unet(self, sample: torch.Tensor, *args: Any, **kwargs: Any) -> str:
        words = kwargs["encoder_hidden_states"]
        if self._inverting:
            name = INVERSION
        elif torch.is_grad_enabled() and sample.requires_grad:
            name = GUIDED
        else:
            name = REFERENCE if torch.equal(words[-1], self._caption[0].to(words)) else SECOND
        self.rows[name] += len(sample)
        return name

    @contextmanager
    def replays(self) -> Iterator[None]:
        """Inside the block what is recorded as a graph is one call: nothing in it can be timed by itself."""
        original = Replay.__call__

        def call(replay: Replay, name: Any, function: Any, *inputs: Any) -> Any:
            stage = REPLAYED.get(str(name if isinstance(name, str) else name[0]).split()[0])
            if not replay.active or stage is None:
                return original(replay, name, function, *inputs)
            self.rows[stage] += len(inputs[0])
            begin, self._replaying = now(), True
            try:
                return original(replay, name, function, *inputs)
            finally:
                self._replaying = False
                self.seconds[stage] += now() - begin

        with patch.object(Replay, "__call__", call):
            yield

    def encode(self, *args: Any, **kwargs: Any) -> str:
        return ENCODE

    def decode(self, *args: Any, **kwargs: Any) -> str:
        return NOISE_DECODE if self._inverting else DECODE

    def backward(self, *args: Any, **kwargs: Any) -> str | None:
        return None if self._inverting else BACKWARD


def now() -> float:
    """Seconds, once a GPU has done what it was asked."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def watched(unet: Any, vae: Any, caption: torch.Tensor) -> Iterator[Watch]:
    """Watch the calls of these models inside the block; everything is as before on leaving."""
    watch = Watch(caption)
    places = [
        (type(unet), "forward", lambda _, *args, **kwargs: watch.unet(*args, **kwargs)),
        (vae, "encode", watch.encode),
        (vae, "decode", watch.decode),
        (torch.autograd, "grad", watch.backward),
        (torch.Tensor, "backward", watch.backward),
    ]
    with ExitStack() as stack:
        stack.enter_context(watch.replays())
        for owner, name, stage in places:
            stack.enter_context(patch.object(owner, name, watch.timed(getattr(owner, name), stage)))
        yield watch
