"""The directions that ship with the package: whole, usable at once, and what discovery makes."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.starter import COLOURS, packed
from directions import discover
from editor.models import load_models
from library import Library
from library.evaluation import evaluation_of
from library.settings import STARTER

TABLE = Path(__file__).parents[2] / "zoo" / "recipe" / "starter.csv"


@pytest.fixture
def starter(tmp_path: Path) -> Library:
    """An empty library as a new user has it: the starter lies below."""
    return Library(tmp_path / "own")


def test_every_line_of_the_table_is_there(starter: Library) -> None:
    with TABLE.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 40
    encoder = load_models("embedded").encoder_id
    catalog = starter.catalog()
    assert sorted(zip(catalog["source"], catalog["target"], strict=True)) == sorted(
        (row["source"], row["target"]) for row in rows
    )
    assert set(catalog["encoder"]) == {encoder}
    assert Library(STARTER, ()).verify() == []
    assert all(starter.load(name).anchored for name in starter)


def test_every_one_is_measured_and_shows_it(starter: Library) -> None:
    library = Library(STARTER, ())
    found = [evaluation_of(library, library.find(name)) for name in library]
    assert all(one is not None and one.pictures == 20 and one.sheet is not None for one in found)
    assert starter.catalog()["success"].notna().all()


def test_sheets_are_packed_into_few_colours() -> None:
    wide = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(wide).save(file, "PNG")
    with Image.open(io.BytesIO(packed(file.getvalue()))) as small:
        assert small.size == (40, 40) and len(small.convert("RGB").getcolors(2000) or ()) <= COLOURS


def test_the_opposite_answers_until_it_is_discovered(starter: Library) -> None:
    """The documented first command makes version 1, although `cat2dog` answers before."""
    before = starter["cat2dog"]
    assert (before.source, before.target) == ("cat", "dog") and "dog2cat@1 negated" in before.notes[0]
    assert starter.save(before.renamed("cat2dog")).ref == "cat2dog@1"


def test_one_is_made_again_from_the_same_captions(starter: Library) -> None:
    """To the last byte on one processor; another kind rounds otherwise."""
    kept = starter["zebra2horse"]
    made, again = (discover("zebra", "horse", models="embedded", cache=False) for _ in range(2))
    assert made.record["captions"] == kept.record["captions"]
    assert made.tensor.tobytes() == again.tensor.tobytes()
    close = {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(made.tensor, kept.tensor, **close)
    for one, other in zip(made.anchored, kept.anchored, strict=True):
        np.testing.assert_allclose(one.source_mean, other.source_mean, **close)
        np.testing.assert_allclose(one.target_mean, other.target_mean, **close)
