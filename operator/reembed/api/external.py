"""`spec.external` of an EmbedderPool: a model that Reembed does not run."""

from __future__ import annotations

from reembed.api.fields import Fields
from reembed.core.model import External, Hosted, Model, Pooling, SecretKey, Truncate, Variant

# Long enough for 8,191 tokens of English, the limit of the models that are hosted most.
_MAX_CHARACTERS = 24_000
# Rather too many tokens than too few, as for texts of a model that Reembed runs.
_CHARACTERS_PER_TOKEN = 3
VARIANT = "external"


def hosted_model(external: Fields) -> Model:
    """Return the model that an endpoint hosts."""
    most = external.number("maxCharacters", _MAX_CHARACTERS)
    return Model(
        uri=external.text("url").rstrip("/"),
        sha256="",
        pooling=Pooling.MEAN,
        dimensions=external.number("dimensions"),
        max_tokens=-(-most // _CHARACTERS_PER_TOKEN),
        truncate=external.choice("truncate", Truncate, Truncate.REFUSE),
        query_prefix=external.text("queryPrefix", ""),
        document_prefix=external.text("documentPrefix", ""),
        hosted=Hosted(
            name=external.text("model"),
            max_characters=most,
            generation=external.number("generation", 1),
            send_dimensions=external.flag("sendDimensions", default=False),
        ),
    )


def hosted_variant(external: Fields) -> Variant:
    """Return the pods that ask an endpoint: so many, whatever the load, since it is the endpoint that scales."""
    replicas, resources = external.number("replicas", 2), external.into("resources")
    return Variant(
        VARIANT, replicas, replicas, requests=resources.mapping("requests"), limits=resources.mapping("limits")
    )


def parse_external(external: Fields) -> External:
    """Return what may be asked of an endpoint."""
    secret, limit, budget = external.maybe("secretRef"), external.into("rateLimit"), external.into("budget")
    return External(
        secret=SecretKey(secret.text("name"), secret.text("key")) if secret is not None else None,
        requests_per_minute=limit.maybe_number("requestsPerMinute"),
        tokens_per_minute=limit.maybe_number("tokensPerMinute"),
        budget_tokens=budget.maybe_number("tokens"),
    )
