"""`edit-image` from the command line, on the embedded models, in a few steps."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from editor.cli import main
from editor.record import read_record
from library import Direction, Library
from zoo.recipe.scenes import HELD_OUT, draw_scene, sample_scene


@cache
def encoder() -> tuple[str, tuple[int, int]]:
    from editor.models import load_models

    models = load_models("embedded")
    return models.encoder_id, (models.tokenizer.model_max_length, models.text_encoder.config.hidden_size)


@pytest.fixture
def picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "cat.png"
    Image.fromarray(draw_scene(sample_scene(HELD_OUT, object="cat"))[0]).save(path)
    return path


@pytest.fixture
def directions(private_folders: Path) -> Library:
    identity, shape = encoder()
    library = Library()
    for seed, name in enumerate(("cat2dog", "day2night")):
        tensor = np.random.default_rng(seed).normal(size=shape).astype(np.float32) * 0.1
        source, target = name.split("2")
        library.save(Direction(name=name, tensor=tensor, encoder=identity, source=source, target=target))
    return library


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def failed(result: Result, *words: str) -> None:
    assert result.exit_code == 1, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), result.stderr
    for word in words:
        assert word in lines[0]


def test_an_edit_is_saved_where_the_last_line_says_with_its_record(
    picture: Path, directions: Library
) -> None:
    result = run(picture, "-d", "cat2dog", "--steps", 3, "--sheet")
    assert result.exit_code == 0, result.output
    path = Path(result.stdout.strip().splitlines()[-1].removeprefix("saved  "))
    assert path == Path("cat-cat2dog.png") and Image.open(path).size == (64, 64)
    record = read_record(path)
    assert record == json.loads(path.with_suffix(".json").read_text())
    assert record["expression"] == "cat2dog" and record["direction"]["version"] == 1
    assert record["settings"]["steps"] == 3 and "cat" in record["caption"]
    assert Image.open("cat-cat2dog-sheet.png").width > 3 * 64


def test_the_same_call_gives_the_same_picture_and_another_strength_another(
    picture: Path, directions: Library
) -> None:
    for name, strength in (("a", 1), ("b", 1), ("c", 0.2)):
        assert (
            run(picture, "-d", "cat2dog", "--steps", 3, "--strength", strength, "-o", f"{name}.png").exit_code
            == 0
        )
    a, b, c = (np.asarray(Image.open(f"{n}.png")) for n in "abc")
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_existing_files_stay_unless_forced(picture: Path, directions: Library) -> None:
    Path("out.png").write_bytes(b"precious")
    failed(run(picture, "-d", "cat2dog", "--steps", 3, "-o", "out.png"), "out.png exists", "--force")
    assert Path("out.png").read_bytes() == b"precious"
    assert run(picture, "-d", "cat2dog", "--steps", 3, "-o", "out.png", "--force").exit_code == 0
    assert Image.open("out.png").size == (64, 64)


def test_pictures_times_directions_go_to_a_folder(picture: Path, directions: Library) -> None:
    other = picture.with_name("other.jpg")
    Image.new("L", (90, 64), 99).save(other)
    arguments = ["-d", "cat2dog", "-d", "0.5*cat2dog + day2night", "--steps", 2, "-o", "edits", "--json"]
    result = run(picture, other, *arguments)
    assert result.exit_code == 0, result.output
    reports = json.loads(result.stdout)
    assert len(reports) == 4 == len({r["output"] for r in reports})
    assert all(Path(r["output"]).parent == Path("edits") and Path(r["output"]).exists() for r in reports)
    assert Image.open(reports[2]["output"]).size == (90, 64)


def test_a_prompt_makes_a_picture_and_its_edit(picture: Path, directions: Library) -> None:
    result = run("--prompt", "a cat on the grass", "-d", "cat2dog", "--steps", 2)
    assert result.exit_code == 0, result.output
    assert Path("prompt-cat2dog.png").exists()


def test_an_unknown_direction_says_so(picture: Path, directions: Library) -> None:
    failed(run(picture, "-d", "cat2horse"), "cat2horse", "mkdir-direction")


def test_a_missing_picture_says_so(directions: Library) -> None:
    failed(run("nowhere.png", "-d", "cat2dog"), "nowhere.png", "no such file")


def test_a_file_that_is_no_picture_says_so(picture: Path, directions: Library) -> None:
    Path("notes.png").write_text("hello")
    failed(run("notes.png", "-d", "cat2dog"), "notes.png is not a picture")


def test_a_truncated_picture_says_so(picture: Path, directions: Library) -> None:
    Path("cut.png").write_bytes(picture.read_bytes()[:900])
    failed(run("cut.png", "-d", "cat2dog"), "cut.png", "cut short")


def test_models_that_cannot_be_reached_name_both_ways_out(picture: Path, directions: Library) -> None:
    failed(run(picture, "-d", "cat2dog", "--models", "nobody/nothing"), "nobody/nothing", "network", "folder")


def test_another_encoder_is_refused_with_the_command_that_rebuilds(
    picture: Path, directions: Library
) -> None:
    shape = encoder()[1]
    directions.save(Direction(name="old", tensor=np.ones(shape, np.float32), encoder="clip768x12-00000000"))
    failed(run(picture, "-d", "old"), "clip768x12-00000000", "mkdir-direction --rebuild old")


def test_pictures_and_prompt_exclude_each_other(picture: Path) -> None:
    assert run(picture, "-d", "cat2dog", "--prompt", "a cat").exit_code == 2
    assert run("-d", "cat2dog").exit_code == 2
