"""The embedded models write captions of what they know, and the directions are stable."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from directions import Discovery, Settings
from directions.cli import main
from zoo.concepts import known_concepts
from zoo.registry import WEIGHTS
from zoo.words import names_concept

pytestmark = pytest.mark.skipif(
    not (WEIGHTS / "captions").is_dir() or not (WEIGHTS / "diffusion" / "text_encoder").is_dir(),
    reason="the embedded models are not in zoo/weights",
)


def test_cat_to_dog_with_nothing_but_the_defaults(private_folders: Path) -> None:
    done = CliRunner().invoke(main, ["cat", "dog", "--json"])
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    for side, concept in (("source", "cat"), ("target", "dog")):
        assert len(record["captions"][side]) == 200
        assert all(names_concept(text, concept) for text in record["captions"][side])
    assert record["quality"]["agreement"] > 0.9
    assert record["quality"]["stability"] in ("stable", "fair"), record["quality"]["verdict"]
    assert record["models"] == {"captions": "embedded", "name": "embedded"}


def test_another_word_is_refused_with_the_list_of_what_is_known() -> None:
    done = CliRunner().invoke(main, ["cat", "walrus"])
    assert done.exit_code == 1
    assert "'walrus' is not known to the captions model embedded; it knows: " in done.stderr
    assert "elephant" in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_the_model_states_the_concepts_it_was_trained_on() -> None:
    assert set(Discovery("embedded").knowledge.concepts) == set(known_concepts())


def test_every_concept_can_be_asked_for() -> None:
    work = Discovery("embedded", Settings(captions=20))
    for concept in known_concepts():
        captions = work.captions(concept)
        assert len(captions.texts) == 20, concept
