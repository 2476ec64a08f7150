"""Alerts fire for what they name and for nothing like it, as Prometheus' own promtool evaluates them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.cache import ROOT
from tests.alert_cases import CASES, Case, Series

FILES = sorted((ROOT / "charts" / "reembed" / "files" / "alerts").glob("*.yaml"))
RULES = [
    rule for file in FILES for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]
]  # fmt: skip


def check(promtool: Path, *arguments: str | Path) -> None:
    done = subprocess.run([promtool, *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def summaries_alone(directory: Path) -> list[str]:
    """Copy the rule files without what a test would have to repeat word by word."""
    for file in FILES:
        rules = yaml.safe_load(file.read_text())
        for group in rules["groups"]:
            for rule in group["rules"]:
                rule["annotations"] = {"summary": rule["annotations"]["summary"]}
        (directory / file.name).write_text(yaml.safe_dump(rules))
    return [file.name for file in FILES]


def tried(series: Series, case: Case, alerts: list[dict[str, Any]]) -> dict[str, Any]:
    expected = [{"eval_time": case.at, "alertname": case.alert, "exp_alerts": alerts}]
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    return {"interval": "15s", "input_series": inputs, "alert_rule_test": expected}


def firing(case: Case) -> dict[str, Any]:
    labels = {**case.labels, "severity": case.severity}
    return {"exp_labels": labels, "exp_annotations": {"summary": case.summary}}


NAMED = [pytest.param(case, id=f"{number}-{case.alert}") for number, case in enumerate(CASES)]


def run(promtool: Path, directory: Path, tests: list[Mapping[str, Any]]) -> None:
    body = {"rule_files": summaries_alone(directory), "evaluation_interval": "15s", "tests": tests}
    (directory / "tests.yaml").write_text(yaml.safe_dump(body))
    check(promtool, "test", "rules", directory / "tests.yaml")


def test_prometheus_takes_the_files_as_they_stand(promtool: Path) -> None:
    check(promtool, "check", "rules", *FILES)


def test_prometheus_takes_the_scrape_configuration_of_the_page(promtool: Path, tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "alerts.md").read_text(), re.DOTALL)
    jobs = yaml.safe_load(block)
    # Debian's Prometheus is built without what finds pods; all else of the page is checked.
    assert [job.pop("kubernetes_sd_configs") for job in jobs] == [[{"role": "pod"}]]
    written = {"scrape_configs": jobs, "rule_files": [str(file) for file in FILES]}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(written))
    check(promtool, "check", "config", tmp_path / "prometheus.yml")


@pytest.mark.parametrize("case", NAMED)
def test_an_alert_fires_for_what_it_names(promtool: Path, tmp_path: Path, case: Case) -> None:
    run(promtool, tmp_path, [tried(case.fires, case, [firing(case)])])


@pytest.mark.parametrize("case", NAMED)
def test_it_does_not_fire_for_what_only_looks_like_it(promtool: Path, tmp_path: Path, case: Case) -> None:
    run(promtool, tmp_path, [tried(series, case, []) for series in case.quiet.values()])


def test_every_alert_has_a_case_that_makes_it_fire_and_one_that_does_not() -> None:
    told = {(rule["alert"], rule["labels"]["severity"]) for rule in RULES}
    assert told == {(case.alert, case.severity) for case in CASES if case.quiet}
