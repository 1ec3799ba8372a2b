"""`discover`: two concepts become a direction; `Discovery`: many do, with models loaded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from directions.cache import Cache
from directions.captions import Captions, pair
from directions.concepts import Concepts, Progress, Texts, checked_pair, digest_of
from directions.settings import Settings
from directions.sources import parallel
from library.settings import cache_folder

if TYPE_CHECKING:
    from directions.embed import Floats
    from directions.quality import Quality
    from library.direction import Direction
    from zoo.registry import ModelSet

__all__ = ["Discovery", "discover"]

MOST_KEPT = 16 * 2**20  # bytes of captions that a record holds; beyond, only their digest


def discover(
    source: str,
    target: str,
    models: str | ModelSet | None = None,
    captions: int | None = None,
    *,
    seed: int = 0,
    name: str | None = None,
    source_captions: Texts = None,
    target_captions: Texts = None,
    captions_model: str | None = None,
    tags: Sequence[str] = (),
    device: str | None = None,
    cache: bool = True,
    progress: Progress | None = None,
    **settings: Any,
) -> Direction:
    """The direction from `source` to `target`: `[tokens, dim]` float32, not yet saved, with its record.

    models: a model set's name, a hub id or a local diffusers folder; None: `DIRECTIONS_MODELS`, else the
    embedded set. captions: how many a side. source_captions, target_captions: given ones, any iterable of
    strings (None and NaN are empty ones); a side without them is written by the captions model. settings: more
    of `Settings` (`paired=True`, `writer="templates"`, `temperature=…`).

    Raises DiscoveryError: UnknownConcept, ModelUnavailable, BadCaptions, BadSetting. Source: Parmar et al.,
    Zero-shot Image-to-Image Translation (2023), section 3.1.
    """
    work = Discovery(
        models,
        Settings(captions=captions, seed=seed, **settings),
        captions_model=captions_model,
        device=device,
        cache=Cache(cache_folder("concepts")) if cache else Cache(None),
        progress=progress,
    )
    return work.direction(
        source, target, name=name, source_captions=source_captions, target_captions=target_captions, tags=tags
    )


class Discovery(Concepts):
    """Discovers directions with one set of models; what `Concepts` says holds: nothing is done twice."""

    def direction(
        self,
        source: str,
        target: str,
        *,
        name: str | None = None,
        source_captions: Texts = None,
        target_captions: Texts = None,
        tags: Sequence[str] = (),
        settings: Settings | None = None,
    ) -> Direction:
        """See `discover`; settings replace this object's, but for clip_skip and precision."""
        from library.names import check_name, direction_name

        settings = settings or self.settings
        if isinstance(tags, str):
            tags = (tags,)
        source, target = checked_pair(source, target)
        if settings.writer == "model":
            source, target = self.spelling(source), self.spelling(target)
        name = check_name(name) if name else direction_name(source, target)
        given = source_captions is not None or target_captions is not None
        if settings.paired is None:
            settings = replace(
                settings, paired=self.models.paired and settings.writer == "model" and not given
            )
        if settings.writer == "model" and not (given and settings.paired):  # fail before anything slow
            for concept, texts in ((source, source_captions), (target, target_captions)):
                if texts is None:
                    self.check_known(concept)
        sides = self.both_sides((source, target), (source_captions, target_captions), settings)
        generation = self._generation(sides, settings, source_captions, target_captions)
        record = {
            "captions": self._kept(sides),
            "generation": generation,
            "models": self.model_record(self.writer_name if "model" in generation["written_by"] else None),
            "tags": list(tags),
        }
        return self.assemble(name, sides, settings, record, given)

    def both_sides(
        self, concepts: tuple[str, str], given: tuple[Texts, Texts], settings: Settings
    ) -> tuple[Captions, Captions]:
        """The captions of both sides, parallel if the settings ask for that."""
        fits = self.encoder.fits
        if not settings.paired:
            made = [self.captions(c, texts, settings) for c, texts in zip(concepts, given, strict=True)]
            return made[0], made[1]
        if given[0] is not None and given[1] is not None:
            return parallel(concepts, (given[0], given[1]), fits, settings.captions)
        one_given = given[0] is not None or given[1] is not None
        wanted = (
            replace(settings, captions=None) if one_given else settings
        )  # which can be swapped is seen later
        made = [
            Captions(concept, ()) if one_given and texts is None else self.captions(concept, texts, wanted)
            for concept, texts in zip(concepts, given, strict=True)
        ]
        exact = None if one_given or settings.writer == "templates" else self.count(settings)
        return pair(made[0], made[1], exact or settings.captions, fits)

    def assemble(
        self,
        name: str,
        sides: tuple[Captions, Captions],
        settings: Settings,
        record: dict[str, Any],
        given: bool = False,
    ) -> Direction:
        """The direction that follows from the captions of both sides, with its quality in the record."""
        import numpy as np

        from directions.quality import measure
        from directions.verdict import judge
        from library.direction import Anchored, Direction

        source, target = self.moments(sides[0], settings), self.moments(sides[1], settings)
        quality = measure(source, target, sides, bool(settings.paired))
        quality = self._with_words(quality, sides, target.mean - source.mean)
        verdict = judge(
            quality, min(source.count, target.count), sides[0].concept, sides[1].concept,
            given or settings.writer == "templates", bool(settings.paired),
        )  # fmt: skip
        counts = {"source": sides[0].counts(), "target": sides[1].counts()}
        figures = {**quality.as_dict(), "counts": counts, "stability": verdict.word, "verdict": verdict.text}
        anchored: tuple[Anchored, ...] = ()
        if source.anchored is not None and target.anchored is not None:
            means = (source.anchored / source.named, target.anchored / target.named)
            floats = [np.asarray(mean, dtype=np.float32) for mean in means]
            anchored = (Anchored(sides[0].concept, sides[1].concept, floats[0], floats[1]),)
        return Direction(
            name=name,
            tensor=(target.mean - source.mean).astype(np.float32),
            encoder=self.encoder.id,
            source=sides[0].concept,
            target=sides[1].concept,
            source_embedding=source.mean.astype(np.float32),
            target_embedding=target.mean.astype(np.float32),
            anchored=anchored,
            record={**record, "quality": figures},
        )

    def _with_words(self, quality: Quality, sides: tuple[Captions, Captions], direction: Floats) -> Quality:
        """The figures that need the concept words themselves embedded."""
        from directions.quality import cosine, nearest

        concepts = [side.concept for side in sides]
        words = self.words(concepts)
        known = self.words(self.compared_with())
        others = [
            {k: v for k, v in known.items() if k.casefold() != concept.casefold()} for concept in concepts
        ]
        return replace(
            quality,
            word_swap=cosine(direction, words[concepts[1]] - words[concepts[0]]),
            nearest={
                concept: nearest(words[concept], other)
                for concept, other in zip(concepts, others, strict=True)
            },
        )

    def _kept(self, sides: tuple[Captions, Captions]) -> dict[str, list[str]]:
        size = sum(len(text.encode()) for side in sides for text in side.texts)
        return {
            key: list(side.texts) if size <= MOST_KEPT else []
            for key, side in zip(("source", "target"), sides, strict=True)
        }

    def _generation(
        self, sides: tuple[Captions, Captions], settings: Settings, *given: Texts
    ) -> dict[str, Any]:
        written_by = ["given" if texts is not None else settings.writer for texts in given]
        made = {**settings.as_dict(), **self.embedding(settings), "written_by": written_by}
        made["digests"] = [digest_of(side.texts) for side in sides]
        if "model" in written_by:
            made |= {"captions": self.count(settings), "prompt": self.prompt(settings)}
        return made
