"""What pods and Jobs say becomes a report with the reason that people need."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reembed.controller import pods
from reembed.core.model import JobReport, Problem
from tests import builders as b

SPEC = b.pool("new").spec


def pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "status": {"phase": "Running", "podIP": "10.0.0.1", **status}}


def ended(exit_code: int, message: str = "", **more: Any) -> dict[str, Any]:
    last = {"terminated": {"exitCode": exit_code, "message": message, "reason": "Error"}}
    return {"containerStatuses": [{"ready": False, "state": {}, "lastState": last, **more}]}


LAST_WORDS = json.dumps({"reason": "ModelChecksumMismatch", "message": "expected a, found b"})


@pytest.mark.parametrize(
    ("status", "problem", "permanent"),
    [
        pytest.param(
            ended(2, LAST_WORDS), Problem("ModelChecksumMismatch", "expected a, found b"), True, id="permanent refusal"
        ),
        pytest.param(
            ended(3, json.dumps({"reason": "ModelUnavailable", "message": "no answer"})),
            Problem("ModelUnavailable", "no answer"),
            False,
            id="passing refusal",
        ),
        pytest.param(
            ended(137), Problem("PodError", "pod p ended with status 137 (Error); see its log"), False, id="killed"
        ),
        pytest.param(
            {
                "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no room"}
                ]
            },
            Problem("Unschedulable", "pod p: no room"),
            False,
            id="no node has room",
        ),
        pytest.param(
            {"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}}]},
            Problem("ImagePullBackOff", "pod p: not found"),
            False,
            id="no image",
        ),
    ],
)
def test_a_pool_reports_why_its_pods_do_not_start(status: dict[str, Any], problem: Problem, permanent: bool) -> None:
    report = pods.pool_report(SPEC, 1, [], [pod(**status)], None)
    assert (report.problem, report.permanent) == (problem, permanent)


def test_a_ready_pool_has_no_problem_whatever_a_pod_said_before() -> None:
    deployment = {"status": {"readyReplicas": 1}}
    assert pods.pool_report(SPEC, 1, [deployment], [pod(**ended(2, LAST_WORDS))], None).problem is None


def test_only_running_pods_that_stay_are_asked() -> None:
    leaving = pod()
    leaving["metadata"] = {"name": "q", "deletionTimestamp": "now"}
    assert pods.addresses([pod(), leaving, pod(phase="Pending"), pod(podIP=None)]) == {"p": "10.0.0.1"}


def test_a_job_that_gave_up_says_why() -> None:
    failed = {"type": "Failed", "status": "True", "message": "too many failed indexes"}
    job = {"metadata": {"name": "j"}, "status": {"failed": 11, "conditions": [failed]}}
    assert pods.job_report(job) == JobReport(
        "j", 0, 11, complete=False, exhausted=True, message="too many failed indexes"
    )


def test_a_job_whose_pods_find_no_room_says_so() -> None:
    no_room = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "Insufficient cpu"}
    job = {"metadata": {"name": "j"}, "status": {"active": 1}}
    report = pods.job_report(job, [pod(conditions=[no_room])])
    assert report.problem == Problem("Unschedulable", "pod p: Insufficient cpu")
