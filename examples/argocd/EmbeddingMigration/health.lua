-- Health of an EmbeddingMigration in Argo CD: what somebody has to look at is Degraded, what waits for somebody's word
-- is Suspended.
local hs = { status = "Progressing", message = "waiting for the operator" }
local status = obj.status
if status == nil or status.conditions == nil or status.state == nil then
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
hs.message = (status.phase or status.state) .. ": " .. (status.message or "")
if status.state == "Succeeded" then
  hs.status = "Healthy"
elseif status.state == "Failed" or status.state == "RolledBack" then
  hs.status = "Degraded"
elseif conditions.Degraded ~= nil and conditions.Degraded.status == "True" then
  hs.status = "Degraded"
elseif conditions.Progressing ~= nil and conditions.Progressing.status == "Unknown" then
  hs.status = "Suspended"
end
return hs
