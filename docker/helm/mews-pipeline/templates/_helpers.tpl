{{/* At most 40 characters: a CronJob adds a time to it, a Job a digest, a TFJob the name of a worker. */}}
{{- define "pipeline.name" -}}
{{- .Values.fullnameOverride | default (printf "%s-mews-pipeline" .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "pipeline.selector" -}}
app.kubernetes.io/name: mews-pipeline
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "pipeline.labels" -}}
{{ include "pipeline.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* An image of {root, image}. */}}
{{- define "pipeline.image" -}}
{{- $tag := .image.tag | default .root.Chart.AppVersion -}}
{{- if hasPrefix "sha256:" $tag -}}{{ .image.repository }}@{{ $tag }}{{- else -}}{{ .image.repository }}:{{ $tag }}{{- end -}}
{{- end -}}

{{- define "pipeline.configMap" -}}
{{- .Values.pipelineConfigMap | default (include "pipeline.name" .) -}}
{{- end -}}

{{/* Whether a pod of ours asks the API server for anything. */}}
{{- define "pipeline.asksServer" -}}
{{- if eq .Values.train.kind "tfjob" -}}true{{- end -}}
{{- end -}}

{{- define "pipeline.scheduler" -}}
tcp://{{ include "pipeline.name" . }}-scheduler.{{ .Release.Namespace }}.svc:8786
{{- end -}}

{{/* Everything that a schema cannot say. */}}
{{- define "pipeline.check" -}}
{{- $v := .Values -}}
{{- if and $v.pipeline $v.pipelineConfigMap -}}
{{- fail "pipelineConfigMap: expected either it or `pipeline`; received both." -}}
{{- end -}}
{{- if and (eq $v.train.kind "tfjob") $v.networkPolicy.enabled (not $v.networkPolicy.apiServer.cidr) -}}
{{- fail "networkPolicy.apiServer.cidr: train.kind tfjob starts TFJobs through the API server; expected its address, such as 10.96.0.1/32 (`kubectl get service kubernetes`), received nothing." -}}
{{- end -}}
{{- if and $v.retrain.enabled (gt (int $v.release.canary.seconds) (int $v.jobs.deadlineSeconds)) -}}
{{- fail (printf "release.canary.seconds: expected less than jobs.deadlineSeconds (%v); received %v." $v.jobs.deadlineSeconds $v.release.canary.seconds) -}}
{{- end -}}
{{- if not (or $v.first.enabled $v.retrain.enabled) -}}
{{- fail "first.enabled, retrain.enabled: nothing to do; set one of them." -}}
{{- end -}}
{{- range $name, $part := dict "etl" $v.etl "train" $v.train -}}
{{- range $resource, $_ := merge (dict) ($part.resources.limits | default dict) ($part.resources.requests | default dict) -}}
{{- if contains "/" $resource -}}
{{- fail (printf "%s.resources: expected cpu and memory; received %s. GPUs are under %s.gpu." $name $resource $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
