"""What the pool's Deployment tells an embedder, from its environment."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reembed.core import names
from reembed.core.fingerprint import fingerprint
from reembed.core.model import Device, Hosted, InputType, Model, Pooling, Truncate, WeightType
from reembed.embedder.sources import Access, access_from

# Vectors of some 17,000 texts of 384 dimensions.
_CACHE_BYTES = 32 << 20
_FINGERPRINT = re.compile("fp-[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How a hosted model's endpoint may be asked by this process."""

    key: Path | None = None  # the file with the token that is sent
    requests_per_minute: float = math.inf
    tokens_per_minute: float = math.inf
    budgeted: bool = False  # background texts only as far as the operator grants


@dataclass(frozen=True, slots=True)
class Settings:
    """One model, what computes it, and where its file and its last words go.

    `cache_bytes` bounds the vectors that are kept of live texts.
    """

    model: Model
    fingerprint: str
    default_input_type: InputType | None
    cache: Path
    termination_log: Path
    port: int
    device: Device = Device.CPU
    weights: WeightType = WeightType.AUTO
    cache_bytes: int = 0
    access: Access = field(default_factory=Access)
    endpoint: Endpoint = Endpoint()
    references: Path | None = None  # texts with the vectors that they must have
    min_cosine: float = 0.999
    model_class: Path | None = None  # where the probes of the first pod of this fingerprint are, once there was one


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Read the settings.

    Raises:
        ValueError: one is missing or not what it should be.

    """
    try:
        default, model = environment.get("REEMBED_DEFAULT_INPUT_TYPE"), _model(environment)
        return Settings(
            model=model,
            fingerprint=_own(environment["REEMBED_FINGERPRINT"], model),
            default_input_type=InputType(default) if default else None,
            cache=Path(environment.get("REEMBED_CACHE_DIR", "/cache")),
            termination_log=Path(environment.get("REEMBED_TERMINATION_LOG", "/dev/termination-log")),
            port=int(environment.get("REEMBED_PORT", names.PORT)),
            device=Device(environment.get("REEMBED_DEVICE", Device.CPU.value)),
            weights=WeightType(environment.get("REEMBED_WEIGHTS", WeightType.AUTO.value)),
            access=access_from(environment),
            endpoint=_endpoint(environment),
            references=Path(environment["REEMBED_REFERENCES"]) if environment.get("REEMBED_REFERENCES") else None,
            model_class=Path(environment["REEMBED_CLASS"]) if environment.get("REEMBED_CLASS") else None,
            min_cosine=float(environment.get("REEMBED_MIN_COSINE", 0.999)),
            cache_bytes=int(environment.get("REEMBED_TEXT_CACHE_BYTES", _CACHE_BYTES)),
        )
    except KeyError as error:
        raise ValueError(f"{error.args[0]} is not set") from error


def _own(told: str, model: Model) -> str:
    """Return the fingerprint that the pod's answers carry, by which all others know its model.

    Whoever writes the pod's environment may name another model's; tests give names that no model has.

    Raises:
        ValueError: it is another model's.

    """
    own = fingerprint(model)
    if told != own and _FINGERPRINT.fullmatch(told):
        text = f"REEMBED_FINGERPRINT is {told!r}, and the model that the pod is to run has {own}"
        raise ValueError(f"{text}; nobody could tell the vectors apart. The operator writes both: restart it")
    return told


def _model(environment: Mapping[str, str]) -> Model:
    hosted = _hosted(environment)
    return Model(
        uri=environment["REEMBED_MODEL_URI"],
        sha256="" if hosted else environment["REEMBED_MODEL_SHA256"],
        pooling=Pooling.MEAN if hosted else Pooling(environment["REEMBED_POOLING"]),
        dimensions=int(environment["REEMBED_DIMENSIONS"]),
        max_tokens=int(environment["REEMBED_MAX_TOKENS"]),
        truncate=Truncate(environment.get("REEMBED_TRUNCATE", Truncate.END.value)),
        query_prefix=environment.get("REEMBED_QUERY_PREFIX", ""),
        document_prefix=environment.get("REEMBED_DOCUMENT_PREFIX", ""),
        hosted=hosted,
    )


def _hosted(environment: Mapping[str, str]) -> Hosted | None:
    if not (name := environment.get("REEMBED_HOSTED_MODEL")):
        return None
    return Hosted(
        name=name,
        max_characters=int(environment["REEMBED_MAX_CHARACTERS"]),
        generation=int(environment.get("REEMBED_GENERATION", 1)),
        send_dimensions=environment.get("REEMBED_SEND_DIMENSIONS", "") == "true",
    )


def _endpoint(environment: Mapping[str, str]) -> Endpoint:
    key = environment.get("REEMBED_KEY_FILE")
    return Endpoint(
        key=Path(key) if key else None,
        requests_per_minute=float(environment.get("REEMBED_REQUESTS_PER_MINUTE", math.inf)),
        tokens_per_minute=float(environment.get("REEMBED_TOKENS_PER_MINUTE", math.inf)),
        budgeted=environment.get("REEMBED_BUDGETED", "") == "true",
    )
