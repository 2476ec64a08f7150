"""The API server takes the examples and refuses what could not work, saying why."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from reembed.api import parse_index, parse_migration, parse_pool
from tests.integration.crds.objects import ABSENT, EXAMPLES, Kubectl, changed, example

SHARE = "must be a share from 0% to 100%"
DURATION = "must be a duration in descending units, such as 500ms, 90s, 5m, 1h30m or 7d"
LATENCY = "must be a multiple of the serving model's p95 from 1x on"
QUANTITY = "must be a quantity such as 500m, 2, 512Mi or 1.5Gi"
CAPACITY = "must be a quantity of bytes above 0 such as 500Mi, 200Gi or 1.5Ti"
URI = "must be http://HOST/PATH, https://HOST/PATH, hf://OWNER/REPOSITORY/PATH[@REVISION], s3://BUCKET/KEY or"
ENDPOINT = "must be http://HOST/PATH or https://HOST/PATH without credentials"
HOSTED = {"url": "https://api.example/v1", "model": "small", "dimensions": 384}
REFERENCES = {"configMapRef": {"name": "trusted"}}
STEPS = "spec.canary.steps"
CHUNKING = "spec.target.chunking"
TRIGGERS = "spec.rollback.triggers"
RESOURCES = "spec.variants.0.resources"
EVERY_KEY = {"operator": "Equal", "value": "x"}
EXISTS_AS = {"key": "gpu", "operator": "Exists", "value": "x"}
SECONDS = {"key": "gpu", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 5}

# An example, the field that is changed, its bad value, and what the API server must say.
BAD: list[tuple[str, str, Any, str]] = [
    ("pool-new", "metadata.name", "mini.lm", "the name must not contain dots"),
    ("pool-new", "spec.modle", {}, 'unknown field "spec.modle"'),
    ("pool-new", "spec.model.dimension", 384, 'unknown field "spec.model.dimension"'),
    ("pool-new", "spec.model.dimensions", 4001, "should be less than or equal to 4000"),
    ("pool-new", "spec.model.dimensions", 0, "should be greater than or equal to 1"),
    ("pool-new", "spec.model.sha256", "f" * 63, "must be 64 hexadecimal digits in lower case"),
    ("pool-new", "spec.model.sha256", "F" * 64, "must be 64 hexadecimal digits in lower case"),
    ("pool-new", "spec.model.sha256", ABSENT, "spec.model.sha256: Required value"),
    ("pool-new", "spec.model.pooling", "Max", 'supported values: "Mean", "Cls", "Last"'),
    ("pool-new", "spec.model.uri", "ftp://host/model.gguf", URI),
    ("pool-new", "spec.model.uri", "http://models", URI),
    ("pool-new", "spec.model.uri", "s3://bucket", URI),
    ("pool-new", "spec.model.uri", "hf://owner/file.gguf", URI),
    ("pool-new", "spec.model.uri", "hf://owner/repository/file.gguf@", URI),
    ("pool-new", "spec.download", {"secretName": "hub"}, "download is for models at hf:// and s3://; leave it out"),
    ("pool-new", "spec.download", {}, "set secretName, endpoint or region, or leave download out"),
    ("pool-new", "spec.download", {"endpoint": "http://me:word@mirror"}, "must be http://HOST or https://HOST"),
    ("pool-new", "spec.cache", {}, "spec.cache.claimName: Required value"),
    ("pool-new", "spec.validation", {}, "spec.validation.configMapRef: Required value"),
    ("pool-new", "spec.validation", {"configMapRef": {}}, "spec.validation.configMapRef.name: Required value"),
    ("pool-new", "spec.validation", {**REFERENCES, "minCosine": 1.1}, "should be less than or equal to 1"),
    ("pool-new", "spec.validation", {**REFERENCES, "minCosine": 0.4}, "should be greater than or equal to 0.5"),
    ("pool-new", "spec.model", ABSENT, "set model and variants for a model that Reembed runs, or external"),
    ("pool-new", "spec.variants", ABSENT, "variants are the pods of spec.model; set both"),
    ("pool-new", "spec.external", HOSTED, "set model and variants for a model that Reembed runs, or external"),
    ("pool-external", "spec.variants", [{"name": "cpu"}], "variants are the pods of spec.model; set both"),
    ("pool-external", "spec.external", ABSENT, "set model and variants for a model that Reembed runs, or external"),
    ("pool-external", "spec.external.url", ABSENT, "spec.external.url: Required value"),
    ("pool-external", "spec.external.url", "api.openai.com/v1", ENDPOINT),
    ("pool-external", "spec.external.url", "https://me:word@api.openai.com/v1", ENDPOINT),
    ("pool-external", "spec.external.url", "https://api.openai.com/v1?key=k", ENDPOINT),
    ("pool-external", "spec.external.model", "", "should be at least 1 chars long"),
    ("pool-external", "spec.external.dimensions", 4001, "should be less than or equal to 4000"),
    ("pool-external", "spec.external.maxCharacters", 31, "should be greater than or equal to 32"),
    ("pool-external", "spec.external", {**HOSTED, "maxCharacters": 32, "documentPrefix": "x" * 32}, "a prefix must be"),
    ("pool-external", "spec.external.truncate", "Start", 'supported values: "End", "Refuse"'),
    ("pool-external", "spec.external.generation", 0, "should be greater than or equal to 1"),
    ("pool-external", "spec.external.secretRef.key", "a/../b", "should match '^[-._a-zA-Z0-9]+$'"),
    ("pool-external", "spec.external.secretRef.name", ABSENT, "secretRef.name: Required value"),
    ("pool-external", "spec.external.rateLimit.requestsPerMinute", 0, "should be greater than or equal to 1"),
    ("pool-external", "spec.external.budget", {}, "spec.external.budget.tokens: Required value"),
    ("pool-external", "spec.external.budget.tokens", 0, "should be greater than or equal to 1"),
    ("pool-external", "spec.external.replicas", 0, "should be greater than or equal to 1"),
    ("pool-external", "spec.external.resources.limits.memory", "64Mi", "a request must not be above its limit"),
    ("pool-external", "spec.external.secret", {}, 'unknown field "spec.external.secret"'),
    ("pool-external", "spec.download", {"secretName": "hub"}, "download and cache are about a model's file"),
    ("pool-external", "spec.cache", {"claimName": "files"}, "download and cache are about a model's file"),
    ("pool-external", "spec.weightType", "AsFile", "weightType is about a model's file"),
    ("pool-external", "spec.scaling", {"paused": True}, "scaling is about variants"),
    ("pool-new", "spec.model.uri", "https://me:word@models/m.gguf", "uri must not hold a user or password"),
    ("pool-new", "spec.model.uri", "file:///models/m.gguf", "a file:// model needs model.claimName"),
    ("pool-new", "spec.model.claimName", "models", "with claimName the uri is file:///models/PATH"),
    ("pool-new", "spec.model.queryPrefix", "q" * 1025, "may not be more than 1024"),
    ("pool-new", "spec.variants", [], "should have at least 1 items"),
    ("pool-new", "spec.variants", [{"name": "cpu"}, {"name": "cpu"}], 'Duplicate value: {"name":"cpu"}'),
    ("pool-new", "spec.variants.0.device", "GPU", "a variant with device GPU needs resources.limits of a GPU"),
    (
        "pool-new",
        "spec.variants.0",
        {"name": "gpu", "device": "GPU", "resources": {"limits": {"nvidia.com/gpu": 0}}},
        "a variant with device GPU needs resources.limits of a GPU",
    ),
    ("pool-new", "spec.variants.0.device", "TPU", 'supported values: "CPU", "GPU"'),
    (
        "pool-new",
        "spec.variants.0",
        {"name": "cpu", "minReplicas": 0, "maxReplicas": 2},
        "one variant needs minReplicas",
    ),
    ("pool-new", "spec.variants.0.minReplicas", 0, "a variant with minReplicas 0 needs maxReplicas"),
    ("pool-new", "spec.variants.0.minReplicas", 1001, "should be less than or equal to 1000"),
    (
        "pool-new",
        "spec.variants.0",
        {"name": "cpu", "minReplicas": 3, "maxReplicas": 2},
        "maxReplicas must not be below",
    ),
    ("pool-new", "spec.scaling", {"memoryTarget": "0%"}, "must be a share from 1% to 100%"),
    ("pool-new", "spec.scaling", {"latencyTarget": "0ms"}, "must be a duration above 0ms"),
    ("pool-new", "spec.scaling", {"latencyTarget": "soon"}, "must be a duration above 0ms"),
    ("pool-new", "spec.scaling", {"queueTarget": 0}, "should be greater than or equal to 1"),
    ("pool-new", "spec.scaling", {"scaleDownWindow": "5 minutes"}, "must be a duration such as 0s, 90s, 5m or 1h30m"),
    ("pool-new", "spec.variants.0.tolerations", [EVERY_KEY], "a toleration of every key needs the operator Exists"),
    ("pool-new", "spec.variants.0.tolerations", [EXISTS_AS], "the operator Exists has no value"),
    ("pool-new", "spec.variants.0.tolerations", [SECONDS], "tolerationSeconds is for the effect NoExecute alone"),
    ("pool-new", "spec.variants.0.nodeSelector", {"zone": "a b"}, "should match '^(([A-Za-z0-9]"),
    ("pool-new", f"{RESOURCES}.limits.memory", "much", QUANTITY),
    ("pool-new", f"{RESOURCES}.limits.memory", "1GB", QUANTITY),
    ("pool-new", f"{RESOURCES}.limits.cpu", -1, QUANTITY),
    ("pool-new", f"{RESOURCES}.limits.memroy", "1Gi", "known resources are cpu, memory, ephemeral-storage"),
    ("pool-new", f"{RESOURCES}.requests.memory", "1Gi", "a request must not be above its limit"),
    ("index", "metadata.name", "docs.v2", "the name must not contain dots"),
    ("index", "spec.metric", "Hamming", 'supported values: "Cosine", "InnerProduct", "Euclidean"'),
    ("index", "spec.source.table", "", "should be at least 1 chars long"),
    ("index", "spec.source.text", "title || body", "exactly one of textColumn and text says what is embedded"),
    ("index", "spec.store.type", "Qdrant", 'supported values: "pgvector", "Chroma"'),
    ("index", "spec.store.type", "Chroma", "Chroma has no roles and tells no sizes"),
    ("index", "spec.source.table", ABSENT, "a pgvector store needs source.table and source.idColumn"),
    ("chroma/index", "spec.source", {"table": "docs"}, "a Chroma store has no table, so its source is {}"),
    ("chroma/index", "spec.source", {"metadata": ["lang"]}, "a Chroma store has no table, so its source is {}"),
    ("chroma/index", "spec.source", {"groupColumn": "page"}, "a Chroma store has no table, so its source is {}"),
    ("chroma/index", "spec.adopted", {"vectorColumn": "v", "poolRef": {"name": "old"}}, "and nothing is adopted"),
    ("chroma/index", "spec.vectorIndex.minRecall", 0.9, "set vectorIndex.minRecall to 0"),
    ("chroma/index", "spec.vectorIndex", ABSENT, "set vectorIndex.minRecall to 0"),
    ("chroma/index", "spec.store.capacity", "1Gi", "leave gatewayRole, agentRole and capacity out"),
    ("chroma/index", "spec.store.gatewayRole", "reader", "leave gatewayRole, agentRole and capacity out"),
    ("chroma/index", "spec.store.agentRole", "judge", "leave gatewayRole, agentRole and capacity out"),
    ("index", "spec.source.textColumn", ABSENT, "exactly one of textColumn and text says what is embedded"),
    ("index", "spec.adopted", {"vectorColumn": "embedding"}, "spec.adopted.poolRef: Required value"),
    ("index", "spec.adopted", {"vectorColumn": "", "poolRef": {"name": "old"}}, "should be at least 1 chars long"),
    (
        "index",
        "spec.adopted",
        {"vectorColumn": "v", "poolRef": {"name": "old"}, "maintainedBy": "Nobody"},
        'supported values: "Application", "Reembed"',
    ),
    ("index", "spec.source.groupColumn", "", "should be at least 1 chars long"),
    ("index", "spec.source.metadata", ["lang", "lang"], "Duplicate value"),
    ("index", "spec.source.metadata", [f"c{n}" for n in range(33)], "must have at most 32 items"),
    ("index", "spec.store.ownerSecretRef.key", ABSENT, "spec.store.ownerSecretRef.key: Required value"),
    ("index", "spec.store.capacity", "0Gi", CAPACITY),
    ("index", "spec.store.capacity", "much", CAPACITY),
    ("index", "spec.store.capacity", "100GB", CAPACITY),
    ("index", "spec.store.capacity", "500m", CAPACITY),
    ("index", "spec.store.capacity", "-1Gi", CAPACITY),
    ("index", "spec.vectorIndex", {"m": 1}, "should be greater than or equal to 2"),
    ("index", "spec.vectorIndex", {"m": 101, "efConstruction": 300}, "should be less than or equal to 100"),
    ("index", "spec.vectorIndex", {"efConstruction": 3}, "should be greater than or equal to 4"),
    ("index", "spec.vectorIndex", {"efConstruction": 1001}, "should be less than or equal to 1000"),
    ("index", "spec.vectorIndex", {"m": 33}, "efConstruction must be at least twice m"),
    ("index", "spec.vectorIndex", {"minRecall": 1.1}, "should be less than or equal to 1"),
    ("index", "spec.vectorIndex", {"minRecall": -0.1}, "should be greater than or equal to 0"),
    ("index", "spec.gateway.replicas", 0, "should be greater than or equal to 1"),
    ("index", "spec.gateway.resources.requests.memory", "1Gi", "a request must not be above its limit"),
    ("migration", "metadata.name", "to.l6", "the name must not contain dots"),
    ("migration", "spec.from.poolRef.name", "minilm-l6", "from and target name the same pool"),
    ("migration", f"{STEPS}.1.weight", 5, "order the steps by weight"),
    ("migration", f"{STEPS}.1.weight", 10, "two steps have the same weight"),
    ("migration", f"{STEPS}.2.weight", 99, "the last step's weight must be 100"),
    ("migration", f"{STEPS}.2.weight", 101, "should be less than or equal to 100"),
    ("migration", f"{STEPS}.0.weight", 0, "should be greater than or equal to 1"),
    ("migration", STEPS, [], "should have at least 1 items"),
    ("migration", STEPS, [{"weight": 90 + one, "hold": "1s"} for one in range(11)], "must have at most 10 items"),
    ("migration", f"{STEPS}.0.hold", "10 minutes", DURATION),
    ("migration", f"{STEPS}.0.hold", "30m1h", DURATION),
    ("migration", f"{STEPS}.0.hold", "", DURATION),
    ("migration", "spec.retention.window", "soon", DURATION),
    ("migration", "spec.retention.window", "99999d", DURATION),
    ("migration", "spec.progressDeadline", "-1h", "must be a duration above 0s"),
    ("migration", "spec.progressDeadline", "0s", "must be a duration above 0s"),
    ("migration", "spec.backfill.shards", 1001, "should be less than or equal to 1000"),
    ("migration", "spec.backfill.rejectedLimit", "0.01", SHARE),
    ("migration", f"{TRIGGERS}.memory.threshold", "101%", SHARE),
    ("migration", f"{TRIGGERS}.memory.threshold", "100.5%", SHARE),
    ("migration", f"{TRIGGERS}.errorRate.threshold", "5", SHARE),
    ("migration", f"{TRIGGERS}.latency.threshold", "x10", LATENCY),
    ("migration", f"{TRIGGERS}.latency.threshold", "0.5x", LATENCY),
    ("migration", f"{TRIGGERS}.latency.threshold", "0ms", LATENCY),
    ("migration", f"{TRIGGERS}.latency.for", "2 m", DURATION),
    ("migration", f"{TRIGGERS}.latency.noData", "Ignore", 'supported values: "Hold", "RollBack"'),
    ("migration", f"{TRIGGERS}.quality", {}, f'unknown field "{TRIGGERS}.quality"'),
    ("migration", "spec.evaluation.margin", 1.5, "should be less than or equal to 1"),
    ("migration", "spec.evaluation.labels", {}, "set one of table and configMapRef"),
    ("migration", "spec.evaluation.labels.configMapRef", {"name": "q"}, "set one of table and configMapRef"),
    (
        "migration",
        "spec.evaluation.labels",
        {"configMapRef": {"name": "q"}, "sliceColumn": "tenant"},
        "sliceColumn is a column of table",
    ),
    ("migration", "spec.evaluation.slices", {"margin": -0.1}, "should be greater than or equal to 0"),
    ("migration", "spec.evaluation.slices", {"minQueries": 0}, "should be greater than or equal to 1"),
    ("migration", "spec.target.poolRef.name", "", "should be at least 1 chars long"),
    ("migration", CHUNKING, {}, "spec.target.chunking.maxTokens: Required value"),
    ("migration", CHUNKING, {"maxTokens": 15}, "should be greater than or equal to 16"),
    ("migration", CHUNKING, {"maxTokens": 32769}, "should be less than or equal to 32768"),
    (
        "migration",
        CHUNKING,
        {"maxTokens": 64, "overlapTokens": -1},
        "should be greater than or equal to 0",
    ),
    (
        "migration",
        CHUNKING,
        {"maxTokens": 64, "overlapTokens": 64},
        "overlapTokens must be below maxTokens",
    ),
    (
        "migration",
        CHUNKING,
        {"maxTokens": 32768, "overlapTokens": 16385},
        "should be less than or equal to 16384",
    ),
    ("migration", CHUNKING, {"maxTokens": 64, "at": "Chapter"}, '"Sentence", "Line", "Token"'),
]

# The same for an object that exists.
IMMUTABLE: list[tuple[str, str, Any, str]] = [
    ("chroma/index", "spec.store.type", "pgvector", "the kind of store cannot be changed"),
    ("pool-new", "spec.model.sha256", "1" * 64, "create another EmbedderPool and an EmbeddingMigration to it"),
    ("pool-new", "spec.model.queryPrefix", "query: ", "a pool's model cannot be changed"),
    *(
        ("pool-external", f"spec.external.{name}", value, "what changes a pool's vectors")
        for name, value in {
            "url": "https://other.example/v1",
            "model": "text-embedding-3-large",
            "dimensions": 512,
            "sendDimensions": True,
            "maxCharacters": 1000,
            "truncate": "End",
            "queryPrefix": "query: ",
            "documentPrefix": "passage: ",
            "generation": 2,
        }.items()
    ),
    ("index", "spec.source.table", "others", "the source cannot be changed"),
    ("index", "spec.source.groupColumn", "page", "the source cannot be changed"),
    ("index", "spec.metric", "Euclidean", "the metric cannot be changed"),
    ("index", "spec.adopted", {"vectorColumn": "embedding", "poolRef": {"name": "old"}}, "adopted cannot be changed"),
    ("adopted/index", "spec.adopted", ABSENT, "adopted cannot be changed"),
    ("adopted/index", "spec.adopted.maintainedBy", "Reembed", "adopted cannot be changed"),
    ("adopted/index", "spec.source.metadata", ["lang"], "the source cannot be changed"),
    ("migration", "spec.indexRef.name", "others", "what a migration is about cannot be changed"),
    ("migration", "spec.target.poolRef.name", "minilm-l3", "what a migration is about cannot be changed"),
    ("migration", CHUNKING, {"maxTokens": 64}, "chunking cannot be changed"),
    ("migration", "spec.from", ABSENT, "from cannot be changed"),
    ("migration", f"{STEPS}.0.weight", 20, "canary cannot be changed"),
    ("migration", "spec.canary", ABSENT, "canary cannot be changed"),
    ("migration", "spec.evaluation", ABSENT, "evaluation cannot be changed"),
    ("migration", "spec.backfill.shards", 9, "shards cannot be changed"),
]

MUTABLE: list[tuple[str, str, Any]] = [
    ("pool-new", "spec.variants.0.minReplicas", 3),
    ("pool-new", "spec.scaling", {"paused": True}),
    ("pool-external", "spec.external.budget.tokens", 1),
    ("pool-external", "spec.external.rateLimit", ABSENT),
    ("pool-external", "spec.external.secretRef", {"name": "other", "key": "token"}),
    ("pool-external", "spec.external.replicas", 5),
    ("index", "spec.gateway.replicas", 3),
    ("index", "spec.store.capacity", "200Gi"),
    ("index", "spec.vectorIndex", {"m": 32, "efConstruction": 128}),
    ("migration", "spec.backfill.parallelism", 4),
    ("migration", f"{TRIGGERS}.latency.threshold", "400ms"),
    ("migration", "spec.retention.window", "72h"),
]


def says(case: tuple[Any, ...]) -> str:
    return f"{case[0]} {case[1]} {'absent' if case[2] is ABSENT else str(case[2])[:20]}"


@pytest.mark.parametrize(("name", "path", "value", "message"), BAD, ids=map(says, BAD))
def test_a_bad_object_is_refused_with_its_reason(
    kubectl: Kubectl, name: str, path: str, value: Any, message: str
) -> None:
    assert message in kubectl.refused("create", "--dry-run=server", "-f", "-", stdin=changed(name, path, value))


@pytest.mark.parametrize(("name", "path", "value", "message"), IMMUTABLE, ids=map(says, IMMUTABLE))
def test_what_vectors_or_gateways_rely_on_cannot_be_changed(
    with_examples: Kubectl, name: str, path: str, value: Any, message: str
) -> None:
    refusal = with_examples.refused("replace", "--dry-run=server", "-f", "-", stdin=changed(name, path, value))
    assert message in refusal


@pytest.mark.parametrize(("name", "path", "value"), MUTABLE, ids=map(says, MUTABLE))
def test_how_much_and_how_fast_can_be_changed(with_examples: Kubectl, name: str, path: str, value: Any) -> None:
    with_examples.ok("replace", "--dry-run=server", "-f", "-", stdin=changed(name, path, value))


def test_a_pool_may_take_its_model_from_a_claim(kubectl: Kubectl) -> None:
    pool = changed("pool-new", "spec.model.uri", "file:///models/m.gguf")
    pool["spec"]["model"]["claimName"] = "models"
    pool["metadata"]["name"] = "from-a-claim"
    kubectl.ok("create", "--dry-run=server", "-f", "-", stdin=pool)


@pytest.mark.parametrize(
    ("uri", "download"),
    [
        ("hf://nomic-ai/embed/q8/f.gguf@refs/pr/3", {"secretName": "hub", "endpoint": "http://mirror:8080/hub"}),
        ("s3://models/mini/f.gguf", {"secretName": "bucket", "endpoint": "https://minio:9000", "region": "auto"}),
    ],
)
def test_a_pool_may_take_its_model_from_the_hub_or_a_bucket(
    kubectl: Kubectl, uri: str, download: dict[str, str]
) -> None:
    pool = changed("pool-new", "spec.model.uri", uri)
    pool["spec"] |= {"download": download, "cache": {"claimName": "files"}}
    pool["metadata"]["name"] = "from-elsewhere"
    kubectl.ok("create", "--dry-run=server", "-f", "-", stdin=pool)


def test_a_region_is_for_buckets_alone(kubectl: Kubectl) -> None:
    pool = changed("pool-new", "spec.model.uri", "hf://owner/repository/f.gguf")
    pool["spec"]["download"] = {"region": "eu-west-3"}
    pool["metadata"]["name"] = "from-elsewhere"
    refusal = kubectl.refused("create", "--dry-run=server", "-f", "-", stdin=pool)
    assert "download.region is for models at s3://; leave it out" in refusal


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_kubectl_reads_an_example_as_its_author_meant(with_examples: Kubectl, path: Any) -> None:
    """kubectl reads YAML 1.1, where `on` and `no` are not words; the operator must get the very fields of the file."""
    with_examples.ok("apply", "--dry-run=server", "-f", str(path))


def test_every_default_is_the_one_of_the_types(with_examples: Kubectl) -> None:
    """What the API server fills in must mean what the operator would have assumed."""
    parsers = {"EmbedderPool": parse_pool, "EmbeddingIndex": parse_index, "EmbeddingMigration": parse_migration}
    for name in ("pool-new", "index", "first-fill", "migration"):
        written = example(name)
        found = yaml.safe_load(with_examples.ok("get", written["kind"], written["metadata"]["name"], "--output=yaml"))
        parse = parsers[written["kind"]]
        assert parse(found)[1] == parse({**found, "spec": written["spec"]})[1], name
