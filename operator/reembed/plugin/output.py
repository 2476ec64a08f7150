"""Where the plugin writes: results to stdout, everything beside them to stderr.

Colours and redrawing only on a terminal, no colours with NO_COLOR. What does not go to a terminal is not cut or wrapped
to a width, so that grep finds whole lines.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

# Wider than any line of a view.
_UNLIMITED = 10_000


class Output:
    """The two streams of the program."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out = _console(out)
        self._err = _console(err)

    @property
    def redraws(self) -> bool:
        """Return whether what was written can be written over."""
        return self._out.is_terminal and not self._out.is_dumb_terminal

    def json(self, value: Mapping[str, Any], *, one_line: bool = False) -> None:
        """Write one document; on one line where another one follows."""
        text = json.dumps(value, ensure_ascii=False, indent=None if one_line else 2)
        self._out.out(text, highlight=False)

    def lines(self, lines: Sequence[Text]) -> None:
        """Write lines that the terminal wraps, if any does, as kubectl's."""
        for line in lines:
            self._out.print(line, soft_wrap=True)

    def view(self, view: RenderableType) -> None:
        if self._out.is_terminal:
            self._out.print(view)
        else:
            self._out.out(plain(view, self._out.width), highlight=False)

    def aside(self, text: str) -> None:
        """Tell something that is not the result."""
        self._err.print(Text(text), soft_wrap=True)

    @contextmanager
    def live(self) -> Iterator[Callable[[RenderableType, str], None]]:
        """Yield what draws a view over the one before, with a problem below it; the last one stays."""
        with Live(console=self._out, auto_refresh=False) as live:

            def draw(view: RenderableType, problem: str) -> None:
                below = [Text(), Text(problem, "yellow")] if problem else []
                live.update(Group(view, *below), refresh=True)

            yield draw


def plain(view: RenderableType, width: int) -> str:
    """Return a view without colours, and without the spaces that fill up its columns."""
    console = Console(width=width, color_system=None, force_terminal=False, highlight=False, _environ={})
    with console.capture() as captured:
        console.print(view)
    return "\n".join(line.rstrip() for line in captured.get().rstrip("\n").split("\n"))


def _console(stream: TextIO) -> Console:
    terminal = stream.isatty()
    return Console(file=stream, highlight=False, width=None if terminal else _UNLIMITED)
