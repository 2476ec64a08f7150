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
