//! The exporter's own few metrics: build, configuration, process, clock skew, rate limits. Read at the scrape and, but for the
//! rate limits, written by the `prometheus` crate, which lives here alone.

use std::{collections::BTreeMap, time::Duration};

use prometheus::{Counter, Gauge, Opts, Registry, TextEncoder, core::Collector};
use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

use super::{metrics::FAMILIES, text::count_to_float};
use crate::{
    clock::UnixTime,
    exchange::{RateLimitUsage, WindowUsage},
    shard::Shard,
    snapshot::store::ReloadStatus,
};

/// The data of the exporter's own metrics.
#[derive(Debug)]
pub struct ExporterFacts<'a> {
    /// Clock of each exchange host minus the clock of this machine, in seconds.
    pub skews: &'a BTreeMap<String, f64>,
    /// Unix time at which the process started. `None` leaves out everything about the process: files for a textfile
    /// collector must not repeat each other's series or the collector's own.
    pub process_started: Option<UnixTime>,
    /// The part of the accounts that this process watches.
    pub shard: Shard,
    /// The result of the last reload; `None` for a command that reads the configuration only once.
    pub reload: Option<ReloadStatus>,
    /// Dropped log lines; `None` for a command that does not stay.
    pub dropped_log_lines: Option<u64>,
    /// The use of the rate limits; `None` for a command that does not stay.
    pub rate_limits: Option<&'a RateLimitUsage>,
    /// Restarts of the price poller; `None` if prices are disabled.
    pub price_poller_restarts: Option<u64>,
}

/// Renders the families with their header lines, by name. A family without a value is missing.
#[must_use]
pub fn render(facts: &ExporterFacts<'_>) -> BTreeMap<String, Vec<u8>> {
    let registry = Registry::new();
    let build = [
        ("revision", env!("XT_REVISION")),
        ("rustversion", env!("XT_RUSTVERSION")),
        ("version", env!("CARGO_PKG_VERSION")),
    ];
    if let Some(started) = facts.process_started {
        gauge(&registry, "xt_exporter_build_info", &build, 1.0);
        for (host, skew) in facts.skews {
            gauge(&registry, "xt_clock_skew_seconds", &[("host", host)], *skew);
        }
        let (number, count) = (facts.shard.number().to_string(), facts.shard.count().to_string());
        gauge(&registry, "xt_shard_info", &[("shard", &number), ("shards", &count)], 1.0);
        gauge(&registry, "xt_shards", &[], facts.shard.count().into());
        gauge(&registry, "process_start_time_seconds", &[], started.as_secs_f64());
        register_process(&registry);
    }
    if let Some(reload) = facts.reload {
        let successful = f64::from(u8::from(reload.last_succeeded));
        gauge(&registry, "xt_exporter_config_last_reload_successful", &[], successful);
        let success = reload.last_success.as_secs_f64();
        gauge(&registry, "xt_exporter_config_last_reload_success_timestamp_seconds", &[], success);
    }
    if let Some(lines) = facts.dropped_log_lines {
        counter(&registry, "xt_log_lines_dropped_total", count_to_float(lines));
    }
    if let Some(restarts) = facts.price_poller_restarts {
        counter(&registry, "xt_price_poller_restarts_total", count_to_float(restarts));
    }
    let mut texts = BTreeMap::new();
    for family in registry.gather() {
        let mut text = String::new();
        // Only an empty family or one without a name is refused; gather returns neither.
        if TextEncoder::new().encode_utf8(std::slice::from_ref(&family), &mut text).is_ok() {
            texts.insert(family.name().to_owned(), text.into_bytes());
        }
    }
    if let Some(usage) = facts.rate_limits {
        for (name, value) in [
            ("xt_rate_limit_calls", (|usage| usage.calls) as fn(WindowUsage) -> usize),
            ("xt_rate_limit_capacity", |usage| usage.capacity),
        ] {
            texts.extend(render_rate_limits(name, usage, value).map(|text| (name.to_owned(), text)));
        }
    }
    texts
}

/// Renders a family of the rate limits. The `prometheus` crate cannot: the labels of addresses and of keys differ.
fn render_rate_limits(
    name: &str,
    usage: &RateLimitUsage,
    value: fn(WindowUsage) -> usize,
) -> Option<Vec<u8>> {
    let family = FAMILIES.iter().find(|family| family.name == name)?;
    let mut samples = family.samples();
    let value = |usage: &WindowUsage| count_to_float(value(*usage) as u64);
    for (egress, usage) in &usage.addresses {
        samples.sample(&["", egress, "address"], value(usage));
    }
    for (account, usage) in &usage.keys {
        samples.sample(&[account, "", "key"], value(usage));
    }
    Some((family.header() + &samples.finish()).into_bytes())
}

/// Registers the metrics of the process that the kernel provides.
fn register_process(registry: &Registry) {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    if let Ok(cpu) = Duration::try_from(cpu) {
        counter(registry, "process_cpu_seconds_total", cpu.as_secs_f64());
    }
    let limit = |resource| getrlimit(resource).current.map_or(-1.0, count_to_float);
    gauge(registry, "process_max_fds", &[], limit(Resource::Nofile));
    gauge(registry, "process_virtual_memory_max_bytes", &[], limit(Resource::As));
    let Ok(me) = procfs::process::Process::myself() else { return };
    if let Ok(pages) = me.statm() {
        let bytes = |pages: u64| count_to_float(pages * procfs::page_size());
        gauge(registry, "process_virtual_memory_bytes", &[], bytes(pages.size));
        gauge(registry, "process_resident_memory_bytes", &[], bytes(pages.resident));
    }
    if let Ok(threads) = me.tasks() {
        gauge(registry, "process_threads", &[], count_to_float(threads.count() as u64));
    }
    if let Ok(open) = me.fd_count() {
        gauge(registry, "process_open_fds", &[], count_to_float(open as u64));
    }
}

fn gauge(registry: &Registry, name: &str, labels: &[(&str, &str)], value: f64) {
    let gauge = Gauge::with_opts(opts(name, labels));
    register(registry, gauge.inspect(|gauge| gauge.set(value)));
}

fn counter(registry: &Registry, name: &str, value: f64) {
    let counter = Counter::with_opts(opts(name, &[]));
    register(registry, counter.inspect(|counter| counter.inc_by(value)));
}

fn opts(name: &str, labels: &[(&str, &str)]) -> Opts {
    let help = FAMILIES.iter().find(|family| family.name == name).map_or("", |family| family.help);
    let opts = Opts::new(name, help);
    labels.iter().fold(opts, |opts, (name, value)| opts.const_label(*name, *value))
}

/// Registers a metric. A host whose name makes an invalid label is left out.
fn register<C: Collector + 'static>(registry: &Registry, metric: prometheus::Result<C>) {
    if let Ok(metric) = metric {
        let _ = registry.register(Box::new(metric));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::metrics::MetricSource;

    #[test]
    fn every_family_of_its_own_is_written_with_its_help() {
        let skews = BTreeMap::from([("127.0.0.1".to_owned(), -0.25)]);
        let reload = ReloadStatus { last_succeeded: true, last_success: UnixTime::from_secs(6) };
        let full = WindowUsage { calls: 2, capacity: 2 };
        let usage = RateLimitUsage {
            addresses: vec![("default".into(), WindowUsage { calls: 31, capacity: 900 })],
            keys: vec![("main".into(), full)],
        };
        let texts = render(&ExporterFacts {
            rate_limits: Some(&usage),
            skews: &skews,
            process_started: Some(UnixTime::from_secs(5)),
            shard: Shard::default(),
            reload: Some(reload),
            dropped_log_lines: Some(3),
            price_poller_restarts: Some(1),
        });
        for family in FAMILIES.iter().filter(|family| matches!(family.source, MetricSource::Exporter)) {
            let text = String::from_utf8_lossy(texts.get(family.name).map_or(b"missing", Vec::as_slice));
            assert!(text.starts_with(&family.header()), "{text}");
        }
        let samples = |name: &str| {
            let text =
                texts.get(name).map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default();
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(samples("xt_clock_skew_seconds"), [r#"xt_clock_skew_seconds{host="127.0.0.1"} -0.25"#]);
        let expected = [
            r#"xt_rate_limit_calls{egress="default",scope="address"} 31"#,
            r#"xt_rate_limit_calls{account="main",scope="key"} 2"#,
        ];
        assert_eq!(samples("xt_rate_limit_calls"), expected);
        let capacity = samples("xt_rate_limit_capacity");
        assert!(capacity.first().is_some_and(|line| line.ends_with(" 900")), "{capacity:?}");
    }

    #[test]
    fn a_textfile_has_no_families_of_the_exporter() {
        let texts = render(&ExporterFacts {
            skews: &BTreeMap::from([("api.xt.com".to_owned(), 1.0)]),
            process_started: None,
            shard: Shard::default(),
            rate_limits: None,
            reload: None,
            dropped_log_lines: None,
            price_poller_restarts: None,
        });
        assert_eq!(texts.into_keys().collect::<Vec<_>>(), [""; 0]);
    }
}
