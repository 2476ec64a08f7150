"""What the benchmark found, for people: tables on standard error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from tests.bench.embedder.figures import Figure
from tests.bench.embedder.results import BUSY_PERCENT, IN_PROCESS, Round, medians

_WIDTH = 130


def show(rounds: Sequence[Round], found: Mapping[str, Figure | None], settings: Mapping[str, str]) -> None:
    console = Console(stderr=True, width=_WIDTH)
    for table in (_measurements(rounds), _figures(found), _settings(settings)):
        console.print(table)
    busy = found["others_cpu_percent"]
    if busy is not None and busy.value > BUSY_PERCENT:
        text = (
            f"Other programs took {busy.value:.0f} % of the cores, more than {BUSY_PERCENT} %: end them, run it again."
        )
        console.print(text, style="bold red")


def _measurements(rounds: Sequence[Round]) -> Table:
    table = Table(title="medians of rounds; latencies in ms, memory at most in MiB", title_justify="left")
    for name in ("", "texts", "callers"):
        table.add_column(name)
    for name in ("texts/s", "p50", "p95", "p99", "not 200", "anonymous", "resident"):
        table.add_column(name, justify="right")
    for key in rounds[0]:
        name, kind, clients = key
        one = medians(rounds, key)
        callers = "in process" if clients == IN_PROCESS else str(clients)
        times = [f"{time:.0f}" if time else "" for time in (one.p50, one.p95, one.p99)]
        refused = "" if clients == IN_PROCESS else str(one.refused)
        memory = (f"{one.anonymous:.0f}", f"{one.resident:.0f}")
        table.add_row(name, kind, callers, f"{one.rate:.1f}", *times, refused, *memory)
    return table


def _figures(found: Mapping[str, Figure | None]) -> Table:
    table = Table()
    table.add_column("figure")
    for name in ("value", "least", "most"):
        table.add_column(name, justify="right")
    for name, one in found.items():
        cells = ("not measured", "", "") if one is None else (f"{number:.5g}" for number in (one.value, *one.spread))
        table.add_row(name, *cells)
    return table


def _settings(settings: Mapping[str, str]) -> Table:
    table = Table("others' settings", "")
    for name, value in settings.items():
        table.add_row(name, value)
    return table
