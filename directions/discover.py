"""`discover`: two concepts become a direction; `Discovery`: many do, with models loaded once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from directions.cache import Cache, cache_folder, key_of, model_stamp
from directions.captions import PROMPT, Captions, Sieve, pair, template_captions
from directions.errors import BadSetting
from directions.models import Encoder, Knowledge, Writer, knowledge_of, load_encoder, load_writer, pick_device
from directions.settings import Settings
from directions.sources import from_texts, parallel

if TYPE_CHECKING:
    from directions.embed import Floats, Moments
    from directions.quality import Quality
    from library.direction import Direction
    from zoo.registry import ModelSet

__all__ = ["Discovery", "discover"]

EMBEDDED_CAPTIONS = 200
OTHER_CAPTIONS = 1000  # the paper's number
MOST_KEPT = 16 * 2**20  # bytes of captions that a record holds; beyond, only their digest
Texts = Iterable[str] | None
#: Called as `(what is being done, how many more are done, of how many)`.
Progress = Callable[[str, int, int], object]


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
    strings; a side without them is written by the captions model. settings: more of `Settings`
    (`paired=True`, `writer="templates"`, `temperature=…`).

    Raises DiscoveryError: UnknownConcept, ModelUnavailable, BadCaptions, BadSetting. Source: Parmar et al.,
    Zero-shot Image-to-Image Translation (2023), section 3.1.
    """
    work = Discovery(
        models,
        Settings(captions=captions, seed=seed, **settings),
        captions_model=captions_model,
        device=device,
        cache=Cache(cache_folder()) if cache else Cache(None),
        progress=progress,
    )
    return work.direction(
        source, target, name=name, source_captions=source_captions, target_captions=target_captions, tags=tags
    )


class Discovery:
    """Discovers directions with one set of models, loaded when first needed and then kept.

    A concept's captions and their embedding are made once and reused by every direction, in this run and,
    through the cache, in later ones.
    """

    def __init__(
        self,
        models: str | ModelSet | None = None,
        settings: Settings | None = None,
        *,
        captions_model: str | None = None,
        device: str | None = None,
        cache: Cache | None = None,
        progress: Progress | None = None,
    ) -> None:
        from zoo.registry import ModelSet, resolve

        found = models if isinstance(models, ModelSet) else resolve(models)
        self.models = found.with_models(captions=captions_model)
        self.own_writer = captions_model is not None
        self.settings = settings or Settings()
        self.device = device
        self.cache = cache or Cache(cache_folder())
        self.progress: Progress = progress or (lambda what, done, total: None)
        self._known: dict[str, Floats] = {}

    @cached_property
    def encoder(self) -> Encoder:
        """The text encoder; loading it may raise ModelUnavailable."""
        self.progress("loading the text encoder", 0, 0)
        return load_encoder(self.models, self.settings.precision, self.settings.clip_skip, self.device)

    @cached_property
    def writer(self) -> Writer:
        """The captions model; loading it may raise ModelUnavailable."""
        self.progress("loading the captions model", 0, 0)
        return load_writer(self.models.captions, self.settings.precision, self.device)

    @cached_property
    def knowledge(self) -> Knowledge:
        """What the captions model states that it knows."""
        return knowledge_of(self.models.captions)

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
        """See `discover`; settings replace this object's, except clip_skip and precision, which are loaded."""
        from library.names import check_name, direction_name

        settings = settings or self.settings
        source, target = _concept(source, "source"), _concept(target, "target")
        if source.casefold() == target.casefold():
            raise BadSetting(f"source and target are both {source!r}: a direction needs two concepts")
        name = check_name(name) if name else direction_name(source, target)
        given = source_captions is not None or target_captions is not None
        if settings.writer == "model" and not (given and settings.paired):  # fail before anything slow
            for concept, texts in ((source, source_captions), (target, target_captions)):
                if texts is None:
                    self._check_known(concept)
        sides = self.both_sides((source, target), (source_captions, target_captions), settings)
        record = {
            "captions": self._kept(sides),
            "generation": self._generation(sides, settings, source_captions, target_captions),
            "models": self.model_record(self._writer_name() if settings.writer == "model" else None),
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
        made = [
            Captions(concept, ()) if one_given and texts is None else self.captions(concept, texts, settings)
            for concept, texts in zip(concepts, given, strict=True)
        ]
        exact = None if one_given or settings.writer == "templates" else self.count(settings)
        return pair(made[0], made[1], exact or settings.captions, fits)

    def captions(self, concept: str, given: Texts = None, settings: Settings | None = None) -> Captions:
        """The captions of one concept: given, from templates, from the cache, or written now."""
        settings = settings or self.settings
        if given is not None:
            return from_texts(concept, given, self.encoder.fits, settings.captions)
        if settings.writer == "templates":
            return Sieve(concept, self.encoder.fits).take(template_captions(concept), settings.captions)
        from directions.generate import write_captions

        self._check_known(concept)
        count = self.count(settings)
        key = key_of(
            {
                "concept": concept,
                "count": count,
                "model": model_stamp(self.models.captions),
                "precision": settings.precision,
                "device": pick_device(self.device).partition(":")[0],
                "prompt": self._prompt(settings),
                "tokens": [self.encoder.shape[0], len(self.encoder.tokenizer)],
                **settings.writing(),
            }
        )
        found = self.cache.captions(key)
        if found is None:
            what = f"captions for {concept}"
            self.progress(what, 0, count)
            found = write_captions(
                self.writer, concept, count, settings, self.encoder.fits,
                lambda more: self.progress(what, more, count),
            )  # fmt: skip
            self.cache.keep_captions(key, found)
        return found

    def moments(self, captions: Captions, settings: Settings | None = None) -> Moments:
        """The moments of the captions' embeddings, from the cache or made now."""
        from directions.embed import embed

        settings = settings or self.settings
        key = key_of(
            {
                "encoder": self.encoder.id,
                "device": pick_device(self.device).partition(":")[0],
                "texts": digest_of(captions.texts),
                **self.embedding(settings),
            }
        )
        found = self.cache.moments(key, self.encoder.shape)
        if found is None:
            what, total = f"embeddings of {captions.concept}", len(captions.texts)
            self.progress(what, 0, total)
            found = embed(
                captions.texts, self.encoder, settings.batch_size, lambda more: self.progress(what, more, total)
            )
            self.cache.keep_moments(key, found)
        return found

    def concept_page(self, concept: str) -> dict[str, Any]:
        """Prepare one concept: write, embed and keep it; returns its figures, JSON-able."""
        from directions.quality import nearest, share_on_concept

        concept = _concept(concept, "given")
        captions = self.captions(concept)
        moments = self.moments(captions)
        others = [other for other in self._compared_with() if other.casefold() != concept.casefold()]
        near = nearest(self._words([concept])[concept], self._words(others))
        return {
            "concept": concept,
            "captions": moments.count,
            "on_concept": round(share_on_concept(captions), 4),
            "spread": round(moments.spread, 4),
            "nearest": ", ".join(f"{name} {value:.2f}" for name, value in near),
            "problem": "",
        }

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
        from library.direction import Direction

        source, target = self.moments(sides[0], settings), self.moments(sides[1], settings)
        quality = measure(source, target, sides, settings.paired)
        quality = self._with_words(quality, sides, target.mean - source.mean)
        verdict = judge(
            quality, min(source.count, target.count), sides[0].concept, sides[1].concept,
            given or settings.writer == "templates",
        )  # fmt: skip
        counts = {"source": sides[0].counts(), "target": sides[1].counts()}
        figures = {**quality.as_dict(), "counts": counts, "stability": verdict.word, "verdict": verdict.text}
        return Direction(
            name=name,
            tensor=(target.mean - source.mean).astype(np.float32),
            encoder=self.encoder.id,
            source=sides[0].concept,
            target=sides[1].concept,
            source_embedding=source.mean.astype(np.float32),
            target_embedding=target.mean.astype(np.float32),
            record={**record, "quality": figures},
        )

    def count(self, settings: Settings) -> int:
        """How many captions a side a model is asked for."""
        return settings.captions or (EMBEDDED_CAPTIONS if self.models.name == "embedded" else OTHER_CAPTIONS)

    def _check_known(self, concept: str) -> None:
        from directions.generate import check_known

        check_known(concept, self.knowledge, self._writer_name())

    def _with_words(self, quality: Quality, sides: tuple[Captions, Captions], direction: Floats) -> Quality:
        """The figures that need the concept words themselves embedded."""
        from directions.quality import cosine, nearest

        concepts = [side.concept for side in sides]
        words = self._words(concepts)
        known = self._words(self._compared_with())
        others = [
            {k: v for k, v in known.items() if k.casefold() != concept.casefold()} for concept in concepts
        ]
        return replace(
            quality,
            word_swap=cosine(direction, words[concepts[1]] - words[concepts[0]]),
            nearest={
                concept: nearest(words[concept], other) for concept, other in zip(concepts, others, strict=True)
            },
        )

    def _compared_with(self) -> Sequence[str]:
        from zoo.concepts import known_concepts

        return self.knowledge.concepts or known_concepts()

    def _words(self, concepts: Sequence[str]) -> dict[str, Floats]:
        """The embedding of each concept alone, with its article."""
        from directions.embed import embed_phrases
        from directions.words import with_article

        missing = [concept for concept in dict.fromkeys(concepts) if concept not in self._known]
        if missing:
            embedded = embed_phrases([with_article(concept) for concept in missing], self.encoder)
            self._known |= dict(zip(missing, embedded, strict=True))
        return {concept: self._known[concept] for concept in concepts}

    def embedding(self, settings: Settings) -> dict[str, Any]:
        """What decides an embedding besides encoder and captions, as it is with the encoder loaded."""
        return {**settings.embedding(), "precision": self.encoder.precision, "clip_skip": self.encoder.clip_skip}

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
            made |= {"captions": self.count(settings), "prompt": self._prompt(settings)}
        return made

    def _prompt(self, settings: Settings) -> str:
        """The prompt before a concept is filled in."""
        return settings.prompt or self.knowledge.prompt or PROMPT

    def model_record(self, writer: str | None) -> dict[str, Any]:
        """Which models made a direction, for its record."""
        record: dict[str, Any] = {"name": self.models.name}
        if writer:
            record["captions"] = writer
        if self.encoder.revision:
            record["revision"] = self.encoder.revision
        return record

    def _writer_name(self) -> str:
        """How the captions model is called in records and messages; never where this machine keeps it."""
        embedded = self.models.name == "embedded" and not self.own_writer
        return "embedded" if embedded else self.models.captions


def digest_of(texts: Sequence[str]) -> str:
    """A digest of captions in their order."""
    return hashlib.sha256("\n".join(texts).encode(errors="surrogatepass")).hexdigest()


def _concept(phrase: str, which: str) -> str:
    text = " ".join(phrase.split())
    if not text:
        raise BadSetting(f"the {which} concept is empty; expected a word or phrase such as 'cat'")
    return text
