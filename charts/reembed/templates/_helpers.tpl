{{/* Name of the release's own objects: the release's name, made to say "reembed" if it does not. */}}
{{- define "reembed.fullname" -}}
{{- $name := ternary .Release.Name (printf "%s-reembed" .Release.Name) (contains "reembed" .Release.Name) -}}
{{- trunc 53 $name | trimSuffix "-" -}}
{{- end -}}

{{/* Name of a cluster-scoped object, which two releases of the same name must not share. */}}
{{- define "reembed.clusterName" -}}
{{- printf "%s-%s" (include "reembed.fullname" .) .Release.Namespace -}}
{{- end -}}

{{/* Name of the Lease that says which replica of the operator leads. */}}
{{- define "reembed.lease" -}}
{{- printf "%s-operator" (include "reembed.fullname" .) -}}
{{- end -}}

{{/* The watched namespaces as a JSON list. */}}
{{- define "reembed.namespaces" -}}
{{- default (list .Release.Namespace) .Values.watchNamespaces | toJson -}}
{{- end -}}

{{/* Labels that select the operator's pod; they never change. */}}
{{- define "reembed.selector" -}}
app.kubernetes.io/name: reembed
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{/* Labels of every object of the chart. Not `part-of`: the operator would watch its own pod as its work. */}}
{{- define "reembed.labels" -}}
app.kubernetes.io/name: reembed
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Reference of an image: include "reembed.image" (list $ "gateway"). A digest says more than any tag. */}}
{{- define "reembed.image" -}}
{{- $root := index . 0 -}}
{{- $image := index $root.Values.images (index . 1) -}}
{{- $tagged := printf "%s:%s" $image.repository (default $root.Chart.AppVersion $image.tag) -}}
{{- empty $image.digest | ternary $tagged (printf "%s@%s" $image.repository $image.digest) -}}
{{- end -}}

{{/* Who the operator is for the API server. */}}
{{- define "reembed.operatorUser" -}}
{{- printf "system:serviceaccount:%s:%s" .Release.Namespace (include "reembed.fullname" .) -}}
{{- end -}}

{{/* The agents of the panel as a JSON list: each is named for the role it has. */}}
{{- define "reembed.agents" -}}
{{- list "embedding-specialist" "memory-analyst" "parallelism-optimizer" "streaming-loader" "embeddings-validator"
    "configuration-manager" "pattern-learner" "byzantine-coordinator" | toJson -}}
{{- end -}}

{{/* What an agent's own objects are called, as a JSON list. */}}
{{- define "reembed.agentObjects" -}}
{{- $found := list -}}
{{- range include "reembed.agents" . | fromJsonArray }}{{ $found = append $found (printf "reembed-panel-%s" .) }}{{ end -}}
{{- $found | toJson -}}
{{- end -}}

{{/* Who an agent is for the API server, without its name at the end. */}}
{{- define "reembed.agentUser" -}}
{{- printf "system:serviceaccount:%s:reembed-panel-" .Values.panel.namespace -}}
{{- end -}}

{{/* Labels that select the pods of all agents; with `reembed.dev/agent` beside them, of one. */}}
{{- define "reembed.panelSelector" -}}
app.kubernetes.io/name: reembed
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: panel
{{- end -}}

{{/* Kubernetes' own clean-up, which must never hang on a policy. */}}
{{- define "reembed.cleaners" -}}
[
            'system:serviceaccount:kube-system:generic-garbage-collector',
            'system:serviceaccount:kube-system:namespace-controller',
            'system:kube-controller-manager']
{{- end -}}

{{/* Repositories from which the operator may run images, as a JSON list. */}}
{{- define "reembed.repositories" -}}
{{- $own := list -}}
{{- range list "embedder" "embedderGpu" "gateway" "backfill" -}}
{{- with (index $.Values.images .).repository -}}{{- $own = append $own . -}}{{- end -}}
{{- end -}}
{{- concat $own .Values.policies.formerRepositories | uniq | toJson -}}
{{- end -}}

{{/* The accounts of all agents, as subjects of a binding. */}}
{{- define "reembed.agentSubjects" -}}
{{- range include "reembed.agents" . | fromJsonArray }}
- kind: ServiceAccount
  name: reembed-panel-{{ . }}
  namespace: {{ $.Values.panel.namespace }}
{{- end }}
{{- end -}}

{{/* That a policy is about the panel's namespace. */}}
{{- define "reembed.inPanel" -}}
matchResources:
  namespaceSelector:
    matchExpressions:
      - key: kubernetes.io/metadata.name
        operator: In
        values: [{{ .Values.panel.namespace }}]
{{- end -}}

{{/* Where pods that the operator makes have files of volumes, as a JSON list. */}}
{{- define "reembed.mounts" -}}
{{- list "/tmp" "/cache" "/models" "/key" "/references" "/class" | toJson -}}
{{- end -}}

{{/* What tells a policy the time: the heartbeats of the API servers, each some seconds old. */}}
{{- define "reembed.clock" -}}
paramRef:
  namespace: kube-system
  selector:
    matchLabels:
      apiserver.kubernetes.io/identity: kube-apiserver
  parameterNotFoundAction: Allow
{{- end -}}
