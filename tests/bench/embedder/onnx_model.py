"""The model as onnxruntime runs it fastest: float32, in the fused operators that its optimizer makes of a BERT.

What fastembed and others hand to onnxruntime is an exported graph, which it turns into these operators when it loads
it; writing them directly leaves nothing to luck. Weights are the published ones, not the converted file's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, TensorProto, helper, numpy_helper

Weights = Mapping[str, npt.NDArray[np.float32]]

_HEADS = 12
_EPSILON = 1e-12
_FUSED = "com.microsoft"
# What onnxruntime has read since 2024.
_OPSET, _IR = 17, 10


def graph(weights: Weights, layers: int) -> bytes:
    """Return a model: `ids` and `mask` (texts x tokens, int32) to `hidden` (texts x tokens x dimensions)."""
    made = _Graph(weights)
    made.embed()
    for number in range(layers):
        made.layer(number)
    return made.serialized()


class _Graph:
    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []
        self._hidden = "embedded"
        self._dimensions = weights["embeddings.word_embeddings.weight"].shape[1]

    def embed(self) -> None:
        # All texts are of segment A, so that its vector can be added to each position's once.
        positions = self._weights["embeddings.position_embeddings.weight"]
        placed = positions + self._weights["embeddings.token_type_embeddings.weight"][0]
        words = self._constant("words", self._weights["embeddings.word_embeddings.weight"])
        norm = self._norm("embeddings.LayerNorm")
        given = ["ids", "", words, self._constant("positions", placed), "", *norm]
        self._fused("EmbedLayerNormalization", given, ["embedded", "unused"], epsilon=_EPSILON)

    def layer(self, number: int) -> None:
        name = f"encoder.layer.{number}"
        parts = [f"{name}.attention.self.{part}" for part in ("query", "key", "value")]
        matrix = np.concatenate([self._weights[f"{part}.weight"].T for part in parts], axis=1)
        bias = np.concatenate([self._weights[f"{part}.bias"] for part in parts])
        given = [self._hidden, self._constant(f"{name}.qkv", matrix), self._constant(f"{name}.qkv.bias", bias), "mask"]
        self._fused("Attention", given, [f"{name}.attended"], num_heads=_HEADS)
        self._add(f"{name}.attention.output", f"{name}.attended")
        inner = self._matmul(self._hidden, f"{name}.intermediate.dense")
        bias_name = self._constant(f"{name}.inner.bias", self._weights[f"{name}.intermediate.dense.bias"])
        self._fused("BiasGelu", [inner, bias_name], [f"{name}.inner"])
        self._add(f"{name}.output", f"{name}.inner")

    def serialized(self) -> bytes:
        shape = ("texts", "tokens")
        given = [helper.make_tensor_value_info(name, TensorProto.INT32, shape) for name in ("ids", "mask")]
        result = helper.make_tensor_value_info(self._hidden, TensorProto.FLOAT, (*shape, self._dimensions))
        made = helper.make_graph(self._nodes, "bert", given, [result], self._constants)
        sets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_FUSED, 1)]
        return bytes(helper.make_model(made, opset_imports=sets, ir_version=_IR).SerializeToString())

    def _add(self, name: str, value: str) -> None:
        """Multiply, add what went in before, and normalise."""
        product = self._matmul(value, f"{name}.dense")
        bias = self._constant(f"{name}.dense.bias", self._weights[f"{name}.dense.bias"])
        given = [product, self._hidden, *self._norm(f"{name}.LayerNorm"), bias]
        self._hidden = f"{name}.normal"
        self._fused("SkipLayerNormalization", given, [self._hidden], epsilon=_EPSILON)

    def _matmul(self, value: str, name: str) -> str:
        matrix = self._constant(f"{name}.matrix", self._weights[f"{name}.weight"].T)
        self._nodes.append(helper.make_node("MatMul", [value, matrix], [f"{name}.product"]))
        return f"{name}.product"

    def _norm(self, name: str) -> list[str]:
        return [self._constant(f"{name}.{part}", self._weights[f"{name}.{part}"]) for part in ("weight", "bias")]

    def _constant(self, name: str, value: npt.NDArray[np.float32]) -> str:
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def _fused(self, operator: str, given: list[str], results: list[str], **attributes: Any) -> None:
        self._nodes.append(helper.make_node(operator, given, results, domain=_FUSED, **attributes))
