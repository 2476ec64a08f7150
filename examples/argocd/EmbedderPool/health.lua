-- Health of an EmbedderPool or an EmbeddingIndex in Argo CD. A pool that nobody uses runs no pods and is Healthy, and so
-- is an index that waits for its first migration: neither may hold up a sync.
local hs = { status = "Progressing", message = "waiting for the operator" }
local status = obj.status
if status == nil or status.conditions == nil then
  return hs
end
if status.observedGeneration ~= nil and status.observedGeneration < obj.metadata.generation then
  hs.message = "the operator has not seen the newest spec yet"
  return hs
end
local conditions = {}
for _, condition in ipairs(status.conditions) do
  conditions[condition.type] = condition
end
if conditions.Degraded ~= nil and conditions.Degraded.status == "True" then
  hs.status = "Degraded"
  hs.message = conditions.Degraded.message
elseif conditions.Ready ~= nil then
  hs.message = conditions.Ready.message
  if conditions.Ready.status == "True" then
    hs.status = "Healthy"
  end
end
return hs
