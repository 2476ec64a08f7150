"""A hook's Job says who asks and why, holds no secret, and takes nothing from a user but a CronJob's name."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from hack.cache import ROOT
from reembed.controller.manifests import hook
from reembed.core import hooks
from reembed.core.hooks import Hook, HookReport, HttpHook, Moment, On, RunHook, RunState
from reembed.core.migration import Migration
from reembed.core.transitions import State
from tests import builders as b

SIGNED = HttpHook("https://hooks.example/in?token=$(HOME)", retries=2, hmac_secret=("hook-keys", "announce"))
ANNOUNCE = Hook("announce", On.EACH_STEP, timedelta(seconds=20), http=SIGNED)
SMOKE = Hook("smoke", On.EACH_STEP, timedelta(minutes=5), cron_job="smoke-test")
CANARY = b.migration(State.CANARY)
STEP = Moment(On.EACH_STEP, 1, 1)
CRON_JOB: dict[str, Any] = {
    "metadata": {"name": "smoke-test", "namespace": "rag", "labels": {"team": "search"}},
    "spec": {
        "schedule": "0 0 1 1 *",
        "jobTemplate": {
            "metadata": {"labels": {"team": "search"}, "annotations": {"note": "n"}},
            "spec": {
                "backoffLimit": 1,
                "ttlSecondsAfterFinished": 5,
                "template": {
                    "metadata": {"labels": {"app": "smoke", "app.kubernetes.io/component": "gateway"}},
                    "spec": {
                        "serviceAccountName": "smoke",
                        "restartPolicy": "Never",
                        "initContainers": [{"name": "wait", "image": "smoke:1"}],
                        "containers": [
                            {
                                "name": "smoke",
                                "image": "smoke:1",
                                "env": [
                                    {"name": "STEP", "value": "$(REEMBED_HOOK_STEP)"},
                                    {"name": "REEMBED_HOOK_STEP", "value": "of the template"},
                                ],
                            }
                        ],
                    },
                },
            },
        },
    },
}


def run(of: Hook, when: Moment = STEP) -> RunHook:
    key = hooks.idempotency_key("uid-move", when, of.name)
    return RunHook(of, when, hooks.job_name("move", of.name, key), key)


def http(of: Hook = ANNOUNCE, migration: Migration = CANARY, when: Moment = STEP) -> dict[str, Any]:
    return hook.job(run(of, when), migration, "gateway:1", "IfNotPresent", None)


def smoke(of: Hook = SMOKE, cron_job: dict[str, Any] | None = CRON_JOB) -> dict[str, Any]:
    return hook.job(run(of), CANARY, "gateway:1", "IfNotPresent", cron_job)


def environment(job: dict[str, Any], kind: str = "containers") -> dict[str, Any]:
    (container,) = job["spec"]["template"]["spec"][kind]
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}


def test_an_http_hook_says_where_the_migration_is() -> None:
    assert json.loads(environment(http())["REEMBED_HOOK_PAYLOAD"]) == {
        "hook": "announce",
        "when": "EachStep",
        "migration": {"namespace": "rag", "name": "move", "uid": "uid-move"},
        "attempt": 1,
        "state": "Canary",
        "step": 1,
        "weight": 50,
        "index": "docs",
        "serving": {"pool": "old", "collection": "c_old", "fingerprint": b.OLD.fingerprint},
        "candidate": {"pool": "new", "collection": b.NEW.collection, "fingerprint": b.NEW.fingerprint},
        "idempotencyKey": "uid-move/1/EachStep/1/announce",
    }


def test_the_documentation_names_all_that_a_hook_is_told() -> None:
    text = (ROOT / "docs/hooks.md").read_text()
    (shown,) = (json.loads(block.split("```")[0]) for block in text.split("```json\n")[1:])
    told = environment(http())
    payload = json.loads(told["REEMBED_HOOK_PAYLOAD"])
    assert {key: set(value) if isinstance(value, dict) else None for key, value in shown.items()} == {
        key: set(value) if isinstance(value, dict) else None for key, value in payload.items()
    }
    variables = {name.removeprefix("REEMBED_HOOK_") for name in environment(smoke()) if name.startswith("REEMBED_")}
    assert {name for name in variables if f"`{name}`" not in text} == set()


def test_a_hook_of_preflight_has_no_step_and_no_sides_yet() -> None:
    told = environment(http(replace(ANNOUNCE, on=On.PRE), b.migration(), Moment(On.PRE, 1)))
    names = ("WHEN", "STEP", "WEIGHT", "SERVING_POOL", "CANDIDATE_COLLECTION")
    assert [told[f"REEMBED_HOOK_{name}"] for name in names] == ["Pre", "", "0", "", ""]


def test_the_key_that_signs_is_referred_to_and_never_held() -> None:
    reference = {"secretKeyRef": {"name": "hook-keys", "key": "announce"}}
    assert environment(http())["REEMBED_HOOK_HMAC_SECRET"] == reference
    unsigned = replace(ANNOUNCE, http=replace(SIGNED, hmac_secret=None))
    assert "REEMBED_HOOK_HMAC_SECRET" not in environment(http(unsigned))


def test_an_address_reaches_the_runner_as_it_was_written() -> None:
    assert environment(http())["REEMBED_HOOK_URL"] == "https://hooks.example/in?token=$$(HOME)"


def test_the_runners_pod_is_restricted_and_has_no_token() -> None:
    spec = http()["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["command"] == ["python", "-m", "reembed.hooks"]
    assert (spec["automountServiceAccountToken"], spec["securityContext"]["runAsNonRoot"]) == (False, True)
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_what_the_runner_found_is_final_and_a_lost_pod_is_replaced() -> None:
    spec = http()["spec"]
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"]) == (3, 50)
    assert spec["podFailurePolicy"]["rules"] == [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"containerName": "hook", "operator": "In", "values": [1, 2]}},
    ]


@pytest.mark.parametrize("made", [http(), smoke()], ids=["http", "job"])
def test_a_hooks_job_goes_with_its_migration_and_stays_until_then(made: dict[str, Any]) -> None:
    (owner,) = made["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("EmbeddingMigration", "move", "uid-move")
    assert "ttlSecondsAfterFinished" not in made["spec"]


@pytest.mark.parametrize("made", [http(), smoke()], ids=["http", "job"])
def test_the_operator_finds_a_hooks_job_and_pods_by_their_labels(made: dict[str, Any]) -> None:
    ours = {
        "app.kubernetes.io/part-of": "reembed",
        "app.kubernetes.io/managed-by": "reembed",
        "app.kubernetes.io/component": "hook",
        "reembed.dev/migration": "move",
    }
    for labels in (made["metadata"]["labels"], made["spec"]["template"]["metadata"]["labels"]):
        assert ours.items() <= labels.items()


def test_a_job_hook_is_the_cron_jobs_template_and_our_facts() -> None:
    made = smoke()
    spec = made["spec"]["template"]["spec"]
    assert (spec["serviceAccountName"], made["spec"]["backoffLimit"]) == ("smoke", 1)
    assert (made["metadata"]["labels"]["team"], made["metadata"]["annotations"]["note"]) == ("search", "n")
    assert made["spec"]["template"]["metadata"]["labels"]["app"] == "smoke"
    for kind in ("containers", "initContainers"):
        told = environment(made, kind)
        assert (told["REEMBED_HOOK_KEY"], told["REEMBED_HOOK_WEIGHT"]) == ("uid-move/1/EachStep/1/smoke", "50")


def test_variables_of_the_template_may_refer_to_ours_and_not_replace_them() -> None:
    (container,) = smoke()["spec"]["template"]["spec"]["containers"]
    values = [(one["name"], one["value"]) for one in container["env"]]
    assert values.index(("REEMBED_HOOK_STEP", "1")) < values.index(("STEP", "$(REEMBED_HOOK_STEP)"))
    assert ("REEMBED_HOOK_STEP", "of the template") not in values


@pytest.mark.parametrize(("own", "expected"), [(None, 300), (60, 60), (900, 300)])
def test_a_job_hook_ends_at_the_earlier_of_both_deadlines(own: int | None, expected: int) -> None:
    spec = CRON_JOB["spec"]["jobTemplate"]["spec"] | {"activeDeadlineSeconds": own}
    template = CRON_JOB["spec"]["jobTemplate"] | {"spec": spec}
    made = smoke(cron_job=CRON_JOB | {"spec": {"jobTemplate": template}})
    assert made["spec"]["activeDeadlineSeconds"] == expected


def test_the_cron_job_itself_is_left_as_it_was() -> None:
    before = json.dumps(CRON_JOB)
    smoke()
    assert json.dumps(CRON_JOB) == before


@pytest.mark.parametrize(
    "cron_job", [None, CRON_JOB | {"metadata": {"deletionTimestamp": "now"}}], ids=["missing", "on its way out"]
)
def test_a_missing_cron_job_is_named(cron_job: dict[str, Any] | None) -> None:
    text = (
        "there is no CronJob 'smoke-test' in namespace 'rag'; create it, with spec.suspend: true if it shall not run "
        "by its schedule, or correct spec.hooks"
    )
    with pytest.raises(hook.CannotRun, match="^" + text.replace(".", r"\.") + "$"):
        smoke(cron_job=cron_job)


def seen(condition: str | None = None, message: str = "", *ended: dict[str, Any], waits: str = "") -> HookReport:
    found = [{"type": condition, "status": "True", "message": message}] if condition else []
    states = [{"state": {"terminated": one}} for one in ended]
    stuck = [{"state": {"waiting": {"reason": "CreateContainerConfigError", "message": waits}}}] if waits else []
    pod = {
        "metadata": {"name": "p", "labels": {"batch.kubernetes.io/job-name": "j"}},
        "status": {"containerStatuses": states + stuck},
    }
    foreign = {"metadata": {"name": "q", "labels": {}}, "status": pod["status"]}
    return hook.report({"metadata": {"name": "j"}, "status": {"conditions": found}}, [pod, foreign])


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        pytest.param(seen(), HookReport(RunState.RUNNING), id="runs"),
        pytest.param(
            seen(waits='secret "hook-keys" not found'),
            HookReport(RunState.RUNNING, 'pod p: secret "hook-keys" not found'),
            id="cannot start",
        ),
        pytest.param(
            seen("Complete", "", {"exitCode": 0, "message": "hooks answered 200: ok"}),
            HookReport(RunState.SUCCEEDED, "hooks answered 200: ok"),
            id="succeeded with a word",
        ),
        pytest.param(
            seen("Failed", "Pod failed", {"exitCode": 1, "message": "\n\x1b[31m12 of 50 queries\nmore"}),
            HookReport(RunState.FAILED, "[31m12 of 50 queries"),
            id="failed with several lines",
        ),
        pytest.param(
            seen("Failed", "Job was active longer than specified deadline", {"exitCode": 0, "message": "fine"}),
            HookReport(RunState.FAILED, "Job was active longer than specified deadline"),
            id="failed without a word of its own",
        ),
    ],
)
def test_a_job_is_read(report: HookReport, expected: HookReport) -> None:
    assert report == expected
