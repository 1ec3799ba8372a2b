"""Articles, number, naming a concept, swapping one."""

import pytest

from zoo.words import forms, names_concept, plural, singular, swap_concept, with_article, words_of


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("cat", "a cat"),
        ("elephant", "an elephant"),
        ("cat wearing a hat", "a cat wearing a hat"),
        ("orange cat with a hat", "an orange cat with a hat"),
        ("grass", "grass"),
        ("wet grass", "wet grass"),
        ("night", "night"),
        ("glasses", "glasses"),
        ("mountains", "mountains"),
        ("flat drawing", "a flat drawing"),
        ("oil painting", "an oil painting"),
        ("3d render", "a 3d render"),
        ("8-bit cat", "an 8-bit cat"),
        ("unicorn", "a unicorn"),
        ("umbrella", "an umbrella"),
        ("hour", "an hour"),
        ("horse", "a horse"),
        ("the sea", "the sea"),
        ("two cats", "two cats"),
        ("bus", "a bus"),
        ("lens", "a lens"),
        ("atlas", "an atlas"),
        ("rhinoceros", "a rhinoceros"),
        ("UFO", "a UFO"),
        ("sheep", "a sheep"),
        ("unidentified object", "an unidentified object"),
        ("unimpressed cat", "an unimpressed cat"),
        ("uninhabited island", "an uninhabited island"),
        ("unimodal curve", "a unimodal curve"),
        ("university", "a university"),
        ("uniform", "a uniform"),
        ("unique cat", "a unique cat"),
        ("union", "a union"),
        ("utensil", "a utensil"),
        ("x-ray", "an x-ray"),
        ("F1 car", "an F1 car"),
        ("MRI scan", "an MRI scan"),
        ("HDR photo", "an HDR photo"),
        ("xylophone", "a xylophone"),
        ("s'more", "a s'more"),
        ("MP3 player", "an MP3 player"),
        ("NYC map", "an NYC map"),
        ("MR scanner", "a MR scanner"),
        ("USB stick", "a USB stick"),
        ("U-boat", "a U-boat"),
        ("urn", "an urn"),
        ("umbrella", "an umbrella"),
        ("onesie", "a onesie"),
        ("180-degree view", "a 180-degree view"),
        ("18th century house", "an 18th century house"),
        ("tv series", "a tv series"),
        ("FOX", "a FOX"),
        ("NASA rocket", "a NASA rocket"),
        ("christmas", "christmas"),
    ],
)
def test_a_concept_takes_its_article(phrase: str, expected: str) -> None:
    assert with_article(phrase) == expected


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("cat", "cats"), ("fox", "foxes"), ("wolf", "wolves"), ("pony", "ponies"), ("bus", "buses"),
        ("sheep", "sheep"), ("mouse", "mice"), ("human", "humans"), ("woman", "women"),
        ("child", "children"), ("snowman", "snowmen"),
        ("zebra", "zebras"), ("horse", "horses"), ("nurse", "nurses"), ("church", "churches"),
        ("lens", "lenses"), ("canvas", "canvases"), ("series", "series"), ("rhinoceros", "rhinoceroses"),
    ],
)  # fmt: skip
def test_singular_and_plural_are_found_from_each_other(one: str, many: str) -> None:
    assert plural(one) == many
    assert singular(many) == one
    assert {one, many} <= forms(one) and {one, many} <= forms(many)


def test_words_lose_case_punctuation_and_possessives() -> None:
    assert words_of("A cat's T-shirt, photo-realistic!") == ["a", "cat", "t", "shirt", "photo", "realistic"]


@pytest.mark.parametrize(
    ("caption", "concept", "named"),
    [
        ("A Cat.", "cat", True),
        ("two cats", "cat", True),
        ("a cat", "cats", True),
        ("the cat's tail", "cat", True),
        ("a category", "cat", False),
        ("a dog", "cat", False),
        ("wolves in the snow", "wolf", True),
        ("a cat in a hat", "cat wearing a hat", True),
        ("a cat wearing a hat", "cat wearing a hat", True),
        ("a cat wearing glasses", "cat wearing a hat", False),
        ("a hot dog stand", "hot dog", True),
        ("two hot dogs", "hot dog", True),
        ("a dog", "hot dog", False),
        ("a cat at night", "night", True),
        ("it is the", "the", True),
        ("草地上的猫", "猫", True),
        ("草地上的狗", "猫", False),
    ],
)
def test_a_caption_names_a_concept(caption: str, concept: str, named: bool) -> None:
    assert names_concept(caption, concept) is named


@pytest.mark.parametrize(
    ("caption", "source", "target", "expected"),
    [
        ("A cat sits", "cat", "elephant", "An elephant sits"),
        ("two cats play", "cat", "dog wearing a hat", "two dogs wearing a hat play"),
        ("a cat wearing a hat at night", "cat wearing a hat", "cat", "a cat at night"),
        ("on the grass", "grass", "beach", "on the beach"),
        ("Wolves run", "wolf", "sheep", "Sheep run"),
        ("an owl", "owl", "wolf", "a wolf"),
        ("a beach", "beach", "grass", "grass"),
        ("a hotcat", "cat", "dog", None),
        ("a dog", "cat", "dog", None),
    ],
)
def test_swapping_keeps_number_and_corrects_the_article(
    caption: str, source: str, target: str, expected: str | None
) -> None:
    assert swap_concept(caption, source, target) == expected
