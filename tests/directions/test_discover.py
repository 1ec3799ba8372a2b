"""From words to a saved direction, on tiny models: sources, pairs, cache, rebuild, determinism."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from directions import Discovery, Settings, discover, rebuild
from directions.cache import Cache
from directions.errors import BadCaptions, BadSetting, UnknownConcept
from library import Library
from tests.directions.conftest import GOLDEN, state_concepts
from zoo.registry import ModelSet

CATS = ["a cat sitting on the grass", "a photo of a cat", "a cat in the street", "face of a cat"]
DOGS = [text.replace("cat", "dog") for text in CATS]
SAMPLING = {"draw": 32, "max_new_tokens": 12, "top_k": 20, "temperature": 1.5}


@pytest.fixture(scope="module")
def models(tiny_t5: Path) -> ModelSet:
    return ModelSet("tiny", str(GOLDEN), str(tiny_t5), "")


def given(**more: Any) -> Any:
    return discover("cat", "dog", str(GOLDEN), source_captions=CATS, target_captions=iter(DOGS), **more)


def test_given_captions_make_the_recorded_direction() -> None:
    from safetensors.numpy import load_file

    direction = given(tags=["test"])
    recorded = load_file(GOLDEN.parent / "text.safetensors")["direction"][0]
    assert np.linalg.norm(direction.tensor - recorded) / np.linalg.norm(recorded) < 1e-5
    assert direction.name == "cat2dog" and (direction.source, direction.target) == ("cat", "dog")
    assert direction.record["captions"] == {"source": CATS, "target": DOGS}
    assert direction.record["tags"] == ["test"]
    assert direction.record["generation"]["written_by"] == ["given", "given"]
    assert direction.source_embedding is not None and direction.target_embedding is not None
    np.testing.assert_allclose(
        direction.target_embedding - direction.source_embedding, direction.tensor, atol=1e-6
    )


def test_a_language_model_writes_the_captions(models: ModelSet) -> None:
    seen: list[str] = []
    direction = discover(
        "cat", "dog", models, 12, progress=lambda what, more, total: seen.append(what), **SAMPLING
    )
    captions = direction.record["captions"]
    assert len(captions["source"]) == len(captions["target"]) == 12
    assert all("cat" in text for text in captions["source"])
    quality = direction.record["quality"]
    assert quality["agreement"] is not None and quality["verdict"]
    assert quality["counts"]["source"]["drawn"] >= 12
    assert {"captions for cat", "captions for dog", "embeddings of cat", "embeddings of dog"} <= set(seen)
    generation = direction.record["generation"]
    assert generation["captions"] == 12 and "{a_concept}" in generation["prompt"]
    again = discover("cat", "dog", models, 12, cache=False, **SAMPLING)
    assert again.tensor.tobytes() == direction.tensor.tobytes()
    assert again.record == direction.record
    other = discover("cat", "dog", models, 12, seed=1, **SAMPLING)
    assert other.record["captions"] != captions


def test_the_same_inputs_give_the_same_file(
    models: ModelSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    files = []
    for number in (1, 2):
        library = Library(tmp_path / str(number), search_path=())
        library.save(discover("cat", "dog", models, 8, cache=number == 1, **SAMPLING))
        files.append(library.find("cat2dog").path.read_bytes())
    assert files[0] == files[1]


def test_a_concept_is_written_and_embedded_once(models: ModelSet, tmp_path: Path) -> None:
    settings = Settings(captions=8, **SAMPLING)
    first = Discovery(models, settings, cache=Cache(tmp_path)).direction("cat", "dog")
    seen: list[str] = []
    later = Discovery(
        models, settings, cache=Cache(tmp_path), progress=lambda what, more, total: seen.append(what)
    )
    np.testing.assert_array_equal(later.direction("dog", "cat").tensor, -first.tensor)
    assert not [what for what in seen if "captions" in what or "embeddings" in what]
    for file in tmp_path.iterdir():  # a damaged cache is made again
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert later.direction("cat", "dog").tensor.tobytes() == first.tensor.tobytes()
    assert [what for what in seen if "embeddings" in what]


def test_paired_captions_differ_only_in_the_concept(models: ModelSet) -> None:
    direction = discover("cat", "dog", models, 10, paired=True, **SAMPLING)
    captions = direction.record["captions"]
    assert len(captions["source"]) == 10
    assert sum("dog" in text for text in captions["target"]) == 10
    one_side = discover("cat", "dog", str(GOLDEN), source_captions=CATS, paired=True)
    assert one_side.record["captions"]["target"] == DOGS
    both = given(paired=True)
    assert both.tensor.tobytes() == one_side.tensor.tobytes()
    assert both.record["quality"]["agreement"] is not None


def test_templates_need_no_language_model() -> None:
    direction = discover("cat", "dog", str(GOLDEN), 24, writer="templates", paired=True)
    assert len(direction.record["captions"]["source"]) == 24
    assert "captions" not in direction.record["models"]


def test_unknown_concepts_and_bad_words_are_refused_before_anything_slow(tmp_path: Path) -> None:
    state_concepts(tmp_path, ["cat", "dog"])
    models = ModelSet("tiny", "nobody/nothing", str(tmp_path), "")
    with pytest.raises(UnknownConcept, match=r"'walrus' is not known .* it knows: cat, dog"):
        discover("cat", "walrus", models)
    with pytest.raises(BadSetting, match="source and target are both 'cat'"):
        discover("cat", " cat ", models)
    with pytest.raises(BadSetting, match="the target concept is empty"):
        discover("cat", " ", models)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"captions": 0}, "captions is 0; expected 1 to"),
        ({"temperature": 0}, "temperature is 0; expected"),
        ({"top_p": 2}, "top_p is 2; expected"),
        ({"writer": "crystal ball"}, "writer is 'crystal ball'; expected one of model, templates"),
        ({"precision": "int8"}, "precision is 'int8'; expected one of float32"),
        ({"captions": 20.0}, "captions is 20.0; expected a whole number"),
        ({"seed": "20"}, "seed is '20'; expected a whole number"),
        ({"prompt": "a cat"}, "must contain {concept} or {a_concept}"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(BadSetting, match=message.replace("{", r"\{")):
        Settings(**wrong)


def test_numbers_of_numpys_are_taken_as_pythons() -> None:
    settings = Settings(captions=np.int64(20), seed=np.arange(3)[2], temperature=np.float32(0.5))
    assert settings == Settings(captions=20, seed=2, temperature=0.5)
    assert json.loads(json.dumps(settings.as_dict())) == settings.as_dict()


def test_a_rebuild_for_the_same_encoder_is_the_same_to_the_byte(models: ModelSet, tmp_path: Path) -> None:
    library = Library(tmp_path, search_path=())
    for name, paired in (("plain", False), ("pairs", True)):
        made = library.save(discover("cat", "dog", models, 10, name=name, paired=paired, **SAMPLING))
        again = rebuild(made, Discovery(models, cache=Cache(None)))
        assert again.tensor.tobytes() == made.tensor.tobytes()
        assert again.record["quality"] == made.record["quality"]
        assert again.record["rebuilt_from"] == {
            "name": name, "version": 1, "encoder": made.encoder, "sha256": made.record["sha256"],
        }  # fmt: skip
        assert library.save(again).version == 2


def test_a_rebuild_needs_captions(tmp_path: Path) -> None:
    direction = given()
    library = Library(tmp_path, search_path=())
    half = library.save((0.5 * library.save(direction)).renamed("half"))
    bare = library.load(half.ref)
    bare = type(bare)(name="bare", tensor=bare.tensor, encoder=bare.encoder, record={})
    with pytest.raises(BadCaptions, match="bare holds no captions to be rebuilt from; discover it again"):
        rebuild(bare, Discovery(str(GOLDEN)))


def test_a_rebuild_of_the_opposite_keeps_how_it_was_made_and_of_a_part_is_refused(tmp_path: Path) -> None:
    library = Library(tmp_path, search_path=())
    made = library.save(given(paired=True))
    work = Discovery(str(GOLDEN), cache=Cache(None))
    again = rebuild(library.load("dog2cat"), work)
    np.testing.assert_allclose(again.tensor, -made.tensor, atol=1e-6)
    assert again.record["generation"]["paired"] is True and again.name == "dog2cat"
    strong = library.save((2 * made).renamed("strong"))
    for composed in (strong, -strong, 2 * made):
        with pytest.raises(BadCaptions, match=r"is composed, as .*: rebuild \w+, and compose it again"):
            rebuild(composed, work)
    copy = library.save(library.load("cat2dog").renamed("copy"))
    assert rebuild(copy, work).tensor.tobytes() == made.tensor.tobytes()


def test_one_file_of_pairs_is_looked_through_until_there_are_enough() -> None:
    texts = ["no animal here", "a house", *(f"a cat number {n}" for n in range(6))]
    direction = discover("cat", "dog", str(GOLDEN), 4, source_captions=texts, paired=True)
    assert direction.record["captions"]["target"] == [f"a dog number {n}" for n in range(4)]


def test_a_concept_is_spelled_as_the_captions_model_spells_it(models: ModelSet, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "t5"
    shutil.copytree(models.captions, folder)
    state_concepts(folder, ["cat", "dog"])
    work = Discovery(ModelSet("tiny", str(GOLDEN), str(folder), ""), Settings(captions=6, **SAMPLING))
    direction = work.direction("Cat", "DOG")
    assert (direction.source, direction.target, direction.name) == ("cat", "dog", "cat2dog")
    assert work.concept_page("CAT")["concept"] == "cat"
    assert given().source == "cat" and work.spelling("Fox") == "Fox"


def test_words_that_are_no_text_and_captions_that_are_one_are_refused() -> None:
    with pytest.raises(BadSetting, match=r"the source concept 'caf.*' is not UTF-8 text"):
        discover("caf\udce9", "dog", str(GOLDEN), writer="templates")
    with pytest.raises(BadCaptions, match="captions for 'cat' are one text"):
        discover("cat", "dog", str(GOLDEN), source_captions="abc", target_captions="xyz", paired=True)


def test_a_rebuild_asks_for_captions_where_they_came_from() -> None:
    made = given()
    again = rebuild(made, Discovery(str(GOLDEN), cache=Cache(None)))
    assert again.record["quality"]["verdict"] == made.record["quality"]["verdict"]
    assert "--captions" not in made.record["quality"]["verdict"]
