{{/* One generation as a Job's spec: {root, generation, set, champion}. Features, training and release one after another.
     A try that failed is followed by one that goes on: `mews` finds in the run folder what is done. */}}
{{- define "pipeline.job" -}}
{{- $root := .root -}}
{{- $v := .root.Values -}}
{{- $none := dict "enabled" false -}}
{{- $tfjob := eq $v.train.kind "tfjob" -}}
{{- $run := "--run=/work/runs/$(GENERATION)" -}}
{{- $env := list .generation -}}
{{- /* Reading a workflow and fitting it anew needs NVTabular, which the image for GPUs does not have. */ -}}
{{- $image := .champion | ternary $v.etl.image $v.release.image -}}
{{- $gpu := .champion | ternary $v.etl.gpu $none -}}
{{- $gpus := list $gpu -}}
{{- if not $tfjob }}{{ $gpus = append $gpus $v.train.gpu }}{{ end -}}
backoffLimit: {{ $v.jobs.backoffLimit }}
activeDeadlineSeconds: {{ $v.jobs.deadlineSeconds }}
# Data that is refused (exit code 3) will not be cured by another try; a pod that its node lost is no try.
podFailurePolicy:
  rules:
    - action: Ignore
      onPodConditions: [{type: DisruptionTarget, status: "True"}]
    - action: FailJob
      onExitCodes: {operator: In, values: [3]}
template:
  metadata:
    labels:
      {{- include "pipeline.labels" $root | nindent 6 }}
      app.kubernetes.io/component: generation
      mews.client: "true"
    {{- with $v.podAnnotations }}
    annotations: {{- toYaml . | nindent 6 }}
    {{- end }}
  spec:
    restartPolicy: Never
    {{- include "pipeline.podHead" (dict "root" $root "gpus" $gpus) | nindent 4 }}
    initContainers:
      - name: features
        image: {{ include "pipeline.image" (dict "root" $root "image" $image) }}
        command: [mews, pipeline, update]
        args:
          - --config=/config/pipeline.yaml
          - {{ $run }}
          - --repository=/models
          {{- if .champion }}
          - --champion=/work/champion
          {{- end }}
          {{- if $gpu.enabled }}
          - --set=features.engine=gpu
          - --set=features.gpu_fallback=true
          {{- end }}
          {{- if and .champion (eq $v.etl.kind "dask") }}
          - --set=features.scheduler={{ include "pipeline.scheduler" $root }}
          {{- end }}
          {{- range .set }}
          - {{ printf "--set=%s" . | quote }}
          {{- end }}
        {{- include "pipeline.containerTail" (dict "root" $root "resources" $v.etl.resources "gpu" $gpu "env" $env) | nindent 8 }}
      {{- if $tfjob }}
      - name: train
        image: {{ include "pipeline.image" (dict "root" $root "image" $v.release.image) }}
        command: [python3, -m, mews.kubeflow.launch]
        args: [/tfjob/tfjob.json, --generation=$(GENERATION), --runs=/work/runs, --seconds={{ $v.jobs.deadlineSeconds }}]
        {{- include "pipeline.containerTail" (dict "root" $root "resources" (dict "requests" (dict "cpu" "100m" "memory" "128Mi") "limits" (dict "memory" "256Mi")) "gpu" $none "env" $env) | nindent 8 }}
          - {name: tfjob, mountPath: /tfjob, readOnly: true}
          - {name: token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
      {{- else }}
      - name: train
        image: {{ include "pipeline.image" (dict "root" $root "image" $v.train.image) }}
        command: [mews, pipeline, train]
        args: [{{ $run }}]
        {{- include "pipeline.containerTail" (dict "root" $root "resources" $v.train.resources "gpu" $v.train.gpu "shm" true "env" $env) | nindent 8 }}
      {{- end }}
    containers:
      - name: release
        image: {{ include "pipeline.image" (dict "root" $root "image" $v.release.image) }}
        command: [mews, pipeline, release]
        args:
          - {{ $run }}
          - --repository=/models
          - --champion=/work/champion
          {{- with $v.release.tritonUrl }}
          - --triton-url={{ . }}
          {{- end }}
          - --share={{ $v.release.canary.share }}
          - --wait={{ int $v.release.canary.seconds }}
        {{- include "pipeline.containerTail" (dict "root" $root "resources" $v.release.resources "gpu" $none "env" $env) | nindent 8 }}
    volumes:
      {{- include "pipeline.volumes" (dict "root" $root "shm" (ternary "" $v.train.sharedMemory $tfjob)) | nindent 6 }}
      {{- if $tfjob }}
      - name: tfjob
        configMap: {name: {{ include "pipeline.name" $root }}-tfjob}
      - name: token
        projected:
          sources:
            - serviceAccountToken: {path: token, expirationSeconds: 3600}
            - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
            - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
      {{- end }}
{{- end -}}
