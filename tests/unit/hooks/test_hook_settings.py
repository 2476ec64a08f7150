"""A call that cannot be made is refused with what is wrong, and without the address, which may be a credential."""

from __future__ import annotations

from pathlib import Path

import pytest

from reembed.hooks.settings import InvalidSettings, Settings, from_environment

TOLD = {
    "REEMBED_HOOK_NAME": "announce",
    "REEMBED_HOOK_URL": "https://hooks.example/in?token=t0ken",
    "REEMBED_HOOK_PAYLOAD": "{}",
    "REEMBED_HOOK_KEY": "uid/1/Pre/announce",
    "REEMBED_HOOK_TIMEOUT": "2.5",
    "REEMBED_HOOK_RETRIES": "3",
}


def test_a_pods_environment_is_read() -> None:
    assert from_environment(TOLD | {"REEMBED_HOOK_HMAC_SECRET": "key\n"}) == Settings(
        name="announce",
        url="https://hooks.example/in?token=t0ken",
        body=b"{}",
        key="uid/1/Pre/announce",
        timeout=2.5,
        retries=3,
        secret=b"key\n",
        termination_log=Path("/dev/termination-log"),
    )


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"REEMBED_HOOK_URL": "hooks.example/t0ken"}, "http.url of hook 'announce' does not begin with https://"),
        ({"REEMBED_HOOK_URL": "ftp://hooks.example/t0ken"}, "http.url of hook 'announce' does not begin with https://"),
        ({"REEMBED_HOOK_URL": "https:///t0ken"}, "http.url of hook 'announce' names no host"),
        ({"REEMBED_HOOK_URL": "https://hooks example/t0ken"}, "http.url of hook 'announce' names no host"),
        ({"REEMBED_HOOK_URL": "https://hooks:x/t0ken"}, "http.url of hook 'announce' is no URL (Port could not"),
        ({"REEMBED_HOOK_URL": "https://me:t0ken@hooks"}, "http.url of hook 'announce' holds a user or password"),
        ({"REEMBED_HOOK_URL": ""}, "REEMBED_HOOK_URL not set"),
        ({"REEMBED_HOOK_HMAC_SECRET": ""}, "the Secret in http.hmacSecretRef of hook 'announce' is empty"),
        ({"REEMBED_HOOK_RETRIES": "many"}, "REEMBED_HOOK_RETRIES is 'many', not a number from 0 on"),
        ({"REEMBED_HOOK_TIMEOUT": "nan"}, "REEMBED_HOOK_TIMEOUT is 'nan', not a number from 0 on"),
    ],
)
def test_what_cannot_be_called_is_refused(changed: dict[str, str], text: str) -> None:
    with pytest.raises(InvalidSettings) as raised:
        from_environment(TOLD | changed)
    assert str(raised.value).startswith(text)
    assert "t0ken" not in str(raised.value)
