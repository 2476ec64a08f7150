"""What Reembed asks of a vector store, in a few verbs for each of its three users.

`Searching` is the gateway's side, `Filling` a backfill pod's, `Keeping` the store worker's. Document ids are their text
form everywhere: the store alone knows their type and their order. Vectors are little-endian float32 bytes.

An implementation keeps three promises. A search whose fingerprint is not its collection's raises and never answers. A
page is stored whole together with its shard's position, or not at all, and only for the pod that holds the shard. All
verbs may be repeated: whoever died after any of them does the same again.

Errors, values and verbs have a module each; whoever needs them takes them from here.
"""

from reembed.stores.protocol.errors import (
    CollectionMismatch,
    Fenced,
    FilterRefused,
    StoreBusy,
    StoreError,
    StoreSlow,
    StoreUnavailable,
    Unfit,
)
from reembed.stores.protocol.values import (
    Change,
    Debt,
    Differences,
    Document,
    DocumentWrite,
    Filter,
    Held,
    Hit,
    Labels,
    Lease,
    Page,
    Paid,
    Part,
    Rejected,
    Sampled,
    Source,
    Space,
    Stored,
    Watched,
    Watching,
    Written,
)
from reembed.stores.protocol.verbs import (
    Filling,
    Following,
    Inspecting,
    Keeping,
    Remembering,
    Searching,
    Writing,
)

__all__ = [
    "Change",
    "CollectionMismatch",
    "Debt",
    "Differences",
    "Document",
    "DocumentWrite",
    "Fenced",
    "Filling",
    "Filter",
    "FilterRefused",
    "Following",
    "Held",
    "Hit",
    "Inspecting",
    "Keeping",
    "Labels",
    "Lease",
    "Page",
    "Paid",
    "Part",
    "Rejected",
    "Remembering",
    "Sampled",
    "Searching",
    "Source",
    "Space",
    "StoreBusy",
    "StoreError",
    "StoreSlow",
    "StoreUnavailable",
    "Stored",
    "Unfit",
    "Watched",
    "Watching",
    "Writing",
    "Written",
]
