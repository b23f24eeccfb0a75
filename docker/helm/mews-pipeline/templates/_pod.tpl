{{- define "pipeline.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "pipeline.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.security.runAsUser }}
runAsGroup: {{ .Values.security.runAsUser }}
fsGroup: {{ .Values.security.fsGroup }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* What every pod says first: {root, gpus}; `gpus` are those that any of its containers may ask for. */}}
{{- define "pipeline.podHead" -}}
{{- $v := .root.Values -}}
serviceAccountName: {{ include "pipeline.name" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with $v.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $v.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext: {{- include "pipeline.podSecurity" .root | nindent 2 }}
{{- $selector := deepCopy $v.nodeSelector }}
{{- $tolerations := $v.tolerations }}
{{- range .gpus }}
{{- if .enabled }}
{{- $selector = merge $selector .nodeSelector }}
{{- $tolerations = concat $tolerations .tolerations | uniq }}
{{- end }}
{{- end }}
{{- with $selector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What every container says last: {root, resources, gpu, shm}. */}}
{{- define "pipeline.containerTail" -}}
{{- $v := .root.Values -}}
env:
  - {name: HOME, value: /tmp}
  - {name: TMPDIR, value: /tmp}
  {{- with .env }}{{- toYaml . | nindent 2 }}{{- end }}
{{- with $v.secret }}
envFrom:
  - secretRef: {name: {{ . }}}
{{- end }}
securityContext: {{- include "pipeline.containerSecurity" .root | nindent 2 }}
resources:
  requests:
    {{- toYaml .resources.requests | nindent 4 }}
    {{- if .gpu.enabled }}
    {{ .gpu.resource }}: {{ .gpu.count }}
    {{- end }}
  limits:
    {{- toYaml .resources.limits | nindent 4 }}
    {{- if .gpu.enabled }}
    {{ .gpu.resource }}: {{ .gpu.count }}
    {{- end }}
volumeMounts:
  - {name: work, mountPath: /work}
  - {name: models, mountPath: /models}
  - {name: config, mountPath: /config, readOnly: true}
  - {name: tmp, mountPath: /tmp}
  {{- if $v.storage.data }}
  - {name: data, mountPath: /data, readOnly: true}
  {{- end }}
  {{- if .shm }}
  - {name: shm, mountPath: /dev/shm}
  {{- end }}
{{- end -}}

{{/* {root, shm}: the size of the shared memory, or nothing. */}}
{{- define "pipeline.volumes" -}}
{{- $v := .root.Values -}}
- name: work
  persistentVolumeClaim: {claimName: {{ $v.storage.runs }}}
- name: models
  persistentVolumeClaim: {claimName: {{ $v.storage.models }}}
- name: config
  configMap: {name: {{ include "pipeline.configMap" .root }}}
- name: tmp
  emptyDir: {sizeLimit: {{ $v.storage.scratch }}}
{{- with $v.storage.data }}
- name: data
  persistentVolumeClaim: {claimName: {{ . }}, readOnly: true}
{{- end }}
{{- with .shm }}
- name: shm
  emptyDir: {medium: Memory, sizeLimit: {{ . }}}
{{- end }}
{{- end -}}
