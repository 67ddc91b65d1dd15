{{- /* The pod of the Deployment, and of each shard of the StatefulSet. */}}
{{- define "xt-balance-exporter.podTemplate" -}}
metadata:
  labels:
    {{- include "xt-balance-exporter.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # A changed configuration restarts the pod.
    checksum/config: {{ toYaml .Values.config | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "xt-balance-exporter.serviceAccountName" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  containers:
    - name: exporter
      image: {{ include "xt-balance-exporter.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        - {{ if .Values.demo }}demo{{ else }}--config.file=/etc/xt-balance-exporter/accounts.yml{{ end }}
        {{- with .Values.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- if or (not .Values.demo) .Values.networkPolicy.enabled .Values.extraEnvs (include "xt-balance-exporter.limitsShare" .) }}
      env:
        {{- if not .Values.demo }}
        # Where the next container of a crash loop finds paused accounts and refused keys.
        - {name: STATE_DIRECTORY, value: /var/lib/xt-balance-exporter}
        {{- end }}
        {{- if gt (int .Values.shards) 1 }}
        - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: XT_SHARD, value: "pod/{{ .Values.shards }}"}
        {{- end }}
        {{- with include "xt-balance-exporter.limitsShare" . }}
        # The part of the exchange's rate limits that this pod takes.
        - {name: XT_LIMITS_SHARE, value: {{ . | quote }}}
        {{- end }}
        {{- if .Values.networkPolicy.enabled }}
        # The network policy admits only the peers in the values, so the exporter need not warn.
        - {name: XT_WEB_ALLOW_INSECURE, value: "true"}
        {{- end }}
        {{- with .Values.extraEnvs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- end }}
      ports:
        - {name: http, containerPort: 10770, protocol: TCP}
      {{- with .Values.livenessProbe }}
      livenessProbe:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.readinessProbe }}
      readinessProbe:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      volumeMounts:
        {{- if not .Values.demo }}
        # The directory, not its files: otherwise a changed Secret does not reach the pod.
        - {name: accounts, mountPath: /etc/xt-balance-exporter, readOnly: true}
        - {name: state, mountPath: /var/lib/xt-balance-exporter}
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    {{- if not .Values.demo }}
    - name: accounts
      projected:
        defaultMode: 0440
        sources:
          - configMap: {name: {{ include "xt-balance-exporter.fullname" . }}}
          - secret: {name: {{ .Values.existingSecret }}}
    # Survives the container, and not the pod.
    - name: state
      emptyDir: {sizeLimit: 32Mi}
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range . }}
    {{- if hasKey . "labelSelector" }}
    - {{- toYaml . | nindent 6 }}
    {{- else }}
    - {{- toYaml . | nindent 6 }}
      labelSelector:
        matchLabels:
          {{- include "xt-balance-exporter.selectorLabels" $ | nindent 10 }}
    {{- end }}
    {{- end }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
