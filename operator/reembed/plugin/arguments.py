"""The command line of `kubectl reembed`: what can be said, and how a mistake in it is told."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib import metadata
from typing import NoReturn

from reembed.api.values import InvalidValue, parse_duration
from reembed.core.model import Verb
from reembed.plugin.connection import Target
from reembed.plugin.exits import FAILED

_EFFECTS = {
    Verb.PAUSE: "stay where it is; rollback triggers are watched on",
    Verb.RESUME: "go on after `pause`",
    Verb.PROMOTE: "give the approval, or skip the rest of a hold or of the retention window",
    Verb.ABORT: "take the queries back and withdraw what was made",
    Verb.RETRY: "begin a new attempt after Failed or RolledBack",
}
_PANEL_EFFECTS = {
    "init": "make the Panel of the keys that the eight agents have published, and print its digest",
    "status": "show who is in office, who is reachable and who said what; 1 if too few are reachable to decide",
    "rotate": "have one agent make another key, and wait until the others certified it",
    "wish": "wish for the keys that agents have published, and wait until those in office certified them",
}
_EPILOG = """\
exit codes:
  0  done: list and get showed it, status saw Succeeded, a command was accepted, inspect found nothing
  1  the migration ended in RolledBack or Failed, a command was refused, or inspect found something
  2  nothing was decided within --timeout or --wait
  3  usage, not found, no rights, no cluster
"""


@dataclass(frozen=True, slots=True)
class Arguments:
    """What was asked for."""

    does: str
    target: Target
    json: bool = False
    all_namespaces: bool = False
    name: str = ""
    watch: bool = False
    wait: timedelta | None = None  # for an answer or an end; None is as long as it takes
    collection: str | None = None  # to inspect; None is what answers
    last: bool = False  # show what was found last
    panel: str = ""  # name of the Panel
    faulty: int = 2  # agents that a new Panel tolerates


class _Parser(argparse.ArgumentParser):
    """argparse exits with 2, which here means a time-out."""

    def error(self, message: str) -> NoReturn:
        self.exit(FAILED, f"error: {message}; `{self.prog} --help` shows what there is\n")


def parse(words: Sequence[str]) -> Arguments:
    """Return what the command line asks for; ends the program if it is wrong or only help is asked for."""
    found = vars(_parser().parse_args(words))
    return Arguments(
        does=found["does"],
        target=Target(found.get("kubeconfig"), found.get("context"), found.get("namespace")),
        json=found.get("output") == "json",
        all_namespaces=found.get("all_namespaces", False),
        name=found.get("name", ""),
        watch=found.get("watch", False),
        wait=found.get("wait"),
        collection=found.get("collection"),
        last=found.get("last", False),
        panel=found.get("panel", ""),
        faulty=found.get("faulty", 2),
    )


def _parser() -> argparse.ArgumentParser:
    common = _common()
    parser = _Parser(
        prog="kubectl reembed",
        description="Look at migrations of embedding indexes, wait for them, and give them commands.",
        parents=[common],
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"kubectl-reembed {metadata.version('reembed')}")
    verbs = parser.add_subparsers(dest="does", metavar="COMMAND", required=True)

    table = verbs.add_parser("list", parents=[common], help="one line for each migration", aliases=["ls"])
    table.set_defaults(does="list")
    table.add_argument("-A", "--all-namespaces", action="store_true", help="of all namespaces")

    get = _named(verbs, common, "get", "everything about one migration")
    get.add_argument("-w", "--watch", action="store_true", help="go on showing it until it ended")

    status = _named(verbs, common, "status", "wait until it ended; the exit code says how")
    status.add_argument(
        "--timeout",
        dest="wait",
        type=_duration,
        metavar="10m",
        help="at most this long; 0s looks once (default: no limit)",
    )
    for verb, effect in _EFFECTS.items():
        command = _named(verbs, common, verb.value, effect)
        command.add_argument(
            "--wait",
            type=_duration,
            default=timedelta(seconds=10),
            metavar="10s",
            help="how long to wait for the operator's answer; 0s does not (default: 10s)",
        )
    _inspect(verbs, common)
    _panel(verbs, common)
    return parser


def _inspect(verbs: argparse._SubParsersAction[_Parser], common: _Parser) -> None:
    text = "look at what an index holds, and whether its pool makes its vectors"
    parser = verbs.add_parser("inspect", parents=[common], help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument("name", metavar="INDEX", type=_bare_index, help="name of the EmbeddingIndex")
    parser.add_argument("--collection", metavar="C", help="of status.collections (default: the one that answers)")
    parser.add_argument("--last", action="store_true", help="show what was found last, and ask for nothing")
    parser.add_argument(
        "--wait",
        type=_duration,
        default=timedelta(minutes=5),
        metavar="5m",
        help="how long to wait for the outcome; 0s does not (default: 5m)",
    )


def _panel(verbs: argparse._SubParsersAction[_Parser], common: _Parser) -> None:
    text = "name the panel's members, look at what they vote on, and change keys"
    parser = verbs.add_parser("panel", help=text, description=f"{text[0].upper()}{text[1:]}.")
    inner = parser.add_subparsers(dest="panel_does", metavar="COMMAND", required=True)
    for does, effect in _PANEL_EFFECTS.items():
        one = inner.add_parser(does, parents=[common], help=effect, description=f"{effect[0].upper()}{effect[1:]}.")
        one.set_defaults(does=f"panel {does}")
        if does == "rotate":
            one.add_argument("name", metavar="AGENT", help="name of the agent, such as memory-analyst")
        one.add_argument("--panel", metavar="NAME", default="panel", help="name of the Panel (default: panel)")
        if does == "init":
            one.add_argument("--faulty", type=int, default=2, metavar="2", help="how many agents may lie (default: 2)")
        if does != "status":
            one.add_argument(
                "--timeout",
                dest="wait",
                type=_duration,
                default=timedelta(minutes=2),
                metavar="2m",
                help="how long to wait for the agents (default: 2m)",
            )


def _common() -> _Parser:
    """Return what every command takes, before or after its name."""
    common = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("-n", "--namespace", help="namespace (default: that of the context)")
    common.add_argument("--context", help="context of the kubeconfig (default: the current one)")
    common.add_argument("--kubeconfig", metavar="FILE", help="kubeconfig (default: KUBECONFIG, else ~/.kube/config)")
    common.add_argument("-o", "--output", choices=["json"], help="print JSON; docs/cli.md lists the keys")
    return common


def _named(verbs: argparse._SubParsersAction[_Parser], common: _Parser, name: str, text: str) -> _Parser:
    parser = verbs.add_parser(name, parents=[common], help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument("name", metavar="NAME", type=_bare, help="name of the EmbeddingMigration")
    return parser


def _bare(name: str) -> str:
    """Return the name alone where somebody pasted `emig/NAME`, as kubectl prints it."""
    kind, _, rest = name.rpartition("/")
    known = {"", "emig", "embeddingmigration", "embeddingmigrations", "embeddingmigration.reembed.dev"}
    if kind not in known or not rest:
        raise argparse.ArgumentTypeError(f"{name!r} does not name an EmbeddingMigration")
    return rest


def _bare_index(name: str) -> str:
    """Return the name alone where somebody pasted `eidx/NAME`."""
    kind, _, rest = name.rpartition("/")
    known = {"", "eidx", "embeddingindex", "embeddingindexes", "embeddingindex.reembed.dev"}
    if kind not in known or not rest:
        raise argparse.ArgumentTypeError(f"{name!r} does not name an EmbeddingIndex")
    return rest


def _duration(text: str) -> timedelta:
    try:
        return parse_duration(text)
    except InvalidValue as error:
        raise argparse.ArgumentTypeError(str(error)) from error
