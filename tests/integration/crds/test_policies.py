"""What the chart's policies and roles refuse on a real API server, after a real `helm install`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from hack.cache import ROOT
from tests.integration.crds.objects import Kubectl, changed, example
from tests.integration.crds.releases import PATIENCE_SECONDS, account, helm

USERS = ["EmbeddingIndex/functions", "EmbeddingMigration/functions-to-l6"]
IN_USE = "EmbedderPool 'used' is in use by EmbeddingIndex/functions, EmbeddingMigration/functions-to-l6"
WHAT_TO_DO = "Move the index to another pool with an EmbeddingMigration, or delete what uses the pool first"


def pool(name: str, *users: str) -> dict[str, Any]:
    return changed("pool-new", "metadata.name", name) | {"status": {"inUseBy": list(users)}}


def create(kubectl: Kubectl, one: dict[str, Any]) -> None:
    kubectl.ok("create", "-f", "-", stdin=one)
    patch = json.dumps({"status": one["status"]})
    kubectl.ok("patch", "epool", one["metadata"]["name"], "--subresource=status", "--type=merge", f"--patch={patch}")


@pytest.fixture(scope="module")
def installed(kubectl: Kubectl) -> Iterator[Kubectl]:
    """Install the chart; return kubectl once its policies are in force."""
    # The CRDs are there already, for the other tests too.
    helm(kubectl, "install", "reembed", str(ROOT / "charts" / "reembed"), "--set", "crds.enabled=false")
    create(kubectl, pool("used", *USERS))
    patient_until = time.monotonic() + PATIENCE_SECONDS
    operator = replace(kubectl, user=account(kubectl, "reembed"))
    while (
        kubectl.run("delete", "epool", "used", "--dry-run=server").returncode == 0
        or scale(operator) == 0
        or operator.run("create", "-f", "-", "--dry-run=server", stdin=config_map("settings")).returncode == 0
    ):
        assert time.monotonic() < patient_until, "the policies are not in force"
    yield kubectl
    helm(kubectl, "uninstall", "reembed")


@pytest.fixture
def operator(installed: Kubectl) -> Kubectl:
    return replace(installed, user=account(installed, "reembed"))


def scale(kubectl: Kubectl) -> int:
    patch = '--patch=[{"op": "replace", "path": "/spec/variants/0/minReplicas", "value": 9}]'
    return kubectl.run("patch", "epool", "used", "--type=json", patch, "--dry-run=server").returncode


def config_map(name: str, **fields: Any) -> dict[str, Any]:
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"probes": "x"}}
    return made | {"immutable": True} | fields


@pytest.mark.parametrize("words", [("used",), ("--all",)], ids=["one", "all"])
def test_a_pool_in_use_cannot_be_deleted(installed: Kubectl, words: tuple[str, ...]) -> None:
    refusal = installed.refused("delete", "epool", *words, "--dry-run=server")
    assert (IN_USE in refusal, WHAT_TO_DO in refusal) == (True, True)


def test_a_pool_that_nobody_uses_can_be_deleted(installed: Kubectl) -> None:
    create(installed, pool("unused"))
    installed.ok("delete", "epool", "unused", "--wait=false")


def test_a_pool_that_no_operator_has_seen_can_be_deleted(installed: Kubectl) -> None:
    installed.ok("create", "-f", "-", stdin=changed("pool-new", "metadata.name", "new"))
    installed.ok("delete", "epool", "new", "--wait=false")


@pytest.mark.parametrize("cleaner", ["generic-garbage-collector", "namespace-controller"])
def test_kubernetes_own_clean_up_is_never_held_up(installed: Kubectl, cleaner: str) -> None:
    user = f"system:serviceaccount:kube-system:{cleaner}"
    replace(installed, user=user).ok("delete", "epool", "used", "--dry-run=server")


def test_a_pool_goes_with_its_namespace(installed: Kubectl) -> None:
    ending = replace(installed, namespace=f"{installed.namespace}-ending")
    ending.ok("create", "namespace", ending.namespace)
    helm(ending, "install", "reembed", str(ROOT / "charts" / "reembed"), "--set", "crds.enabled=false")
    create(ending, pool("used", *USERS))
    ending.ok("delete", "namespace", ending.namespace, "--wait=false")
    patient_until = time.monotonic() + PATIENCE_SECONDS
    while (done := ending.run("delete", "epool", "used", "--wait=false")).returncode != 0:
        assert time.monotonic() < patient_until, done.stderr


@pytest.mark.parametrize(
    ("kind", "name", "change"),
    [
        ("epool", "pool-old", {"variants": [{"name": "cpu", "minReplicas": 9}]}),
        ("eidx", "index", {"gateway": {"replicas": 1}}),
        ("emig", "migration", {"backfill": {"parallelism": 1}}),
    ],
)
def test_the_operator_cannot_change_what_a_user_wrote(
    installed: Kubectl, operator: Kubectl, kind: str, name: str, change: dict[str, Any]
) -> None:
    written = example(name)
    installed.ok("apply", "-f", "-", stdin=written)
    patch = json.dumps({"spec": change})
    refusal = operator.refused("patch", kind, written["metadata"]["name"], "--type=merge", f"--patch={patch}")
    assert "The operator may not change `spec`" in refusal


def test_others_may_change_what_they_wrote(installed: Kubectl) -> None:
    assert scale(installed) == 0


@pytest.mark.parametrize(
    ("made", "why"),
    [
        pytest.param(config_map("settings"), "no ConfigMap but those that begin with 'reembed-class-'", id="a name"),
        pytest.param(config_map("x-reembed-class-fp-1"), "which this one does not: 'x-reembed-class-fp-1'", id="end"),
        pytest.param(
            {**config_map(""), "metadata": {"generateName": "settings-"}}, "which this one does not", id="any name"
        ),
        pytest.param(config_map("reembed-class-fp-1", immutable=False), "that can be changed later", id="mutable"),
    ],
)
def test_the_operator_makes_no_config_map_but_a_class_that_nobody_can_change(
    operator: Kubectl, made: dict[str, Any], why: str
) -> None:
    done = operator.run("create", "-f", "-", "--dry-run=server", stdin=made)
    assert (done.returncode != 0, why in done.stderr) == (True, True), done.stderr


def test_the_operator_makes_a_class_and_others_make_what_they_like(installed: Kubectl, operator: Kubectl) -> None:
    operator.ok("create", "-f", "-", stdin=config_map("reembed-class-fp-1"))
    operator.ok("get", "configmap", "reembed-class-fp-1")
    operator.refused("delete", "configmap", "reembed-class-fp-1")
    installed.ok("create", "-f", "-", "--dry-run=server", stdin=config_map("settings", immutable=False))


@pytest.mark.parametrize("more", [(), ("--subresource=status",)], ids=["finalizers", "status"])
def test_the_operator_can_do_its_work_on_our_kinds(operator: Kubectl, more: tuple[str, ...]) -> None:
    change = {"status": {"phase": "Ready"}} if more else {"metadata": {"finalizers": ["reembed.dev/unwind"]}}
    words = ("patch", "epool", "used", "--type=merge", f"--patch={json.dumps(change)}", "--dry-run=server", *more)
    operator.ok(*words)


@pytest.mark.parametrize(
    ("who", "verb", "what", "allowed"),
    [
        ("reembed", "create", "deployments.apps", True),
        ("reembed", "patch", "services", True),
        ("reembed", "delete", "jobs.batch", True),
        ("reembed", "create", "events", True),
        ("reembed", "get", "configmaps", True),
        ("reembed", "create", "configmaps", True),
        ("reembed", "list", "configmaps", False),
        ("reembed", "watch", "configmaps", False),
        ("reembed", "update", "configmaps", False),
        ("reembed", "patch", "configmaps", False),
        ("reembed", "delete", "configmaps", False),
        ("reembed-gateway", "get", "configmaps", False),
        ("reembed-gateway", "create", "events", True),
        ("reembed-gateway", "patch", "events", False),
        ("reembed-worker", "create", "events", False),
        ("reembed", "get", "secrets", False),
        ("reembed", "create", "pods/exec", False),
        ("reembed", "delete", "pods", False),
        ("reembed", "delete", "embedderpools.reembed.dev", False),
        ("reembed", "create", "embeddingmigrations.reembed.dev", False),
        ("reembed", "create", "rolebindings.rbac.authorization.k8s.io", False),
        ("reembed", "list", "namespaces", False),
        ("reembed-gateway", "watch", "embeddingindexes.reembed.dev", True),
        ("reembed-worker", "get", "embedderpools.reembed.dev", True),
        ("reembed-gateway", "patch", "embeddingindexes.reembed.dev", False),
        ("reembed-worker", "get", "embeddingmigrations.reembed.dev", False),
        ("reembed-worker", "get", "secrets", False),
    ],
)
def test_accounts_may_do_their_work_and_nothing_else(
    installed: Kubectl, who: str, verb: str, what: str, allowed: bool
) -> None:
    done = replace(installed, user=account(installed, who)).run("auth", "can-i", verb, what)
    assert done.stdout.strip() == ("yes" if allowed else "no")


@pytest.fixture
def editor(installed: Kubectl) -> Kubectl:
    """Return kubectl as somebody who may do everything with migrations but approve them."""
    verbs = "get,list,watch,create,update,patch,delete"
    installed.run("create", "role", "editor", f"--verb={verbs}", "--resource=embeddingmigrations.reembed.dev")
    installed.run("create", "rolebinding", "editor", "--role=editor", "--user=editor")
    installed.ok("apply", "-f", "-", stdin=example("migration"))
    editor, patient_until = replace(installed, user="editor"), time.monotonic() + PATIENCE_SECONDS
    while editor.run(*command("promote", nonce="early"), "--dry-run=server").returncode == 0:
        assert time.monotonic() < patient_until, "the policy is not in force"
    return editor


def command(verb: str, nonce: str = "n") -> tuple[str, ...]:
    value = json.dumps({"uid": "u", "at": "1/Canary/0", "nonce": nonce})
    return ("annotate", "emig", example("migration")["metadata"]["name"], f"reembed.dev/{verb}={value}", "--overwrite")


def test_promoting_needs_the_verb_approve(editor: Kubectl) -> None:
    refusal = editor.refused(*command("promote"))
    assert "User 'editor' may not promote EmbeddingMigration" in refusal
    assert "that needs the verb approve on embeddingmigrations.reembed.dev" in refusal


def test_whoever_may_edit_a_migration_may_stop_it(editor: Kubectl) -> None:
    for verb in ("pause", "resume", "abort"):
        editor.ok(*command(verb))


def test_an_approval_that_somebody_else_gave_keeps_nobody_from_editing(installed: Kubectl, editor: Kubectl) -> None:
    installed.ok(*command("promote"))
    editor.ok(
        "patch", "emig", example("migration")["metadata"]["name"], "--type=merge", '--patch={"spec":{"paused":true}}'
    )


def test_who_holds_the_verb_approve_may_promote(installed: Kubectl, editor: Kubectl) -> None:
    installed.run("create", "role", "approver", "--verb=approve", "--resource=embeddingmigrations.reembed.dev")
    installed.run("create", "rolebinding", "approver", "--role=approver", "--user=editor")
    patient_until = time.monotonic() + PATIENCE_SECONDS
    while (done := editor.run(*command("promote"))).returncode != 0:
        assert time.monotonic() < patient_until, done.stderr
    installed.ok("delete", "rolebinding", "approver")
