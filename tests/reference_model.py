"""BERT as its paper and its authors' code describe it, in float32 and nothing but numpy: what vectors ought to be.

It reads the published weights, not the converted file, and has a tokenizer of its own, so that it shares no mistake
with the embedder or the conversion. Slow and simple on purpose: one text at a time, no batching, no mask.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

_HEADS = 12
_EPSILON = np.float32(1e-12)
_LONGEST_WORD = 100  # characters; a longer word is unknown


@dataclass(frozen=True)
class ReferenceModel:
    """Weights by their published names, and the vocabulary."""

    weights: dict[str, Array]
    vocabulary: dict[str, int]
    layers: int

    def embed(self, text: str, max_tokens: int) -> Array:
        """Return the mean of the last layer's token vectors, of length one."""
        mean = self._forward(self.tokens(text, max_tokens)).mean(axis=0)
        return mean / np.linalg.norm(mean)

    def tokens(self, text: str, max_tokens: int) -> list[int]:
        pieces = [piece for word in _words(text) for piece in self._pieces(word)]
        names = ["[CLS]", *pieces[: max_tokens - 2], "[SEP]"]
        return [self.vocabulary[name] for name in names]

    def _pieces(self, word: str) -> list[str]:
        """Take the longest known beginning of what is left, again and again."""
        pieces: list[str] = []
        start = 0
        if len(word) > _LONGEST_WORD:
            return ["[UNK]"]
        while start < len(word):
            prefix = "##" if start else ""
            ends = (end for end in range(len(word), start, -1) if prefix + word[start:end] in self.vocabulary)
            if (end := next(ends, None)) is None:
                return ["[UNK]"]
            pieces.append(prefix + word[start:end])
            start = end
        return pieces

    def _forward(self, tokens: Sequence[int]) -> Array:
        weights = self.weights
        hidden = (
            weights["embeddings.word_embeddings.weight"][tokens]
            + weights["embeddings.position_embeddings.weight"][: len(tokens)]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        hidden = self._normal(hidden, "embeddings.LayerNorm")
        for number in range(self.layers):
            layer = f"encoder.layer.{number}"
            attended = self._linear(self._attention(hidden, layer), f"{layer}.attention.output.dense")
            hidden = self._normal(hidden + attended, f"{layer}.attention.output.LayerNorm")
            inner = _gelu(self._linear(hidden, f"{layer}.intermediate.dense"))
            hidden = self._normal(hidden + self._linear(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
        return hidden

    def _attention(self, hidden: Array, layer: str) -> Array:
        query, key, value = (
            _split(self._linear(hidden, f"{layer}.attention.self.{part}")) for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / np.sqrt(np.float32(query.shape[-1]))
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = scores / scores.sum(axis=-1, keepdims=True) @ value
        return mixed.transpose(1, 0, 2).reshape(hidden.shape)

    def _linear(self, hidden: Array, name: str) -> Array:
        return hidden @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def _normal(self, hidden: Array, name: str) -> Array:
        centred = hidden - hidden.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + _EPSILON)
        return centred / spread * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]


def _split(hidden: Array) -> Array:
    """Return [heads, tokens, dimensions of a head]."""
    return hidden.reshape(len(hidden), _HEADS, -1).transpose(1, 0, 2)


def _gelu(values: Array) -> Array:
    """Gaussian error linear unit; the error function by Abramowitz and Stegun 7.1.26, exact to 1.5e-7."""
    scaled = np.abs(values) / np.float32(np.sqrt(2))
    t = 1 / (1 + 0.3275911 * scaled)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    error = np.sign(values) * (1 - series * np.exp(-scaled * scaled))
    return (0.5 * values * (1 + error)).astype(np.float32)


def _words(text: str) -> list[str]:
    """Lower case without accents, cut at white space, punctuation and around every Chinese character."""
    spaced = []
    for character in text:
        if character in "\0\ufffd" or _is_control(character):
            continue
        if character.isspace():
            spaced.append(" ")
        else:
            spaced.append(f" {character} " if _is_chinese(character) else character)
    plain = unicodedata.normalize("NFD", "".join(spaced).lower())
    apart = (f" {one} " if _is_punctuation(one) else one for one in plain if unicodedata.category(one) != "Mn")
    return "".join(apart).split()


def _is_control(character: str) -> bool:
    return character not in "\t\n\r" and unicodedata.category(character).startswith("C")


def _is_punctuation(character: str) -> bool:
    return ("!" <= character <= "~" and not character.isalnum()) or unicodedata.category(character).startswith("P")


def _is_chinese(character: str) -> bool:
    code = ord(character)
    ranges = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2CEAF), (0xF900, 0xFAFF))
    return any(low <= code <= high for low, high in (*ranges, (0x2F800, 0x2FA1F)))
