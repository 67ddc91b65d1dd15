// The rules and dashboards of xt-balance-exporter as a mixin. It imports the shipped files and replaces what `_config` names.
// deploy/prometheus/write_rules.py makes the same changes; a test compares the two.
(import 'config.libsonnet') +
(import 'alerts.libsonnet') +
{
  local config = $._config,

  grafanaDashboards+:: {
    [name + '.json']: dashboards[name] {
      tags: config.dashboardTags,
      refresh: config.dashboardRefresh,
      timezone: config.dashboardTimezone,
      // The dashboards find each other by these tags.
      links: [link { tags: config.dashboardTags } for link in super.links],
    }
    for name in std.objectFields(dashboards)
  },

  local dashboards = {
    'xt-balances': import '../../grafana/xt-balances.json',
    'xt-exporter': import '../../grafana/xt-exporter.json',
    'xt-fleet': import '../../grafana/xt-fleet.json',
  },
}
