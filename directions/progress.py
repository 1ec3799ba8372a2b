"""One progress bar on stderr for everything that a discovery does."""

from __future__ import annotations

from types import TracebackType
from typing import Any

__all__ = ["Bar"]


class Bar:
    """A callable `(what, more, total)` that shows itself as one bar; it disappears when it is done.

    items: the bar counts these, by `advance`, and what is being done is named beside it. Nothing is shown
    where stderr is no terminal.
    """

    def __init__(self, items: int | None = None) -> None:
        self.items = items
        self._bar: Any = None
        self._what = ""

    def __enter__(self) -> Bar:
        from tqdm import tqdm

        self._bar = tqdm(total=self.items or 0, disable=None, leave=False, bar_format=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def __call__(self, what: str, more: int, total: int) -> None:
        if self.items is not None:
            if what != self._what:
                self._bar.set_postfix_str(what)
        else:
            if what != self._what:
                self._bar.reset(total=total)
                self._bar.set_description(what)
            self._bar.update(more)
        self._what = what

    def advance(self, item: str) -> None:
        """One item is done."""
        self._bar.set_description(item)
        self._bar.update(1)
