{{- define "xt-balance-exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "xt-balance-exporter.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "xt-balance-exporter.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "xt-balance-exporter.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "xt-balance-exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "xt-balance-exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "xt-balance-exporter.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "xt-balance-exporter.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: metrics
app.kubernetes.io/part-of: {{ include "xt-balance-exporter.name" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "xt-balance-exporter.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "xt-balance-exporter.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "xt-balance-exporter.image" -}}
{{- $repository := required "image.repository must name the image: build deploy/docker/Dockerfile and push the image to your registry" .Values.image.repository }}
{{- if .Values.image.digest }}
{{- printf "%s@%s" $repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- /* Rejects values that contradict each other. values.schema.json rejects values that are wrong by themselves. */}}
{{- define "xt-balance-exporter.validate" -}}
{{- $accounts := (default dict .Values.config).accounts }}
{{- if .Values.extraManifests }}
{{- fail "extraManifests has another name now: rename it to extraObjects" }}
{{- end }}
{{- if .Values.demo }}
{{- if or .Values.config .Values.existingSecret }}
{{- fail "demo is true, and config or existingSecret names accounts: the demo has its own accounts. Remove demo, or remove config and existingSecret" }}
{{- end }}
{{- else if not (and $accounts .Values.existingSecret) }}
{{- fail "config.accounts must name the accounts and existingSecret the Secret with their key files; or set demo=true to look at made-up accounts" }}
{{- end }}
{{- if .Values.config }}
{{- include "xt-balance-exporter.validateConfig" . }}
{{- end }}
{{- if and .Values.limitsShare (include "xt-balance-exporter.configShare" .) }}
{{- fail "limitsShare and config.limits.share both set the share of the rate limits: remove one" }}
{{- end }}
{{- if gt (int .Values.shards) 1 }}
{{- if .Values.demo }}
{{- fail "demo is true, and shards divides accounts among pods: the demo runs in one pod. Set shards=1" }}
{{- end }}
{{- if and (gt (int .Values.shards) 20) (not .Values.limitsShare) (not (include "xt-balance-exporter.configShare" .)) }}
{{- fail (printf "shards is %d, and the smallest part of the rate limits is 1/20: set limitsShare, to 1/1 if each pod reaches the exchange from an address of its own" (int .Values.shards)) }}
{{- end }}
{{- if gt (int .Values.shards) (len (default list $accounts)) }}
{{- fail (printf "shards is %d, and config.accounts has %d accounts: set shards to the number of accounts or less" (int .Values.shards) (len $accounts)) }}
{{- end }}
{{- end }}
{{- if and .Values.serviceMonitor.enabled .Values.podMonitor.enabled }}
{{- fail "serviceMonitor and podMonitor are enabled, so Prometheus would store every sample twice: disable one of them" }}
{{- end }}
{{- $name := "^([a-z0-9]([-.a-z0-9]*[a-z0-9])?)?$" }}
{{- $isName := "must be a name of Kubernetes: lower-case letters, digits, hyphens and points" }}
{{- $duration := "^([0-9]+(ms|[smhdwy]))+$" }}
{{- $isDuration := "must be a duration, such as 15s" }}
{{- /* No error repeats the value, which may be a pasted key. */}}
{{- range list
  (list "nameOverride" .Values.nameOverride $name $isName)
  (list "fullnameOverride" .Values.fullnameOverride $name $isName)
  (list "existingSecret" .Values.existingSecret $name "must be the name of a Secret, of lower-case letters, digits, hyphens and points: create one with the key files, and write its name")
  (list "priorityClassName" .Values.priorityClassName $name $isName)
  (list "serviceAccount.name" .Values.serviceAccount.name $name $isName)
  (list "serviceMonitor.namespace" .Values.serviceMonitor.namespace $name $isName)
  (list "podMonitor.namespace" .Values.podMonitor.namespace $name $isName)
  (list "prometheusRule.namespace" .Values.prometheusRule.namespace $name $isName)
  (list "image.digest" .Values.image.digest "^(sha256:[0-9a-f]{64})?$" "must be sha256: and 64 hexadecimal digits")
  (list "serviceMonitor.interval" .Values.serviceMonitor.interval $duration $isDuration)
  (list "serviceMonitor.scrapeTimeout" .Values.serviceMonitor.scrapeTimeout $duration $isDuration)
  (list "podMonitor.interval" .Values.podMonitor.interval $duration $isDuration)
  (list "podMonitor.scrapeTimeout" .Values.podMonitor.scrapeTimeout $duration $isDuration)
}}
{{- if not (regexMatch (index . 2) (default "" (index . 1))) }}
{{- fail (printf "%s %s" (index . 0) (index . 3)) }}
{{- end }}
{{- end }}
{{- range list (list "limitsShare" .Values.limitsShare) (list "config.limits.share" (include "xt-balance-exporter.configShare" .)) }}
{{- if and (index . 1) (not (include "xt-balance-exporter.isShare" (index . 1))) }}
{{- fail (printf "%s must be a fraction from 1/20 to 1, such as 1/2" (index . 0)) }}
{{- end }}
{{- end }}
{{- with .Values.prometheusRule }}
{{- if and .enabled (not (or .shipped .withdrawals .rules)) }}
{{- fail "prometheusRule is enabled and has no rules: set prometheusRule.shipped=true, or set enabled=false" }}
{{- end }}
{{- end }}
{{- range $name := list "serviceMonitor" "podMonitor" }}
{{- $monitor := index $.Values $name }}
{{- if and $monitor.enabled (eq $monitor.scheme "http") $monitor.tlsConfig }}
{{- fail (printf "%s.tlsConfig has no effect with %s.scheme=http: set %s.scheme=https" $name $name $name) }}
{{- end }}
{{- end }}
{{- range $name := list "livenessProbe" "readinessProbe" }}
{{- $probe := default dict (index $.Values $name) }}
{{- if and $probe.httpGet $probe.tcpSocket }}
{{- fail (printf "%s has httpGet and tcpSocket, and Kubernetes accepts one of them: set %s.httpGet=null" $name $name) }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Whether the exporter accepts a text as a share; empty if it does not. */}}
{{- define "xt-balance-exporter.isShare" -}}
{{- if regexMatch "^[1-9][0-9]{0,3}(/[1-9][0-9]{0,3})?$" . }}
{{- $numbers := splitList "/" (printf "%s/1" .) }}
{{- $part := index $numbers 0 | int64 }}
{{- $whole := index $numbers 1 | int64 }}
{{- if and (le $part $whole) (ge (mul 20 $part) $whole) (le $whole 1000) }}true{{ end }}
{{- end }}
{{- end }}

{{- /* The share of the limits in the configuration; empty if it sets none. */}}
{{- define "xt-balance-exporter.configShare" -}}
{{- $limits := (default dict .Values.config).limits }}
{{- if kindIs "map" $limits }}
{{- $limits.share }}
{{- end }}
{{- end }}

{{- /* The part of the exchange's rate limits that a pod takes, if the configuration sets none; empty for all of it. */}}
{{- define "xt-balance-exporter.limitsShare" -}}
{{- if .Values.limitsShare }}
{{- .Values.limitsShare }}
{{- else if and (gt (int .Values.shards) 1) (not (include "xt-balance-exporter.configShare" .)) }}
{{- printf "1/%d" (int .Values.shards) }}
{{- end }}
{{- end }}

{{- /* The endpoint of a ServiceMonitor or a PodMonitor. The argument has the root and the values of the monitor. */}}
{{- define "xt-balance-exporter.endpoint" -}}
{{- $instance := printf "%s.%s" (include "xt-balance-exporter.fullname" .root) .root.Release.Namespace -}}
port: http
{{- with .monitor }}
interval: {{ .interval }}
scrapeTimeout: {{ .scrapeTimeout }}
scheme: {{ .scheme }}
{{- with .tlsConfig }}
tlsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .basicAuth }}
basicAuth:
  {{- toYaml . | nindent 2 }}
{{- end }}
honorLabels: true
relabelings:
  - {targetLabel: job, replacement: xt-balance-exporter}
  {{- /* A replaced pod continues the same series: there is never more than one pod, or more than one of this name. */}}
  {{- if gt (int $.root.Values.shards) 1 }}
  - {sourceLabels: [__meta_kubernetes_pod_name], targetLabel: instance, replacement: "$1.{{ $.root.Release.Namespace }}"}
  {{- else }}
  - {targetLabel: instance, replacement: {{ $instance }}}
  {{- end }}
  - {regex: pod, action: labeldrop}
  {{- with .relabelings }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}
