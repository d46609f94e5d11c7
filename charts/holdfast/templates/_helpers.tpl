{{/* This one among all installations: the release; within a parent chart, whose objects may be called so, with the chart's name
or alias. */}}
{{- define "holdfast.instance" -}}
{{- if .Chart.IsRoot }}{{ .Release.Name }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | lower | trunc 63 | trimSuffix "-" }}{{ end -}}
{{- end -}}

{{/* Name of every object. */}}
{{- define "holdfast.name" -}}
{{- include "holdfast.instance" . | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* Name of the Lease: releases side by side in one namespace do not stand by for each other. */}}
{{- define "holdfast.lease" -}}
{{- include "holdfast.name" . }}-operator
{{- end -}}

{{- define "holdfast.selector" -}}
app.kubernetes.io/name: holdfast-operator
app.kubernetes.io/instance: {{ include "holdfast.instance" . }}
{{- end -}}

{{- define "holdfast.labels" -}}
{{ include "holdfast.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: holdfast
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "holdfast.account" -}}
{{- .Values.serviceAccount.name | default (include "holdfast.name" .) -}}
{{- end -}}

{{- define "holdfast.image" -}}
{{- printf "%s:%s" .image.repository (.image.tag | default .chart.AppVersion) -}}
{{- end -}}
