"""Loading models without noise: small ones from the disk are there before a bar could be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["without_bars"]


@contextmanager
def without_bars(location: str) -> Iterator[None]:
    """No "Loading weights" bars of transformers for a local folder; those of a hub id, which downloads, stay."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars
    from transformers.utils import logging

    if not Path(location).is_dir() or not logging.is_progress_bar_enabled():
        yield
        return
    downloads_hidden = are_progress_bars_disabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()
        if downloads_hidden:
            disable_progress_bars()
