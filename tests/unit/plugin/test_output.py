"""Colours and redrawing on a terminal alone; whole lines everywhere else."""

from __future__ import annotations

import io

import pytest
from rich.text import Text

from reembed.plugin.output import Output
from reembed.plugin.reading import read_migration
from reembed.plugin.tree import tree
from tests.unit.plugin import stories


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def a_usual_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def shown(stream: io.StringIO) -> str:
    Output(stream, io.StringIO()).view(tree(read_migration(stories.IN_DANGER), stories.NOW))
    return stream.getvalue()


def test_a_terminal_gets_colours() -> None:
    assert "\x1b[31m" in shown(Terminal())


def test_a_terminal_whose_user_wants_none_gets_no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[31m" not in shown(Terminal())


def test_a_pipe_gets_whole_lines_without_colours() -> None:
    text = shown(io.StringIO())
    assert "\x1b" not in text
    assert stories.IN_DANGER["status"]["message"] in text


def test_a_long_line_is_not_broken() -> None:
    stream = io.StringIO()
    Output(stream, io.StringIO()).lines([Text("x" * 500)])
    assert stream.getvalue() == "x" * 500 + "\n"


def test_square_brackets_are_no_markup() -> None:
    out, err = io.StringIO(), io.StringIO()
    output = Output(out, err)
    output.json({"message": "[red]a[/red] :smile:"}, one_line=True)
    output.aside("[bold]b[/bold]")
    assert (out.getvalue(), err.getvalue()) == ('{"message": "[red]a[/red] :smile:"}\n', "[bold]b[/bold]\n")


@pytest.mark.parametrize(("stream", "redraws"), [(Terminal(), True), (io.StringIO(), False)], ids=["terminal", "pipe"])
def test_only_a_terminal_is_redrawn(stream: io.StringIO, redraws: bool) -> None:
    assert Output(stream, io.StringIO()).redraws is redraws


def test_the_last_view_stays_on_the_terminal() -> None:
    stream = Terminal()
    with Output(stream, io.StringIO()).live() as draw:
        draw(Text("first"), "")
        draw(Text("second"), "no answer")
    assert stream.getvalue().rstrip().rfind("second") > stream.getvalue().rfind("first")
