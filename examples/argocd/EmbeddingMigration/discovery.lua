-- The commands that apply to an EmbeddingMigration as it is, for the menu of Argo CD.
local status = obj.status or {}
local going = { Preflight = true, Backfilling = true, Indexing = true, Evaluating = true, Canary = true, Retaining = true }
local moving = status.state == "Canary" or status.state == "Retaining"
local undecided = status.reason == "RetrievalInconclusive" or status.reason == "RetrievalTooFewQueries"
local ended = status.state == "Failed" or status.state == "RolledBack"
return {
  abort = { disabled = not going[status.state] },
  pause = { disabled = not going[status.state] or status.paused == true },
  resume = { disabled = status.paused ~= true },
  promote = { disabled = not (moving or undecided) },
  retry = { disabled = not ended },
}
