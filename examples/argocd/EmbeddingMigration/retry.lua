-- Commands `retry`: an annotation for this object, at the point of its life that is shown, once.
local verb = "retry"
local at = obj.status ~= nil and obj.status.at or ""
local nonce = "argocd-" .. obj.metadata.resourceVersion
obj.metadata.annotations = obj.metadata.annotations or {}
obj.metadata.annotations["reembed.dev/" .. verb] =
  '{"uid": "' .. obj.metadata.uid .. '", "at": "' .. at .. '", "nonce": "' .. nonce .. '"}'
return obj
