"""Writing captions: seeded sampling from seq2seq and chat models, the bound, what is known."""

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from itertools import islice
from pathlib import Path

import pytest

from directions.errors import BadCaptions, BadSetting, UnknownConcept
from directions.generate import check_known, sample, write_captions
from directions.models import Knowledge, Writer, load_writer
from directions.settings import Settings

SMALL = Settings(draw=16, max_new_tokens=12, top_k=20, temperature=1.5)


def anything(text: str) -> bool:
    return True


@pytest.fixture(scope="module")
def t5(tiny_t5: Path) -> Writer:
    return load_writer(str(tiny_t5), device="cpu")


@pytest.fixture(scope="module")
def chat(tiny_chat: Path) -> Writer:
    return load_writer(str(tiny_chat), device="cpu")


def test_sampling_is_seeded_and_leaves_the_global_state_alone(t5: Writer) -> None:
    import torch

    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    first = list(islice(sample(t5, "cat", SMALL), 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert list(islice(sample(t5, "cat", SMALL), 2)) == first
    assert first[0] != first[1] and len(first[0]) == 16
    assert next(sample(t5, "dog", SMALL)) != first[0]
    assert next(sample(t5, "cat", Settings(**{**SMALL.as_dict(), "seed": 1}))) != first[0]


def test_threads_draw_what_they_draw_alone(t5: Writer) -> None:
    concepts = ["cat", "dog", "horse", "zebra"]

    def drawn(concept: str) -> list[list[str]]:
        return list(islice(sample(t5, concept, SMALL), 3))

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(drawn, concepts))
    assert together == [drawn(concept) for concept in concepts]


def test_a_causal_model_answers_without_its_prompt(chat: Writer) -> None:
    answers = next(sample(chat, "cat", SMALL))
    assert len(answers) == 16 and not any("Provide" in answer for answer in answers)
    captions = write_captions(chat, "cat", 5, SMALL, anything)
    assert len(captions.texts) == 5


def test_a_chat_template_that_refuses_is_one_line(chat: Writer) -> None:
    tokenizer = deepcopy(chat.tokenizer)
    tokenizer.chat_template = "{{ raise_exception('no system message') }}"
    writer = Writer(chat.model, tokenizer, False, "picky")
    with pytest.raises(BadSetting, match=r"template of picky refuses .*no system message.*--captions-model"):
        next(sample(writer, "cat", SMALL))


def test_captions_are_drawn_until_enough_are_usable(t5: Writer) -> None:
    told: list[int] = []
    captions = write_captions(t5, "cat", 20, SMALL, anything, told.append)
    assert len(captions.texts) == sum(told) == 20
    assert captions.drawn > 20 and captions.off_concept > 0
    assert write_captions(t5, "cat", 8, SMALL, anything).texts == captions.texts[:8]


def test_a_model_that_cannot_do_it_is_given_up_with_the_reasons(t5: Writer) -> None:
    with pytest.raises(BadCaptions) as raised:
        write_captions(t5, "walrus", 4, SMALL, anything)
    text = str(raised.value)
    assert "wrote 256 captions for 'walrus', and only 0 of the 4 asked for are usable (" in text
    assert " do not name it" in text
    assert "--temperature" in text and "--captions 0" not in text


def test_an_unknown_word_is_refused_and_the_known_are_listed_nearest_first(t5: Writer) -> None:
    knowledge = Knowledge(("dog", "horse", "cat"))
    check_known("Cat", knowledge, "x")
    check_known("walrus", Knowledge(), "x")
    with pytest.raises(
        UnknownConcept, match="'hors' is not known to the captions model x; it knows: horse, dog, cat"
    ):
        check_known("hors", knowledge, "x")
    knowing = Writer(t5.model, t5.tokenizer, True, "tiny", knowledge)
    with pytest.raises(UnknownConcept, match="'walrus' is not known to the captions model tiny"):
        write_captions(knowing, "walrus", 4, SMALL, anything)
