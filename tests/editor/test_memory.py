"""Predicted memory, choosing what fits, and what happens when memory runs out all the same."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from PIL import Image

from editor import fitting
from editor.errors import EditorError, ModelsUnavailable
from editor.fitting import Load, available, first_that_fits, fitted, loads, most_alike, roomy, sizes_of
from editor.footprint import footprint
from editor.memory import KERNELS, Work, extra_weights, outline, predict
from editor.models import Models
from editor.plan import Task, Writing
from editor.preview import precision, preview
from editor.record import read_record
from editor.request import Request
from editor.room import Room, out_of_memory
from editor.settings import EditSettings
from library import Library

from .command_line import draw_cat, failed, loaded, pixels, run, two_directions, worked

CAPTION = ["--caption", "a cat on the grass"]
SHORT = ["--steps", 2, *CAPTION, "--guidance-until", 1, "--no-reuse-forward"]
THREE = ["-d", "cat2dog", "-d", "0.5*cat2dog", "-d", "day2night"]


def kept(models: Any = None, device: Any = None, dtype: Any = None) -> Any:
    """`load_models`, which loads by name only once."""
    return models if isinstance(models, Models) else loaded(models, device, dtype)


@pytest.fixture
def picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("editor.session.load_models", kept)
    return draw_cat(tmp_path / "cat.png")


@pytest.fixture
def directions(private_folders: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    monkeypatch.setattr("library.settings.STARTER", private_folders / "no-starter")
    return two_directions()


def watched(monkeypatch: pytest.MonkeyPatch, see: Callable[[int], object]) -> None:
    """`see` is told the rows of every call of a UNet, before it is made."""
    forward = UNet2DConditionModel.forward

    def seen(unet: Any, sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        see(len(sample))
        return forward(unet, sample, *args, **kwargs)

    monkeypatch.setattr(UNet2DConditionModel, "forward", seen)


def failing_above(monkeypatch: pytest.MonkeyPatch, rows: int, message: str = "can't allocate memory") -> None:
    """The guided pass, which holds most, runs out of memory on more than so many rows."""

    def see(count: int) -> None:
        if count > rows and torch.is_grad_enabled():
            raise RuntimeError(f"DefaultCPUAllocator: {message}: you tried to allocate 1 bytes")

    watched(monkeypatch, see)


# What is counted


def test_a_footprint_is_what_lives_at_once() -> None:
    with footprint() as counted:
        a = torch.empty(1000, device="meta")
        b = a * 2
        b.view(10, 100).add_(1)  # nothing new
        del a
        c = b + 1
    assert counted.peak == counted.live == 8000
    del b, c
    gc.collect()
    assert counted.live == 0


def test_a_footprint_has_what_autograd_keeps_and_leaves_out_what_was_there() -> None:
    weight = torch.empty(100, 100, device="meta")
    with footprint([weight]) as counted:
        x = torch.empty(10, 100, device="meta", requires_grad=True)
        y = torch.sigmoid(torch.sigmoid(x @ weight))
        assert counted.live == 4 * 4000 - 4000  # x, both sigmoids' results; the product is gone
        torch.autograd.grad(y.sum(), x)
    assert counted.peak >= 5 * 4000


def test_a_footprint_counts_the_copies_of_convolutions_and_no_scores_of_attention() -> None:
    x, weight = torch.empty(1, 8, 16, 16, device="meta"), torch.empty(8, 8, 3, 3, device="meta")
    with footprint([x, weight]) as counted:
        torch.conv2d(x, weight, padding=1)
    assert counted.peak == 2 * x.nbytes + weight.nbytes
    query = torch.empty(1, 1, 4096, 8, device="meta")
    with footprint([query]) as counted:
        torch.nn.functional.scaled_dot_product_attention(query, query, query)
    assert counted.peak < 4 * query.nbytes


# What is predicted


def test_an_outline_has_no_data_and_the_shapes_of_the_loaded_models() -> None:
    bare, whole = outline("embedded"), loaded("embedded")
    assert bare.unet.device.type == bare.vae.device.type == bare.text_encoder.device.type == "meta"
    for part in ("unet", "vae", "text_encoder"):
        shapes = [[p.shape for p in getattr(models, part).parameters()] for models in (bare, whole)]
        assert shapes[0] == shapes[1]
    assert bare.native_size == whole.native_size and bare.defaults == whole.defaults
    assert outline("embedded", torch.float16).unet.dtype == torch.float16
    assert extra_weights("embedded", captioner=True, safety=True)["captioner"] > 2**20
    with pytest.raises(ModelsUnavailable, match="neither cached nor reachable"):
        outline("nobody/nothing")


def test_a_prediction_follows_size_rows_and_settings() -> None:
    models, settings = outline("embedded"), EditSettings(steps=2)

    def working(side: int = 32, edits: int = 1, **changes: Any) -> int:
        work = Work((side, side), edits=edits, real=False)
        return predict(models, replace(settings, **changes), work).phases["edit"] - KERNELS

    one = working()
    assert 3 < working(64) / one < 5
    assert working(edits=3) > 2 * one and working(edits=3, max_rows=2) < 1.2 * one
    assert working(max_rows=1) < one and working(cross_attention_guidance=0.0) < one
    assert set(predict(models, settings, Work((32, 32), real=False)).phases) == {"edit", "decode"}


def test_loaded_models_are_predicted_as_their_configurations_are() -> None:
    settings, work = EditSettings(steps=2), Work((32, 32))
    whole = predict(loaded("embedded"), settings, work)
    assert whole == predict(outline("embedded"), settings, work)
    assert set(whole.phases) == {"encode", "invert", "edit", "decode"}
    assert whole.peak == sum(whole.weights.values()) + whole.phases["edit"]


# What is chosen


def test_the_first_choice_that_fits_else_the_last() -> None:
    needs = {"large": 9, "middle": 5, "small": 2}
    assert [first_that_fits(needs, needs.__getitem__, r) for r in (9, 8, 1, None)] == [
        "large", "middle", "small", "large"
    ]  # fmt: skip


def test_a_processor_takes_edits_one_by_one_and_a_gpu_what_fits() -> None:
    settings = EditSettings()
    assert [load.max_rows for load in loads(settings, "cpu", 1, None)] == [None, 1]
    assert [load.max_rows for load in loads(settings, "cpu", 3, None)] == [2, 1]
    assert [load.max_rows for load in loads(settings, "cuda", 5, None)] == [None, 8, 4, 2, 1]
    without = replace(settings, guidance_scale=1.0)
    assert [load.max_rows for load in loads(without, "cpu", 3, None)] == [1]
    given = list(loads(replace(settings, max_rows=3), "cpu", 3, None))
    assert given == [Load(1, 3, 3)] and list(loads(settings, "cpu", 3, 2)) == [Load(1, 2, None)]
    assert list(loads(settings, "cpu", 3, 4, alike=9)) == [Load(4, 4, None)]
    assert list(loads(settings, "cpu", 3, 99, alike=2)) == [Load(2, 6, None)]  # no more than there is
    assert Load(1, 3, 2).together(settings) == 1 and Load(1, 3, None).together(settings) == 3
    assert Load(1, 3, None).rows(settings) == 6 and Load(1, 3, 4).rows(settings) == 4


def test_pictures_are_alike_once_they_have_the_size_asked_for() -> None:
    models = loaded("embedded")
    tasks = [Task({}, "x.png", size) for size in ((80, 64), (160, 128), (64, 64), (640, 640), (40, 32))]
    assert most_alike(Request(), tasks, models) == 3
    assert most_alike(Request(size=None), tasks, models) == 1
    assert sizes_of(Request(size=32), tasks[:3], models) == [(40, 32), (40, 32), (32, 32)]
    assert sizes_of(Request(prompt="a cat", size=(40, 30)), [Task({})], models) == [(40, 30)]


def test_half_precision_comes_last_and_only_on_a_gpu() -> None:
    settings = EditSettings()
    on_gpu = list(loads(settings, "cuda", 1, None, halves=True))
    assert [(load.max_rows, load.half) for load in on_gpu] == [
        (None, False), (1, False), (None, True), (1, True)
    ]  # fmt: skip
    assert not any(load.half for load in loads(settings, "cpu", 1, None, halves=True))
    assert [load.half for load in loads(settings, "cuda", 1, 2, halves=True)] == [False, True]


def test_float16_is_chosen_for_a_gpu_that_float32_does_not_fit_into(monkeypatch: pytest.MonkeyPatch) -> None:
    request = Request(images=("a.png",), expressions=("cat2dog",), steps=2, size=64)
    tasks = [Task({0: Path("b.png")}, "b.png", (64, 64))]
    asked: list[bool] = []

    def extra(*_: Any, captioner: bool, safety: bool) -> dict[str, int]:
        asked.append(safety)
        return {"safety checker": 2**30} if safety else {}

    monkeypatch.setattr("editor.models.choose_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr("editor.preview.extra_weights", extra)

    def chosen(free: int, safety: bool = True) -> torch.dtype | None:
        monkeypatch.setattr("editor.preview.available", lambda _: free)
        return precision(request, tasks, Writing(), None, safety)

    assert chosen(2**40) is None
    need = preview(request, tasks, Writing(), None, False)["memory"]["peak"]
    assert chosen(need + 2**30) is None and chosen(need, safety=False) is None
    assert chosen(need) == chosen(need * 2 // 3, safety=False) == torch.float16
    assert asked[2:] == [True, False, True, False]


def test_what_is_scarce_is_predicted_and_what_is_not_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    models, request = loaded("embedded"), Request(images=("a.png",), steps=2, size=32)
    settings, tasks = EditSettings(steps=2), [Task({0: Path("b.png")}, "b.png", (50, 32))]

    def chosen(free: int | None) -> int | None:
        return fitted(request, tasks, models, settings, 3, None, free).max_rows

    assert chosen(2**20) == 1
    monkeypatch.setattr(fitting, "predict", None)
    assert chosen(2**40) == chosen(None) == 2
    work = Work((64, 64))
    assert roomy(models, settings, Load(1, 1, None), work, 2**28)
    assert not roomy(models, settings, Load(1, 1, None), work, 2**26)


def test_the_memory_that_is_free_is_known_here() -> None:
    free = available("cpu")
    assert free is None or 2**24 < free < 2**50
    assert available("meta") is None


# Running


def test_three_edits_from_one_inversion_and_one_reference_are_what_they_are_alone(
    picture: Path, directions: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    watched(monkeypatch, calls.append)
    for size in (64, 128):
        calls.clear()
        worked(picture, *THREE, *SHORT, "--size", size, "-o", f"together{size}", "--no-cache")
        # One row a step for inversion and reference; of each edit in the first step, whose other half is known.
        assert calls.count(1) == 2 + 2 + 3 * 2 and max(calls) == 2
        for expression in THREE[1::2] if size == 64 else THREE[1:2]:
            alone = f"alone{size}-{expression.replace('*', '-')}.png"
            worked(picture, "-d", expression, *SHORT, "--size", size, "-o", alone, "--no-cache")
            (beside,) = Path(f"together{size}").glob(f"cat-{expression.replace('0.5*', '0-5-')}.png")
            assert pixels(alone).tobytes() == pixels(beside).tobytes()
    result = worked("--from", "together64/cat-0-5-cat2dog.png", "--no-cache", "-o", "again.png")
    assert "batch" not in result.stderr
    assert Path("again.png").read_bytes() == Path("together64/cat-0-5-cat2dog.png").read_bytes()
    assert Path("again.json").read_bytes() == Path("together64/cat-0-5-cat2dog.json").read_bytes()


def test_out_of_memory_halves_the_batch_once_and_says_so(
    picture: Path, directions: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.open(picture).rotate(90).save("other.png")
    failing_above(monkeypatch, 4)
    result = worked(picture, "other.png", *THREE[:4], *SHORT, "--batch", 4, "--no-cache", "-o", "edits")
    lines = [line for line in result.stderr.splitlines() if line.startswith("out of memory")]
    assert lines == ["out of memory: again with 2 edits at a time instead of 4"]
    records = [read_record(path) for path in sorted(Path("edits").glob("*.png"))]
    assert [record["batch"] for record in records] == [2, 2, 2, 2]


def test_of_edits_one_by_one_the_rows_are_halved(
    picture: Path, directions: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_above(monkeypatch, 1)
    result = worked(picture, *THREE, *SHORT, "--no-cache", "-o", "edits")
    assert "out of memory: again with 1 row of the UNet at a time instead of 2" in result.stderr
    assert {read_record(p)["settings"]["max_rows"] for p in Path("edits").glob("*.png")} == {1}
    worked(picture, "-d", "cat2dog", *SHORT, "--sweep", "strength=0,1", "-o", "sweep.png")


def test_the_trials_of_auto_are_halved_too(
    picture: Path, directions: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_above(monkeypatch, 1)
    result = worked(picture, "-d", "cat2dog", *SHORT, "--auto", "--no-cache", "-o", "edit.png")
    assert result.stderr.count("out of memory: again with 1 row of the UNet at a time instead of 2") == 1
    record = read_record("edit.png")
    assert record["settings"]["max_rows"] == 1 and record["auto"]["reason"]


def test_a_second_time_is_an_error_with_what_to_do_and_another_failure_is_none_of_it(
    picture: Path, directions: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_above(monkeypatch, 0)
    result = run(picture, "-d", "cat2dog", *SHORT, "--no-cache")
    assert result.exit_code == 1
    error = result.stderr.splitlines()[-1]
    assert error.startswith(
        "error: out of memory with 1 at a time; try a smaller --size, --batch 1, --max-rows 1"
    )
    assert not list(Path().glob("cat-*"))
    failing_above(monkeypatch, 0, "the size of tensor a must match")
    with pytest.raises(RuntimeError, match="must match"):
        run(picture, "-d", "cat2dog", *SHORT, "--no-cache")


def test_pictures_inverted_together_are_halved_too() -> None:
    told: list[str] = []
    sizes: list[int] = []

    def make(part: Any) -> list[int]:
        sizes.append(len(part))
        if len(part) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return list(part)

    assert Room(Load(5, 1, None), EditSettings(), told.append).pictures([1, 2, 3, 4, 5], make) == [
        1,
        2,
        3,
        4,
        5,
    ]
    assert sizes == [5, 2, 2, 1] and told == ["out of memory: again with 2 pictures at a time instead of 5"]
    with pytest.raises(EditorError, match="out of memory with 3 at a time"):
        Room(Load(6, 1, None), EditSettings(), told.append).pictures(list(range(6)), make)


@pytest.mark.parametrize(
    ("error", "is_it"),
    [
        (MemoryError(), True),
        (RuntimeError("no"), False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: out of memory"), True),
    ],
)
def test_what_a_lack_of_memory_is(error: Exception, is_it: bool) -> None:
    assert out_of_memory(error) is is_it


# --plan


def test_a_plan_says_what_would_be_made_and_makes_nothing(
    picture: Path, directions: Library, monkeypatch: pytest.MonkeyPatch, private_folders: Path
) -> None:
    monkeypatch.setattr("editor.session.load_captioner", None)
    before = sorted(Path().rglob("*"))
    result = worked(picture, *THREE, "--size", 128, "--sheet", "--plan")
    assert "3 of 50 steps at 128×128" in result.stdout and "3 edits made at a time" in result.stdout
    assert (
        "at most 2 rows of the UNet a call" in result.stdout
        and " predicted, beside the program itself: weights " in result.stdout
    )
    assert "cat-cat2dog.png, cat-cat2dog.json, cat-cat2dog-sheet.png" in result.stdout
    plan = json.loads(worked(picture, *THREE, "--size", 128, "--plan", "--json").stdout)
    assert plan["edits"] == 3 and plan["batch"] == {"pictures": 1, "edits": 3, "rows": 2}
    memory = plan["memory"]
    assert memory["peak"] == sum(memory["weights"].values()) + max(memory["working"].values())
    assert {"unet", "vae", "text encoder", "captioner"} == set(memory["weights"])
    assert plan["writes"][1]["files"] == ["cat-0-5-cat2dog.png", "cat-0-5-cat2dog.json"]
    swept = json.loads(
        worked(
            picture, "-d", "cat2dog", "--sweep", "strength=0:1:3,guidance=0,0.1", "--plan", "--json"
        ).stdout
    )
    assert swept["edits"] == 6 and swept["batch"]["edits"] == 3
    assert sorted(Path().rglob("*")) == before and not (private_folders / "cache").exists()


def test_a_plan_that_does_not_fit_says_so(
    picture: Path, directions: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("editor.preview.available", lambda device: 2**20)
    result = worked(picture, "-d", "cat2dog", "--plan")
    assert (
        "that does not fit: try a smaller --size" in result.stdout
        and "at most 1 row of the UNet" in result.stdout
    )
    monkeypatch.setattr("editor.preview.available", lambda device: None)
    assert "what is available is not known" in worked("--prompt", "a cat", "-d", "cat2dog", "--plan").stdout
    Path("out.png").write_bytes(b"precious")
    failed(run(picture, "-d", "cat2dog", "--plan", "-o", "out.png"), "out.png exists")
