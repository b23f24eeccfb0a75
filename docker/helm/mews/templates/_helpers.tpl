{{- define "mews.name" -}}
{{- .Values.fullnameOverride | default (printf "%s-mews" .Release.Name) | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "mews.labels" -}}
app.kubernetes.io/name: mews
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What finds the pods of one part ("" for the whole). It never changes: a Deployment's selector cannot. */}}
{{- define "mews.selector" -}}
app.kubernetes.io/name: mews
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part | default "serve" }}
{{- end -}}

{{- define "mews.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "mews.name" .) -}}
{{- end -}}

{{- define "mews.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{- if hasPrefix "sha256:" $tag -}}{{ .Values.image.repository }}@{{ $tag }}{{- else -}}{{ .Values.image.repository }}:{{ $tag }}{{- end -}}
{{- end -}}

{{- define "mews.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Everything that a schema cannot say. */}}
{{- define "mews.check" -}}
{{- $v := .Values -}}
{{- if and (eq $v.repository.source "bucket") (not $v.repository.bucket.url) -}}
{{- fail "repository.bucket.url: expected s3://bucket/folder or gs://bucket/folder; received nothing. Set it, or another repository.source." -}}
{{- end -}}
{{- if and (eq $v.repository.source "image") (not $v.repository.image.reference) -}}
{{- fail "repository.image.reference: expected an image with the repository in it; received nothing. Set it, or another repository.source." -}}
{{- end -}}
{{- if and (eq $v.repository.source "pvc") (not $v.repository.pvc.claim) -}}
{{- fail "repository.pvc.claim: expected the name of a claim; received nothing." -}}
{{- end -}}
{{- if and (ne $v.repository.source "pvc") (lt (int $v.model.version) 1) -}}
{{- fail (printf "model.version: expected the number of the version that is copied and verified; received %v. `mews versions list` shows them." $v.model.version) -}}
{{- end -}}
{{- if and $v.ingress.enabled (not $v.ingress.host) -}}
{{- fail "ingress.host: expected a host name; received nothing." -}}
{{- end -}}
{{- if and $v.ingress.grpcHost (not $v.ingress.tlsSecret) -}}
{{- fail "ingress.tlsSecret: gRPC needs TLS; expected a secret with a certificate for ingress.grpcHost, received nothing." -}}
{{- end -}}
{{- if and $v.route.enabled (not $v.route.gateway.name) -}}
{{- fail "route.gateway.name: expected the name of a Gateway; received nothing." -}}
{{- end -}}
{{- range $part := include "mews.parts" . | fromJsonArray -}}
{{- $at := empty .part | ternary "autoscaling" (printf "split.parts.%s.autoscaling" .part) -}}
{{- with .autoscaling -}}
{{- if and (ne .kind "none") (gt (int .minReplicas) (int .maxReplicas)) -}}
{{- fail (printf "%s.minReplicas: expected at most maxReplicas (%v); received %v." $at .maxReplicas .minReplicas) -}}
{{- end -}}
{{- if and (ne .kind "none") (gt (int .gpuPercent) 0) (not $part.gpu.enabled) -}}
{{- fail (printf "%s.gpuPercent: there is no GPU to look at; set gpu.enabled, or 0 here." $at) -}}
{{- end -}}
{{- if and (ne .kind "none") (not (or .cpuPercent .queueMicroseconds .gpuPercent)) -}}
{{- fail (printf "%s: nothing to look at; set cpuPercent, queueMicroseconds or gpuPercent." $at) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Seconds until a pod is killed: the drain, Triton's own exit, and some more. */}}
{{- define "mews.grace" -}}
{{- add (int .Values.drainSeconds) (int .Values.triton.exitTimeoutSeconds) 15 -}}
{{- end -}}
