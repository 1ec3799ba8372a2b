"""Captions to a mean embedding: batches through the text encoder, streaming moments in float64.

A :class:`Moments` is all that is kept of the captions' embeddings: its size does not depend on how many there
were. Beside mean and second moment it holds the sums of :data:`BLOCKS` blocks, caption i in block i modulo
BLOCKS, from which `directions.quality` tells how far another set of captions would have led elsewhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from directions.errors import BadCaptions

if TYPE_CHECKING:
    from torch import Tensor

    from directions.models import Encoder

__all__ = ["BLOCKS", "Moments", "embed", "embed_phrases"]

BLOCKS = 32
PHRASES_A_CALL = 32
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """What is known of a set of embeddings. All float64.

    count: how many. blocks: [BLOCKS, tokens, dim], the sum of each block. squares: [tokens, dim], the sum of
    squares. anchored: [tokens, dim], the sum over the `named` captions that hold the concept as one phrase, each
    from the concept's first token on, its last row filling what is missing at the end; None if there is none.
    """

    count: int
    blocks: Floats
    squares: Floats
    named: int = 0
    anchored: Floats | None = None

    @classmethod
    def of(cls, embeddings: Floats) -> Moments:
        """Of `[N, tokens, dim]` at once."""
        blocks = np.stack([embeddings[block::BLOCKS].sum(axis=0) for block in range(BLOCKS)])
        return cls(len(embeddings), blocks, (embeddings**2).sum(axis=0))

    @property
    def mean(self) -> Floats:
        """[tokens, dim]."""
        return self.blocks.sum(axis=0) / self.count

    @property
    def second_moment(self) -> Floats:
        """[tokens, dim], the mean of squares."""
        return self.squares / self.count

    @property
    def spread(self) -> float:
        """Root of the summed variance: how far, typically, one caption lies from the mean."""
        return float(np.sqrt(np.maximum(self.second_moment - self.mean**2, 0).sum()))

    @property
    def sizes(self) -> NDArray[np.int64]:
        """[BLOCKS], how many embeddings each block sums."""
        return np.array([len(range(block, self.count, BLOCKS)) for block in range(BLOCKS)])


def encoded(texts: Iterable[str], encoder: Encoder, batch_size: int) -> Iterator[Tensor]:
    """`[B, tokens, dim]` on the encoder's device, batch by batch, exactly as for the editor."""
    from zoo.text import encode_text

    stream = iter(texts)
    while batch := list(islice(stream, batch_size)):
        yield encode_text(batch, encoder.tokenizer, encoder.text_encoder, encoder.clip_skip)


def embed(
    texts: Iterable[str],
    encoder: Encoder,
    batch_size: int | None = None,
    progress: Callable[[int], object] | None = None,
    concept: str | None = None,
) -> Moments:
    """The moments of the texts' embeddings in constant memory, however many; raises BadCaptions for none.

    batch_size None is what suits the encoder. `concept` is what the texts are about, for `Moments.anchored`.
    """
    import torch

    from zoo.text import concept_position

    device = encoder.text_encoder.device
    home = device if device.type == "cuda" else torch.device("cpu")  # where float64 is to be had
    blocks = torch.zeros((BLOCKS, *encoder.shape), dtype=torch.float64, device=home)
    squares = torch.zeros(encoder.shape, dtype=torch.float64, device=home)
    anchored = torch.zeros_like(squares)
    count = named = 0
    places: deque[int | None] = deque()

    def watched() -> Iterator[str]:
        for text in texts:
            places.append(concept_position(text, concept, encoder.tokenizer) if concept else None)
            yield text

    for hidden in encoded(watched(), encoder, batch_size or encoder.batch_size):
        hidden = hidden.to(home).double()
        for row in hidden:
            place = places.popleft()
            if place is not None:
                named += 1
                rest = len(row) - place
                anchored[:rest] += row[place:]
                anchored[rest:] += row[-1]
        for part in hidden.split(BLOCKS):  # no block twice in one sum: its order is fixed
            numbers = (torch.arange(len(part), device=home) + count) % BLOCKS
            blocks.index_add_(0, numbers, part)
            squares += part.square().sum(dim=0)
            count += len(part)
        if progress is not None:
            progress(len(hidden))
    if not count:
        raise BadCaptions("no captions were given; expected one at least")
    return Moments(
        count,
        blocks.cpu().numpy(),
        squares.cpu().numpy(),
        named,
        anchored.cpu().numpy() if named else None,
    )


def embed_phrases(phrases: Sequence[str], encoder: Encoder) -> Floats:
    """The embeddings `[B, tokens, dim]` of a few phrases, float64."""
    batches = encoded(phrases, encoder, PHRASES_A_CALL)
    return np.concatenate([hidden.cpu().double().numpy() for hidden in batches])
