{{/* The model repository, by modelRepository.source: where it lies, its volume, and who fills it. */}}
{{- define "gearshift.repositoryPath" -}}
{{- $from := .Values.modelRepository }}
{{- if eq $from.source "bundled" }}
{{- $from.bundled.path }}
{{- else if eq $from.source "imageVolume" }}
{{- printf "/mnt/models/%s" (trimPrefix "/" $from.image.path) | trimSuffix "/" }}
{{- else }}
{{- "/mnt/models" }}
{{- end }}
{{- end }}

{{- define "gearshift.repositoryVolume" -}}
{{- $from := .Values.modelRepository }}
{{- if eq $from.source "volume" }}
{{- if not $from.volume.source }}
{{- fail "modelRepository.volume.source: needed with modelRepository.source volume; give any source of a volume, such as {persistentVolumeClaim: {claimName: models, readOnly: true}}" }}
{{- end }}
- name: models
  {{- toYaml $from.volume.source | nindent 2 }}
{{- else if eq $from.source "imageVolume" }}
{{- if semverCompare "<1.31.0-0" .Capabilities.KubeVersion.Version }}
{{- fail (printf "modelRepository.source: imageVolume needs Kubernetes 1.31 with the feature gate ImageVolume, or 1.33, and this is %s; take `image`, which copies from the image at start" .Capabilities.KubeVersion.Version) }}
{{- end }}
- name: models
  image:
    reference: {{ include "gearshift.modelImage" . | quote }}
    pullPolicy: {{ $from.image.pullPolicy }}
{{- else if ne $from.source "bundled" }}
- name: models
  emptyDir:
    sizeLimit: {{ $from.sizeLimit }}
{{- end }}
{{- end }}

{{- define "gearshift.repositoryMount" -}}
{{- $from := .Values.modelRepository }}
{{- if ne $from.source "bundled" }}
- name: models
  mountPath: /mnt/models
  readOnly: true
  {{- if and (eq $from.source "volume") $from.volume.subPath }}
  subPath: {{ $from.volume.subPath }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "gearshift.modelImage" -}}
{{- with .Values.modelRepository }}
{{- required (printf "modelRepository.image.reference: needed with modelRepository.source %s; give the image that holds the models, best by digest" .source) .image.reference }}
{{- end }}
{{- end }}

{{- define "gearshift.repositoryInit" -}}
{{- $from := .Values.modelRepository }}
{{- if eq $from.source "image" }}
- name: models
  image: {{ include "gearshift.modelImage" . | quote }}
  imagePullPolicy: {{ $from.image.pullPolicy }}
  command: [cp, -R, {{ printf "%s/." (trimSuffix "/" $from.image.path) | quote }}, /mnt/models/]
  resources:
    requests: {cpu: 100m, memory: 64Mi}
    limits: {cpu: "1", memory: 256Mi}
  securityContext:
    {{- include "gearshift.containerSecurity" . | nindent 4 }}
  volumeMounts:
    - name: models
      mountPath: /mnt/models
{{- else if eq $from.source "objectStore" }}
{{- with $from.objectStore }}
- name: models
  image: {{ .image | quote }}
  imagePullPolicy: IfNotPresent
  args:
    - copy
    - {{ required "modelRepository.objectStore.path: needed with modelRepository.source objectStore; give remote and path as rclone writes them, such as :s3:bucket/models" .path | quote }}
    - /mnt/models
    - --stats-one-line
    - --stats=10s
    {{- range .args }}
    - {{ . | quote }}
    {{- end }}
  env:
    - name: RCLONE_CONFIG
      value: /tmp/rclone.conf
    - name: RCLONE_CACHE_DIR
      value: /tmp
    {{- range $name, $value := .env }}
    - name: {{ $name }}
      value: {{ $value | quote }}
    {{- end }}
  {{- with .secret }}
  envFrom:
    - secretRef:
        name: {{ . }}
  {{- end }}
  resources:
    {{- toYaml .resources | nindent 4 }}
  securityContext:
    {{- include "gearshift.containerSecurity" $ | nindent 4 }}
  volumeMounts:
    - name: models
      mountPath: /mnt/models
    - name: tmp
      mountPath: /tmp
{{- end }}
{{- end }}
{{- end }}
