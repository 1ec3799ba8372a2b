"""Whether a direction belongs to the text encoder that would use it."""

from __future__ import annotations

from typing import Any

import torch

from editor.errors import EditorError, EncoderMismatch
from editor.models import Models
from editor.replay import direction_facts
from library.direction import Direction
from library.errors import imported_for, rebuild_command


def check_direction(models: Models, direction: Any) -> torch.Tensor:
    """The direction's tensor `[tokens, dim]` float32, where it was made for the models' text encoder.

    A direction that was declared to be for this model set (a foreign file carries no identity) is
    accepted when its shape fits. Anything else raises EncoderMismatch, which says how to rebuild it or
    import it again, and what is no direction at all EditorError.
    """
    if not (hasattr(direction, "encoder") and hasattr(direction, "tensor")):
        shown = repr(direction) if isinstance(direction, str) else type(direction).__name__
        raise EditorError(
            f"{shown} is no direction; load one: Library()['cat2dog'], or discover('cat', 'dog')"
        )
    name = getattr(direction, "name", "the direction")
    declared = bool((getattr(direction, "record", None) or {}).get("declared"))
    accepted = {models.encoder_id, *(models.names if declared else ())}
    if direction.encoder not in accepted:
        if declared:
            raise EncoderMismatch(f"{name} was {imported_for(direction.encoder, models.encoder_id)}")
        raise EncoderMismatch(
            f"{name} was made for the text encoder {direction.encoder}, but {models.name} has "
            f"{models.encoder_id}; make it again for that one: {rebuild_command(name, models.name)}"
        )
    tensor = torch.as_tensor(direction.tensor, dtype=torch.float32, device="cpu")
    expected = (models.tokenizer.model_max_length, models.text_encoder.config.hidden_size)
    if tuple(tensor.shape) != expected:
        raise EditorError(
            f"{name} has shape {list(tensor.shape)}; the text encoder of {models.name} takes {list(expected)}"
        )
    return tensor


def described(direction: Any) -> dict[str, Any]:
    """What identifies a direction in a record, and finds it again."""
    record = getattr(direction, "record", None) or {}
    found = direction_facts(direction) if isinstance(direction, Direction) else {}
    return found | {
        "name": getattr(direction, "name", ""),
        "version": getattr(direction, "version", None),
        "encoder": direction.encoder,
        "sha256": record.get("sha256"),
    }
