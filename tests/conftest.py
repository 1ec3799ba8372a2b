"""Nothing a test does reaches the user's folders or the network."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def private_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every folder that the program writes to is a temporary one; the hub is off."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("DIRECTIONS_LIBRARY", str(home / "library"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for kind in ("CACHE", "CONFIG", "DATA", "STATE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(home / kind.lower()))
    for name in ("PATH", "CONFIG", "AUTHOR", "DEBUG"):
        monkeypatch.delenv(f"DIRECTIONS_{name}", raising=False)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    return home
