"""Two objects of each kind in which every field of the spec is set, each time to something else."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


def _named(spec: Object) -> Object:
    return {"metadata": {"namespace": "rag", "name": "one", "uid": "u-1"}, "spec": spec}


POOLS = (
    _named(
        {
            "model": {
                "uri": "file:///models/a.gguf",
                "sha256": "a" * 64,
                "claimName": "models",
                "pooling": "Cls",
                "dimensions": 384,
                "maxTokens": 256,
                "truncate": "Refuse",
                "queryPrefix": "query: ",
                "documentPrefix": "passage: ",
            },
            "download": {"secretName": "hub", "endpoint": "https://mirror.example", "region": "eu-central-1"},
            "cache": {"claimName": "files"},
            "defaultInputType": "Query",
            "weightType": "AsFile",
            "textCache": "64Mi",
            "validation": {"configMapRef": {"name": "trusted", "key": "a.jsonl"}, "minCosine": 0.99},
            "scaling": {
                "memoryTarget": "60%",
                "latencyTarget": "250ms",
                "queueTarget": 1000,
                "scaleDownWindow": "10m",
                "paused": True,
            },
            "variants": [
                {
                    "name": "small",
                    "device": "CPU",
                    "minReplicas": 3,
                    "maxReplicas": 5,
                    "resources": {"requests": {"cpu": "250m"}, "limits": {"memory": "1.5Gi"}},
                    "nodeSelector": {"zone": "a"},
                    "tolerations": [
                        {
                            "key": "spot",
                            "operator": "Equal",
                            "value": "yes",
                            "effect": "NoExecute",
                            "tolerationSeconds": 30,
                        }
                    ],
                }
            ],
        }
    ),
    _named(
        {
            "model": {
                "uri": "file:///models/b.gguf",
                "sha256": "b" * 64,
                "claimName": "other",
                "pooling": "Last",
                "dimensions": 1024,
                "maxTokens": 512,
                "truncate": "End",
                "queryPrefix": "q: ",
                "documentPrefix": "p: ",
            },
            "download": {"secretName": "bucket", "endpoint": "http://minio:9000", "region": "auto"},
            "cache": {"claimName": "others"},
            "defaultInputType": "Document",
            "weightType": "Auto",
            "textCache": "0",
            "validation": {"configMapRef": {"name": "others", "key": "b.jsonl"}, "minCosine": 0.95},
            "scaling": {
                "memoryTarget": "80%",
                "latencyTarget": "1s500ms",
                "queueTarget": 2000,
                "scaleDownWindow": "1h",
                "paused": False,
            },
            "variants": [
                {
                    "name": "large",
                    "device": "GPU",
                    "minReplicas": 2,
                    "maxReplicas": 4,
                    "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "2Gi", "nvidia.com/gpu": "1"}},
                    "nodeSelector": {"zone": "b"},
                    "tolerations": [
                        {
                            "key": "batch",
                            "operator": "Exists",
                            "value": "",
                            "effect": "NoSchedule",
                            "tolerationSeconds": 60,
                        }
                    ],
                }
            ],
        }
    ),
)


EXTERNAL_POOLS = (
    _named(
        {
            "external": {
                "url": "https://api.one.example/v1",
                "model": "text-embedding-3-small",
                "dimensions": 512,
                "sendDimensions": True,
                "maxCharacters": 12000,
                "truncate": "End",
                "queryPrefix": "query: ",
                "documentPrefix": "passage: ",
                "generation": 2,
                "secretRef": {"name": "one", "key": "token"},
                "rateLimit": {"requestsPerMinute": 500, "tokensPerMinute": 1000000},
                "budget": {"tokens": 5000000},
                "replicas": 3,
                "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "192Mi"}},
            },
            "defaultInputType": "Query",
            "textCache": "64Mi",
            "validation": {"configMapRef": {"name": "trusted", "key": "a.jsonl"}, "minCosine": 0.99},
        }
    ),
    _named(
        {
            "external": {
                "url": "http://ollama:11434/v1",
                "model": "nomic-embed-text",
                "dimensions": 768,
                "sendDimensions": False,
                "maxCharacters": 6000,
                "truncate": "Refuse",
                "queryPrefix": "q: ",
                "documentPrefix": "p: ",
                "generation": 3,
                "secretRef": {"name": "other", "key": "key"},
                "rateLimit": {"requestsPerMinute": 60, "tokensPerMinute": 5000},
                "budget": {"tokens": 100},
                "replicas": 1,
                "resources": {"requests": {"cpu": "200m"}, "limits": {"memory": "256Mi"}},
            },
            "defaultInputType": "Document",
            "textCache": "0",
            "validation": {"configMapRef": {"name": "others", "key": "b.jsonl"}, "minCosine": 0.95},
        }
    ),
)

INDEXES = (
    _named(
        {
            "store": {
                "type": "pgvector",
                "ownerSecretRef": {"name": "store", "key": "owner"},
                "gatewaySecretRef": {"name": "search", "key": "gateway"},
                "gatewayRole": "searcher",
                "agentRole": "judge",
                "capacity": "100Gi",
            },
            "source": {
                "schema": "app",
                "table": "docs",
                "idColumn": "id",
                "textColumn": "body",
                "text": "title",
                "filter": "a",
                "metadata": ["lang"],
                "groupColumn": "page",
            },
            "adopted": {"vectorColumn": "embedding", "poolRef": {"name": "old"}, "maintainedBy": "Application"},
            "panelRef": {"namespace": "reembed-panel", "name": "panel", "digest": "a" * 64},
            "metric": "InnerProduct",
            "vectorIndex": {"m": 8, "efConstruction": 32, "minRecall": 0.95},
            "gateway": {"replicas": 3, "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}}},
        }
    ),
    _named(
        {
            "store": {
                "type": "Chroma",
                "ownerSecretRef": {"name": "store2", "key": "owner2"},
                "gatewaySecretRef": {"name": "search2", "key": "gateway2"},
                "gatewayRole": "reader",
                "agentRole": "examiner",
                "capacity": "2Ti",
            },
            "source": {
                "schema": "app2",
                "table": "docs2",
                "idColumn": "id2",
                "textColumn": "body2",
                "text": "t2",
                "filter": "b",
                "metadata": ["year", "tags"],
                "groupColumn": "page2",
            },
            "adopted": {"vectorColumn": "vec", "poolRef": {"name": "older"}, "maintainedBy": "Reembed"},
            "panelRef": {"namespace": "agents", "name": "eight", "digest": "b" * 64},
            "metric": "Euclidean",
            "vectorIndex": {"m": 24, "efConstruction": 200, "minRecall": 0.5},
            "gateway": {"replicas": 4, "resources": {"requests": {"cpu": "2"}, "limits": {"memory": "2Gi"}}},
        }
    ),
)

MIGRATIONS = (
    _named(
        {
            "indexRef": {"name": "docs"},
            "target": {
                "poolRef": {"name": "new"},
                "chunking": {"maxTokens": 256, "overlapTokens": 32, "at": "Line"},
            },
            "from": {"poolRef": {"name": "old"}},
            "backfill": {"shards": 4, "parallelism": 3, "rejectedLimit": "2%"},
            "evaluation": {
                "labels": {
                    "schema": "app",
                    "table": "labels",
                    "queryColumn": "q",
                    "idColumn": "doc",
                    "sliceColumn": "lang",
                    "configMapRef": {"name": "one", "key": "a"},
                },
                "slices": {"margin": 0.1, "minQueries": 20},
                "k": 5,
                "margin": 0.01,
                "minQueries": 50,
            },
            "canary": {
                "shadow": "1%",
                "steps": [
                    {"weight": 25, "hold": "90s", "approval": "Required"},
                    {"weight": 100, "hold": "1h30m", "approval": "None"},
                ],
            },
            "rollback": {
                "triggers": {
                    "memory": {
                        "threshold": "85%",
                        "for": "1m",
                        "noData": "RollBack",
                        "dryRun": True,
                        "hysteresis": "20%",
                    },
                    "errorRate": {
                        "threshold": "2.5%",
                        "for": "45s",
                        "noData": "RollBack",
                        "dryRun": True,
                        "hysteresis": "20%",
                    },
                    "latency": {
                        "threshold": "4x",
                        "for": "30s",
                        "noData": "RollBack",
                        "dryRun": True,
                        "hysteresis": "20%",
                    },
                    "retrieval": {
                        "threshold": 0.05,
                        "for": "5m",
                        "noData": "RollBack",
                        "dryRun": True,
                        "hysteresis": "20%",
                    },
                    "pointer": {"for": "5m", "noData": "RollBack", "dryRun": True},
                    "agents": {"for": "5m", "noData": "RollBack", "dryRun": True},
                    "consensus": {"for": "5m", "noData": "RollBack", "dryRun": True},
                    "followerLag": {
                        "threshold": "5m",
                        "for": "5m",
                        "noData": "RollBack",
                        "dryRun": True,
                        "hysteresis": "20%",
                    },
                    "prometheus": [
                        {
                            "name": "clicks",
                            "query": "sum(a)",
                            "operator": "Above",
                            "threshold": 1.5,
                            "for": "5m",
                            "noData": "RollBack",
                            "dryRun": True,
                            "hysteresis": "20%",
                        }
                    ],
                }
            },
            "gates": [{"name": "p95", "type": "Latency", "threshold": "2x"}],
            "hooks": [
                {
                    "name": "a",
                    "when": "Pre",
                    "timeout": "30s",
                    "failurePolicy": "Fail",
                    "http": {"url": "https://a/", "retries": 1, "hmacSecretRef": {"name": "a", "key": "a"}},
                    "job": {"cronJobRef": {"name": "a"}},
                }
            ],
            "paused": True,
            "dependsOn": [{"name": "first"}],
            "consensus": {"mode": "Panel", "deadline": "90s"},
            "acknowledge": ["VectorsNotReproduced"],
            "deadline": "7d",
            "retention": {"window": "72h", "drop": True},
            "progressDeadline": "2h",
        }
    ),
    _named(
        {
            "indexRef": {"name": "docs2"},
            "target": {
                "poolRef": {"name": "new2"},
                "chunking": {"maxTokens": 128, "overlapTokens": 16, "at": "Token"},
            },
            "from": {"poolRef": {"name": "old2"}},
            "backfill": {"shards": 5, "parallelism": 4, "rejectedLimit": "0.5%"},
            "evaluation": {
                "labels": {
                    "schema": "app2",
                    "table": "labels2",
                    "queryColumn": "q2",
                    "idColumn": "doc2",
                    "sliceColumn": "lang2",
                    "configMapRef": {"name": "two", "key": "b"},
                },
                "slices": {"margin": 0.2, "minQueries": 40},
                "k": 20,
                "margin": 0.03,
                "minQueries": 70,
            },
            "canary": {
                "shadow": "2%",
                "steps": [
                    {"weight": 30, "hold": "500ms", "approval": "None"},
                    {"weight": 100, "hold": "1d", "approval": "None"},
                ],
            },
            "rollback": {
                "triggers": {
                    "memory": {"threshold": "80%", "for": "2m", "noData": "Hold", "dryRun": False, "hysteresis": "30%"},
                    "errorRate": {
                        "threshold": "3%",
                        "for": "50s",
                        "noData": "Hold",
                        "dryRun": False,
                        "hysteresis": "30%",
                    },
                    "latency": {
                        "threshold": "400ms",
                        "for": "40s",
                        "noData": "Hold",
                        "dryRun": False,
                        "hysteresis": "30%",
                    },
                    "retrieval": {
                        "threshold": 0.06,
                        "for": "6m",
                        "noData": "Hold",
                        "dryRun": False,
                        "hysteresis": "30%",
                    },
                    "pointer": {"for": "6m", "noData": "Hold", "dryRun": False},
                    "agents": {"for": "6m", "noData": "Hold", "dryRun": False},
                    "consensus": {"for": "6m", "noData": "Hold", "dryRun": False},
                    "followerLag": {
                        "threshold": "6m",
                        "for": "6m",
                        "noData": "Hold",
                        "dryRun": False,
                        "hysteresis": "30%",
                    },
                    "prometheus": [
                        {
                            "name": "refunds",
                            "query": "sum(b)",
                            "operator": "Below",
                            "threshold": 2.5,
                            "for": "6m",
                            "noData": "Hold",
                            "dryRun": False,
                            "hysteresis": "30%",
                        }
                    ],
                }
            },
            "gates": [{"name": "overlap", "type": "ShadowOverlap", "threshold": "60%"}],
            "hooks": [
                {
                    "name": "b",
                    "when": "EachStep",
                    "timeout": "2m",
                    "failurePolicy": "Ignore",
                    "http": {"url": "https://b/", "retries": 2, "hmacSecretRef": {"name": "b", "key": "b"}},
                    "job": {"cronJobRef": {"name": "b"}},
                }
            ],
            "paused": False,
            "dependsOn": [{"name": "other"}],
            "consensus": {"mode": "Operator", "deadline": "3m"},
            "acknowledge": [],
            "deadline": "8d",
            "retention": {"window": "2d", "drop": False},
            "progressDeadline": "3h",
        }
    ),
)
