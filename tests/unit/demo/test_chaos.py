"""Only the operator's own process is killed, whichever way the node writes control groups."""

from pathlib import Path

import pytest

from demo.chaos import processes

POD = "0f3c-11"
OPERATOR = b"python\0-m\0reembed.controller\0"


@pytest.mark.parametrize(
    ("group", "command", "found"),
    [
        pytest.param(f"/kubepods/pod{POD}/abc", OPERATOR, [7], id="cgroupfs"),
        pytest.param("/kubepods.slice/kubepods-pod0f3c_11.slice", OPERATOR, [7], id="systemd"),
        pytest.param("/kubepods/podffff/abc", OPERATOR, [], id="another pod"),
        pytest.param(f"/kubepods/pod{POD}/abc", b"/pause\0", [], id="another process of the pod"),
    ],
)
def test_processes_of_a_pod(tmp_path: Path, group: str, command: bytes, found: list[int]) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cgroup").write_text(f"4:memory:{group}\n")
    (tmp_path / "7" / "cmdline").write_bytes(command)
    assert processes(POD, b"reembed.controller", tmp_path) == found
