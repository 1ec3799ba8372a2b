"""Bars of the libraries: none for what is on the disk, and as they were afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars
from transformers.utils import logging

from directions.models import load_encoder
from editor.models import load_captioner
from zoo.loading import without_bars
from zoo.registry import resolve


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


def test_bars_of_a_hub_id_stay() -> None:
    with without_bars("some/model"):
        assert logging.is_progress_bar_enabled()


def test_bars_come_back_after_an_error_and_hidden_downloads_stay_hidden(tmp_path: object) -> None:
    disable_progress_bars()
    with pytest.raises(OSError), without_bars(str(tmp_path)):
        assert not logging.is_progress_bar_enabled()
        raise OSError
    assert logging.is_progress_bar_enabled() and are_progress_bars_disabled()
