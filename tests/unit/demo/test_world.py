"""Every file of examples/ is applied by the demo and the stories, and every manifest is whole."""

from pathlib import Path

import pytest
import yaml

from demo.kubectl import Kubectl
from demo.world import FIRST_EXAMPLES, GPU_EXAMPLE, HOSTED_EXAMPLE, LAST_EXAMPLE, MIGRATION, World

ROOT = Path(__file__).parents[3]
WORLD = World(Kubectl("here"), "localhost/reembed-demo:1", 600, 21.0)


def test_every_example_is_applied() -> None:
    assert {path.name for path in (ROOT / "examples").glob("*.yaml")} == {
        *FIRST_EXAMPLES,
        LAST_EXAMPLE,
        GPU_EXAMPLE,
        HOSTED_EXAMPLE,
    }


def test_the_names_that_are_waited_for_are_those_of_the_examples() -> None:
    for text in ((ROOT / "examples" / LAST_EXAMPLE).read_text(), WORLD.manifest("rollback.yaml")):
        assert yaml.safe_load(text)["metadata"]["name"] == MIGRATION


@pytest.mark.parametrize("name", ["postgres.yaml", "models.yaml", "load.yaml"])
def test_every_pod_of_the_demo_is_restricted(name: str) -> None:
    for manifest in yaml.safe_load_all(WORLD.manifest(name)):
        if manifest["kind"] == "Service":
            continue
        pod = manifest["spec"].get("template", manifest)["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert container["image"] == "localhost/reembed-demo:1"
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_passwords_are_made_anew_and_go_nowhere_but_into_the_secret() -> None:
    first, second = yaml.safe_load(WORLD.credentials()), yaml.safe_load(WORLD.credentials())
    assert first["kind"] == "Secret"
    assert set(first["stringData"]) == {"owner", "gateway", "application"}
    assert not set(first["stringData"].values()) & set(second["stringData"].values())
