"""`edit-image --from`: the same edit again from its record, with one thing changed, or refused with what changed."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from editor.record import RECORD_KEY, read_record
from editor.replay import for_encoder, repeated
from library import Library
from zoo.registry import WEIGHTS

from .command_line import cat_and_directions, failed, pixels, run, save_direction, worked

STEPS = ["--steps", 2]


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, private_folders: Path) -> dict[str, Any]:
    """`out.png`, an edit of `cat.png` by two directions and with many settings of its own; its record."""
    cat_and_directions(tmp_path, monkeypatch)
    settings = ["--guidance", 0.02, "--guidance-scale", 4, "--noise-correction", "--source-correction"]
    inversion = ["--kl", 0.5, "--seed", 7, "--caption", "a cat on the grass", "--negative-prompt", "a fox"]
    worked("cat.png", "-d", "0.8*cat2dog - day2night/3", *STEPS, *settings, *inversion, "-o", "out.png")
    return read_record("out.png")


def told(record: dict[str, Any]) -> dict[str, Any]:
    """The record without what differs from run to run, and without how its inputs were named."""
    times = ("seconds", "created", "expression", "input", "mask", "findings")
    inversion = {k: v for k, v in record["inversion"].items() if k not in ("seconds", "cached")}
    return {**{k: v for k, v in record.items() if k not in times}, "inversion": inversion}


def rewritten(path: str, **changes: Any) -> None:
    """The record of a picture, changed."""
    info = PngInfo()
    info.add_itxt(RECORD_KEY, json.dumps({**read_record(path), **changes}))
    with Image.open(path) as image:
        image.load()
        image.save(path, pnginfo=info)


def test_again_is_the_same_to_the_last_byte(made: dict[str, Any]) -> None:
    result = worked("--from", "out.png")
    assert result.stdout.strip().splitlines()[-1] == "saved  out-again.png"
    assert "inversion found in the cache" in result.stderr and "note" not in result.stderr
    worked("--from", "out.json", "--no-cache", "-o", "third.png")
    for name in ("out-again.png", "third.png"):
        assert Path(name).read_bytes() == Path("out.png").read_bytes()
    assert Path("third.json").read_bytes() == Path("out.json").read_bytes()
    failed(run("--from", "out.png"), "out-again.png exists", "--force")
    worked("--from", "out-again.png", "-o", "fourth.png")
    assert pixels("fourth.png").tobytes() == pixels("out.png").tobytes()


def test_a_file_name_that_is_no_utf8(made: dict[str, Any]) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    shutil.copy("cat.png", name)
    worked(name, "-d", "cat2dog", *STEPS, "-o", "latin.png")
    assert read_record("latin.png")["input"]["given"] == name
    worked("--from", "latin.png")
    assert Path("latin-again.png").read_bytes() == Path("latin.png").read_bytes()


def test_an_option_replaces_that_one_thing(made: dict[str, Any]) -> None:
    worked("--from", "out.png", "--strength", 0.4, "-o", "weaker.png")
    weaker = read_record("weaker.png")
    assert told(weaker) == {**told(made), "strength": 0.4}
    assert not np.array_equal(pixels("weaker.png"), pixels("out.png"))
    worked("--from", "out.png", "--no-noise-correction", "--kl", 1, "--steps", 1, "-o", "other.png")
    other = read_record("other.png")
    assert other["settings"] == {**made["settings"], "noise_correction": False, "steps": 1}
    assert other["inversion"]["regulariser"] == {**made["inversion"]["regulariser"], "kl": 1}
    assert other["seed"] == 7 and other["negative_prompt"] == "a fox"


def test_another_direction_or_caption(made: dict[str, Any]) -> None:
    worked("--from", "out.png", "-d", "cat2dog")
    record = read_record("cat-cat2dog.png")
    assert record["direction"]["resolved"] == "cat2dog@1" and record["settings"] == made["settings"]
    worked("cat.png", "-d", "cat2dog", *STEPS, "--caption", "a cat", "-o", "plain.png")
    worked("--from", "plain.png", "--caption", "a cat in the snow")
    record = read_record("plain-again.png")
    assert record["caption"] == record["negative_prompt"] == "a cat in the snow"


def test_other_pictures_take_the_recipe_and_have_captions_of_their_own(made: dict[str, Any]) -> None:
    Image.open("cat.png").rotate(90).save("other.png")
    shutil.copy("cat.png", "copy.png")
    worked("other.png", "copy.png", "--from", "out.png", "-o", "edits")
    worked("copy.png", "--from", "out.png", "-o", "moved.png")
    (other,) = Path("edits").glob("other-*.png")
    record = read_record(other)
    assert record["caption"] != "" and record["settings"] == made["settings"] and record["seed"] == 7
    assert record["direction"] == made["direction"]
    assert pixels("moved.png").tobytes() == pixels("out.png").tobytes()  # its caption was the record's


def test_the_recorded_version_is_taken_even_where_there_is_a_newer_one(made: dict[str, Any]) -> None:
    assert save_direction("cat2dog", seed=9).version == 2
    worked("--from", "out.png")
    assert pixels("out-again.png").tobytes() == pixels("out.png").tobytes()
    assert made["direction"]["resolved"].startswith("0.8*cat2dog@1 - 0.333")
    worked("--from", "out.png", "-d", made["expression"], "-o", "newer.png")
    assert read_record("newer.png")["direction"]["resolved"].startswith("0.8*cat2dog@2")


def test_a_direction_that_changed_is_named(made: dict[str, Any], tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    save_direction("cat2dog", 5, elsewhere)
    save_direction("day2night", 1, elsewhere)
    result = run("--from", "out.png", "--library", elsewhere)
    failed(result, "cat2dog@1 is not the direction that out.png was made with", "give another with -d")
    assert "day2night" not in result.stderr.split(" is not ")[0]
    shutil.rmtree(elsewhere / "day2night")
    failed(run("--from", "out.png", "--library", elsewhere), "no direction day2night")
    assert not Path("out-again.png").exists()


def test_a_picture_that_changed_or_is_gone_is_named(made: dict[str, Any]) -> None:
    kept = Path("cat.png").read_bytes()
    Image.open("cat.png").rotate(90).save("cat.png")
    failed(run("--from", "out.png"), "cat.png is not the picture that out.png was made with", "sha256")
    Path("cat.png").unlink()
    failed(
        run("--from", "out.png"), "the picture that out.png was made with is gone", "PICTURE --from out.png"
    )
    Path("cat.png").write_bytes(kept)
    worked("--from", "out.png")


def test_found_as_it_was_named_where_its_folder_moved(made: dict[str, Any]) -> None:
    rewritten("out.png", input={**made["input"], "path": "/nowhere/cat.png"})
    worked("--from", "out.png")
    assert pixels("out-again.png").tobytes() == pixels("out.png").tobytes()


def test_a_mask_is_taken_again_and_checked(made: dict[str, Any]) -> None:
    Image.linear_gradient("L").save("mask.png")
    worked("--from", "out.png", "--mask", "mask.png", "-o", "masked.png")
    worked("--from", "masked.png")
    assert pixels("masked-again.png").tobytes() == pixels("masked.png").tobytes()
    assert read_record("masked-again.png")["mask"]["sha256"] == read_record("masked.png")["mask"]["sha256"]
    Image.new("L", (8, 8), 255).save("mask.png")
    failed(run("--from", "masked.png"), "mask.png is not the mask that masked.png was made with")


def test_a_prompt_again(made: dict[str, Any]) -> None:
    worked("--prompt", "a cat in the snow", "-d", "cat2dog", *STEPS, "--size", 40, "-o", "made.png")
    worked("--from", "made.png")
    assert pixels("made-again.png").tobytes() == pixels("made.png").tobytes()
    assert Image.open("made-again.png").size == (40, 40)
    worked("--from", "made.png", "--prompt", "a dog at night", "-o", "dog.png")
    record = read_record("dog.png")
    assert record["caption"] == "a dog at night" and record["size"] == [40, 40]
    worked("cat.png", "--from", "made.png", "-o", "real.png")
    assert read_record("real.png")["size"] == [64, 64] and read_record("real.png")["prompt"] is None


def test_one_of_a_batch_says_that_rounding_may_differ(made: dict[str, Any]) -> None:
    Image.open("cat.png").rotate(90).save("other.png")
    worked("cat.png", "other.png", "-d", "cat2dog", *STEPS, "--caption", "a cat", "--batch", 2)
    result = worked("--from", "cat-cat2dog.png")
    assert "note: cat-cat2dog.png was made in a batch of 2" in result.stderr
    difference = pixels("cat-cat2dog.png").astype(int) - pixels("cat-cat2dog-again.png")
    assert np.abs(difference).max() <= 1


def test_other_versions_are_a_note(made: dict[str, Any]) -> None:
    rewritten("out.png", versions={**made["versions"], "torch": "1.0"})
    result = worked("--from", "out.png")
    (note,) = [line for line in result.stderr.splitlines() if line.startswith("note: ")]
    assert "out.png was made with torch 1.0; here are torch " in note and "diffusers" not in note


def test_files_without_a_usable_record(made: dict[str, Any]) -> None:
    failed(run("--from", "nowhere.png"), "nowhere.png: no such file")
    failed(run("--from", "cat.png"), "cat.png carries no record")
    Path("notes.txt").write_text("hello")
    failed(run("--from", "notes.txt"), "notes.txt cannot be read")
    Path("broken.json").write_text("{")
    failed(run("--from", "broken.json"), "the record of broken.json is damaged")
    Path("list.json").write_text("[]")
    failed(run("--from", "list.json"), "the record of list.json is damaged")
    Path("old.json").write_text(json.dumps({k: v for k, v in made.items() if k != "input"}))
    failed(run("--from", "old.json"), "the record of old.json is not complete (KeyError: 'input')")
    Path("new.json").write_text(json.dumps({**made, "settings": {**made["settings"], "magic": 1}}))
    failed(run("--from", "new.json"), "new.json was made with the setting 'magic'")


def test_a_jpeg_has_its_record_beside_it(made: dict[str, Any]) -> None:
    worked("--from", "out.png", "-o", "edit.jpg")
    worked("--from", "edit.jpg", "-o", "back.png")
    assert pixels("back.png").tobytes() == pixels("out.png").tobytes()


def test_other_models_resolve_the_expression_anew(made: dict[str, Any]) -> None:
    models = Path(__file__).parents[1] / "golden" / "tiny_sd"
    failed(
        run("--from", "out.png", "--models", models),
        "cat2dog was made for encoder",
        "mkdir-direction --rebuild",
    )


def test_the_same_models_elsewhere_keep_the_recorded_versions(made: dict[str, Any]) -> None:
    save_direction("cat2dog", seed=9)
    Path("elsewhere").symlink_to(WEIGHTS / "diffusion")
    result = worked("--from", "out.png", "--models", Path("elsewhere").absolute(), "-o", "moved.png")
    assert "is another here" not in result.stderr
    assert read_record("moved.png")["direction"] == made["direction"]
    assert pixels("moved.png").tobytes() == pixels("out.png").tobytes()
    rewritten("out.png", models_folder=str(Path("gone").absolute()))
    failed(run("--from", "out.png", "-o", "x.png"), "are gone: ", "name them: --models FOLDER --from out.png")


def test_a_record_that_does_not_tell_the_parts_is_repeated_as_it_was(made: dict[str, Any]) -> None:
    told_then = {k: v for k, v in made["direction"].items() if k != "anchors"}
    rewritten("out.png", direction=told_then)
    worked("--from", "out.png", "-o", "again.png")
    assert read_record("again.png")["direction"] == told_then


def test_which_versions_a_record_is_repeated_with(made: dict[str, Any]) -> None:
    request = repeated("out.png", {})
    assert request.named == request.expressions == (made["direction"]["resolved"],)
    elsewhere = replace(request, models="another/model")
    assert elsewhere.named == (made["expression"],)
    encoder = made["encoder"]
    assert for_encoder(elsewhere, ["clip-00000000", encoder]) == (elsewhere, [])
    other, notes = for_encoder(elsewhere, ["clip-00000000", "another/model"])
    assert other.expressions == elsewhere.named and not other.pinned and encoder in notes[0]


def test_a_sum_of_other_parts_is_refused(made: dict[str, Any]) -> None:
    rewritten(
        "out.png", direction={**made["direction"], "anchors": [{"source": "a", "target": "b", "weight": 1}]}
    )
    failed(run("--from", "out.png", "-o", "x.png"), "is placed otherwise than the direction that out.png")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("input",), "xyz"),
        (("input", "sha256"), None),
        (("mask",), -1),
        (("inversion", "regulariser"), None),
        (("settings", "guidance_scale"), "xyz"),
        (("settings",), []),
        (("direction",), 3),
        (("strength",), {}),
    ],
)
def test_a_damaged_record_is_one_line(made: dict[str, Any], place: tuple[str, ...], value: Any) -> None:
    inner = made
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    Path("damaged.json").write_text(json.dumps(made))
    failed(run("--from", "damaged.json", "-o", "x.png"), "the record of damaged.json is not complete")


def test_other_pictures_are_called_after_what_was_asked_for(made: dict[str, Any]) -> None:
    shutil.copy("cat.png", "other.png")
    shutil.copy("cat.png", "third.png")
    worked("cat.png", "-d", "dog2cat", *STEPS, "-o", "back.png")
    worked("other.png", "third.png", "--from", "back.png")
    assert Path("other-dog2cat.png").is_file() and Path("third-dog2cat.png").is_file()


def test_another_sweep_takes_nothing_from_the_recorded_one(made: dict[str, Any]) -> None:
    worked("cat.png", "-d", "cat2dog", *STEPS, "--sweep", "strength=-0.5:1:2", "-o", "one.png")
    worked("--from", "one.png", "--sweep", "guidance=0,0.1", "-o", "two.png")
    record = read_record("two.png")
    assert record["strength"] == 1 and record["sweep"]["knobs"] == [["guidance", [0.0, 0.1]]]
    worked("--from", "one.png", "--sweep", "guidance=0,0.1", "--strength", 0.5, "-o", "three.png")
    assert read_record("three.png")["strength"] == 0.5
    for flag in (["--evaluate"], ["--sheet"], ["--auto"], ["--show-attention", "a.png"]):
        result = run("--from", "one.png", *flag)
        assert result.exit_code == 2 and f"{flag[0]} and --sweep exclude each other" in result.stderr


def test_a_direction_under_another_number_is_found_by_its_checksum(
    made: dict[str, Any], tmp_path: Path
) -> None:
    worked("cat.png", "-d", "cat2dog", *STEPS, "-o", "one.png")
    colleague = Library(tmp_path / "colleague")
    for _ in range(2):  # cat2dog@1 and @2 are others here
        save_direction("cat2dog", 99, colleague.path)
    for name in ("cat2dog", "day2night"):
        colleague.save(replace(Library()[name], version=None))
    for picture in ("one.png", "out.png"):
        result = worked("--from", picture, "--library", colleague.path, "-o", f"again-{picture}")
        assert (
            pixels(f"again-{picture}").tobytes() == pixels(picture).tobytes() and "note" not in result.stderr
        )
    assert read_record("again-one.png")["direction"]["version"] == 3
    colleague.find("cat2dog@3").path.unlink()
    failed(
        run("--from", "one.png", "--library", colleague.path, "-o", "x.png"),
        "is not the direction that one.png",
    )


def test_an_imported_direction_under_another_number_is_found_by_its_checksum(
    made: dict[str, Any], tmp_path: Path
) -> None:
    declared = {"encoder": "embedded", "record": {"declared": True, "models": {"name": "embedded"}}}
    mine, other = (replace(save_direction("cat2fox", seed), version=None, **declared) for seed in (5, 99))
    here, colleague = (Library(tmp_path / name) for name in ("here", "colleague"))
    here.save(mine)
    worked("cat.png", "-d", "cat2fox", *STEPS, "--library", here.path, "-o", "one.png")
    for direction in (other, mine):
        colleague.save(direction)
    worked("--from", "one.png", "--library", colleague.path, "-o", "again.png")
    assert pixels("again.png").tobytes() == pixels("one.png").tobytes()
    assert read_record("again.png")["direction"]["version"] == 2


def test_a_type_that_does_not_exist_is_one_line(made: dict[str, Any]) -> None:
    rewritten("out.png", dtype="float7")
    failed(
        run("--from", "out.png", "-o", "x.png"), "was made with the type 'float7'; expected one of float32"
    )


def test_an_empty_expression_says_what_was_expected(made: dict[str, Any]) -> None:
    failed(run("cat.png", "-d", ""), "is empty; expected directions with weights")


def test_warnings_of_several_edits_say_of_which(made: dict[str, Any]) -> None:
    result = worked("cat.png", "-d", "cat2dog", "-d", "0.01*cat2dog", *STEPS, "-o", "edits")
    assert "warning: edits/cat-0-01-cat2dog.png: hardly anything changed" in result.stderr
