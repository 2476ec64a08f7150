"""Whom a migration's hooks call: every call is noted by its key, may take long, and may fail.

A Job of a hook calls once for each of its lives: one that somebody deleted and that is made again calls again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from reembed.core import names
from tests.sim.api_server import Object

COMPONENT = "hook"
CRON_JOB = "check"


@dataclass
class Call:
    """One call, while it lasts and after."""

    name: str
    when: str
    key: str
    job: str
    migration: str  # its UID
    began: float
    seconds: float
    ok: bool
    ended: bool = False


class Hooks:
    """All addresses that hooks call."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.failing: set[str] = set()  # moments at which they answer with an error
        self.seconds = 0.5  # that an answer takes
        self.happened: Callable[[Call], None] = lambda call: None
        self._running: dict[str, Call] = {}  # by the Job's UID

    def work(self, job: Object) -> bool | None:
        """Do a piece of a Job's work: True once it is done, None if it failed for good."""
        uid, now = job["metadata"]["uid"], asyncio.get_running_loop().time()
        call = self._running.get(uid)
        if call is None:
            call = self._running[uid] = self._called(job, now)
            self.calls.append(call)
            self.happened(call)
        if now < call.began + call.seconds:
            return False
        call.ended = True
        return call.ok or None

    def succeeded(self, key: str) -> bool:
        return any(call.key == key and call.ended and call.ok for call in self.calls)

    def called(self, key: str) -> bool:
        return any(call.key == key for call in self.calls)

    def _called(self, job: Object, now: float) -> Call:
        (container,) = job["spec"]["template"]["spec"]["containers"]
        told = {one["name"].removeprefix("REEMBED_HOOK_"): one.get("value", "") for one in container["env"]}
        name, when = told["NAME"], told["WHEN"]
        uid, ok = told["MIGRATION_UID"], when not in self.failing
        return Call(name, when, told["KEY"], job["metadata"]["name"], uid, now, self.seconds, ok)


def is_hook(job: Object) -> bool:
    return bool(job["metadata"].get("labels", {}).get(names.LABEL_COMPONENT) == COMPONENT)


def cron_job() -> Object:
    """Return what a user's CronJob for Job hooks says."""
    pod = {"spec": {"containers": [{"name": "check", "image": "check:1"}], "restartPolicy": "Never"}}
    return {"spec": {"suspend": True, "jobTemplate": {"spec": {"template": pod}}}}
