"""The main job end to end, as a user does it: discover, list, edit; with real models and the real commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from zoo.recipe.judge import load_judge

ROOT = Path(__file__).parent.parent


def command(module: str, *arguments: str, cwd: Path) -> str:
    """The command's stdout, run in a process of its own in a folder that is not the repository."""
    code = f"from {module} import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_discover_list_edit(tmp_path: Path) -> None:
    library = ["--library", str(tmp_path / "library")]
    made = json.loads(command("directions.cli", "cat", "dog", "--json", *library, cwd=tmp_path))
    assert (made["name"], made["version"]) == ("cat2dog", 1) and Path(made["file"]).is_file()
    assert all("cat" in c for c in made["captions"]["source"]) and all(
        "dog" in c for c in made["captions"]["target"]
    )

    listed = command("library.cli", *library, cwd=tmp_path)
    assert "cat2dog" in listed

    example = str(ROOT / "examples" / "cat.png")
    edited = [example, "-d", "cat2dog", "--sheet", "--steps", "20"]  # `make demo` makes it with the defaults
    output = command("editor.cli", *edited, *library, cwd=tmp_path)
    saved = tmp_path / output.strip().splitlines()[-1].removeprefix("saved  ")
    assert_dog_on_grass(saved)

    prompted = ["--prompt", "a cat on the grass", "-d", "cat2dog", "--steps", "20", "-o", "made.png"]
    command("editor.cli", *prompted, *library, cwd=tmp_path)
    assert_dog_on_grass(tmp_path / "made.png")


def assert_dog_on_grass(path: Path) -> None:
    """What the judge says of a picture."""
    picture = np.asarray(Image.open(path).convert("RGB"))
    pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    verdict = load_judge().judge(pixels)[0]
    assert (verdict.object, verdict.background) == ("dog", "grass"), verdict
