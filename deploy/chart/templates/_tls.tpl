{{/* An Envoy at which TLS ends (files/envoy): its container and volumes; nothing without tls. */}}

{{/* A native sidecar: it starts before the server and ends after it. */}}
{{- define "gearshift.envoyContainer" -}}
{{- if .Values.tls.enabled }}
- name: envoy
  image: {{ .Values.tls.image | quote }}
  imagePullPolicy: IfNotPresent
  restartPolicy: Always
  command: [envoy]
  args: [-c, /etc/envoy/envoy.yaml, --disable-hot-restart, --log-level, warn, --concurrency, $(CONCURRENCY)]
  env:
    - name: CONCURRENCY
      valueFrom:
        resourceFieldRef:
          containerName: envoy
          resource: limits.cpu
          divisor: "1"
  ports:
    - name: grpc
      containerPort: 8001
    - name: http
      containerPort: 8002
    - name: health
      containerPort: 8003
  startupProbe:
    tcpSocket:
      port: 8001
    periodSeconds: 1
    failureThreshold: 60
  readinessProbe:
    tcpSocket:
      port: 8001
  livenessProbe:
    tcpSocket:
      port: 8001
    failureThreshold: 6
  resources:
    {{- toYaml .Values.tls.resources | nindent 4 }}
  securityContext:
    {{- include "gearshift.containerSecurity" . | nindent 4 }}
  volumeMounts:
    - name: envoy
      mountPath: /etc/envoy
      readOnly: true
    - name: tls
      mountPath: /etc/envoy-tls
      readOnly: true
{{- end }}
{{- end }}

{{- define "gearshift.envoyVolumes" -}}
{{- if .Values.tls.enabled }}
- name: envoy
  configMap:
    name: {{ include "gearshift.fullname" . }}-envoy
- name: tls
  secret:
    secretName: {{ include "gearshift.tlsSecret" . }}
    defaultMode: 0440
{{- end }}
{{- end }}
