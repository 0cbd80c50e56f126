{{- define "gearshift.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Short enough that "-headless" and the like still fit into 63 characters. */}}
{{- define "gearshift.fullname" -}}
{{- $name := include "gearshift.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 47 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 47 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 47 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "gearshift.selectorLabels" -}}
app.kubernetes.io/name: {{ include "gearshift.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "gearshift.labels" -}}
{{ include "gearshift.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "gearshift.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "gearshift.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "gearshift.image" -}}
{{- with .Values.image }}
{{- if .digest }}
{{- printf "%s@%s" .repository .digest }}
{{- else }}
{{- $bundled := eq $.Values.modelRepository.source "bundled" }}
{{- if and $bundled $.Values.gpu.enabled (not .tag) }}
{{- fail "image.tag: the image for GPUs holds no models; give modelRepository.source, or the tag of an image of yours that holds them" }}
{{- end }}
{{- $flavour := $.Values.gpu.enabled | ternary "-gpu" ($bundled | ternary "-demo" "") }}
{{- printf "%s:%s" .repository (default (printf "%s%s" $.Chart.AppVersion $flavour) .tag) }}
{{- end }}
{{- end }}
{{- end }}

{{/* The restricted Pod Security Standard, and a root file system that cannot be written. */}}
{{- define "gearshift.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "gearshift.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* How long Kubernetes waits for a pod to end before it kills it. */}}
{{- define "gearshift.gracePeriod" -}}
{{- with .Values.lifecycle }}
{{- $least := ceil (addf .preStopSeconds .drainSeconds .marginSeconds) | int }}
{{- $given := int .terminationGracePeriodSeconds }}
{{- if and $given (lt $given $least) }}
{{- fail (printf "lifecycle.terminationGracePeriodSeconds: %d s would kill a pod that still answers: preStopSeconds, drainSeconds and marginSeconds are %d s together; give at least %d, or 0 for just that" $given $least $least) }}
{{- end }}
{{- $given | default $least }}
{{- end }}
{{- end }}

{{/* Where the server itself listens: behind Envoy only its own pod may call it. */}}
{{- define "gearshift.host" -}}
{{- ternary "127.0.0.1" "0.0.0.0" .Values.tls.enabled }}
{{- end }}
{{- define "gearshift.grpcPort" -}}
{{- ternary 18001 8001 .Values.tls.enabled }}
{{- end }}
{{- define "gearshift.httpPort" -}}
{{- ternary 18002 8002 .Values.tls.enabled }}
{{- end }}
{{/* Files of who may call and how much. Whole volumes: those of a subPath are never updated. */}}
{{- define "gearshift.callerMounts" -}}
{{- if .Values.access.secret }}
- name: access
  mountPath: /etc/gearshift/access
  readOnly: true
{{- end }}
{{- if .Values.quotas.configMap }}
- name: quotas
  mountPath: /etc/gearshift/quotas
  readOnly: true
{{- end }}
{{- end }}

{{- define "gearshift.callerVolumes" -}}
{{- with .Values.access }}
{{- if .secret }}
- name: access
  secret:
    secretName: {{ .secret }}
    defaultMode: 0440
    items:
      - {key: {{ .key }}, path: {{ .key }}}
{{- end }}
{{- end }}
{{- with .Values.quotas }}
{{- if .configMap }}
- name: quotas
  configMap:
    name: {{ .configMap }}
    items:
      - {key: {{ .key }}, path: {{ .key }}}
{{- end }}
{{- end }}
{{- end }}

{{/* Where probes ask for the health in plain text. */}}
{{- define "gearshift.probePort" -}}
{{- ternary 8003 8001 .Values.tls.enabled }}
{{- end }}

{{- define "gearshift.address" -}}
{{- printf "%s.%s.svc" (include "gearshift.fullname" .) .Release.Namespace }}
{{- end }}
{{/* What the certificate bears. */}}
{{- define "gearshift.serverName" -}}
{{- default (include "gearshift.address" .) .Values.tls.serverName }}
{{- end }}

{{- define "gearshift.tlsSecret" -}}
{{- default (printf "%s-tls" (include "gearshift.fullname" .)) .Values.tls.secret }}
{{- end }}
