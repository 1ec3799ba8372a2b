"""The same direction for another text encoder, from the captions that its record holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from directions.captions import Captions
from directions.errors import BadCaptions
from directions.settings import Settings
from library.expressions import parents_text
from library.names import direction_name

if TYPE_CHECKING:
    from directions.discovery import Discovery
    from library.direction import Direction

__all__ = ["rebuild", "settings_of"]


def settings_of(direction: Direction) -> Settings:
    """The settings that a direction was discovered with."""
    settings = Settings.from_dict(direction.record.get("generation") or {})
    return replace(settings, paired=bool(settings.paired))


def rebuild(direction: Direction, discovery: Discovery) -> Direction:
    """`direction` for the encoder of `discovery`, not yet saved; its record names what it was rebuilt from.

    For the encoder that it was made for the tensors are the same to the byte; captions that are too long for
    a new one are left out. Raises BadCaptions for a direction without stored captions.
    """
    _refuse_composed(direction)
    sides = _sides(direction)
    settings = settings_of(direction)
    if discovery.encoder.id != direction.encoder:
        settings = replace(settings, batch_size=None)  # was chosen for the other encoder
    fits = discovery.encoder.fits
    if settings.paired:
        pairs = [pair for pair in zip(*(side.texts for side in sides), strict=True) if all(map(fits, pair))]
        kept = [tuple(pair[side] for pair in pairs) for side in (0, 1)]
    else:
        kept = [tuple(filter(fits, side.texts)) for side in sides]
    if not all(kept):
        raise BadCaptions(f"no caption of {direction.ref} is short enough for {discovery.models.name}")
    sides = (replace(sides[0], texts=kept[0]), replace(sides[1], texts=kept[1]))
    saved = direction.version is not None
    name = direction.name if saved else direction_name(direction.source, direction.target)
    origin = {key: value for key, value in direction.parents[0].items() if key != "weight"}
    written = (direction.record.get("models") or {}).get("captions")
    record: dict[str, Any] = {
        "captions": {"source": list(kept[0]), "target": list(kept[1])},
        "generation": {**(direction.record.get("generation") or {}), **discovery.embedding(settings)},
        "models": discovery.model_record(written),
        "rebuilt_from": origin,
        "tags": list(direction.record.get("tags", ())),
    }
    return discovery.assemble(
        name, sides, settings, record, "given" in record["generation"].get("written_by", ())
    )


def _sides(direction: Direction) -> tuple[Captions, Captions]:
    captions: Mapping[str, Any] = direction.record.get("captions") or {}
    counts: Mapping[str, Any] = (direction.record.get("quality") or {}).get("counts") or {}
    made = []
    for key, concept in (("source", direction.source), ("target", direction.target)):
        texts = tuple(captions.get(key) or ())
        known = {k: v for k, v in dict(counts.get(key) or {}).items() if k in Captions.__dataclass_fields__}
        made.append(Captions(concept, texts, **(known or {"drawn": len(texts)})))
    if not (made[0].texts and made[1].texts):
        raise BadCaptions(
            f"{direction.ref} holds no captions to be rebuilt from; discover it again: mkdir-direction SOURCE TARGET"
        )
    return made[0], made[1]


def _refuse_composed(direction: Direction) -> None:
    """Raise BadCaptions for a sum, and for what is stronger or weaker than its captions make it."""
    parents = direction.record.get("parents") or []
    if parents and not direction.record.get("generation"):
        raise BadCaptions(
            f"{direction.ref} is composed, as {parents_text(parents)}: rebuild "
            f"{' and '.join(parent['name'] for parent in parents)}, and compose it again"
        )
