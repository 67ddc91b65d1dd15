// The settings of the mixin. With these defaults, it yields the shipped xt-balance.rules.yml and dashboards.
{
  _config+:: {
    // The name of the scrape job.
    job: 'xt-balance-exporter',

    // Addresses without a slash at their ends. If `dashboards` is empty, dashboard_url is a path.
    runbooks: 'https://github.com/xt-balance-exporter/xt-balance-exporter/blob/main/deploy/runbooks',
    dashboards: '',

    // Your names of the three severities.
    severities: { critical: 'critical', warning: 'warning', info: 'info' },

    // The label of the accounts that alerts get, such as 'team'; null for none.
    teamLabel: null,

    // Whether the rules may have keep_firing_for. Prometheus 2.42 knows it, vmalert 1.79 does not.
    keepFiringFor: true,

    // Whether every pending withdrawal pages (the rules of xt-withdrawals.rules.yml).
    withdrawals: false,

    dashboardTags: ['xt-balance-exporter'],
    dashboardRefresh: '30s',
    dashboardTimezone: 'browser',
  },
}
