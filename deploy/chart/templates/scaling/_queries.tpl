{{/* How many pods there should be, as Prometheus tells it; docs/autoscaling.md explains both. */}}

{{/* The pods of this release, whichever monitor found them. */}}
{{- define "gearshift.scaling.selector" -}}
{{- if .Values.autoscaling.selector }}
{{- .Values.autoscaling.selector }}
{{- else }}
{{- printf "namespace=%q,pod=~%q" .Release.Namespace (printf "%s-[^-]+-[^-]+" (include "gearshift.fullname" .)) }}
{{- end }}
{{- end }}

{{/* Pods that serve: one that still loads its models has no workers yet. */}}
{{- define "gearshift.scaling.pods" -}}
count(count by (pod) (gearshift_workers{ {{- include "gearshift.scaling.selector" . -}} }))
{{- end }}

{{/* Grown as far as the load deficit of the worst model is beyond what is accepted, never beyond
     what everybody's best variant takes, and shrunk to that. */}}
{{- define "gearshift.scaling.wanted" -}}
{{- $these := include "gearshift.scaling.selector" . -}}
{{- with .Values.autoscaling -}}
min(
  label_replace(
    sum(rate(gearshift_wanted_worker_seconds_total{ {{- $these -}} }[{{ .window }}]))
      / {{ .fullUtilization }}
      / (sum(gearshift_workers{ {{- $these -}} ,device!="express"}) / {{ include "gearshift.scaling.pods" $ }}),
    "bound", "wanted", "", ""
  )
  or
  label_replace(
    {{ include "gearshift.scaling.pods" $ }}
      * clamp_min(
        max(
          sum by (model) (rate(gearshift_load_deficit_sum{ {{- $these -}} }[{{ .window }}]))
            / (sum by (model) (rate(gearshift_load_deficit_count{ {{- $these -}} }[{{ .window }}])) > 0)
        ) / {{ .loadDeficit }},
        1
      ),
    "bound", "deficit", "", ""
  )
)
{{- end }}
{{- end }}

{{/* More pods while more than the accepted share is shed or expires, up to the factor `shedGrowth`
     at a look. */}}
{{- define "gearshift.scaling.emergency" -}}
{{- $these := include "gearshift.scaling.selector" . -}}
{{- with .Values.autoscaling -}}
{{ include "gearshift.scaling.pods" $ }}
  * clamp_max(
    (
      sum(rate(gearshift_requests_total{ {{- $these -}} ,outcome=~"shed|expired"}[{{ .window }}]))
        / (sum(rate(gearshift_requests_total{ {{- $these -}} ,outcome=~"served|late|shed|expired|failed"}[{{ .window }}])) > 0)
      or vector(0)
    ) / {{ .shedRatio }},
    {{ .shedGrowth }}
  )
{{- end }}
{{- end }}
