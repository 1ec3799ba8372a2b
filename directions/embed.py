"""Captions to a mean embedding: batches through the text encoder, streaming moments in float64.

A :class:`Moments` is all that is kept of the captions' embeddings: its size does not depend on how many there
were. Beside mean and second moment it holds the sums of :data:`BLOCKS` blocks, caption i in block i modulo
BLOCKS, from which `directions.quality` tells how far another set of captions would have led elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from directions.errors import BadCaptions

if TYPE_CHECKING:
    from directions.models import Encoder

__all__ = ["BLOCKS", "Moments", "embed", "embed_batches"]

BLOCKS = 32
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """What is known of a set of embeddings. All float64.

    count: how many. blocks: [BLOCKS, tokens, dim], the sum of each block. squares: [tokens, dim], the sum of
    squares.
    """

    count: int
    blocks: Floats
    squares: Floats

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> Moments:
        """No embedding of `[tokens, dim]` yet."""
        return cls(0, np.zeros((BLOCKS, *shape)), np.zeros(shape))

    def plus(self, embeddings: Floats) -> Moments:
        """With `[B, tokens, dim]` more; the arrays of `self` are added to in place."""
        for row, embedding in enumerate(embeddings):
            self.blocks[(self.count + row) % BLOCKS] += embedding
        np.add(self.squares, np.einsum("bij,bij->ij", embeddings, embeddings), out=self.squares)
        return Moments(self.count + len(embeddings), self.blocks, self.squares)

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


def embed_batches(texts: Iterable[str], encoder: Encoder, batch_size: int = 32) -> Iterator[Floats]:
    """Embeddings `[B, tokens, dim]` float64, batch by batch, exactly as the editor's encoder gives them."""
    from zoo.text import encode_text

    stream = iter(texts)
    while batch := list(islice(stream, batch_size)):
        hidden = encode_text(batch, encoder.tokenizer, encoder.text_encoder, encoder.clip_skip)
        yield hidden.float().cpu().numpy().astype(np.float64)


def embed(
    texts: Iterable[str],
    encoder: Encoder,
    batch_size: int = 32,
    progress: Callable[[int], object] | None = None,
) -> Moments:
    """The moments of the texts' embeddings in constant memory, however many; raises BadCaptions for none."""
    moments = Moments.empty(encoder.shape)
    for batch in embed_batches(texts, encoder, batch_size):
        moments = moments.plus(batch)
        if progress is not None:
            progress(len(batch))
    if not moments.count:
        raise BadCaptions("no captions were given; expected one at least")
    return moments


def embed_phrases(phrases: Sequence[str], encoder: Encoder) -> Floats:
    """The embeddings `[B, tokens, dim]` of a few phrases."""
    return np.concatenate(list(embed_batches(phrases, encoder)))
