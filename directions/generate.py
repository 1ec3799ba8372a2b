"""Writing captions with a language model: seeded sampling, call after call, until enough are usable."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterator
from threading import Lock
from typing import TYPE_CHECKING, Any

from directions.captions import PROMPT, Captions, Sieve, fill, split
from directions.errors import BadCaptions, BadSetting, UnknownConcept

if TYPE_CHECKING:
    import torch

    from directions.models import Knowledge, Writer
    from directions.settings import Settings

__all__ = ["check_known", "prompt_for", "sample", "write_captions"]

#: Held while the global generators are borrowed.
_DRAWING = Lock()
PATIENCE = 10  # candidates looked at for every caption asked for, before giving up
FEWEST_LOOKED_AT = 256


def prompt_for(concept: str, settings: Settings, knowledge: Knowledge) -> str:
    """The prompt: as set, else as the model wants it, else the documentation's."""
    return fill(settings.prompt or knowledge.prompt or PROMPT, concept)


def check_known(concept: str, knowledge: Knowledge, name: str) -> None:
    """Raise UnknownConcept, listing what is known, nearest spelling first, if the model says that."""
    known = knowledge.concepts
    folded = " ".join(concept.casefold().split())
    if not known or folded in {word.casefold() for word in known}:
        return
    near = difflib.get_close_matches(folded, known, n=3, cutoff=0.5)
    listed = [*near, *(word for word in known if word not in near)]
    raise UnknownConcept(
        f"{concept!r} is not known to the captions model {name}; it knows: {', '.join(listed)}; for other "
        "words give captions (--source-captions, --target-captions), --templates, or another --captions-model"
    )


def sample(writer: Writer, concept: str, settings: Settings) -> Iterator[list[str]]:
    """Endless answers, `settings.draw` a call, each call seeded by the seed, the concept and its number.

    So the first captions are the same however many are asked for, and the global random state is untouched.
    """
    import torch

    model, tokenizer = writer.model, writer.tokenizer
    inputs = _inputs(writer, prompt_for(concept, settings, writer.knowledge)).to(model.device)
    start = 0 if writer.seq2seq else inputs.input_ids.shape[1]
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    devices = [model.device] if model.device.type == "cuda" else []
    call = 0
    while True:
        with _DRAWING, torch.random.fork_rng(devices=devices), torch.no_grad():
            _seed(model.device, _call_seed(settings.seed, concept, call))
            outputs = model.generate(
                **inputs,
                do_sample=True,
                temperature=settings.temperature,
                top_k=settings.top_k,
                **({} if settings.top_p is None else {"top_p": settings.top_p}),
                num_beams=1,
                max_new_tokens=settings.max_new_tokens,
                num_return_sequences=settings.draw,
                pad_token_id=pad,
            )
        yield tokenizer.batch_decode(outputs[:, start:].cpu(), skip_special_tokens=True)
        call += 1


def _seed(device: torch.device, seed: int) -> None:
    """Seed the generators that sampling on this device draws from; those of other GPUs are left alone."""
    import torch

    if device.type not in ("cpu", "cuda"):
        torch.manual_seed(seed)
        return
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def write_captions(
    writer: Writer,
    concept: str,
    count: int,
    settings: Settings,
    fits: Callable[[str], bool],
    progress: Callable[[int], object] | None = None,
) -> Captions:
    """`count` clean captions of `concept`; `progress` is told of every few more.

    Raises UnknownConcept, and BadCaptions when too few of the candidates are usable.
    """
    check_known(concept, writer.knowledge, writer.name)
    sieve = Sieve(concept, fits)
    limit = max(FEWEST_LOOKED_AT, PATIENCE * count)
    result = Captions(concept, ())
    for answers in sample(writer, concept, settings):
        before = len(sieve.kept)
        candidates = [candidate for answer in answers for candidate in split(answer)]
        result = sieve.take(candidates, count)
        if progress is not None:
            progress(len(sieve.kept) - before)
        if len(result.texts) >= count:
            return result
        if result.drawn >= limit:
            break
    raise BadCaptions(_complaint(result, writer.name, count))


def _complaint(result: Captions, name: str, count: int) -> str:
    reasons = (
        (result.off_concept, "do not name it"),
        (result.duplicates, "repeat others"),
        (result.too_long, "are too long for the text encoder"),
        (result.empty, "are empty"),
    )
    rejected = ", ".join(f"{number} {reason}" for number, reason in reasons if number)
    usable = len(result.texts)
    fewer = f"ask for fewer (--captions {usable}), " if usable else ""
    return (
        f"{name} wrote {result.drawn} captions for {result.concept!r}, and only {usable} of the {count} "
        f"asked for are usable ({rejected}); {fewer}raise --temperature or --top-k, take --templates or "
        "another --captions-model, or give captions yourself"
    )


def _inputs(writer: Writer, prompt: str) -> Any:
    """The prompt as tokens: as it is for a seq2seq model, through the chat template of a chat model."""
    tokenizer = writer.tokenizer
    if writer.seq2seq:
        return tokenizer(prompt, return_tensors="pt")
    if getattr(tokenizer, "chat_template", None):
        from jinja2 import TemplateError

        messages = [{"role": "user", "content": prompt}]
        try:
            text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        except TemplateError as fault:
            raise BadSetting(
                f"the chat template of {writer.name} refuses a prompt of the user alone ({fault}); "
                "name another model with --captions-model"
            ) from fault
        return tokenizer(text, return_tensors="pt", add_special_tokens=False)
    return tokenizer(prompt + "\nCaption:", return_tensors="pt")


def _call_seed(seed: int, concept: str, call: int) -> int:
    digest = hashlib.sha256(f"{seed}\n{concept}\n{call}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
