{{/* Labels that select the operator's pods; they never change. */}}
{{- define "coppice.selector" -}}
app.kubernetes.io/name: coppice
app.kubernetes.io/component: operator
{{- end }}

{{/* Labels of everything in the chart. */}}
{{- define "coppice.labels" -}}
{{ include "coppice.selector" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{/* An image's reference, from (list $ NAME). */}}
{{- define "coppice.image" -}}
{{- $image := (first .).Values.image -}}
{{- $tag := $image.tag | default (first .).Chart.AppVersion -}}
{{- with $image.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- last . -}}
{{- if hasPrefix "@" $tag }}{{ $tag }}{{ else }}:{{ $tag }}{{ end -}}
{{- end }}

{{/* The namespaces in which nothing is ever injected; the operator knows the same. */}}
{{- define "coppice.excluded" -}}
{{- list "kube-system" "kube-public" "kube-node-lease" .Release.Namespace | uniq | toJson -}}
{{- end }}

{{/* Expressions of a namespaceSelector: where Coppice works at all. */}}
{{- define "coppice.namespaces" -}}
- key: kubernetes.io/metadata.name
  operator: NotIn
  values: {{ include "coppice.excluded" . }}
{{- with .Values.watchNamespaces }}
- key: kubernetes.io/metadata.name
  operator: In
  values: {{ toJson . }}
{{- end }}
{{- end }}

{{/* CEL: whether `object` is a pod for Windows; the operator judges alike. */}}
{{- define "coppice.isWindows" -}}
(object.spec.?os.?name.orValue('') == 'windows'
|| object.spec.?nodeSelector[?'kubernetes.io/os'].orValue('') == 'windows'
|| [object.spec.?affinity.?nodeAffinity.?requiredDuringSchedulingIgnoredDuringExecution.?nodeSelectorTerms.orValue([])]
.exists(terms, terms.size() > 0 && terms.all(term, term.?matchExpressions.orValue([])
.exists(e, e.key == 'kubernetes.io/os' && e.operator == 'In' && e.?values.orValue([]).all(os, os == 'windows')))))
{{- end }}

{{/* CEL: whether `object` is a pod that has the sidecar. */}}
{{- define "coppice.hasSidecar" -}}
object.spec.?initContainers.orValue([]).exists(c, c.name == 'coppice-agent' && c.?restartPolicy.orValue('') == 'Always')
{{- end }}
