"""Sweeps: what a text asks for, which batches it takes, and what one sees; how records show in a notebook."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

import pytest
from PIL import Image, ImageShow

from editor.errors import EditorError
from editor.progress import Progress
from editor.record import read_record
from editor.sheets import contact_sheet
from editor.sweep import MOST, Sweep, checked, parse_sweep

from .command_line import cat_and_directions, run, worked
from .embedded import CAPTION, cat2dog, editor, inversion


@pytest.fixture(scope="module")
def grid() -> Sweep:
    return inversion().sweep(cat2dog(), strength=[0, 1, 1.5], guidance=[0, 0.05])


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("strength=2", {"strength": [2]}),
        ("strength=-1:1.5:6", {"strength": [-1, -0.5, 0, 0.5, 1, 1.5]}),
        (
            "strength=-1:1:3,4, guidance=0,0.05,0.1",
            {"strength": [-1, 0, 1, 4], "guidance": [0, 0.05, 0.1]},
        ),
        ("guidance-scale=5:5:1,interpolation=.2,guidance_until=1,1,0.5",
         {"guidance_scale": [5], "interpolation": [0.2], "guidance_until": [1, 0.5]}),
        ("strength=1:0:11", {"strength": [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0]}),
    ],
)  # fmt: skip
def test_a_text_says_what_to_sweep(text: str, values: dict[str, list[float]]) -> None:
    assert parse_sweep(text) == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' does not say what to sweep; expected KNOB=VALUES, such as strength="),
        ("1,2", "does not say what to sweep"),
        ("power=1", "unknown knob 'power'; what can be swept is strength, guidance, guidance_scale"),
        ("strength=", "'' in 'strength=' is no value"),
        ("strength=one", "'one' in 'strength=one' is no value; expected a number, or FROM:TO:COUNT"),
        ("strength=0:1", "'0:1' in 'strength=0:1' is no value"),
        ("strength=0:1:2.5", "'0:1:2.5' in .* is no value"),
        ("strength=0:1:0", "'0:1:0' asks for 0 values; expected 1 to 200"),
        ("strength=0:1:999999999", "asks for 999999999 values"),
        ("strength=nan", "expected one finite number or more"),
        ("strength=1,strength=2", "strength is swept twice"),
        ("strength=0:1:21,guidance=0:1:10", "that would be 210 pictures; at most 200"),
    ],
)
def test_a_text_that_is_no_sweep_is_refused(text: str, message: str) -> None:
    with pytest.raises(EditorError, match=message):
        parse_sweep(text)


def test_edits_of_equal_settings_share_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[tuple[list[float], Mapping[str, Any]]] = []

    def stand_in(self: Any, jobs: Any, **settings: Any) -> list[Any]:
        batches.append(([strength for _, _, strength in jobs], settings))
        return [(strength, settings) for _, _, strength in jobs]

    monkeypatch.setattr(type(editor()), "edit_all", stand_in)
    found = inversion().sweep(cat2dog(), guidance_scale=[1, 2], strength=[1, -1], guidance_until=0.5)
    assert batches == [
        ([1, -1], {"guidance_scale": 1, "guidance_until": 0.5}),
        ([1, -1], {"guidance_scale": 2, "guidance_until": 0.5}),
    ]
    assert found.columns == 2 and list(found) == [(s, options) for ss, options in batches for s in ss]
    assert found.values[1] == {"strength": -1, "guidance_scale": 1, "guidance_until": 0.5}
    batches.clear()
    inversion().sweep(cat2dog(), guidance=[0, 0.1], mask="kept.png")
    assert batches == [([1.0], {"cross_attention_guidance": g, "mask": "kept.png"}) for g in (0, 0.1)]
    batches.clear()
    whole = inversion().sweep(cat2dog())
    assert len(batches) == 2 and whole.columns == 3 and len(whole) == 6


def test_every_edit_is_what_it_would_be_alone(grid: Sweep) -> None:
    assert len(grid) == len(list(grid)) == 6
    alone = inversion().edit(cat2dog(), 1.5, cross_attention_guidance=0.05)
    assert (grid[5].latents - alone.latents).abs().max() < 1e-3
    assert (
        grid[5].record["strength"] == 1.5 and grid[5].record["settings"]["cross_attention_guidance"] == 0.05
    )


def test_the_sheet_has_the_reconstruction_first_and_names_the_values(grid: Sweep) -> None:
    assert grid.label(5) == "strength 1.5 · guidance 0.05"
    cells = [("reconstruction", grid[0].reconstruction)] + [(grid.label(k), grid[k].image) for k in range(6)]
    expected = contact_sheet([cells[:4], [None, *cells[4:]]])
    assert grid.sheet().tobytes() == expected.tobytes()
    assert Image.open(io.BytesIO(grid._repr_png_())).size == expected.size
    assert "6 edits: strength [0.0, 1.0, 1.5], guidance [0.0, 0.05]" in repr(grid)


def test_the_table_measures_how_far_each_went(grid: Sweep) -> None:
    table = grid.table()
    assert list(table.columns) == ["strength", "guidance", "drift", "psnr"]
    assert list(table.strength) == [0, 1, 1.5] * 2 and list(table.guidance) == [0] * 3 + [0.05] * 3
    assert all(math.isnan(d) for d in table.drift[:3]) and all(d > 0 for d in table.drift[4:])
    assert table.psnr[0] > table.psnr[1:3].max()


def test_without_a_viewer_the_table_is_printed(
    grid: Sweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ImageShow, "_viewers", [])
    grid.show()
    assert capsys.readouterr().out.split()[:2] == ["strength", "guidance"]


def test_what_cannot_be_swept_is_refused_before_any_edit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(editor()), "edit_all", lambda *args, **kwargs: pytest.fail("an edit was made"))
    sweep = inversion().sweep
    with pytest.raises(EditorError, match=r"guidance_until is 2\.0; expected a part from 0 to 1"):
        sweep(cat2dog(), guidance_until=[0.5, 2])
    with pytest.raises(
        EditorError, match="cross_attention_guidance is set, and swept as guidance: give it once"
    ):
        sweep(cat2dog(), guidance=[0, 1], cross_attention_guidance=0.1)
    with pytest.raises(EditorError, match="strength is 'much'; expected a number or a list of numbers"):
        sweep(cat2dog(), strength="much")
    with pytest.raises(EditorError, match=r"strength is \[\]; expected one finite number or more"):
        sweep(cat2dog(), strength=[])
    with pytest.raises(EditorError, match=f"at most {MOST}"):
        sweep(cat2dog(), strength=range(MOST + 1))
    with pytest.raises(EditorError, match="nothing to sweep"):
        checked({})


def test_records_show_themselves_in_a_notebook(grid: Sweep) -> None:
    for shown in (inversion(), grid[1], grid):
        assert Image.open(io.BytesIO(shown._repr_png_() or b"")).width > 190
    page = inversion()._repr_html_()
    assert CAPTION in page and "6 steps" in page and page.count("data:image/png;base64,") == 1
    page = grid[1]._repr_html_()
    assert "cat2dog · strength 1" in page and "reconstruction" in page and page.count("<img") == 2
    synthetic = editor().imagine("a cat & <b>dog</b>", 2)
    assert synthetic._repr_png_() is None
    assert (
        "a cat &amp; &lt;b&gt;dog&lt;/b&gt;" in synthetic._repr_html_()
        and "<img" not in synthetic._repr_html_()
    )


def test_a_preset_gives_way_to_what_is_swept(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, private_folders: Any
) -> None:
    cat_and_directions(tmp_path, monkeypatch)
    edit = ["cat.png", "-d", "cat2dog", "--steps", 2]
    worked(*edit, "--preset", "fast", "--sweep", "guidance=0,0.1", "-o", "sheet.png")
    record = read_record("sheet.png")
    assert record["preset"] == "fast" and record["settings"]["keep_background"] == 0.5
    assert record["sweep"]["knobs"] == [["guidance", [0.0, 0.1]]]
    for flag, knob in (
        ("--guidance", "guidance"),
        ("--strength", "strength"),
        ("--guidance-scale", "guidance_scale"),
    ):
        result = run(*edit, flag, 1, "--sweep", f"{knob}=0,1")
        assert result.exit_code == 2 and f"{flag} is swept: give it once" in result.stderr


def test_what_a_prompt_shows_is_not_asked_twice(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, private_folders: Any
) -> None:
    cat_and_directions(tmp_path, monkeypatch)
    for flag in ("--caption", "--caption-prefix"):
        result = run("--prompt", "a cat", flag, "a dog", "-d", "cat2dog")
        assert result.exit_code == 2 and f"has that as its caption: leave {flag} out" in result.stderr


def test_the_bar_counts_every_edit_of_a_sweep(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, private_folders: Any
) -> None:
    cat_and_directions(tmp_path, monkeypatch)
    seen: dict[str, int] = {"made": 0}

    class Watched(Progress):
        def __init__(self, pictures: int, steps: int) -> None:
            seen["promised"] = steps
            super().__init__(pictures, steps)

        def on_step(self, stage: str, i: int, timestep: float, latents: Any) -> None:
            seen["made"] += 0 if stage == "reference" else len(latents)
            super().on_step(stage, i, timestep, latents)

    monkeypatch.setattr("editor.progress.Progress", Watched)
    knobs = "strength=0:1:3,guidance=0,0.1"
    worked("cat.png", "-d", "cat2dog", "--steps", 2, "--sweep", knobs, "-o", "sheet.png")
    assert seen == {"made": 2 + 6 * 2, "promised": 2 + 6 * 2}
