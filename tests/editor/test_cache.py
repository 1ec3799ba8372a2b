"""Inverted once: saved inversions, and the cache of inversions and captions."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from editor import Editor, Inversion, Regulariser
from editor.cache import InversionCache
from editor.errors import EditorError
from editor.identity import file_stamps
from library.fileformat import canonical_json
from library.settings import cache_folder

from .conftest import GOLDEN, Arrow, relative

CAPTION = "a photo of a cat on the grass"
PICTURE = GOLDEN / "input.png"
TENSORS = ("noise", "embeds", "latents", "trajectory")


@pytest.fixture(scope="module")
def models(captioner_folder: Path) -> SimpleNamespace:
    return SimpleNamespace(
        name="tiny", diffusion=str(GOLDEN / "tiny_sd"), captioner=str(captioner_folder), defaults={}
    )


@pytest.fixture(scope="module")
def editor(models: SimpleNamespace) -> Editor:
    return Editor(models, device="cpu")


@pytest.fixture(scope="module")
def arrow(editor: Editor, golden: Any) -> Arrow:
    return Arrow(golden("text")["direction"][0].numpy(), editor.models.encoder_id)


@pytest.fixture(scope="module")
def inversion(editor: Editor) -> Inversion:
    return editor.invert(PICTURE, CAPTION, 2, size=32)


class Steps:
    """Counts the inversion's evaluations."""

    count = 0

    def __call__(self, stage: str, i: int, timestep: float, latents: torch.Tensor) -> None:
        self.count += stage == "invert"


def same(a: Inversion, b: Inversion) -> bool:
    """Equal in everything but the editor and what the record says of cache and time."""
    told = [{k: v for k, v in i.record.items() if k not in ("cached", "seconds")} for i in (a, b)]
    plain = [f.name for f in fields(a) if f.name not in (*TENSORS, "picture", "record", "editor")]
    return (
        told[0] == told[1]
        and all(getattr(a, name) == getattr(b, name) for name in plain)
        and all(torch.equal(getattr(a, name), getattr(b, name)) for name in TENSORS)
        and a.picture is not None
        and b.picture is not None
        and a.picture.tobytes() == b.picture.tobytes()
    )


def test_saved_and_loaded_is_the_same(
    editor: Editor, inversion: Inversion, arrow: Arrow, tmp_path: Path
) -> None:
    inversion.save(tmp_path / "a.safetensors")
    loaded = Inversion.load(tmp_path / "a.safetensors", editor)
    assert same(loaded, inversion) and loaded.record == inversion.record
    loaded.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert loaded.edit(arrow).image.tobytes() == inversion.edit(arrow).image.tobytes()
    with safe_open(tmp_path / "a.safetensors", framework="np") as file:
        record = json.loads(file.metadata()["record"])
        assert list(file.metadata()) == ["record"] and canonical_json(record) == file.metadata()["record"]
        assert file.get_tensor("picture").shape == (32, 32, 3)


def test_a_synthetic_start_is_saved_without_what_it_has_not(editor: Editor, tmp_path: Path) -> None:
    start = editor.imagine(CAPTION, 2, seed=5, size=(40, 30))
    start.save(tmp_path / "start.safetensors")
    loaded = Inversion.load(tmp_path / "start.safetensors")
    assert loaded.picture is loaded.latents is loaded.trajectory is None
    assert torch.equal(loaded.noise, start.noise) and loaded.size == (40, 30)
    with pytest.raises(EditorError, match="belongs to no editor"):
        loaded.autoencoded() if loaded.latents is not None else loaded.edit(None)


def test_files_that_are_no_inversion_are_refused(
    editor: Editor, inversion: Inversion, tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(EditorError, match=r"a\.safetensors: no such file"):
        Inversion.load(path)
    inversion.save(path)
    whole = path.read_bytes()
    with pytest.raises(EditorError, match="inverted with the models tiny, the editor has other"):
        Inversion.load(path, Editor(replace(editor.models, name="other")))
    for damaged in (b"", b"hello", whole[:-10], whole[:-1] + bytes([whole[-1] ^ 1]), whole[:200]):
        path.write_bytes(damaged)
        with pytest.raises(EditorError, match=r"a\.safetensors is damaged or is no saved inversion"):
            Inversion.load(path)
    save_file({"noise": torch.zeros(1, 4, 2, 2)}, path)
    with pytest.raises(EditorError, match="its metadata is not the one key 'record'"):
        Inversion.load(path)
    save_file({"direction": torch.zeros(2, 2)}, path, {"record": '{"name": "cat2dog"}'})
    with pytest.raises(EditorError, match="its record has no format number"):
        Inversion.load(path)
    save_file({"noise": torch.zeros(1, 4, 2, 2)}, path, {"record": '{"format": 2}'})
    with pytest.raises(EditorError, match="it is of format 2; this program reads up to 1: update it"):
        Inversion.load(path)


def test_tensors_of_the_wrong_shape_are_refused(inversion: Inversion, tmp_path: Path) -> None:
    assert inversion.trajectory is not None
    replace(inversion, trajectory=inversion.trajectory[:-1]).save(tmp_path / "a.safetensors")
    with pytest.raises(EditorError, match=r"its trajectory is torch.float32 \[2, 1, 4, 4, 4\]; expected"):
        Inversion.load(tmp_path / "a.safetensors")


def test_a_save_that_fails_leaves_nothing(
    inversion: Inversion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EditorError, match=r"cannot write .*a\.safetensors: no space left on device"):
        inversion.save(tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_found_again_and_edited_to_the_same_bytes(
    models: SimpleNamespace, inversion: Inversion, arrow: Arrow, tmp_path: Path
) -> None:
    results, steps = [], Steps()
    for keep in (False, True):
        editor = Editor(models, device="cpu", cache=tmp_path)
        results.append(editor.invert(PICTURE, CAPTION, 2, size=32, keep_trajectory=keep, on_step=steps))
    assert steps.count == 2
    assert [r.record["cached"] for r in results] == [False, True]
    assert results[0].trajectory is None and same(results[1], inversion)
    edits = [r.edit(arrow, source_correction=r is not results[0]) for r in (results[1], inversion)]
    assert edits[0].image.tobytes() == edits[1].image.tobytes()
    assert [e.record["inversion"]["cached"] for e in edits] == [True, False]


def test_anything_else_is_another_inversion(models: SimpleNamespace, editor: Editor, tmp_path: Path) -> None:
    steps = Steps()
    shutil.copytree(GOLDEN / "tiny_sd", tmp_path / "models")
    models = SimpleNamespace(**{**vars(models), "diffusion": str(tmp_path / "models")})
    own = Editor(models, device="cpu", cache=tmp_path / "cache")
    wanted: dict[str, Any] = {"image": PICTURE, "caption": CAPTION, "steps": 1, "size": 32}

    def made(by: Editor, **changes: Any) -> bool:
        before = steps.count
        by.invert(**{**wanted, "on_step": steps, **changes})
        return steps.count > before

    assert made(own) and not made(own)
    darker = Image.open(PICTURE).convert("RGB").resize((32, 32))
    darker.putpixel((3, 4), (0, 0, 0))
    for changes in (
        {"image": darker},
        {"caption": "a dog"},
        {"steps": 2},
        {"seed": 1},
        {"regulariser": Regulariser(kl=1)},
        {"sample": False},
        {"size": 24},
    ):
        assert made(own, **changes) and not made(own, **changes), changes
    assert made(Editor(models, device="cpu", dtype=torch.bfloat16, cache=tmp_path / "cache"))
    os.utime(tmp_path / "models" / "unet" / "diffusion_pytorch_model.safetensors", (1, 1))
    assert made(Editor(models, device="cpu", cache=tmp_path / "cache"))
    os.utime(tmp_path / "models" / "vae" / "diffusion_pytorch_model.safetensors", (1, 1))
    assert made(Editor(models, device="cpu", cache=tmp_path / "cache"))


def test_hub_models_are_known_by_the_files_in_the_hub_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(GOLDEN / "tiny_sd", tmp_path / "snapshots" / "1a2b")

    def cached(repo: str, file: str, revision: str | None = None) -> str | None:
        path = tmp_path / "snapshots" / "1a2b" / file
        return str(path) if repo == "someone/model" and path.exists() else None

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", cached)
    found = file_stamps("someone/model", None, ["unet", "vae"])
    names = ["config.json", "diffusion_pytorch_model.safetensors"]
    assert [name for name, _, _ in found] == [f"{part}/{n}" for part in ("unet", "vae") for n in names]
    assert (
        file_stamps("someone/model", None, ["prior"]) == file_stamps("nobody/nothing", None, ["unet"]) == []
    )
    local = file_stamps(str(tmp_path / "snapshots" / "1a2b"), None, ["unet", "vae"])
    assert local == found


def test_loaded_models_are_known_by_their_weights(editor: Editor, tmp_path: Path) -> None:
    steps = Steps()

    def invert(**changes: Any) -> None:
        own = Editor(replace(editor.models, **changes), cache=tmp_path)
        own.invert(PICTURE, CAPTION, 1, size=32, on_step=steps)

    invert()
    invert()
    assert steps.count == 1
    invert(scheduler_config={**editor.models.scheduler_config, "beta_end": 0.013})
    assert steps.count == 2
    weight = next(editor.models.vae.parameters())
    kept = weight.detach().clone()
    try:
        weight.data += 0.01
        invert()
    finally:
        weight.data.copy_(kept)
    assert steps.count == 3


@pytest.mark.parametrize("damage", [lambda b: b[:50], lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b""])
def test_a_damaged_entry_is_made_again(
    editor: Editor, inversion: Inversion, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    cache = InversionCache(tmp_path)
    cache.put("a" * 64, inversion)
    path = tmp_path / f"{'a' * 64}.safetensors"
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert cache.get("a" * 64) is None and not path.exists()
    cache.put("a" * 64, inversion)
    assert path.read_bytes() == whole


def test_the_longest_unused_goes_first(inversion: Inversion, tmp_path: Path) -> None:
    mine = tmp_path / "holiday.safetensors"
    mine.write_bytes(bytes(10**6))
    InversionCache(tmp_path).put("a" * 64, inversion)
    size = (tmp_path / f"{'a' * 64}.safetensors").stat().st_size
    cache = InversionCache(tmp_path, limit_bytes=int(3.5 * size))
    left_over = tmp_path / f".{'e' * 64}.safetensors.x1y2"
    left_over.write_bytes(bytes(size))
    for age, name in ((50, "e"), (40, "a"), (30, "b"), (20, "c")):
        if name != "e":
            cache.put(name * 64, inversion)
        path = left_over if name == "e" else tmp_path / f"{name * 64}.safetensors"
        os.utime(path, ns=(0, path.stat().st_mtime_ns - age * 10**9))
    assert not left_over.exists()
    assert cache.get("a" * 64) is not None  # used just now, so b is the oldest
    cache.put("d" * 64, inversion)
    assert [n for n in "abcd" if cache.get(n * 64)] == ["a", "c", "d"]
    InversionCache(tmp_path, limit_bytes=size - 1).put("f" * 64, inversion)
    assert cache.get("f" * 64) is None and cache.get("d" * 64) is not None
    assert load_file(tmp_path / f"{'d' * 64}.safetensors") and mine.stat().st_size == 10**6


def test_a_cache_that_cannot_be_written_costs_one_remark(
    models: SimpleNamespace, inversion: Inversion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    remarks: list[str] = []
    editor = Editor(models, device="cpu", cache=InversionCache(tmp_path / "file", tell=remarks.append))
    for _ in range(2):
        assert same(editor.invert(PICTURE, CAPTION, 2, size=32), inversion)
    assert editor.caption(PICTURE) == editor.caption(PICTURE)
    assert len(remarks) == 1 and "cannot write" in remarks[0] and "inverted anew" in remarks[0]

    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    cache = InversionCache(tmp_path / "full")
    with pytest.warns(UserWarning, match="no space left on device"):
        cache.put("a" * 64, inversion)
    assert cache.get("a" * 64) is None and not list((tmp_path / "full").iterdir())


def test_a_caption_is_asked_for_once(
    models: SimpleNamespace, editor: Editor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    load = Editor._ask
    monkeypatch.setattr(Editor, "_ask", lambda self, *a: asked.append(a) or load(self, *a))

    def caption(**options: Any) -> str:
        return Editor(editor.models, cache=tmp_path).caption(PICTURE, **options)

    first = caption()
    assert caption() == first == editor.caption(PICTURE) and len(asked) == 2  # one without a cache
    assert caption(prefix="a photo of").startswith("a photo of") and len(asked) == 3
    caption(max_new_tokens=2)
    assert len(asked) == 4
    for path in tmp_path.glob("*.json"):
        path.write_text(path.read_text().replace('"caption":"', '"caption":"not '))
    assert caption() == first and len(asked) == 5


def test_alone_never_takes_what_a_batch_made(editor: Editor, tmp_path: Path) -> None:
    own, steps = Editor(editor.models, cache=tmp_path), Steps()
    pictures = [Image.open(PICTURE).convert("RGB").rotate(90 * k) for k in range(3)]

    def together(*places: int) -> list[Inversion]:
        chosen = [pictures[k] for k in places]
        return own.invert_all(chosen, [CAPTION] * len(chosen), 1, list(places), size=32, on_step=steps)

    alone = together(2)[0]
    made = together(0, 1, 2)
    assert [i.record["cached"] for i in made] == [False, False, True] and steps.count == 2
    assert same(made[2], alone) and [i.seed for i in made] == [0, 1, 2]
    assert all(i.record["cached"] for i in together(2, 1, 0)) and steps.count == 2
    single = together(0)[0]
    assert not single.record["cached"] and relative(single.noise, made[0].noise) < 1e-4
    assert same(single, replace(editor.invert(pictures[0], CAPTION, 1, size=32)))


def test_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("inversions") == tmp_path / "edit-directions" / "inversions"
    monkeypatch.setenv("DIRECTIONS_CACHE", str(tmp_path / "mine"))
    assert cache_folder("inversions") == tmp_path / "mine" / "inversions"
    assert not list(tmp_path.iterdir())
