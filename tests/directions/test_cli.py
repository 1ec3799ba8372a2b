"""`mkdir-direction` as a person meets it."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from directions.cli import main
from tests.directions.conftest import GOLDEN, state_concepts

TINY = ["--models", str(GOLDEN), "--templates", "--captions", "16"]


def run(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(main, list(arguments), input=text)


def test_a_direction_is_made_saved_and_judged(private_folders: Path) -> None:
    done = run("cat", "dog", *TINY)
    assert done.exit_code == 0, done.output
    first, *rest = done.stdout.splitlines()
    assert first == "cat2dog@1  cat → dog"
    labels = [line.split()[0] for line in rest]
    assert labels == ["encoder", "captions", "agreement", "verdict", "file"]
    assert "clip32x2-" in rest[0] and "[77, 32]" in rest[0]
    assert rest[1].split("captions")[1].strip() == "16 + 16"
    assert Path(rest[4].split(maxsplit=1)[1]).is_file()
    assert run("cat", "dog", *TINY).stdout.startswith("cat2dog@2")


def test_json_is_the_record_and_the_file(tmp_path: Path) -> None:
    picture = tmp_path / "report.png"
    done = run("cat", "dog", *TINY, "--json", "--report", str(picture), "--tag", "pets", "--name", "c2d")
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["name"] == "c2d" and record["version"] == 1 and record["tags"] == ["pets"]
    assert Path(record["file"]).is_file()
    assert {"agreement", "interval", "curve", "energy", "verdict", "nearest"} <= set(record["quality"])
    from PIL import Image

    with Image.open(picture) as image:
        assert image.size == (1320, 840)


def test_captions_come_from_a_file_and_from_standard_input(tmp_path: Path) -> None:
    days = tmp_path / "days.txt"
    days.write_text("a sunny day\nnoon on the beach\n")
    done = run(
        "day", "night", "--models", str(GOLDEN), "--source-captions", str(days), "--target-captions", "-",
        "--json", text="a dark night\nmidnight\na night in the street\n",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    captions = json.loads(done.stdout)["captions"]
    assert captions["source"] == ["a sunny day", "noon on the beach"]
    assert captions["target"] == ["a dark night", "midnight", "a night in the street"]


def test_a_rebuild_is_the_next_version(private_folders: Path) -> None:
    made = json.loads(run("cat", "dog", *TINY, "--json").stdout)
    done = run("--rebuild", "cat2dog", "--models", str(GOLDEN), "--json")
    assert done.exit_code == 0, done.output
    rebuilt = json.loads(done.stdout)
    assert rebuilt["version"] == 2 and rebuilt["sha256"] == made["sha256"]
    assert rebuilt["rebuilt_from"]["version"] == 1


def test_a_rebuild_for_named_models_uses_all_their_layers(
    private_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIRECTIONS_MODELS", str(GOLDEN))
    made = json.loads(run("cat", "dog", *TINY, "--clip-skip", "1", "--json").stdout)
    full = json.loads(run("cat", "dog", *TINY, "--name", "full", "--json").stdout)

    def rebuilt(*options: str) -> dict[str, Any]:
        done = run("--rebuild", "cat2dog", "--encoder", made["encoder"], *options, "--json")
        assert done.exit_code == 0, done.output
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    for options in ((), ("--models", str(GOLDEN), "--clip-skip", "1")):
        again = rebuilt(*options)
        assert (again["encoder"], again["sha256"]) == (made["encoder"], made["sha256"])
    copy = shutil.copytree(GOLDEN, private_folders / "copy")
    for options, named in (("--models", str(GOLDEN)), GOLDEN), ((), copy):
        monkeypatch.setenv("DIRECTIONS_MODELS", str(named))
        usable = rebuilt(*options)
        assert (usable["encoder"], usable["sha256"]) == (full["encoder"], full["sha256"])
        assert usable["generation"]["clip_skip"] is None


def test_pairs_make_a_table(tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text("source,target\ncat,dog\nday,night\n")
    done = run("--pairs", str(table), *TINY)
    assert done.exit_code == 0, done.output
    assert "2 made, 0 there already, 0 failed, of 2" in done.stderr
    assert done.stdout.splitlines()[1].startswith("cat2dog@1")
    again = run("--pairs", str(table), *TINY, "--json")
    assert [row["status"] for row in json.loads(again.stdout)] == ["present", "present"]
    table.write_text("source,target,source_captions\ncat,dog,none.txt\n")
    failed = run("--pairs", str(table), *TINY)
    assert failed.exit_code == 1 and "1 failed" in failed.stderr


def test_a_list_of_concepts_is_prepared(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("cat\ndog\ncat\n")
    done = run("--concepts", str(words), *TINY, "--json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert [row["concept"] for row in rows] == ["cat", "dog"]
    assert rows[0]["captions"] == 16 and rows[0]["nearest"]


def test_concepts_that_a_full_disk_does_not_keep_are_not_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("directions.cache.os.replace", full)
    (tmp_path / "words.txt").write_text("cat\ndog\n")
    done = run("--concepts", str(tmp_path / "words.txt"), *TINY)
    assert done.exit_code == 1 and done.stdout.splitlines()[1].startswith("cat")
    assert done.stderr.splitlines()[-1].endswith(
        "no space left on device; what could not be kept is not prepared"
    )


def test_a_cache_that_cannot_be_written_is_one_note_or_the_end_of_what_is_only_kept_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("DIRECTIONS_CACHE", str(tmp_path / "file" / "cache"))
    done = run("cat", "dog", *TINY)
    notes = [line for line in done.stderr.splitlines() if line.startswith("note: ")]
    assert done.exit_code == 0 and len(notes) == 1, done.output
    assert "cannot write to the cache" in notes[0] and "not a directory; without a cache" in notes[0]
    (tmp_path / "words.txt").write_text("cat\ndog\n")
    monkeypatch.setattr("directions.cli.quiet", lambda *_: pytest.fail("it was begun"))
    done = run("--concepts", str(tmp_path / "words.txt"), *TINY)
    assert done.exit_code == 1 and len(done.stderr.splitlines()) == 1
    assert "cannot write to the cache" in done.stderr and "with DIRECTIONS_CACHE" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "SOURCE and TARGET are needed, such as: mkdir-direction cat dog"),
        (["cat"], "SOURCE and TARGET are needed"),
        (["cat", "dog", "--rebuild", "x"], "--rebuild takes no SOURCE and TARGET"),
        (["--rebuild", "x", "--pairs", "y"], "--rebuild and --pairs exclude each other"),
        (["cat", "dog", "--source-captions", "-", "--target-captions", "-"], "only one side can be read"),
        (["cat", "dog", "--templates", "--captions-model", "x"], "exclude each other"),
        (["--concepts", "words.txt", "--no-cache"], "what the cache keeps: leave --no-cache out"),
    ],
)
def test_wrong_usage_exits_2(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_known_failures_are_one_line_and_exit_1(tmp_path: Path) -> None:
    state_concepts(tmp_path, ["cat", "dog"])
    for arguments, message in (
        (
            ("cat", "dog", "--models", "nobody/nothing", "--templates"),
            "error: the text encoder nobody/nothing",
        ),
        (
            ("cat", "walrus", "--models", str(GOLDEN), "--captions-model", str(tmp_path)),
            "error: 'walrus' is not",
        ),
        (("cat", "dog", *TINY, "--captions", "0"), "error: captions is 0; expected 1 to"),
        (("cat", "dog", "--source-captions", str(tmp_path / "none")), "error: captions cannot be read from"),
        (("--rebuild", "yak2gnu"), "error: "),
    ):
        done = run(*arguments)
        assert done.exit_code == 1, done.output
        assert done.stderr.strip().startswith(message) and len(done.stderr.strip().splitlines()) == 1
        assert done.stdout == ""


def test_a_report_that_fails_after_all_does_not_lose_the_direction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("library.plot.check_drawing", lambda path: None)
    (tmp_path / "file").write_text("")
    done = run("cat", "dog", *TINY, "--report", str(tmp_path / "file" / "such.png"))
    assert done.exit_code == 1 and done.stdout.startswith("cat2dog@1")
    assert "such.png" in done.stderr.splitlines()[-1]


def test_help_names_every_option_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "import directions\n"
        "assert 'numpy' not in sys.modules and 'click' not in sys.modules\n"
        "from directions.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'diffusers', 'numpy', 'matplotlib', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "mkdir-direction cat dog" in done.stdout and "--rebuild" in done.stdout


def test_what_is_exported_is_what_it_is_called() -> None:
    code = (
        "import directions\nfor name in directions.__all__: print(type(getattr(directions, name)).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "module" not in done.stdout.split(), done.stderr


def test_the_package_keeps_to_its_side() -> None:
    code = (
        "import sys\n"
        "import directions.cli, directions.cli_many, directions.discovery, directions.generate\n"
        "import directions.pairs, directions.rebuilding, directions.report\n"
        "assert not [m for m in sys.modules if m.split('.')[0] in ('editor', 'torch', 'transformers')]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_is_wrong_with_the_call_is_said_before_torch_is_imported() -> None:
    program = (
        "import sys\nfrom directions.cli import main\n"
        "for words in (['cat', 'cat'], ['', 'dog'], ['cat', 'dog', '--captions', '0']):\n"
        "    try:\n        main(words)\n    except SystemExit as ended:\n        assert ended.code == 1\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for words in ("both 'cat'", "concept is empty", "captions is 0"):
        assert words in done.stderr


@pytest.mark.parametrize(
    ("arguments", "refused"),
    [
        (["--rebuild", "cat2dog", "--name", "other"], "leave --name out"),
        (["--rebuild", "cat2dog", "--captions", "5"], "leave --captions out"),
        (["--rebuild", "cat2dog", "--templates"], "leave --templates out"),
        (["--pairs", "pairs.csv", "--tag", "pets"], "leave --tag out"),
        (["--pairs", "pairs.csv", "--report", "x.png"], "leave --report out"),
        (["--concepts", "words.txt", "--name", "x"], "leave --name out"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(arguments: list[str], refused: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2 and refused in done.stderr


@pytest.mark.parametrize("report", ["missing/x.png", "notes.txt"])
def test_a_report_that_cannot_be_written_is_refused_before_anything_is_saved(
    report: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, private_folders: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("cat", "dog", *TINY, "--report", report)
    assert done.exit_code == 1 and "cannot write" in done.stderr
    assert run("cat", "dog", *TINY).stdout.startswith("cat2dog@1"), "nothing was saved before"


def test_a_library_that_cannot_be_written_is_refused_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("directions.cli._discovered", lambda *_: pytest.fail("it was computed"))
    (tmp_path / "file").write_text("")
    done = run("cat", "dog", *TINY, "--library", str(tmp_path / "file" / "library"))
    assert done.exit_code == 1 and "name another folder" in done.stderr
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    done = run("cat", "dog", *TINY)
    assert done.exit_code == 1 and "SOURCE_DATE_EPOCH is 'yesterday'" in done.stderr


def test_line_i_of_both_files_is_a_pair_whatever_is_blank(tmp_path: Path) -> None:
    places = ("on the grass", "in snow", "in the street", "by the sea")
    for animal, blank in (("cat", 0), ("dog", 3)):
        lines = [f"a {animal} {place}" for place in places]
        lines[blank] = ""
        (tmp_path / f"{animal}.txt").write_text("\n".join(lines) + "\n")
    files = [
        f"--{side}-captions={tmp_path / name}.txt" for side, name in (("source", "cat"), ("target", "dog"))
    ]
    done = run("cat", "dog", "--models", str(GOLDEN), "--paired", *files, "--json")
    captions = json.loads(done.stdout)["captions"]
    assert captions == {side: [f"a {animal} {place}" for place in places[1:3]]
                        for side, animal in (("source", "cat"), ("target", "dog"))}  # fmt: skip


def test_the_command_embeds_as_many_captions_at_once_as_suit_the_encoder() -> None:
    from directions.models import load_encoder
    from zoo.registry import resolve

    record = json.loads(run("cat", "dog", *TINY, "--json").stdout)
    fitting = load_encoder(resolve(str(GOLDEN)), device="cpu").batch_size
    assert record["generation"]["batch_size"] == fitting
    record = json.loads(run("cat", "dog", *TINY, "--json", "--batch-size", "3").stdout)
    assert record["generation"]["batch_size"] == 3
