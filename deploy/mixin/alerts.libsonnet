// The groups of the shipped rules. Alerts and recorded series stay in one group, because the alerts of an evaluation need the
// series of the same evaluation.
{
  local config = $._config,
  local shipped = (import 'config.libsonnet')._config,

  // The shipped YAML as JSON, because std.parseYaml of jsonnet 0.18 cannot read it. A test keeps the two equal.
  local files = import 'rules.json',
  local balances = files['xt-balance'].groups,
  local withdrawals = files['xt-withdrawals'].groups,

  local replaceAll(text, pairs) = std.foldl(function(text, pair) std.strReplace(text, pair[0], pair[1]), pairs, text),

  local withJob(expr) = replaceAll(expr, [
    [operator + '"' + shipped.job + '"', operator + '"' + config.job + '"']
    for operator in ['job=', 'job!=']
  ]),

  // `base` is replaced at the start of the address only.
  local withAddress(url, base, new) =
    assert std.startsWith(url, base + '/') : url + ' does not begin with ' + base;
    new + std.substr(url, std.length(base), std.length(url)),

  local isAboutAccount(rule) = std.length(std.findSubstr('$labels.account', std.manifestJson(rule.annotations))) > 0,

  // An alert fires without a team if its account has none.
  local withTeam(expr) = |||
    (
      %(inner)s
    )
    * on (account) group_left (%(label)s) account:xt_account_info:%(label)s
    or
    (
      %(inner)s
    )
    unless on (account) account:xt_account_info:%(label)s
  ||| % { label: config.teamLabel, inner: std.strReplace(std.rstripChars(expr, '\n'), '\n', '\n  ') },

  local alert(rule) = {
    [key]: rule[key]
    for key in std.objectFields(rule)
    if config.keepFiringFor || key != 'keep_firing_for'
  } + {
    expr: if config.teamLabel != null && isAboutAccount(rule) then withTeam(withJob(rule.expr)) else withJob(rule.expr),
    labels: rule.labels { severity: config.severities[rule.labels.severity] },
    annotations: rule.annotations {
      runbook_url: withAddress(rule.annotations.runbook_url, shipped.runbooks, config.runbooks),
      dashboard_url: withAddress(rule.annotations.dashboard_url, shipped.dashboards, config.dashboards),
    },
  },

  local record(rule) = rule { expr: withJob(rule.expr) },

  // The teams that exporters show for an account. An account that none shows any more keeps its last one for a day. No team
  // if two exporters show different ones.
  local teamRecords = if config.teamLabel == null then [] else [
    {
      record: 'account_%s:xt_account_info:max' % config.teamLabel,
      expr: |||
        max by (account, %(label)s) (
          label_replace(
            xt_account_info,
          "account", "$1", "exported_account", "(.+)")
        )
        or on (account)
        max by (account, %(label)s) (
          label_replace(
            last_over_time(xt_account_info[1d]),
          "account", "$1", "exported_account", "(.+)")
        )
      ||| % { label: config.teamLabel },
    },
    {
      record: 'account:xt_account_info:%s' % config.teamLabel,
      expr: |||
        account_%(label)s:xt_account_info:max
        and on (account)
        count by (account) (account_%(label)s:xt_account_info:max) == 1
      ||| % { label: config.teamLabel },
    },
  ],

  // Before the first alert.
  local withTeamRecords(rules) =
    local first = [index for index in std.range(0, std.length(rules) - 1) if std.objectHas(rules[index], 'alert')][0];
    if first == 0 then rules else rules[:first] + teamRecords + rules[first:],

  local group(shippedGroup) = shippedGroup {
    rules: withTeamRecords([
      if std.objectHas(rule, 'alert') then alert(rule) else record(rule)
      for rule in shippedGroup.rules
    ]),
  },

  prometheusAlerts+:: {
    groups+: [group(shippedGroup) for shippedGroup in balances + (if config.withdrawals then withdrawals else [])],
  },
  prometheusRules+:: { groups+: [] },
}
