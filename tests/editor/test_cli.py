"""`edit-image` from the command line, on the embedded models, in a few steps."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from editor.cli import main
from editor.progress import Progress
from editor.record import read_record
from editor.request import REGULARISER
from editor.settings import EditSettings
from library import Direction, Library

from .command_line import draw_cat, encoder, failed, loaded, pixels, run, two_directions, worked
from .conftest import relative

CAPTION = ["--caption", "a cat on the grass"]


@pytest.fixture
def picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("editor.session.load_models", loaded)
    return draw_cat(tmp_path / "cat.png")


@pytest.fixture
def directions(private_folders: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    monkeypatch.setattr("library.settings.STARTER", private_folders / "no-starter")
    return two_directions()


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
        worked(picture, "-d", "cat2dog", "--steps", 3, "--strength", strength, "-o", f"{name}.png")
    a, b, c = (pixels(f"{n}.png") for n in "abc")
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


@pytest.mark.parametrize("device", ["cuda:99", "toaster", "meta", "xpu:9"])
@pytest.mark.parametrize("plan", [[], ["--plan"]])
def test_a_device_that_is_not_there_says_so(
    picture: Path, directions: Library, device: str, plan: list[str]
) -> None:
    result = run(picture, "-d", "cat2dog", "--device", device, *plan)
    failed(result, f"device '{device}'")
    assert ". " not in result.stderr  # one sentence of what torch has to say


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


def test_what_does_not_go_together_is_a_usage_error(picture: Path) -> None:
    for arguments, words in (
        ([picture, "-d", "cat2dog", "--prompt", "a cat"], "not both"),
        (["-d", "cat2dog"], "give pictures or --prompt"),
        ([picture], "give a direction"),
        ([picture, "-d", "cat2dog", "--cache", "here", "--no-cache"], "exclude each other"),
        ([picture, "-d", "cat2dog", "--force", "--skip-existing"], "exclude each other"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2 and words in result.stderr


def test_every_setting_has_an_option_that_reaches_the_record(picture: Path, directions: Library) -> None:
    """Every field of EditSettings, set to another value than its own."""
    wanted: dict[str, Any] = {}
    arguments: list[Any] = []
    options = {p.name: p for p in main.params}
    flags = {name: option.opts[0] for name, option in options.items()}
    for field in fields(EditSettings):
        if field.name == "steps":
            continue
        if isinstance(field.default, bool):
            wanted[field.name] = not field.default
            arguments.append(flags[field.name])
            continue
        if isinstance(field.default, str):
            choices = options[field.name].type.choices
            wanted[field.name] = next(choice for choice in choices if choice != field.default)
        else:
            wanted[field.name] = 16 if field.default is None else (field.default or 1) / 2
        arguments += [flags[field.name], wanted[field.name]]
    asked = {"auto_corr": 3.5, "kl": 2.5, "regulariser_steps": 2, "regulariser_rolls": 1}
    for name, value in asked.items():
        arguments += [flags[name], value]
    worked(picture, "-d", "cat2dog", "--steps", 2, *CAPTION, *arguments, "-o", "out.png")
    record = read_record("out.png")
    assert record["settings"] == {**wanted, "steps": 2}
    assert {name: record["inversion"]["regulariser"][REGULARISER[name]] for name in asked} == asked


def test_no_limit_is_said_with_none(picture: Path, directions: Library) -> None:
    worked(picture, "-d", "cat2dog", "--steps", 1, *CAPTION, "--guidance-limit", "none", "-o", "out.png")
    assert read_record("out.png")["settings"]["guidance_limit"] is None
    assert run(picture, "-d", "cat2dog", "--max-rows", "many").exit_code == 2
    failed(run(picture, "-d", "cat2dog", "--interpolation", 2), "interpolation is 2.0; expected a part")
    arguments = ["--steps", 1, *CAPTION, "--attention-resolution", 1, "--guidance", 0.1]
    result = run(picture, "-d", "cat2dog", *arguments)
    assert result.exit_code == 1 and "error: no cross-attention layer" in result.stderr


def test_a_mask_keeps_what_is_black(picture: Path, directions: Library) -> None:
    mask = np.zeros((32, 32), np.uint8)
    mask[:, 16:] = 255
    Image.fromarray(mask).save("half.png")
    arguments = [picture, "-d", "cat2dog", "--steps", 2, "--strength", 2, *CAPTION]
    worked(*arguments, "-o", "all.png")
    worked(*arguments, "--mask", "half.png", "-o", "with-half.png")
    worked(*arguments, "--strength", 0, "-o", "none.png")
    edit, half, picture_itself = (pixels(f"{n}.png").astype(int) for n in ("all", "with-half", "none"))
    for side, near, far in ((np.s_[:, :24], picture_itself, edit), (np.s_[:, 40:], edit, picture_itself)):
        assert 2 * np.abs(half - near)[side].mean() < np.abs(half - far)[side].mean()
    assert read_record("with-half.png")["mask"]["path"] == str(Path("half.png").absolute())
    assert read_record("all.png")["mask"] is None
    failed(run(*arguments, "--mask", "gone.png", "-o", "x.png"), "gone.png", "no such file")
    Path("bad.png").write_text("no picture")
    failed(run(*arguments, "--mask", "bad.png", "-o", "x.png"), "bad.png is not a picture")
    Image.new("L", (9, 9)).save("black.png")
    failed(run(*arguments, "--mask", "black.png", "-o", "x.png"), "black.png is black")


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--strength", "nan", "strength is nan"),
        ("--strength", "inf", "strength is inf"),
        ("--guidance", "nan", "cross_attention_guidance is nan"),
        ("--guidance", "-1", "at least 0"),
        ("--guidance-scale", "inf", "guidance_scale is inf"),
        ("--seed", str(2**64), f"seed is {2**64}; expected a whole number from {-(2**63)} to {2**64 - 1}"),
        ("--size", "1000000", "side of 1000000 has 1000000×1000000 pixels, more than"),
        ("-o", "cat.png/x.png", "cat.png is a file, not a folder"),
        ("-o", "/proc/x.png", "cannot write /proc/x.png"),
    ],
)
def test_what_cannot_work_is_refused_before_models_are_loaded(
    option: str,
    value: str,
    words: str,
    picture: Path,
    directions: Library,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("editor.session.load_models", None)
    failed(run(picture, "-d", "cat2dog", "--steps", 1, option, value), words)


def test_a_time_that_is_none_is_refused_before_models_are_loaded(
    picture: Path, directions: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("editor.session.load_models", lambda *_, **__: pytest.fail("they were loaded"))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    failed(run(picture, "-d", "cat2dog"), "SOURCE_DATE_EPOCH is 'yesterday'; expected seconds since 1970")


def test_no_picture_of_a_prompt_is_larger_than_any_other(
    picture: Path, directions: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("editor.session.load_models", None)
    failed(run("--prompt", "a cat", "-d", "cat2dog", "--size", 10**12), "the picture has 1000000000000×")


def test_an_elongated_picture_is_named_before_models_are_loaded(
    picture: Path, directions: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("editor.session.load_models", None)
    Image.new("RGB", (1, 500)).save("line.png")
    failed(run(picture, "line.png", "-d", "cat2dog", "-o", "edits"), "line.png is 1×500, more than 16 times")
    assert not Path("edits").exists()


def test_an_edit_that_is_not_finite_is_not_saved(picture: Path, directions: Library) -> None:
    result = run(picture, "-d", "cat2dog", "--steps", 1, *CAPTION, "--strength", 1e38)
    assert result.exit_code == 1 and "lower the strength" in result.stderr
    assert not Path("cat-cat2dog.png").exists()


def test_help_names_no_default_that_the_model_set_may_change(picture: Path) -> None:
    text = " ".join(run("--help").output.split())
    for option in ("--placement", "--guidance-until", "--keep-background", "--reuse-forward", "--auto-corr"):
        help_ = text.partition(f" {option} ")[2].partition(" --")[0]
        if option == "--reuse-forward":
            help_ = text.partition("--no-reuse-forward ")[2].partition(" --")[0]
        assert "[the model set's own]" in help_, option


def test_nothing_that_exists_or_is_read_is_written_over(picture: Path, directions: Library) -> None:
    Path("out.json").write_text("precious")
    arguments = [picture, "-d", "cat2dog", "--steps", 1, *CAPTION]
    failed(run(*arguments, "-o", "out.png"), "out.json exists", "--force")
    Path("new-sheet.png").write_text("precious")
    failed(run(*arguments, "-o", "new.png", "--sheet"), "new-sheet.png exists")
    failed(run(*arguments, "-o", "cat.png", "--force"), "cat.png is what is edited")
    failed(run(*arguments, "-o", "out.doc"), "out.doc", "not a picture format")
    assert Path("out.json").read_text() == Path("new-sheet.png").read_text() == "precious"


def test_the_second_edit_of_a_picture_finds_its_inversion(
    picture: Path, directions: Library, private_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [picture, "-d", "cat2dog", "--steps", 2]
    first = worked(*arguments, "-o", "first.png")
    assert "found in the cache" not in first.stderr
    assert len(list((private_folders / "cache" / "edit-directions" / "inversions").iterdir())) == 2
    monkeypatch.setattr("editor.session.load_captioner", None)  # a second run does not load it
    second = worked(*arguments, "-o", "second.png")
    assert f"{picture}: inversion found in the cache" in second.stderr
    worked(*arguments, *CAPTION, "--no-cache", "-o", "third.png")
    worked(*arguments, *CAPTION, "--cache", "mine", "-o", "fourth.png")
    assert len(list(Path("mine").glob("*.safetensors"))) == 1
    records = [read_record(f"{name}.png") for name in ("first", "second", "third", "fourth")]
    assert [record["inversion"]["cached"] for record in records] == [False, True, False, False]
    assert np.array_equal(pixels("first.png"), pixels("second.png"))
    assert np.array_equal(pixels("third.png"), pixels("fourth.png"))


def test_a_cache_that_cannot_be_written_is_one_note(picture: Path, directions: Library) -> None:
    Path("file").write_text("no folder")
    result = worked(picture, "-d", "cat2dog", "--steps", 1, "--cache", "file/cache")
    notes = [line for line in result.stderr.splitlines() if line.startswith("note: ")]
    assert len(notes) == 1 and "cannot write" in notes[0] and "inverted anew" in notes[0]
    assert Path("cat-cat2dog.png").exists()


def test_a_batch_equals_single_runs(
    picture: Path, directions: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three pictures, two of them equally large once fitted; two directions: edits in batches of three."""
    Image.open(picture).rotate(90).resize((128, 128)).save("other.png")
    Image.open(picture).resize((96, 64)).save("wide.png")
    latents: dict[str, Any] = {}
    from editor import jobs

    saved = jobs.saved

    def keep(edit: Any, record: Any, output: Path, *rest: Any) -> Any:
        latents[str(output)] = edit.latents
        return saved(edit, record, output, *rest)

    monkeypatch.setattr(jobs, "saved", keep)
    names = [picture, "other.png", "wide.png"]
    arguments = ["-d", "cat2dog", "-d", "0.5*day2night", "--steps", 1, *CAPTION, "--no-cache", "--json"]
    together = json.loads(worked(*names, *arguments, "--batch", 3, "-o", "together").stdout)
    alone = json.loads(worked(*names, *arguments, "-o", "alone").stdout)
    assert [r["record"]["batch"] for r in together] == [3, 3, 3, 1, 2, 2]
    assert [r["record"]["inversion"]["batch"] for r in together] == [2, 2, 2, 2, 1, 1]
    assert all(r["record"]["batch"] == r["record"]["inversion"]["batch"] == 1 for r in alone)
    for one, other in zip(together, alone, strict=True):
        assert Path(one["output"]).name == Path(other["output"]).name
        assert relative(latents[one["output"]], latents[other["output"]]) < 1e-4


def test_json_is_all_that_stdout_has(picture: Path, directions: Library) -> None:
    Path("file").write_text("no folder")
    result = worked(picture, "-d", "cat2dog", "--steps", 1, "--sheet", "--cache", "file/cache", "--json")
    (report,) = json.loads(result.stdout)
    assert report["output"] == "cat-cat2dog.png" and report["sheet"] == "cat-cat2dog-sheet.png"
    assert report["record"] == read_record("cat-cat2dog.png")


def test_the_record_says_everything(picture: Path, directions: Library) -> None:
    worked("cat.png", "-d", "0.5*cat2dog - day2night", "--steps", 1, *CAPTION, "-o", "out.png", "--seed", 3)
    record = read_record("out.png")
    facts = record["input"]
    assert facts["path"] == str(picture) and facts["given"] == "cat.png" and len(facts["sha256"]) == 64
    assert record["direction"]["resolved"] == "0.5*cat2dog@1 - 1.0*day2night@1"
    assert [p["sha256"] for p in record["direction"]["parents"]] == [
        directions.load(name).record["sha256"] for name in ("cat2dog", "day2night")
    ]
    assert len(record["direction"]["tensor_sha256"]) == 64
    assert record["models"] == "embedded" and record["revision"] is None and record["prompt"] is None
    assert record["seed"] == 3 and record["caption"] == CAPTION[1] and record["device"] == "cpu"
    assert set(record["settings"]) == set(asdict(EditSettings()))
    assert {"auto_corr", "kl", "steps", "rolls"} == set(record["inversion"]["regulariser"])
    assert {"torch", "diffusers", "edit-directions"} <= set(record["versions"])
    assert record["seconds"] >= 0 and record["inversion"]["seconds"] >= 0
    assert record["tool"].startswith("edit-directions ") and record["created"].endswith("Z")


def test_a_terminal_sees_how_many_are_done_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(pictures=3, steps=12) as progress:
        progress.skip(4)
        for stage in ("invert", "reference", "edit"):
            progress.on_step(stage, 0, 1.0, np.zeros((2, 4)))
        progress.finished()
        progress.print("a remark")
    shown = terminal.getvalue()
    assert "0/3 pictures" in shown and "1/3 pictures" in shown and "4/8" in shown
    assert re.search(r"\[\d\d:\d\d<\d\d:\d\d", shown) and "a remark\n" in shown


def test_ctrl_c_leaves_finished_pictures_and_nothing_half_done(
    picture: Path, directions: Library, private_folders: Path
) -> None:
    names = [f"cat{k}.png" for k in range(20)]
    for k, name in enumerate(names):
        Image.open(picture).rotate(k).save(name)
    command = [sys.executable, "-c", "from editor.cli import main; main()", *names, *CAPTION]
    command += ["-d", "cat2dog", "--steps", "4", "-o", "edits", "--sheet"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as running:
        saved: list[str] = []
        while len(saved) < 2:
            line = running.stdout.readline()
            assert line, running.stderr.read()
            saved += [line] if line.startswith("saved") else []
        running.send_signal(signal.SIGINT)
        rest, shown = running.communicate()
    saved += [line for line in rest.splitlines() if line.startswith("saved")]
    assert running.returncode == 130 and 2 <= len(saved) < 20
    last = shown.strip().splitlines()[-1]
    assert last.startswith(
        f"interrupted: {len(saved)} of 20 pictures are done; the same command with --skip-exis"
    )
    done = [Path(line.split(maxsplit=1)[1].strip()) for line in saved]
    expected = {f"{path.stem}{end}" for path in done for end in (".png", ".json", "-sheet.png")}
    assert {path.name for path in Path("edits").iterdir()} == expected
    assert all(read_record(path)["direction"]["name"] == "cat2dog" for path in done)
    kept = list((private_folders / "cache" / "edit-directions" / "inversions").iterdir())
    assert len(kept) in (len(saved), len(saved) + 1) and not any(p.name.startswith(".") for p in kept)


def test_an_interrupted_run_goes_on(
    picture: Path, directions: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.open(picture).rotate(90).save("other.png")
    names = [picture, "other.png", "-d", "cat2dog", "-d", "day2night", "--steps", 1, *CAPTION, "-o", "edits"]
    worked(picture, "-d", "cat2dog", *names[6:])
    before = Path("edits/cat-cat2dog.png").stat().st_mtime_ns
    failed(run(*names), "cat-cat2dog.png exists", "--force")
    with monkeypatch.context() as outlined:
        outlined.setattr("editor.session.load_models", lambda models, *_: models)
        planned = json.loads(run(*names, "--skip-existing", "--plan", "--json").stdout)
    assert planned["edits"] == 3 and [one["direction"] for one in planned["writes"]] == [
        "day2night", "cat2dog", "day2night",
    ]  # fmt: skip
    result = worked(*names, "--skip-existing", "--json")
    assert "note: 1 of 4 pictures are there already, and passed over" in result.stderr.splitlines()
    made = [Path(report["output"]).name for report in json.loads(result.stdout)]
    assert made == ["cat-day2night.png", "other-cat2dog.png", "other-day2night.png"]
    for name in made:
        assert read_record(f"edits/{name}")["expression"] == name[:-4].partition("-")[2]
    monkeypatch.setattr("editor.session.load_models", None)
    again = worked(*names, "--skip-existing")
    assert again.stderr == "note: 4 of 4 pictures are there already, and passed over\n" and not again.stdout
    assert json.loads(worked(*names, "--skip-existing", "--json").stdout) == []
    assert json.loads(worked(*names, "--skip-existing", "--plan", "--json").stdout)["edits"] == 0
    assert Path("edits/cat-cat2dog.png").stat().st_mtime_ns == before


def test_what_is_there_in_part_is_not_passed_over(
    picture: Path, directions: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("editor.session.load_models", None)
    arguments = [picture, "-d", "cat2dog", "--skip-existing"]
    note = "note: 1 of 1 pictures are there already"
    for name in ("whole.png", "bare.jpg"):
        Path(name).write_bytes(b"precious")
    assert note in worked(*arguments, "-o", "whole.png").stderr
    failed(run(*arguments, "-o", "whole.png", "--sheet"), "whole.png exists")
    failed(run(*arguments, "-o", "bare.jpg"), "bare.jpg exists")
    Path("bare.json").write_text("{}")
    assert note in worked(*arguments, "-o", "bare.jpg").stderr
    for record, there in (({"safety": {"flagged": True}}, True), ({"safety": None}, False), (7, False)):
        Path("record.json").write_text(json.dumps(record))
        result = run(*arguments, "-o", "record.png")
        assert note in result.stderr if there else "record.json exists" in result.stderr


def test_what_an_interrupted_run_left_of_an_edit_is_made_anew(picture: Path, directions: Library) -> None:
    arguments = [
        picture,
        "-d",
        "cat2dog",
        "--steps",
        1,
        *CAPTION,
        "--sheet",
        "--skip-existing",
        "-o",
        "x.png",
    ]
    worked(*arguments)
    before = pixels("x.png").tobytes()
    Path("x-sheet.png").unlink()
    result = worked(*arguments)
    assert "saved  x.png" in result.stdout and Path("x-sheet.png").exists()
    assert pixels("x.png").tobytes() == before
    flagged = {**read_record("x.png"), "safety": {"flagged": True}}
    Path("x.png").unlink()
    Path("x.json").write_text(json.dumps(flagged))
    assert "there already" in worked(*arguments).stderr and not Path("x.png").exists()
    assert "saved  x.png" in worked(*arguments, "--no-safety").stdout


def test_a_link_to_itself_is_no_picture(picture: Path, directions: Library) -> None:
    Path("circle.png").symlink_to("circle.png")
    failed(run("circle.png", "-d", "cat2dog"), "cannot read circle.png")


def test_a_sweep_that_is_there_is_passed_over(picture: Path, directions: Library) -> None:
    arguments = [
        picture,
        "-d",
        "cat2dog",
        "-d",
        "day2night",
        "--sweep",
        "strength=0.5,1",
        "--steps",
        1,
        *CAPTION,
    ]
    arguments += ["-o", "edits", "--skip-existing"]
    worked(*arguments)
    Path("edits/cat-cat2dog.png").unlink()
    Path("edits/cat-cat2dog.json").unlink()
    result = worked(*arguments)
    assert result.stdout == "saved  edits/cat-cat2dog.png\n" and "1 of 2 pictures" in result.stderr


def test_a_name_that_another_encoder_has_too_is_looked_for_by_the_models(
    picture: Path, directions: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Library(tmp_path / "own")
    other = own.save(Direction(name="cat2dog", tensor=np.ones((77, 8)), encoder="sd-1.4"))
    damaged = own.save(Direction(name="day2night", tensor=np.ones((77, 8)), encoder="sd-1.4"))
    own.find(damaged.ref).path.write_bytes(b"broken")
    monkeypatch.setenv("DIRECTIONS_PATH", str(directions.path))
    words = ["-d", "cat2dog + day2night", "--steps", 2, *CAPTION, "--library", own.path, "-o", "out.png"]
    assert run(picture, *words).exit_code == 0 and other.encoder == "sd-1.4"
    assert run(picture, "-d", "dog2cat", *words[2:-1], "back.png").exit_code == 0
    monkeypatch.setattr("editor.session.load_models", None)  # what can never go together loads nothing
    own.save(Direction(name="a2b", tensor=np.ones((77, 8)), encoder="clip8x1-00000000"))
    own.save(Direction(name="c2d", tensor=np.ones((77, 8)), encoder="clip8x2-00000000"))
    failed(run(picture, "-d", "a2b + c2d", "--plan", "--library", own.path), "cannot be combined")
    failed(run(picture, "-d", "1e300*a2b", "--plan", "--library", own.path), "not finite")
    failed(run(picture, "-d", "cat2dog + horse2cow", "--library", own.path), "no direction horse2cow")


def test_what_is_done_is_reported_where_a_later_picture_fails(
    picture: Path, directions: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    from editor import jobs
    from editor.errors import EditorError

    made = jobs.saved

    def once(*arguments: Any) -> Any:
        if Path("edits").exists():
            raise EditorError("cannot write: no space left on device")
        return made(*arguments)

    monkeypatch.setattr(jobs, "saved", once)
    result = run(picture, "-d", "cat2dog", "-d", "day2night", "--steps", 2, *CAPTION, "--json", "-o", "edits")
    assert result.exit_code == 1 and "no space left" in result.stderr
    (report,) = json.loads(result.stdout)
    assert Path(report["output"]).is_file()


def test_measuring_can_be_interrupted(
    picture: Path, directions: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    went_on: list[bool] = []

    def evaluate(*_: Any) -> dict[str, Any]:
        signal.raise_signal(signal.SIGINT)
        went_on.append(True)
        return {}

    monkeypatch.setattr("editor.evaluation.Evaluator.__call__", evaluate)
    result = run(picture, "-d", "cat2dog", "--steps", 2, *CAPTION, "--evaluate", "-o", "out.png")
    assert result.exit_code == 130 and not went_on and not Path("out.png").exists()


def test_a_thousand_pictures_of_one_name_have_files_of_their_own(tmp_path: Path) -> None:
    from editor.plan import Writing, _outputs
    from editor.request import Request

    images = tuple(f"d{number}/rgb.png" for number in range(1003))
    files = _outputs(Request(images=images, expressions=("cat2dog",)), Writing(str(tmp_path / "edits")))
    assert len({file for found in files for file in found.values()}) == 1003
