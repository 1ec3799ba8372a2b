"""What a long run shows on stderr, and what Ctrl-C may not cut through."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import click


class Progress:
    """One bar over all pictures: how many are done, what is being done, the time left.

    It counts steps, each picture's apart. Nothing is shown where stderr is no terminal.
    """

    def __init__(self, pictures: int, steps: int) -> None:
        self.pictures, self.steps, self.done = pictures, steps, 0
        self._bar: Any = None

    def __enter__(self) -> Progress:
        from tqdm import tqdm

        self._bar = tqdm(total=self.steps, unit="step", disable=None, leave=False)
        self._count()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def on_step(self, stage: str, i: int, timestep: float, latents: Any) -> None:
        """For `Editor.invert_all` and `edit_all`; the reference pass goes along with the edits."""
        if stage != "reference":
            self._bar.set_postfix_str(stage, refresh=False)
            self._bar.update(len(latents))

    def skip(self, steps: int) -> None:
        """So many steps need not be made after all."""
        self._bar.total -= steps
        self._bar.refresh()

    def finished(self) -> None:
        """One more picture is saved."""
        self.done += 1
        self._count()

    def print(self, line: str, err: bool = True) -> None:
        """A line on stderr, or on stdout, above the bar."""
        with self._bar.external_write_mode():
            click.echo(line, err=err)

    def _count(self) -> None:
        self._bar.set_description(f"{self.done}/{self.pictures} pictures")


@contextmanager
def unbroken() -> Iterator[None]:
    """Ctrl-C within the block takes effect at its end: what is being saved is saved, and counted."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals only ever reach the main thread
        return
    held: list[int] = []
    before: Callable[..., Any] | int | None = signal.signal(
        signal.SIGINT, lambda number, _: held.append(number)
    )
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held:
        raise KeyboardInterrupt
