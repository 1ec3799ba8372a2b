"""Loading from a hub that answers, from the cache when it does not; and the libraries' bars."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars
from transformers.utils import logging

from directions.models import load_encoder
from editor.models import load_captioner
from tests.library.hub_stand_in import running_hub
from zoo.loading import load_from, without_bars
from zoo.registry import resolve

TINY = Path(__file__).parents[1] / "golden" / "tiny_sd"


@pytest.fixture(autouse=True)
def _bars() -> Iterator[None]:
    """Bars as a program has them that has changed nothing; afterwards as they were."""
    before = logging.is_progress_bar_enabled()
    logging.enable_progress_bar()
    yield
    (logging.enable_progress_bar if before else logging.disable_progress_bar)()


def test_a_local_folder_is_loaded_without_bars(capfd: pytest.CaptureFixture[str]) -> None:
    embedded = resolve("embedded")
    load_encoder(embedded)
    load_captioner(embedded.captioner)
    assert capfd.readouterr().err == ""
    assert logging.is_progress_bar_enabled() and not are_progress_bars_disabled()


def test_bars_of_a_download_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.loading._hub_answers", lambda period: True)
    assert load_from(lambda location: logging.is_progress_bar_enabled(), "some/model")


def test_bars_come_back_after_an_error_and_hidden_downloads_stay_hidden() -> None:
    disable_progress_bars()
    with pytest.raises(OSError), without_bars():
        assert not logging.is_progress_bar_enabled()
        raise OSError
    assert logging.is_progress_bar_enabled() and are_progress_bars_disabled()


def discover_with(models: str, hub: str, home: Path) -> subprocess.CompletedProcess[str]:
    """`mkdir-direction` in a process of its own, with this hub and this home."""
    command = [sys.executable, "-c", "from directions.cli import main; main()"]
    command += ["cat", "dog", "--templates", "--captions", "40", "--models", models]
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "0",
        "HF_ENDPOINT": hub,
        "HF_HOME": str(home / "hub"),
        "HF_HUB_DISABLE_XET": "1",
        "DIRECTIONS_LIBRARY": str(home / "library"),
    }
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=home)


def test_models_are_downloaded_and_later_found_without_a_hub(tmp_path: Path) -> None:
    with running_hub() as hub:
        files = {str(p.relative_to(TINY)): p.read_bytes() for p in TINY.rglob("*") if p.is_file()}
        hub.commit("user/tiny", files)
        first = discover_with("user/tiny", hub.url, tmp_path)
        assert first.returncode == 0, first.stderr
        assert any("model.safetensors" in path for path in hub.asked)
    gone = hub.url
    later = discover_with("user/tiny", gone, tmp_path)
    assert later.returncode == 0, later.stderr
    assert "cat2dog@2" in later.stdout
    unknown = discover_with("user/other", gone, tmp_path)
    assert unknown.returncode == 1
    for done in (later, unknown):  # nothing was waited for: each wait is announced
        assert "Retrying" not in done.stderr
    assert unknown.stderr.startswith("error: the text encoder user/other is neither in the cache")
