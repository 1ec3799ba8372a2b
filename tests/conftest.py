"""Nothing a test does reaches the user's folders or the network."""

import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported, before any fixture
if not os.environ.get("TEST_GPU"):
    os.environ["CUDA_VISIBLE_DEVICES"] = (
        ""  # tests say what a processor computes; TEST_GPU=1 is for those of a GPU
    )
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as many workers as cores; read when torch is imported


@pytest.fixture(autouse=True)
def private_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every folder that the program writes to is a temporary one; the hub is off."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("DIRECTIONS_LIBRARY", str(home / "library"))
    for kind in ("CACHE", "CONFIG", "DATA", "STATE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(home / kind.lower()))
    for name in ("PATH", "CONFIG", "AUTHOR", "DEBUG", "CACHE", "MODELS"):
        monkeypatch.delenv(f"DIRECTIONS_{name}", raising=False)
    for name in ("COLUMNS", "SOURCE_DATE_EPOCH"):  # the one is how wide tables are
        monkeypatch.delenv(name, raising=False)
    return home
