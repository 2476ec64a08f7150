"""Reasons that more than one room must know by name; every other reason is a word of the check that finds it.

A reason says why a migration is where it is, for programs: CamelCase, at most 64 characters, stable once released.
"""

from __future__ import annotations

# Whoever waits for another migration has not begun.
INDEX_HELD = "IndexHeld"
WAITING_FOR_DEPENDENCY = "WaitingForDependency"
PAUSED = "Paused"
AWAITING_APPROVAL = "AwaitingApproval"
EMERGENCY = "EmergencyProtection"
# A panel decides, and has not, or not so.
AWAITING_PANEL = "AwaitingPanel"
PANEL_REFUSED = "PanelRefused"
NO_QUORUM = "NoQuorum"
# A step waits for the panel's votes, or for the panel itself (`quorum.queen.waits`).
BEFORE_PANEL = frozenset({AWAITING_PANEL, PANEL_REFUSED, NO_QUORUM, "PanelMissing"})
# Triggers of who decides, not of what is decided about.
OF_PANEL = frozenset({NO_QUORUM, "AgentsUnreachable"})

# A pod has no model yet: nothing is wrong, or its source fails.
MODEL_LOADING = "ModelLoading"
MODEL_SOURCE_FAILING = "ModelSourceFailing"

# A pod's vectors are not those of its collection's class; the others go on.
MODEL_CLASS_MISMATCH = "ModelClassMismatch"

# A hosted model's pods are ready, but embed no documents, or nothing.
MODEL_CHANGED = "ModelChanged"
BUDGET_SPENT = "BudgetSpent"
ENDPOINT_FAILING = "EndpointFailing"
OF_ENDPOINT = frozenset({MODEL_CHANGED, BUDGET_SPENT, ENDPOINT_FAILING})

# The source is not what the index says, or may not be read: every pod would fail until somebody mends it.
OF_SOURCE = frozenset({
    "ExtensionMissing", "PrivilegesMissing", "SourceColumnMissing", "SourceFilterInvalid", "SourceGroupUnsupported",
    "SourceKeyUnsupported", "SourceTableMissing", "SourceTextInvalid",
})  # fmt: skip

# An application does not keep the column that is the way back: nothing else is wrong, and nobody else can mend it.
ROLLBACK_NOT_READY = "RollbackNotReady"

# The labelled queries do not decide; somebody's word can.
UNDECIDED = frozenset({"RetrievalInconclusive", "RetrievalTooFewQueries"})

# Waiting for people: nothing goes on before somebody says so.
FOR_PEOPLE = frozenset({PAUSED, AWAITING_APPROVAL}) | UNDECIDED | {MODEL_CHANGED, BUDGET_SPENT, ROLLBACK_NOT_READY}

# Time that counts towards no deadline: neither the migration's nor its store's or model's fault.
EXCUSED = FOR_PEOPLE | {INDEX_HELD, WAITING_FOR_DEPENDENCY}

# What a state waits for, but somebody has to look at.
ALARMS = frozenset({"NowhereToGo", "SharedFailure", "GatewaysWithhold", "StatusLost", "IndexLost"})
