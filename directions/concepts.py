"""`Concepts`: the captions and the embedding of single concepts, with models that are loaded once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from directions.cache import Cache, key_of, model_stamp
from directions.captions import PROMPT, Captions, Sieve, template_captions
from directions.errors import BadSetting
from directions.models import Encoder, Knowledge, Writer, knowledge_of, load_encoder, load_writer, pick_device
from directions.settings import Settings
from directions.sources import from_texts
from library.settings import cache_folder

if TYPE_CHECKING:
    from directions.embed import Floats, Moments
    from zoo.registry import ModelSet

__all__ = ["Concepts", "Progress", "Texts", "checked_concept", "digest_of"]

EMBEDDED_CAPTIONS = 200
OTHER_CAPTIONS = 1000  # the paper's number
Texts = Iterable[str] | None
#: Called as `(what is being done, how many more are done, of how many)`.
Progress = Callable[[str, int, int], object]


class Concepts:
    """Concepts under one set of models, which are loaded when first needed and then kept.

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
        self.cache = cache or Cache(cache_folder("concepts"))
        self.progress: Progress = progress or (lambda what, done, total: None)
        self._embedded: dict[str, Floats] = {}

    @cached_property
    def encoder(self) -> Encoder:
        """The text encoder; loading it may raise ModelUnavailable."""
        self.progress("loading the text encoder", 0, 0)
        return load_encoder(self.models, self.settings.precision, self.settings.clip_skip, self.device)

    @cached_property
    def writer(self) -> Writer:
        """The captions model; loading it may raise ModelUnavailable."""
        self.progress("loading the captions model", 0, 0)
        return load_writer(self.models.captions, self.device)

    @cached_property
    def knowledge(self) -> Knowledge:
        """What the captions model states that it knows."""
        return knowledge_of(self.models.captions)

    def captions(self, concept: str, given: Texts = None, settings: Settings | None = None) -> Captions:
        """The captions of one concept: given, from templates, from the cache, or written now."""
        settings = settings or self.settings
        if given is not None:
            return from_texts(concept, given, self.encoder.fits, settings.captions)
        if settings.writer == "templates":
            return Sieve(concept, self.encoder.fits).take(template_captions(concept), settings.captions)
        from directions.generate import write_captions

        self.check_known(concept)
        count = self.count(settings)
        key = key_of(
            {
                "concept": concept,
                "count": count,
                "model": model_stamp(self.models.captions),
                "device": pick_device(self.device).partition(":")[0],
                "prompt": self.prompt(settings),
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
                "concept": captions.concept,
                **self.embedding(settings),
            }
        )
        found = self.cache.moments(key, self.encoder.shape)
        if found is None:
            what, total = f"embeddings of {captions.concept}", len(captions.texts)
            self.progress(what, 0, total)
            found = embed(
                captions.texts,
                self.encoder,
                settings.batch_size,
                lambda more: self.progress(what, more, total),
                captions.concept,
            )
            self.cache.keep_moments(key, found)
        return found

    def concept_page(self, concept: str) -> dict[str, Any]:
        """Prepare one concept: write, embed and keep it; returns its figures, JSON-able."""
        from directions.quality import nearest, share_on_concept

        concept = self.spelling(checked_concept(concept, "given"))
        captions = self.captions(concept)
        moments = self.moments(captions)
        others = [other for other in self.compared_with() if other.casefold() != concept.casefold()]
        near = nearest(self.words([concept])[concept], self.words(others))
        return {
            "concept": concept,
            "captions": moments.count,
            "on_concept": round(share_on_concept(captions), 4),
            "spread": round(moments.spread, 4),
            "nearest": ", ".join(f"{name} {value:.2f}" for name, value in near),
            "problem": "",
        }

    def count(self, settings: Settings) -> int:
        """How many captions a side a model is asked for."""
        return settings.captions or (EMBEDDED_CAPTIONS if self.models.name == "embedded" else OTHER_CAPTIONS)

    def spelling(self, concept: str) -> str:
        """The concept as the captions model spells it, where it says what it knows: "Cat" is its "cat"."""
        return next(
            (word for word in self.knowledge.concepts if word.casefold() == concept.casefold()), concept
        )

    def check_known(self, concept: str) -> None:
        """Raise UnknownConcept for a word that the captions model says it does not know."""
        from directions.generate import check_known

        check_known(concept, self.knowledge, self.writer_name)

    def compared_with(self) -> Sequence[str]:
        """The concepts that words are compared with: those the captions model knows, or the embedded one."""
        from zoo.concepts import known_concepts

        return self.knowledge.concepts or known_concepts()

    def words(self, concepts: Sequence[str]) -> dict[str, Floats]:
        """The embedding of each concept alone, with its article."""
        from directions.embed import embed_phrases
        from zoo.words import with_article

        missing = [concept for concept in dict.fromkeys(concepts) if concept not in self._embedded]
        if missing:
            embedded = embed_phrases([with_article(concept) for concept in missing], self.encoder)
            self._embedded |= dict(zip(missing, embedded, strict=True))
        return {concept: self._embedded[concept] for concept in concepts}

    def embedding(self, settings: Settings) -> dict[str, Any]:
        """What decides an embedding besides encoder and captions, as it is with the encoder loaded."""
        return {
            "batch_size": settings.batch_size or self.encoder.batch_size,
            "precision": self.encoder.precision,
            "clip_skip": self.encoder.clip_skip,
        }

    def prompt(self, settings: Settings) -> str:
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

    @property
    def writer_name(self) -> str:
        """How the captions model is called in records and messages."""
        embedded = self.models.name == "embedded" and not self.own_writer
        return "embedded" if embedded else self.models.captions


def digest_of(texts: Sequence[str]) -> str:
    """A digest of captions in their order."""
    return hashlib.sha256("\n".join(texts).encode(errors="surrogatepass")).hexdigest()


def checked_pair(source: str, target: str) -> tuple[str, str]:
    """Both phrases with single spaces; raises BadSetting for an empty one, and where they are the same."""
    source, target = checked_concept(source, "source"), checked_concept(target, "target")
    if source.casefold() == target.casefold():
        raise BadSetting(f"source and target are both {source!r}: a direction needs two concepts")
    return source, target


def checked_concept(phrase: str, which: str) -> str:
    """The phrase with single spaces; raises BadSetting for an empty one."""
    text = " ".join(phrase.split())
    if not text:
        raise BadSetting(f"the {which} concept is empty; expected a word or phrase such as 'cat'")
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise BadSetting(f"the {which} concept {text!r} is not UTF-8 text")
    return text
