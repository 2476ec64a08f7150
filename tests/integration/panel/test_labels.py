"""An agent reads the ConfigMap with labelled queries that a migration names, by its own rights, or says why not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reembed.cluster import kinds
from reembed.cluster.client import Cluster
from reembed.core.model import ConfigMapKey
from reembed.panel.labels import reader
from reembed.stores.protocol import StoreError

QUESTIONS = ConfigMapKey("questions", "labels")


@pytest.fixture
async def cluster(apiserver: Path, namespace: str) -> AsyncIterator[Cluster]:
    async with Cluster.connect(str(apiserver)) as connected:
        made = {"metadata": {"name": "questions", "namespace": namespace}, "data": {"labels": "lines"}}
        await connected.apply(kinds.CONFIG_MAP, made, manager="test")
        yield connected


async def test_the_key_that_a_migration_names_is_read(cluster: Cluster, namespace: str) -> None:
    assert await reader(cluster)(namespace, QUESTIONS) == "lines"


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        pytest.param(ConfigMapKey("others", "labels"), "'others' of namespace '.*' does not exist", id="no ConfigMap"),
        pytest.param(ConfigMapKey("questions", "de"), "'questions' of namespace '.*' has no key 'de'", id="no key"),
        pytest.param(
            ConfigMapKey("reembed-class-x", "labels"), "may be the operator's own", id="one that the operator may make"
        ),
    ],
)
async def test_what_cannot_be_read_is_named(cluster: Cluster, namespace: str, wanted: ConfigMapKey, why: str) -> None:
    with pytest.raises(StoreError, match=why):
        await reader(cluster)(namespace, wanted)


async def test_a_right_that_is_missing_is_named_with_the_value_that_gives_it(
    apiserver: Path, namespace: str, tmp_path: Path
) -> None:
    async with Cluster.connect(str(nobody(apiserver, tmp_path / "kubeconfig"))) as cluster:
        with pytest.raises(StoreError, match=r"agents may not read ConfigMap 'questions' .* panel\.labelConfigMaps"):
            await reader(cluster)(namespace, QUESTIONS)


def nobody(administrator: Path, written: Path) -> Path:
    """Write the administrator's kubeconfig without its certificate."""
    written.write_text("\n".join(line for line in administrator.read_text().splitlines() if "client-" not in line))
    return written
