{{/* A quantity of CPU in cores, rounded up as Kubernetes does it in resourceFieldRef. */}}
{{- define "gearshift.cores" -}}
{{- $cpu := toString . }}
{{- if hasSuffix "m" $cpu }}
{{- divf (trimSuffix "m" $cpu) 1000 | ceil | int }}
{{- else }}
{{- ceil $cpu | int }}
{{- end }}
{{- end }}

{{/* What the chart tells the server; by environment, so that extraArgs win. */}}
{{- define "gearshift.env" -}}
{{- $most := .Values.workers | default (dig "limits" "cpu" 1024 .Values.resources | include "gearshift.cores") | int }}
{{- if gt (int .Values.processes) $most }}
{{- fail (printf "processes: %d processes cannot divide %d workers among them; give at most %d, or more workers or a larger CPU limit" (int .Values.processes) $most $most) }}
{{- end }}
- name: GEARSHIFT_REPOSITORY
  value: {{ include "gearshift.repositoryPath" . | quote }}
- name: GEARSHIFT_HOST
  value: {{ include "gearshift.host" . | quote }}
{{- if not .Values.tls.enabled }}
# Who may reach the pod is said by the network policy and the cluster.
- name: GEARSHIFT_INSECURE
  value: "true"
{{- end }}
- name: GEARSHIFT_GRPC_PORT
  value: {{ include "gearshift.grpcPort" . | quote }}
- name: GEARSHIFT_HTTP_PORT
  value: {{ include "gearshift.httpPort" . | quote }}
- name: GEARSHIFT_STATE_DIR
  value: /state
- name: GEARSHIFT_DRAIN_SECONDS
  value: {{ .Values.lifecycle.drainSeconds | quote }}
- name: GEARSHIFT_PROCESSES
  value: {{ .Values.processes | quote }}
- name: GEARSHIFT_WORKERS
{{- if .Values.workers }}
  value: {{ .Values.workers | quote }}
{{- else }}
  # Rounded up; without a limit the cores of the node.
  valueFrom:
    resourceFieldRef:
      containerName: gearshift
      resource: limits.cpu
      divisor: "1"
{{- end }}
{{- with .Values.feedback.database }}
{{- if .secret }}
- name: GEARSHIFT_FEEDBACK_URL
  valueFrom:
    secretKeyRef:
      name: {{ .secret }}
      key: {{ .key }}
{{- end }}
{{- end }}
{{- with .Values.access }}
{{- if .secret }}
- name: GEARSHIFT_ACCESS
  value: {{ printf "/etc/gearshift/access/%s" .key | quote }}
{{- end }}
{{- end }}
{{- with .Values.quotas }}
{{- if .configMap }}
- name: GEARSHIFT_QUOTAS
  value: {{ printf "/etc/gearshift/quotas/%s" .key | quote }}
{{- end }}
{{- end }}
{{- range $name, $value := .Values.settings }}
- name: GEARSHIFT_{{ upper $name }}
  # Text as it is, the rest as JSON: a large number must not become 1e+06.
  value: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "gearshift.resources" -}}
{{- $resources := deepCopy .Values.resources }}
{{- if .Values.gpu.enabled }}
{{- $gpu := dict "limits" (dict .Values.gpu.resource .Values.gpu.count) }}
{{- $resources = mergeOverwrite $resources $gpu }}
{{- end }}
{{- toYaml $resources }}
{{- end }}

{{- define "gearshift.preStop" -}}
- python3
- -c
- {{ .Files.Get "files/pre_stop.py" | quote }}
- {{ .Values.lifecycle.preStopSeconds | quote }}
{{- if .Values.tls.enabled }}
- 127.0.0.1:19901
{{- end }}
{{- end }}
