"""`directions` as people and programs use it: output, exit codes, and that it starts fast."""

import csv
import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import library as package
from library import Direction, Library, layer
from library.cli import main
from library.console import reports_failures
from library.errors import DirectionsError, StorageError
from library.tables import display_width, emit_rows, printable, table, terminal_width

Make = Callable[..., Direction]
Run = Callable[..., Result]
ROOT = Path(package.__file__).parents[1]


@pytest.fixture
def filled(library: Library, make: Make) -> Library:
    """cat2dog twice, day2winter and photo2sketch."""
    for seed, name in enumerate(("cat2dog", "cat2dog", "day2winter", "photo2sketch")):
        captions = {"source": [f"a fluffy {name} {seed}"], "target": ["a dog"]}
        record = {"captions": captions, "quality": {"agreement": 0.5}, "author": "ann"}
        library.save(make(name, seed=seed, record=record))
    return library


@pytest.fixture
def run(library: Library, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `directions` on the test's library alone."""
    monkeypatch.setattr("library.store.default_search_path", list)

    def invoke(*words: object) -> Result:
        return CliRunner().invoke(main, ["--library", str(library.path), *map(str, words)])

    return invoke


def test_the_catalog(filled: Library, run: Run) -> None:
    result = run()
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["name", "version", "concepts", "encoder", "quality", "age"]
    assert lines[1].split()[:5] == ["cat2dog", "2", "cat", "→", "dog"] and len(lines) == 4


def test_the_catalog_by_the_name_of_a_command(filled: Library, run: Run) -> None:
    assert run("list", "--tag", "none").stdout == run("--tag", "none").stdout
    assert run("list").stdout == run().stdout and run("list").stdout.count("\n") == 4


def test_other_words_for_a_command_name_it(run: Run) -> None:
    result = run("compare", "a", "b")
    assert result.exit_code == 2 and "diff" in result.stderr and "similar" in result.stderr


def test_an_empty_library_says_what_to_do(run: Run) -> None:
    result = run()
    assert result.exit_code == 0 and "make a direction: mkdir-direction cat dog" in result.stderr
    assert json.loads(run("--json").stdout) == []


def test_json_and_csv(filled: Library, run: Run) -> None:
    rows = json.loads(run("--all", "--json").stdout)
    assert [f"{row['name']}@{row['version']}" for row in rows][:2] == ["cat2dog@2", "cat2dog@1"]
    lines = list(csv.DictReader(io.StringIO(run("--format", "csv").stdout)))
    assert [line["name"] for line in lines] == ["cat2dog", "day2winter", "photo2sketch"]
    for words in (["search", "fluffy"], ["similar", "cat2dog"], ["log", "cat2dog"]):
        assert len(json.loads(run(*words, "--json").stdout)) >= 2
        assert len(run(*words, "--format", "csv").stdout.splitlines()) >= 3


def test_pages(filled: Library, run: Run) -> None:
    first = run("--limit", 2)
    assert len(first.stdout.splitlines()) == 3 and "2 rows of 3; more with --page 2" in first.stderr
    assert run("--limit", 2, "--page", 2).stdout.splitlines()[1].startswith("photo2sketch")


def test_a_search_says_which_rows_only_captions_led_to(filled: Library, run: Run) -> None:
    named = run("search", "day")
    assert len(named.stdout.splitlines()) == 2 and "captions" not in named.stderr
    assert "all of these: found by the captions alone" in run("search", "fluffy").stderr
    both = run("search", "dog")  # cat2dog's target, and a word of the others' captions
    assert "the last 2: found by the captions alone" in both.stderr
    assert both.stdout.splitlines()[1].startswith("cat2dog")


def test_a_damaged_file_is_reported_beside_the_listing(filled: Library, run: Run) -> None:
    path = filled.find("day2winter").path
    path.unlink()
    path.write_bytes(b"")
    result = run()
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 3
    assert f"damaged: {path} is empty" in result.stderr
    result = run("verify")
    assert result.exit_code == 1 and str(path) in result.stdout
    assert json.loads(run("verify", "--json").stdout)[0]["path"] == str(path)
    path.unlink()
    assert run("verify").stdout == "all is well in 3 versions\n"


def test_show(filled: Library, run: Run, tmp_path: Path) -> None:
    text = run("show", "cat2dog", "--captions").stdout
    for part in (
        "cat2dog@2",
        "cat → dog",
        "a fluffy cat2dog 1",
        "agreement 0.5",
        "discovered: 1 + 1 captions",
    ):
        assert part in text
    record = json.loads(run("show", "cat2dog@1", "--json").stdout)
    assert record["version"] == 1 and record["captions"]["source"] == ["a fluffy cat2dog 0"]
    assert "note: dog2cat is cat2dog@2 negated" in run("show", "dog2cat").stderr
    opposite = json.loads(run("show", "dog2cat", "--json").stdout)
    assert (opposite["name"], opposite["version"]) == ("-cat2dog@2", None)
    assert (opposite["source"], opposite["target"]) == ("dog", "cat")
    assert opposite["encoder"] == record["encoder"]
    assert opposite["sha256"] == filled.load("dog2cat").sha256 != record["sha256"]
    plot = tmp_path / "out.png"
    assert run("show", "cat2dog", "--plot", plot).exit_code == 0 and plot.read_bytes()[:4] == b"\x89PNG"
    for wrong in ("out.xyz", "out"):
        result = run("show", "cat2dog", "--plot", tmp_path / wrong)
        assert result.exit_code == 1 and "its ending is not one of" in result.stderr


def test_the_life_of_a_direction(filled: Library, run: Run, tmp_path: Path) -> None:
    assert run("alias", "cat2dog@1", "blessed").stdout == "cat2dog@blessed is cat2dog@1\n"
    assert run("tag", "cat2dog@blessed", "b", "a").stdout == "cat2dog@1: a b\n"
    assert run("untag", "cat2dog@1", "b").stdout == "cat2dog@1: a\n"
    assert run("compose", "cat2dog@1", "--name", "twin", "--tag", "new").stdout == "twin@1 = cat2dog\n"
    assert filled.load("twin").record["tags"] == ["a", "new"]
    assert run("path", "cat2dog@blessed").stdout.strip() == str(filled.find("cat2dog@1").path)
    composed = run("compose", "0.7*cat2dog@1 + day2winter - photo2sketch", "--name", "mix", "--tag", "new")
    assert composed.stdout == "mix@1 = 0.7*cat2dog@1 + day2winter@1 - photo2sketch@1\n"
    assert filled.load("mix").record["tags"] == ["new"] and len(filled.load("mix").record["parents"]) == 3
    assert "0.7*cat2dog@1 + day2winter@1 - photo2sketch@1" in run("log", "mix").stdout
    assert "cosine:" in run("diff", "cat2dog@1", "mix", "--captions").stdout
    assert json.loads(run("diff", "cat2dog@1", "cat2dog@2", "--json").stdout)["captions"]["source"]
    bundle = tmp_path / "x.zip"
    assert run("export", "mix", "cat2dog", "--bundle", bundle).exit_code == 0
    assert "was here already" in run("import", bundle).stdout
    file = tmp_path / "mix.safetensors"
    assert run("export", "mix", "-o", file).stdout.strip() == str(file)
    assert run("import", file, "--name", "copy").stdout.startswith("copy@1")
    plan = run("rm", "cat2dog@blessed", "copy")
    assert "would remove alias cat2dog@blessed" in plan.stdout and "add --yes" in plan.stderr
    assert filled.load("twin").version == 1
    assert "freed" in run("rm", "cat2dog@1", "copy", "--yes").stdout and "copy" not in filled
    assert run("gc").exit_code == 0 and json.loads(run("gc", "--json", "--yes").stdout)["done"] is True


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", "nothing"], "no direction nothing in"),
        (["show", "cat2dgo"], "did you mean cat2dog?"),
        (["show", "cat2dog@9"], "version 9 of cat2dog does not exist; it has 1, 2"),
        (["show", "Cat"], "a name is 1 to 100 characters"),
        (["compose", "cat2dog +", "--name", "x"], "ends too early; expected directions with weights"),
        (["compose", "cat2dog", "--name", "a b"], "a name is 1 to 100 characters"),
        (["import", "nowhere.pt", "--name", "a", "--encoder", "e"], "cannot read nowhere.pt"),
        (["import", "nowhere.zip"], "cannot read nowhere.zip"),
        (["log", "nothing"], "no direction nothing"),
        (["rm", "nothing"], "no direction nothing"),
        (["untag", "cat2dog", "x"], "has no tag x"),
    ],
)
def test_a_known_failure_is_one_line_and_exit_1(
    filled: Library, run: Run, words: list[str], message: str
) -> None:
    result = run(*words)
    assert result.exit_code == 1 and result.stdout == ""
    assert result.stderr.startswith("error: ") and message in result.stderr and result.stderr.count("\n") == 1
    debugged = run(*words, "--debug")
    assert "Traceback" in debugged.stderr and debugged.exit_code == 1


@pytest.mark.parametrize(
    "words",
    [["--sort", "nonsense"], ["nonsense"], ["show"], ["import", "a", "b", "c"], ["import", "a.pt", "b.pt"],
     ["export", "a", "b"], ["compose", "a"], ["import", "a.zip", "--name", "x"]],
)  # fmt: skip
def test_wrong_usage_is_exit_2(filled: Library, run: Run, words: list[str]) -> None:
    assert run(*words).exit_code == 2


def test_every_command_has_help() -> None:
    assert CliRunner().invoke(main, ["--help"]).exit_code == 0
    names = main.list_commands(click.Context(main))
    assert {"search", "import", "evaluate"} < set(names)
    for name in names:
        result = CliRunner().invoke(main, [name, "--help"])
        command = main.get_command(click.Context(main), name)
        assert result.exit_code == 0 and command.help and command.get_short_help_str()
        assert "--library" in result.output and "--debug" in result.output


@pytest.mark.parametrize("epoch", ["abc", "99999999999999", "1.5"])
def test_a_time_that_is_none_is_one_line(
    filled: Library, run: Run, monkeypatch: pytest.MonkeyPatch, epoch: str
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    result = run("compose", "cat2dog@1", "--name", "twin")
    said = f"error: SOURCE_DATE_EPOCH is {epoch!r}; expected seconds since 1970, such as 1738324800\n"
    assert (result.exit_code, result.stderr) == (1, said) and "twin" not in filled
    assert run().exit_code == 0


def test_other_commands_use_the_same_failures() -> None:
    class Other(Exception):
        pass

    @click.command()
    @click.argument("kind")
    @reports_failures(Other)
    def command(kind: str) -> None:
        raise {
            "own": DirectionsError("a\nb"),
            "other": Other("c"),
            "key": KeyboardInterrupt(),
            "system": PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/secret/x"),
            "said": OSError("a library's\nown words"),
            "pipe": BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)),
        }[kind]

    runner = CliRunner()
    assert runner.invoke(command, ["own"]).stderr == "error: a b\n"
    assert runner.invoke(command, ["other"]).stderr == "error: c\n"
    result = runner.invoke(command, ["key"])
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")
    result = runner.invoke(command, ["system"])
    assert (result.exit_code, result.stderr) == (
        1,
        "error: cannot read or write /secret/x: permission denied\n",
    )
    assert "Traceback" in runner.invoke(command, ["system", "--debug"]).stderr
    assert runner.invoke(command, ["said"]).stderr == "error: a library's own words\n"
    assert runner.invoke(command, ["pipe"]).stderr == ""


def test_names_that_are_too_long_are_one_line(filled: Library, run: Run) -> None:
    long = "l" * 300
    for words in (
        ["--library", long],
        ["show", "cat2dog", "--library", long],
        ["export", "cat2dog", "-o", f"{long}.safetensors"],
    ):
        result = run(*words)
        assert result.exit_code == 1 and result.stderr.startswith("error: cannot "), result.stderr
        assert result.stderr.endswith("file name too long\n") and result.stderr.count("\n") == 1


def test_tables_fit() -> None:
    rows = [
        {"name": "猫2犬", "n": 1, "text": "x" * 100, "none": ""},
        {"name": "a", "n": 20, "text": "y", "none": ""},
    ]
    lines = table(rows, 40)
    assert all(display_width(line) <= 40 for line in lines) and lines[1].endswith("…")
    assert "none" not in lines[0] and table([], 40) == []
    assert printable("a\x1b[31m\nb") == "a�[31m�b"


def process(*words: str, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


HEAVY = (
    "torch",
    "diffusers",
    "transformers",
    "pandas",
    "matplotlib",
    "huggingface_hub",
    "zoo",
    "directions",
    "editor",
)


def test_import_is_light() -> None:
    code = (
        "import sys, library, library.cli, library.store, library.console\n"
        "from library import Direction, Library\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    output, errors = process("-c", code).communicate(timeout=120)
    assert output.strip() == "[]", errors


@pytest.mark.parametrize(
    "words", [[], ["--help"], ["search", "cat"], ["log", "cat2dog"], ["path", "cat2dog"]]
)
def test_commands_import_nothing_heavy(filled: Library, words: list[str]) -> None:
    """Half a second is measured by the benchmark; what would cost it is refused here."""
    code = (
        "import sys\nfrom library.cli import main\n"
        f"main({['--library', str(filled.path), *words]!r}, standalone_mode=False)\n"
        f"print('heavy', [m for m in {(*HEAVY, 'numpy') if words != ['log', 'cat2dog'] else HEAVY!r} "
        "if m in sys.modules])"
    )
    output, errors = process("-c", code).communicate(timeout=120)
    if words == ["--help"]:
        assert "Usage" in output
    else:
        assert output.splitlines()[-1] == "heavy []", errors


def test_interrupting_is_exit_130(filled: Library) -> None:
    code = (
        "import time, library.store\n"
        "def wait(*_):\n    print('ready', flush=True)\n    time.sleep(60)\n"
        "library.store.Library.verify = wait\n"
        f"from library.cli import main\nmain(['verify', '--library', {str(filled.path)!r}])"
    )
    running = process("-c", code)
    assert running.stdout is not None and running.stdout.readline() == "ready\n"
    time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130 and errors.endswith("interrupted\n") and "Traceback" not in errors


def test_export_replaces_only_by_force_and_never_what_is_in_the_library(
    filled: Library, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    version = filled.find("cat2dog@1").path
    before = version.read_bytes()
    for words in (["-o", version], ["-o", version, "--force"], ["--bundle", version.with_suffix(".zip")]):
        result = run("export", "cat2dog", *words)
        assert result.exit_code == 1 and "lies in the library" in result.stderr
    assert version.read_bytes() == before
    for words, file in (
        ([], "cat2dog.safetensors"),
        (["-o", "x.safetensors"], "x.safetensors"),
        (["--bundle", "b.zip"], "b.zip"),
        (["--pt"], "dog.pt"),
    ):
        Path(file).write_text("precious")
        result = run("export", "cat2dog", *words)
        assert result.exit_code == 1 and "exists; use --force" in result.stderr
        assert Path(file).read_text() == "precious"
        assert run("export", "cat2dog", *words, "--force").exit_code == 0
        assert Path(file).read_bytes() != b"precious"


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["-o", "x.pt"], "give -o FILE.safetensors, or --pt"),
        (["-o", "x.zip"], "give -o FILE.safetensors, or --pt"),
        (["-o", "."], "give -o FILE.safetensors, or --pt"),
        (["--bundle", "colleague"], "give --bundle FILE.zip"),
        (["--bundle", "x.safetensors"], "give --bundle FILE.zip"),
    ],
)
def test_export_refuses_an_ending_that_import_would_not_take(
    filled: Library, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], advice: str
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    result = run("export", "cat2dog", *words)
    assert result.exit_code == 1 and advice in result.stderr and result.stderr.count("\n") == 1
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("expression", "file"),
    [
        ("cat2dog@1", "cat2dog"),
        ("dog2cat", "dog2cat"),
        ("cat2dog@1 - 0.5*day2winter", "cat2dog-1-minus-0.5-day2winter-1"),
        ("1e20*day2winter - photo2sketch", "1e20-day2winter-1-minus-photo2sketch-1"),
    ],
)
def test_an_export_is_called_after_what_it_is(
    filled: Library, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expression: str, file: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("export", expression).stdout == f"{file}.safetensors\n"
    assert run("import", f"{file}.safetensors").stdout.startswith(f"{file}@1")


def test_importing_a_file_says_whether_it_was_there(filled: Library, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    assert run("export", "day2winter", "-o", file).exit_code == 0
    assert "was here already" in run("import", file).stdout
    assert json.loads(run("import", file, "--json").stdout)[0]["new"] is False
    assert json.loads(run("import", file, "--name", "other", "--json").stdout)[0]["new"] is True


def test_a_guard_from_another_clock_does_not_hold_for_ever(filled: Library, run: Run) -> None:
    guard = filled.find("cat2dog").path.with_name(".tags.json.guard")
    guard.touch()
    os.utime(guard, (time.time() + 3600, time.time() + 3600))
    assert run("tag", "cat2dog", "good").exit_code == 0
    assert not guard.exists()


def test_several_that_break_a_dead_writers_guard_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = tmp_path / "cat2dog" / "encoder" / ".tags.json.guard"
    guard.parent.mkdir(parents=True)
    guard.touch()
    os.utime(guard, (1, 1))
    forsaken = layer._forsaken

    def slowly(path: Path) -> bool:  # everyone has looked before anyone deletes it
        found = forsaken(path)
        time.sleep(0.05)
        return found

    def change(number: int) -> None:
        def add(tags: dict[str, list[str]]) -> None:
            time.sleep(0.02)
            tags[str(number)] = ["good"]

        layer.Layer(tmp_path).change_tags("cat2dog", "encoder", add)

    monkeypatch.setattr(layer, "_forsaken", slowly)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(change, range(8)))
    assert sorted(layer.Layer(tmp_path).tags("cat2dog", "encoder")) == [str(n) for n in range(8)]


def test_an_option_of_the_listing_before_a_command_is_refused(filled: Library, run: Run) -> None:
    for words in (["--json", "show", "cat2dog"], ["--limit", "2", "list"]):
        result = run(*words)
        assert (
            result.exit_code == 2
            and f"{words[0]} stands before {words[-2 if 'show' in words else -1]}" in (result.stderr)
        )
    assert run("--debug", "show", "cat2dog").exit_code == 0


def test_a_stream_that_lacks_a_letter_gets_its_number(filled: Library, library: Library) -> None:
    result = CliRunner(charset="latin-1").invoke(main, ["--library", str(library.path)])
    assert result.exit_code == 0 and r"cat \u2192 dog" in result.stdout


def test_json_is_json_whatever_the_stream_can_hold(filled: Library, library: Library, make: Make) -> None:
    library.save(make("x2y", source="🐱", target="→"))
    for charset in ("latin-1", "utf-8"):
        result = CliRunner(charset=charset).invoke(
            main, ["--library", str(library.path), "--concept", "🐱", "--json"]
        )
        assert json.loads(result.stdout)[0]["source"] == "🐱"
    library.save(make("a2b", source="é"))
    shown = CliRunner(charset="latin-1").invoke(
        main, ["--library", str(library.path), "show", "a2b", "--json"]
    )
    assert json.loads(shown.stdout_bytes)["source"] == "é"  # JSON is UTF-8, whatever else there is


def test_json_is_json_in_the_locale_of_containers() -> None:
    """There standard output takes any byte, so that a name that is no UTF-8 would break the text."""
    code = """if True:
        import click
        from library.console import emit_json, reports_failures

        @click.command()
        @reports_failures()
        def main(): emit_json({'file': 'caf\\udce9.png', 'arrow': '→'})
        main()
    """
    for locale in ("C", "C.UTF-8"):
        environment = {**os.environ, "LC_ALL": locale}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)
        assert json.loads(done.stdout) == {"file": "caf\udce9.png", "arrow": "\u2192"}


def test_a_mistyped_command_is_guessed(run: Run) -> None:
    result = run("shw", "cat2dog")
    assert result.exit_code == 2 and "no such command 'shw'; did you mean show?" in result.stderr
    assert "No such command" in run("xyzzy").stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
@pytest.mark.parametrize(
    "words", [[], ["--json"], ["--format", "csv"], ["show", "cat2dog"], ["path", "cat2dog"]]
)
def test_a_full_disk_under_standard_output_is_one_line(filled: Library, words: list[str]) -> None:
    code = f"from library.cli import main; main({[*words, '--library', str(filled.path)]!r})"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, stdout=full, stderr=subprocess.PIPE, text=True)
    said = r"error: cannot read or write( standard output)?: no space left on device\n"
    assert done.returncode == 1 and re.fullmatch(said, done.stderr)


def test_a_closed_standard_output_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert terminal_width() is None
    for form in ("table", "json", "csv"):
        with pytest.raises(StorageError, match="standard output is closed"):
            emit_rows([{"name": "cat2dog"}], form)
