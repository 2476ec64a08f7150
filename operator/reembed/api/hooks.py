"""Hooks as their user wrote them, and their runs in a migration's status."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from reembed.api.fields import Fields
from reembed.api.values import format_time, parse_duration, parse_time
from reembed.core.hooks import FailurePolicy, Hook, HookRun, HttpHook, On, RunState, default_policy

_TIMEOUT = timedelta(minutes=1)


def parse_hook(hook: Fields) -> Hook:
    """Return one of `spec.hooks`."""
    http, job, when = hook.maybe("http"), hook.maybe("job"), hook.choice("when", On)
    return Hook(
        name=hook.text("name"),
        on=when,
        timeout=hook.parsed("timeout", parse_duration, _TIMEOUT),
        failure_policy=hook.choice("failurePolicy", FailurePolicy, default_policy(when)),
        http=_http(http) if http is not None else None,
        cron_job=job.into("cronJobRef").text("name") if job is not None else None,
    )


def _http(http: Fields) -> HttpHook:
    secret = http.maybe("hmacSecretRef")
    return HttpHook(
        url=http.text("url"),
        retries=http.number("retries", 3),
        hmac_secret=(secret.text("name"), secret.text("key")) if secret is not None else None,
    )


def parse_run(run: Fields) -> HookRun:
    return HookRun(
        name=run.text("name"),
        at=run.text("at"),
        job=run.text("job"),
        state=run.choice("state", RunState),
        started_at=run.parsed("startedAt", parse_time),
        message=run.text("message", ""),
    )


def render_run(run: HookRun) -> dict[str, Any]:
    return {
        "name": run.name,
        "at": run.at,
        "job": run.job,
        "state": run.state.value,
        "startedAt": format_time(run.started_at),
        "message": run.message,
    }
