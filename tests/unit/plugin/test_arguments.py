"""What the command line means, and how a mistake in it is told."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reembed.plugin.arguments import Arguments, parse
from reembed.plugin.connection import Target

SECONDS_10 = timedelta(seconds=10)


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("list", Arguments("list", Target())),
        ("ls -A -o json", Arguments("list", Target(), json=True, all_namespaces=True)),
        ("get m -n rag --watch", Arguments("get", Target(namespace="rag"), name="m", watch=True)),
        ("-n rag get emig/m", Arguments("get", Target(namespace="rag"), name="m")),
        ("-n a get m -n b", Arguments("get", Target(namespace="b"), name="m")),
        ("--context c --kubeconfig f get m", Arguments("get", Target("f", "c"), name="m")),
        ("status m --timeout 1h30m", Arguments("status", Target(), name="m", wait=timedelta(minutes=90))),
        ("status m", Arguments("status", Target(), name="m")),
        ("promote embeddingmigration.reembed.dev/m", Arguments("promote", Target(), name="m", wait=SECONDS_10)),
        ("abort m --wait 0s", Arguments("abort", Target(), name="m", wait=timedelta(0))),
        ("inspect docs", Arguments("inspect", Target(), name="docs", wait=timedelta(minutes=5))),
        ("inspect eidx/docs --last", Arguments("inspect", Target(), name="docs", wait=timedelta(minutes=5), last=True)),
        (
            "inspect docs --collection c_1 --wait 0s",
            Arguments("inspect", Target(), name="docs", wait=timedelta(0), collection="c_1"),
        ),
    ],
)
def test_a_line_means(line: str, meant: Arguments) -> None:
    assert parse(line.split()) == meant


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("", "the following arguments are required: COMMAND"),
        ("get", "the following arguments are required: NAME"),
        ("undo m", "invalid choice: 'undo'"),
        ("status m --timeout 10", "'10' is not a duration such as 90s, 5m or 1h30m"),
        ("get pod/m", "'pod/m' does not name an EmbeddingMigration"),
        ("inspect emig/m", "'emig/m' does not name an EmbeddingIndex"),
        ("get m -o yaml", "invalid choice: 'yaml'"),
        ("list --force", "unrecognized arguments: --force"),
    ],
)
def test_a_mistake_is_told_in_one_line_and_is_no_time_out(
    line: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(line.split())
    error = capsys.readouterr().err
    assert caught.value.code == 3
    assert told in error
    assert error.count("\n") == 1


def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"])
    assert "2  nothing was decided within --timeout or --wait" in capsys.readouterr().out
