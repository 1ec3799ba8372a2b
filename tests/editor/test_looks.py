"""What `edit-image` shows beside an edit: a sweep's sheet, attention, and what it says of a bad one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from editor.record import read_record

from .command_line import draw_cat, loaded, run, two_directions, worked


@pytest.fixture
def cat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("editor.session.load_models", loaded)
    monkeypatch.chdir(tmp_path)
    two_directions()
    return draw_cat(tmp_path / "cat.png")


def test_sweep_writes_one_sheet_of_every_combination(cat: Path) -> None:
    worked(cat, "-d", "cat2dog", "--steps", 2, "--sweep", "strength=-1:1:3,guidance=0,0.1", "-o", "sweep.png")
    values = read_record("sweep.png")["sweep"]["values"]
    assert [(v["strength"], v["guidance"]) for v in values] == [(s, g) for g in (0, 0.1) for s in (-1, 0, 1)]
    width, height = Image.open("sweep.png").size
    assert width > 4 * 64 and height > 2 * 64
    assert sorted(path.name for path in Path().glob("sweep*")) == ["sweep.json", "sweep.png"]
    failed = run(cat, "-d", "cat2dog", "--sweep", "colour=1", "-o", "other.png")
    assert failed.exit_code == 1 and "colour" in failed.stderr and not Path("other.png").exists()


def test_a_sweep_is_made_again_from_its_sheet(cat: Path) -> None:
    worked(cat, "-d", "cat2dog", "--steps", 2, "--sweep", "strength=0,1,guidance=0,0.1", "-o", "sweep.png")
    worked("--from", "sweep.png")
    assert Path("sweep-again.png").read_bytes() == Path("sweep.png").read_bytes()
    assert Path("sweep-again.json").read_bytes() == Path("sweep.json").read_bytes()
    # A knob that is given a value is no longer swept; with all of them given it is an edit.
    worked("--from", "sweep.png", "--strength", 0.5, "-o", "one.png")
    again = read_record("one.png")
    assert again["sweep"]["knobs"] == [["guidance", [0.0, 0.1]]] and again["strength"] == 0.5
    worked("--from", "sweep.png", "--strength", 0.5, "--guidance", 0.1, "-o", "edit.png")
    assert "sweep" not in read_record("edit.png") and Image.open("edit.png").size == (64, 64)
    # And an edit can be swept, also over what its record gives.
    worked("--from", "edit.png", "--sweep", "guidance=0,0.2", "-o", "two.png")
    again = read_record("two.png")
    assert again["sweep"]["knobs"] == [["guidance", [0.0, 0.2]]] and again["strength"] == 0.5


def test_attention_is_drawn_where_it_is_asked_for(cat: Path) -> None:
    short = [cat, "-d", "cat2dog", "--steps", 2, "--caption", "a cat at night"]
    result = worked(*short, "--show-attention", "words.png", "-o", "a.png")
    assert "attention  words.png" in result.stdout
    width, height = Image.open("words.png").size
    assert width > 2 * height  # the picture and four words, over the same after the edit
    worked(*short, "-d", "0.5*cat2dog", "--show-attention", "words", "-o", "edits")
    drawn = sorted(path.name for path in Path("words").iterdir())
    assert drawn == ["cat-0-5-cat2dog-attention.png", "cat-cat2dog-attention.png"]
    for wrong in ("more.jpg", "words.png"):
        result = run(*short, "-d", "0.5*cat2dog", "--show-attention", wrong, "-o", "others")
        assert result.exit_code == 1 and "expected a .png file for one edit" in result.stderr
    for taken in ("c.png", "c-sheet.png"):
        result = run(*short, "--sheet", "--show-attention", taken, "-o", "c.png")
        assert result.exit_code == 1 and f"{taken} is written with the edit already" in result.stderr
    result = run(*short, "--sweep", "strength=0,1", "--show-attention", "maps.png")
    assert result.exit_code == 2 and "--show-attention and --sweep exclude each other" in result.stderr
    result = run(*short, "--show-attention", "words.png", "-o", "b.png")
    assert result.exit_code == 1 and "words.png" in result.stderr and not Path("b.png").exists()


def test_findings_are_said_and_recorded(cat: Path) -> None:
    result = worked(cat, "-d", "cat2dog", "--steps", 2, "--caption", "a fox at night", "-o", "f.png")
    assert "warning: " in result.stderr and "--caption" in result.stderr
    findings = json.loads(Path("f.json").read_text())["findings"]
    assert "source-missing" in [finding["code"] for finding in findings]
    assert all(finding["message"] and finding["remedy"] for finding in findings)
