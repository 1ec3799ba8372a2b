"""Loading models without noise and without waiting for a hub that does not answer."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import lru_cache, wraps
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar, cast

__all__ = ["LOADING", "device_refusal", "load_from", "one_at_a_time", "whole", "without_bars"]

Load = TypeVar("Load", bound=Callable[..., Any])

#: Held by whoever loads models.
LOADING = RLock()

#: Seconds after which a hub that did not answer is asked again.
ASKED_AGAIN = 60
#: How diffusers and transformers say that there is a model without weights.
WEIGHTS_MISSING = re.compile(r"file named \S*\.(bin|safetensors)")


def one_at_a_time(load: Load) -> Load:
    """The function, with other threads waiting their turn: the libraries keep what they load by in global state."""

    @wraps(load)
    def waiting(*args: Any, **options: Any) -> Any:
        with LOADING:
            return load(*args, **options)

    return cast(Load, waiting)


@one_at_a_time
def load_from(loader: Callable[..., Any], location: str, **options: Any) -> Any:
    """`loader(location, **options)`, where the loader is a `from_pretrained` or `load_config` of the libraries.

    A hub id comes from the cache alone while the hub cannot be reached: huggingface_hub would try six times for
    every file that the cache lacks, optional ones too, which takes minutes. Weights that are there as
    `*.fp16.safetensors` alone are taken. Raises what the loader raises.
    """
    on_disk = Path(location).exists()
    offline = not on_disk and not _hub_answers(int(time.monotonic() / ASKED_AGAIN))
    if offline:
        options["local_files_only"] = True
    with without_bars() if on_disk or offline else nullcontext(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The `local_dir_use_symlinks` argument")  # diffusers gives it
        try:
            return loader(location, **options)
        except OSError as missing:
            if not WEIGHTS_MISSING.search(str(missing)):
                raise
            with suppress(OSError):
                return loader(location, **options, variant="fp16")
            raise


def whole(kind: Any) -> Callable[..., Any]:
    """The `from_pretrained` of a transformers model, which takes a checkpoint of the model's own kind alone.

    The library fills up with random numbers what a checkpoint lacks; here that is a ValueError. What is tied to
    weights that are there is no lack, nor is a buffer, which some versions save.
    """

    def load(location: str, **options: Any) -> Any:
        model, found = kind.from_pretrained(location, output_loading_info=True, **options)
        missing = set(found["missing_keys"])
        weights = list(model.named_parameters(remove_duplicate=False))
        there = {id(weight) for name, weight in weights if name not in missing}
        lacking = [
            name
            for name, weight in weights
            if name in missing and id(weight) not in there and not _computed(model, name)
        ]
        if lacking:
            raise ValueError(
                f"it holds no {type(model).__name__}, but a model of another kind: {len(lacking)} weights are "
                f"missing, such as {lacking[0]}"
            )
        return model

    return load


def _computed(model: Any, name: str) -> bool:
    """Whether a weight is made by the model itself, as sinusoidal positions are: files may leave it out."""
    return hasattr(model.get_submodule(name.rpartition(".")[0]), "create_weight")


def device_refusal(device: Any) -> str | None:
    """What to say, in one line, of a device on which nothing can be computed; None of others."""
    import torch

    try:
        place = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as fault:
        sentence = str(fault).splitlines()[0].split(". ")[0]  # torch goes on with every device it knows
        return f"device {str(device)!r} is not there: {sentence}"
    if place.type == "meta":
        return f"device {str(device)!r} computes nothing: expected one such as cpu, cuda, cuda:1 or mps"
    return None


@lru_cache(maxsize=1)
def _hub_answers(period: int) -> bool:
    """Whether the hub answers anything; asked once a period. Never in huggingface_hub's offline mode."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except Exception:  # whatever the client in use raises, a download could only fail the same way
        return False
    return True


@contextmanager
def without_bars() -> Iterator[None]:
    """No "Loading weights" bars of transformers: what is on the disk is there before a bar could be read."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars
    from transformers.utils import logging

    if not logging.is_progress_bar_enabled():
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
