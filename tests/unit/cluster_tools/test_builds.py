"""What is built, for which machine, and when it is built again."""

from pathlib import Path

import pytest

from hack import engines, libraries, wheels
from tests.cluster import archive, binary, choice

PYPROJECT = {
    "project": {
        "dependencies": ["rfc8785"],
        "optional-dependencies": {"gateway": ["uvicorn>=0.40"], "embedder": ["llama-cpp-python==1"]},
    }
}


def test_an_image_gets_what_all_need_and_the_packages_of_its_extra() -> None:
    assert libraries.requirements("gateway", PYPROJECT) == ["rfc8785", "uvicorn>=0.40"]


def test_a_new_lock_makes_new_libraries() -> None:
    assert libraries.key(["uvicorn"], "lock 1", None) != libraries.key(["uvicorn"], "lock 2", None)


def test_a_new_llama_wheel_makes_new_libraries_where_it_is_needed() -> None:
    one, other = Path("cache/1/llama.whl"), Path("cache/2/llama.whl")
    needs = [libraries.key(["llama-cpp-python==1"], "lock", wheel) for wheel in (one, other)]
    does_not = [libraries.key(["uvicorn"], "lock", wheel) for wheel in (one, other)]
    assert needs[0] != needs[1]
    assert does_not[0] == does_not[1]


def test_the_wheel_to_build_is_the_one_that_is_pinned() -> None:
    assert wheels.pinned('x = ["numpy>=2", "llama-cpp-python==0.3.36"]') == "0.3.36"


def test_an_unpinned_wheel_is_refused() -> None:
    with pytest.raises(ValueError, match="pins no llama-cpp-python"):
        wheels.pinned('x = ["llama-cpp-python>=0.3"]')


def test_kubernetes_is_stamped_with_the_version_it_is_built_from() -> None:
    assert binary.version("require (\n\tk8s.io/kubectl v0.35.4\n\tk8s.io/kubernetes v1.35.4\n)") == "v1.35.4"


def test_the_pause_image_is_the_same_whenever_it_is_packed(tmp_path: Path) -> None:
    (tmp_path / "pause").write_bytes(b"program")
    archive.pack(tmp_path / "pause", archive.PAUSE, tmp_path / "first.tar")
    archive.pack(tmp_path / "pause", archive.PAUSE, tmp_path / "second.tar")
    assert (tmp_path / "first.tar").read_bytes() == (tmp_path / "second.tar").read_bytes()


def test_the_cluster_that_was_asked_for_is_used() -> None:
    assert choice.cluster({"CLUSTER": "existing"}) == "existing"


def test_a_cluster_of_another_name_is_refused() -> None:
    assert choice.obstacle("minikube") == "CLUSTER=minikube is none of local, kind, existing"


def test_only_other_tags_of_the_same_images_are_old() -> None:
    stored = ["localhost/a:1", "localhost/a:2", "localhost/base:1", "localhost/a-libraries:1"]
    assert engines.older(stored, ["localhost/a:2"]) == ["localhost/a:1"]
