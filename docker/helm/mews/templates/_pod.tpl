{{/* The pod of one part: {root, part, models, resources, gpu}. */}}
{{- define "mews.pod" -}}
{{- $v := .root.Values -}}
{{- $copied := ne $v.repository.source "pvc" -}}
metadata:
  labels:
    {{- include "mews.labels" .root | nindent 4 }}
    {{- include "mews.selector" . | nindent 4 }}
  {{- with $v.podAnnotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "mews.serviceAccount" .root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "mews.grace" .root }}
  {{- with $v.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: {{ $v.security.runAsUser }}
    runAsGroup: {{ $v.security.runAsUser }}
    fsGroup: {{ $v.security.fsGroup }}
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  {{- $selector := merge (dict) $v.nodeSelector }}
  {{- if .gpu.enabled }}{{ $selector = merge $selector .gpu.nodeSelector }}{{ end }}
  {{- with $selector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- $tolerations := $v.tolerations }}
  {{- if .gpu.enabled }}{{ $tolerations = concat $tolerations .gpu.tolerations }}{{ end }}
  {{- with $tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- $keys := dict "zone" "topology.kubernetes.io/zone" "node" "kubernetes.io/hostname" }}
  {{- with $v.spread.over }}
  topologySpreadConstraints:
    {{- range . }}
    - maxSkew: 1
      topologyKey: {{ get $keys . }}
      whenUnsatisfiable: {{ $v.spread.whenUnsatisfiable }}
      labelSelector:
        matchLabels: {{- include "mews.selector" $ | nindent 10 }}
      matchLabelKeys: [pod-template-hash]
    {{- end }}
  {{- end }}
  {{- if or $copied $v.verify.enabled }}
  initContainers:
    {{- if eq $v.repository.source "bucket" }}
    - name: fetch
      image: {{ $v.repository.bucket.image }}
      args:
        - copy
        - --checksum
        - {{ printf ":%s:%s" (ternary "s3,env_auth" "gcs,env_auth" (hasPrefix "s3://" $v.repository.bucket.url)) (regexReplaceAll "^(s3|gs)://" $v.repository.bucket.url "") | quote }}
        - /models
      env:
        - {name: HOME, value: /tmp}
      {{- with $v.repository.bucket.secret }}
      envFrom:
        - secretRef: {name: {{ . }}}
      {{- end }}
      securityContext: {{- include "mews.containerSecurity" .root | nindent 8 }}
      resources: {requests: {cpu: 100m, memory: 128Mi}, limits: {memory: 512Mi}}
      volumeMounts:
        - {name: models, mountPath: /models}
        - {name: tmp, mountPath: /tmp}
    {{- end }}
    {{- if eq $v.repository.source "image" }}
    - name: fetch
      image: {{ $v.repository.image.reference }}
      command: [cp, -R, {{ printf "%s/." (trimSuffix "/" $v.repository.image.path) | quote }}, /models/]
      securityContext: {{- include "mews.containerSecurity" .root | nindent 8 }}
      resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {memory: 256Mi}}
      volumeMounts:
        - {name: models, mountPath: /models}
    {{- end }}
    {{- if $v.verify.enabled }}
    - name: verify
      image: {{ $v.verify.image }}
      command: [mews, verify]
      args:
        - {{ ternary (printf "/models/%s/%v" $v.model.name $v.model.version) (printf "/models/%s" $v.model.name) (gt (int $v.model.version) 0) }}
        {{- if $v.verify.secret }}
        {{- range $v.verify.keys }}
        - --key=/keys/{{ . }}
        {{- end }}
        {{- end }}
      env:
        - {name: HOME, value: /tmp}
      securityContext: {{- include "mews.containerSecurity" .root | nindent 8 }}
      resources: {requests: {cpu: 250m, memory: 512Mi}, limits: {memory: 1Gi}}
      volumeMounts:
        - {name: models, mountPath: /models, readOnly: true{{ if and (not $copied) $v.repository.pvc.subPath }}, subPath: {{ $v.repository.pvc.subPath }}{{ end }}}
        - {name: tmp, mountPath: /tmp}
        {{- if $v.verify.secret }}
        - {name: keys, mountPath: /keys, readOnly: true}
        {{- end }}
    {{- end }}
  {{- end }}
  containers:
    - name: triton
      image: {{ include "mews.image" .root }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      command: [/opt/tritonserver/bin/tritonserver]
      args:
        - --model-repository=/models
        - --model-control-mode=explicit
        {{- range .models }}
        - --load-model={{ . }}
        {{- end }}
        - --exit-on-error=true
        - --strict-readiness=false
        - --disable-auto-complete-config
        - --metrics-config=summary_latencies=true
        - --exit-timeout-secs={{ $v.triton.exitTimeoutSeconds }}
        - --http-port=8000
        - --grpc-port=8001
        - --metrics-port=8002
        {{- if ne $v.triton.logFormat "default" }}
        - --log-format={{ $v.triton.logFormat }}
        {{- end }}
        {{- if gt (int64 $v.triton.cacheBytes) 0 }}
        - --cache-config=local,size={{ int64 $v.triton.cacheBytes }}
        {{- end }}
        {{- with $v.triton.traceUrl }}
        - --trace-config=mode=opentelemetry
        - --trace-config=opentelemetry,url={{ . }}
        - --trace-config=rate={{ $v.triton.traceRate }}
        - --trace-config=level=TIMESTAMPS
        {{- end }}
        {{- range $v.triton.args }}
        - {{ . | quote }}
        {{- end }}
      {{- with $v.triton.env }}
      env: {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - {name: http, containerPort: 8000}
        - {name: grpc, containerPort: 8001}
        - {name: metrics, containerPort: 8002}
      startupProbe:
        httpGet: {path: /v2/health/ready, port: http}
        periodSeconds: 5
        failureThreshold: {{ max 1 (div (int $v.probes.startupSeconds) 5) }}
      readinessProbe:
        httpGet: {path: {{ printf "/v2/models/%s/ready" (first .models) }}, port: http}
        periodSeconds: {{ $v.probes.readinessPeriodSeconds }}
        timeoutSeconds: 3
        failureThreshold: 2
      livenessProbe:
        httpGet: {path: /v2/health/live, port: http}
        periodSeconds: {{ $v.probes.livenessPeriodSeconds }}
        timeoutSeconds: 5
        failureThreshold: 6
      lifecycle:
        preStop:
          exec: {command: [sleep, {{ $v.drainSeconds | quote }}]}
      securityContext: {{- include "mews.containerSecurity" .root | nindent 8 }}
      resources:
        requests:
          {{- toYaml .resources.requests | nindent 10 }}
          {{- if .gpu.enabled }}
          {{ .gpu.resource }}: {{ .gpu.count }}
          {{- end }}
        limits:
          {{- toYaml .resources.limits | nindent 10 }}
          {{- if .gpu.enabled }}
          {{ .gpu.resource }}: {{ .gpu.count }}
          {{- end }}
      volumeMounts:
        - {name: models, mountPath: /models, readOnly: true{{ if and (not $copied) $v.repository.pvc.subPath }}, subPath: {{ $v.repository.pvc.subPath }}{{ end }}}
        - {name: tmp, mountPath: /tmp}
        - {name: shm, mountPath: /dev/shm}
  volumes:
    - name: models
      {{- if $copied }}
      emptyDir: {sizeLimit: {{ $v.repository.size }}}
      {{- else }}
      persistentVolumeClaim: {claimName: {{ $v.repository.pvc.claim }}, readOnly: true}
      {{- end }}
    - name: tmp
      emptyDir: {sizeLimit: 256Mi}
    - name: shm
      emptyDir: {medium: Memory, sizeLimit: {{ $v.sharedMemory.size }}}
    {{- if and $v.verify.enabled $v.verify.secret }}
    - name: keys
      secret: {secretName: {{ $v.verify.secret }}}
    {{- end }}
{{- end -}}

{{/* One part as {root, part, models, replicas, resources, gpu, autoscaling}; a split's parts take from above what they leave out. */}}
{{- define "mews.parts" -}}
{{- $v := .Values -}}
{{- $parts := list (dict "part" "" "models" (list $v.model.name) "replicas" $v.replicas "resources" $v.resources "gpu" $v.gpu "autoscaling" $v.autoscaling) -}}
{{- range $name, $given := $v.split.parts -}}
{{- $gpu := mergeOverwrite (deepCopy $v.gpu) ($given.gpu | default dict) -}}
{{- $scaling := mergeOverwrite (deepCopy $v.autoscaling) (dict "kind" "none") ($given.autoscaling | default dict) -}}
{{- $parts = append $parts (dict "part" $name "models" $given.models "replicas" ($given.replicas | default $v.replicas) "resources" ($given.resources | default $v.resources) "gpu" $gpu "autoscaling" $scaling) -}}
{{- end -}}
{{- $parts | toJson -}}
{{- end -}}
