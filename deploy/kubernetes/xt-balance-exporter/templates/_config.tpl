{{- /* The keys of the configuration file. [] is an item of a list, and * any key. A test compares them with src/config. */}}
{{- define "xt-balance-exporter.configKeys" -}}
api
base_urls
futures_usdt_base_urls
futures_coin_base_urls
user_center_base_url
proxy_url
proxy_credentials_file
ca_file
poll_interval
poll_timeout
max_age
prices
limits
limits.share
egress
egress[]
egress[].name
egress[].source_address
egress[].proxy_url
egress[].proxy_credentials_file
accounts
accounts[]
accounts[].name
accounts[].access_key_file
accounts[].secret_key_file
accounts[].wallets
accounts[].watch
accounts[].watch.*
accounts[].watch.*.warn
accounts[].watch.*.page
accounts[].labels
accounts[].labels.*
accounts[].currencies
accounts[].currencies.only
accounts[].currencies.exclude
accounts[].currencies.hide_zero
accounts[].futures_risk
accounts[].max_positions
accounts[].liquidation_distance
accounts[].liquidation_distance.warn
accounts[].liquidation_distance.page
accounts[].api
accounts[].base_urls
accounts[].futures_usdt_base_urls
accounts[].futures_coin_base_urls
accounts[].user_center_base_url
accounts[].egress
accounts[].proxy_url
accounts[].proxy_credentials_file
accounts[].ca_file
accounts[].poll_interval
accounts[].poll_timeout
accounts[].max_age
{{- end }}

{{- /*
Rejects a key that the configuration file does not have, because its value may be a pasted key, and the ConfigMap would show
it. The argument has the value, its path, and the keys at each path. No error repeats a word of the values.
*/}}
{{- define "xt-balance-exporter.checkConfig" -}}
{{- $root := . }}
{{- $name := ternary "config" (printf "config.%s" .path) (eq .path "") }}
{{- $keys := get .levels .path }}
{{- $item := printf "%s[]" .path }}
{{- $isList := hasKey .levels $item }}
{{- if kindIs "map" .value }}
{{- if not $keys }}
{{- fail (printf "%s must not be a map" $name) }}
{{- end }}
{{- range $key, $value := .value }}
{{- $key = ternary "*" $key (has "*" $keys) }}
{{- if not (has $key $keys) }}
{{- fail (printf "%s has an unknown key: write one of %s there, and put access keys and secret keys into files of existingSecret" $name (join ", " $keys)) }}
{{- end }}
{{- include "xt-balance-exporter.checkConfig" (dict "value" $value "path" (printf "%s.%s" $root.path $key | trimPrefix ".") "levels" $root.levels) }}
{{- end }}
{{- else if kindIs "slice" .value }}
{{- if $keys }}
{{- fail (printf "%s must be a map" $name) }}
{{- end }}
{{- range .value }}
{{- include "xt-balance-exporter.checkConfig" (dict "value" . "path" $item "levels" $root.levels) }}
{{- end }}
{{- else if and $isList (not (kindIs "invalid" .value)) }}
{{- fail (printf "%s must be a list" $name) }}
{{- else if and $keys (not (kindIs "invalid" .value)) (ne .path "accounts[].watch.*") }}
{{- fail (printf "%s must be a map" $name) }}
{{- end }}
{{- end }}

{{- /* Checks the keys of the configuration. */}}
{{- define "xt-balance-exporter.validateConfig" -}}
{{- $levels := dict }}
{{- range splitList "\n" (include "xt-balance-exporter.configKeys" .) }}
{{- $path := splitList "." . }}
{{- $parent := join "." (initial $path) }}
{{- if hasSuffix "[]" . }}
{{- $_ := set $levels . (default list (get $levels .)) }}
{{- else }}
{{- $_ := set $levels $parent (append (default list (get $levels $parent)) (last $path)) }}
{{- end }}
{{- end }}
{{- include "xt-balance-exporter.checkConfig" (dict "value" .Values.config "path" "" "levels" $levels) }}
{{- if regexMatch "([0-9a-fA-F]-*){32}" (toYaml .Values.config) }}
{{- fail "config contains a text that looks like a key, and Helm stores values where keys do not belong: put the keys into files of existingSecret, and name the files with access_key_file and secret_key_file" }}
{{- end }}
{{- end }}
