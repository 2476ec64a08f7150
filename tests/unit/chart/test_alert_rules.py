"""Alerts name only what the code exports and documents, and the chart installs them as they stand in its files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from hack.cache import ROOT
from reembed.backfill.metrics import Metrics as BackfillMetrics
from reembed.backfill.metrics import WorkerMetrics
from reembed.controller.web import Metrics as OperatorMetrics
from reembed.core import reasons, scaling
from reembed.core.transitions import State
from reembed.gateway.meter import Meter
from reembed.panel.metrics import Metrics as AgentMetrics
from tests.alert_cases import CASES
from tests.unit.chart.rendering import CHART, of_kind, render, template

FILES = {path.stem: yaml.safe_load(path.read_text()) for path in (CHART / "files" / "alerts").glob("*.yaml")}
RULES = [rule for file in FILES.values() for group in file["groups"] for rule in group["rules"]]
ENABLED = "monitoring.alertRules.enabled=true"
PANEL = ("panel.enabled=true", "watchNamespaces={a}")
# What Prometheus adds to what it scrapes.
OF_TARGETS = {"namespace", "pod"}
_SERIES = re.compile(r'(reembed_\w+)(?:\{((?:[^{}"]|"[^"]*")*)\})?')
_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}


@cache
def exported() -> dict[str, frozenset[str]]:
    """Return the labels of every series that the operator, agents, gateways and workers export, by its name."""
    registries = [one.registry for one in (OperatorMetrics(), AgentMetrics(), BackfillMetrics(), WorkerMetrics())]
    return {name: labels for one in (*registries, Meter()._registry) for name, labels in _series(one)}


def _series(registry: CollectorRegistry) -> Iterator[tuple[str, frozenset[str]]]:
    for collector in set(registry._collector_to_names):
        for family in collector.collect():
            # Of a family that is made at each scrape, or of what counts all the time.
            labels = frozenset(getattr(collector, "_labelnames", None) or getattr(family, "_labelnames", ()))
            for suffix in _SUFFIXES.get(family.type, ()):
                yield family.name + suffix, labels | ({"le"} if suffix == "_bucket" else set())


def named(text: str) -> list[tuple[str, set[str]]]:
    """Return the series that a text names, with the labels that it asks for."""
    return [(name, set(re.findall(r"(\w+)\s*[=!]", labels))) for name, labels in _SERIES.findall(text)]


def text_of(rule: dict[str, Any]) -> str:
    return " ".join((rule["expr"], *rule["annotations"].values()))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_whatever_an_alert_names_is_exported(rule: dict[str, Any]) -> None:
    unknown = [
        (name, sorted(labels - exported().get(name, frozenset()) - OF_TARGETS))
        for name, labels in named(text_of(rule))
        if name not in exported() or labels - exported()[name] - OF_TARGETS
    ]
    assert unknown == []


def test_what_makes_alerts_fire_in_tests_is_exported_as_well() -> None:
    told = {
        (name, label)
        for case in CASES
        for series in (case.fires, *case.quiet.values())
        for one in series
        for name, labels in named(one)
        for label in labels - exported()[name] - OF_TARGETS
    }
    assert told == set()


def reasons_of(alert: str) -> set[str]:
    (rule,) = (one for one in RULES if one["alert"] == alert)
    (found,) = re.findall(r'reason=~"([\w|]+)"', rule["expr"])
    return set(found.split("|"))


def test_reasons_that_people_have_to_look_at_have_alerts() -> None:
    assert reasons_of("ReembedMigrationNeedsHelp") == reasons.ALARMS
    assert reasons_of("ReembedMigrationWaitsForPeople") == reasons.FOR_PEOPLE - {reasons.BUDGET_SPENT}


def test_states_and_reasons_are_spelt_as_the_code_spells_them() -> None:
    text = " ".join(rule["expr"] for rule in RULES)
    states = set(re.findall(r'(?:state|outcome)="(\w+)"', text))
    assert states <= {state.value for state in State}
    assert set(re.findall(r'reason="(\w+)"', text)) == {reasons.BUDGET_SPENT, scaling.AT_MAXIMUM, scaling.NO_METRICS}


def test_every_alert_says_how_bad_it_is_and_has_a_section_that_its_link_leads_to() -> None:
    titles = re.findall(r"^### (\w+)$", (ROOT / "docs" / "alerts.md").read_text(), re.MULTILINE)
    links = [rule["annotations"]["runbook_url"] for rule in RULES]
    assert set(links) == {f"docs/alerts.md#{title.lower()}" for title in titles}
    assert links == [f"docs/alerts.md#{rule['alert'].lower()}" for rule in RULES]
    assert {rule["labels"]["severity"] for rule in RULES} == {"critical", "warning", "info"}


def test_what_alerts_are_made_of_is_on_the_page_as_well() -> None:
    page = (ROOT / "docs" / "alerts.md").read_text()
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in exported()}
    ours = {name for name in families if name.startswith(("reembed_panel_", "reembed_migration", "reembed_operator_"))}
    assert {name for name in ours if f"`{name}" not in page} == set()


def rules(kube_binary: Path, *settings: str) -> dict[str, Any]:
    (found,) = of_kind(render(kube_binary, *settings), "PrometheusRule")
    return found


def test_rules_are_installed_as_they_stand_in_the_files(kube_binary: Path) -> None:
    alone, both = (rules(kube_binary, ENABLED, *more)["spec"]["groups"] for more in ((), PANEL))
    assert (alone, both) == (FILES["operator"]["groups"], FILES["operator"]["groups"] + FILES["panel"]["groups"])


def test_rules_have_the_labels_by_which_they_are_selected_and_links_to_where_the_pages_are(kube_binary: Path) -> None:
    base = "monitoring.alertRules"
    found = rules(kube_binary, ENABLED, f"{base}.labels.release=prom", f"{base}.runbooks=https://wiki/alerts")
    links = [rule["annotations"]["runbook_url"] for group in found["spec"]["groups"] for rule in group["rules"]]
    assert (found["metadata"]["namespace"], found["metadata"]["labels"]["release"]) == ("reembed-system", "prom")
    assert links[0] == "https://wiki/alerts#reembedoperatorabsent"
    assert {link.partition("#")[0] for link in links} == {"https://wiki/alerts"}


def test_the_pods_of_all_namespaces_are_scraped_with_the_labels_that_they_tell(kube_binary: Path) -> None:
    (found,) = of_kind(render(kube_binary, "monitoring.podMonitor.enabled=true", *PANEL), "PodMonitor")
    (endpoint,) = found["spec"]["podMetricsEndpoints"]
    assert found["spec"]["namespaceSelector"] == {"matchNames": ["reembed-system", "a", "reembed-panel"]}
    assert endpoint == {"port": "http", "interval": "15s", "honorLabels": True}


def test_a_link_that_could_not_lead_to_a_section_is_refused(kube_binary: Path) -> None:
    done = template(kube_binary, ENABLED, "monitoring.alertRules.runbooks=https://wiki#alerts")
    assert (done.returncode != 0, "/monitoring/alertRules/runbooks" in done.stderr) == (True, True)
