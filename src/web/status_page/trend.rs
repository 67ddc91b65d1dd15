//! How a watched balance moved in the last hour, as text and as the path of a small chart. No markup.

use std::{fmt::Write as _, time::Duration};

use super::format::{HumanDuration, UtcTime};
use crate::{
    clock::Timestamp,
    snapshot::history::{BalanceHistory, MAX_POINTS},
};

/// Size of a chart in its own units. A unit of width is the time of one point.
const WIDTH: u32 = 120;
const HEIGHT: u32 = 24;
/// A time to empty that is longer than this says nothing.
const MAX_RUNWAY: Duration = Duration::from_hours(30 * 24);

/// How a watched balance moved.
#[derive(Debug, Default)]
pub(super) struct BalanceTrend {
    /// Since when it has been low.
    pub(super) low_since: Option<LowSince>,
    /// When it is empty at the pace of the last hour; `None` if nothing is known.
    pub(super) runway: Option<Runway>,
    /// By how much it changed, as in `−4.2 % in 58 min`.
    pub(super) change: Option<String>,
    /// The change as a part of the first amount.
    pub(super) change_ratio: Option<f64>,
    pub(super) chart: Option<Chart>,
}

/// The time since which a balance has been low.
#[derive(Clone, Copy, Debug)]
pub(super) struct LowSince {
    pub(super) time: UtcTime,
    /// Otherwise it may have been low for longer.
    pub(super) is_exact: bool,
}

/// When a balance is empty.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Runway {
    Empty,
    NotFalling,
    Long,
    In(HumanDuration),
}

impl std::fmt::Display for Runway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("empty now"),
            Self::NotFalling => f.write_str("not falling"),
            Self::Long => f.write_str("over 30 d"),
            Self::In(time) => write!(f, "about {time}"),
        }
    }
}

/// A chart of the last hour. The lowest line is 0, and a time at which the balance was unknown is a gap.
#[derive(Debug)]
pub(super) struct Chart {
    /// The `d` of a path.
    pub(super) path: String,
    /// The height of the threshold.
    pub(super) threshold_y: Option<u32>,
}

impl BalanceTrend {
    /// `free` is `None` while the balance is unknown.
    pub(super) fn new(
        series: Option<&BalanceHistory>,
        free: Option<f64>,
        warn: Option<f64>,
        now: Timestamp,
    ) -> Self {
        let Some(series) = series else { return Self::default() };
        let chart = Chart::new(series, warn, now);
        let Some(free) = free else { return Self { chart, ..Self::default() } };
        let low = series.low().filter(|_| warn.is_some_and(|warn| free < warn));
        let trend = series.trend();
        let runway = trend.map(|trend| match trend.empty_in {
            _ if free <= 0.0 => Runway::Empty,
            None => Runway::NotFalling,
            Some(time) if time > MAX_RUNWAY => Runway::Long,
            Some(time) => Runway::In(HumanDuration(time.saturating_sub(series.age(now).unwrap_or_default()))),
        });
        let change = trend.and_then(|trend| Some((trend.change_ratio?, trend.span)));
        Self {
            low_since: low
                .map(|low| LowSince { time: UtcTime { at: low.since.unix, now }, is_exact: low.is_exact }),
            runway: if free <= 0.0 { Some(Runway::Empty) } else { runway },
            change: change.map(|(ratio, span)| {
                format!("{} in {}", format_percent(ratio), HumanDuration(whole_minutes(span)))
            }),
            change_ratio: change.map(|(ratio, _)| ratio),
            chart,
        }
    }
}

/// `time` without its seconds.
fn whole_minutes(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs() / 60 * 60)
}

/// A signed percentage. A change that is not 0 is never shown as 0.
fn format_percent(ratio: f64) -> String {
    let percent = (ratio * 100.0).abs();
    let sign = if ratio < 0.0 { "−" } else { "+" };
    match percent {
        0.0 => "±0 %".to_owned(),
        ..0.1 => format!("{sign}<0.1 %"),
        ..9_999.5 => format!("{sign}{percent:.1} %"),
        _ => format!("{sign}>9999 %"),
    }
}

impl Chart {
    /// `None` without points in the last hour.
    fn new(series: &BalanceHistory, warn: Option<f64>, now: Timestamp) -> Option<Self> {
        let highest = series.points().map(|point| point.free).fold(warn.unwrap_or(0.0), f64::max);
        let y = |value: f64| {
            let part = if highest > 0.0 { (value / highest).clamp(0.0, 1.0) } else { 0.0 };
            scale(1.0 - part, HEIGHT - 2) + 1
        };
        let x = |age: Duration| {
            let span = crate::snapshot::history::SPAN.as_secs_f64();
            WIDTH - scale((age.as_secs_f64() / span).min(1.0), WIDTH)
        };
        let mut path = String::with_capacity(MAX_POINTS * 5);
        let mut pen = Pen::default();
        for point in series.points() {
            let age = now.monotonic.saturating_duration_since(point.at);
            pen.draw(&mut path, (x(age), y(point.free)), point.follows_gap);
        }
        pen.finish(&mut path);
        (!path.is_empty()).then(|| Self { path, threshold_y: warn.filter(|warn| *warn > 0.0).map(y) })
    }
}

/// `part`, from 0 to 1, of `whole`, rounded.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to whole")]
fn scale(part: f64, whole: u32) -> u32 {
    (part * f64::from(whole)).round() as u32
}

/// Draws a line with few letters: it leaves out points within a level line.
#[derive(Default)]
struct Pen {
    /// The last point of the path.
    drawn: Option<(u32, u32)>,
    /// The last point, if it is not in the path yet.
    pending: Option<(u32, u32)>,
}

impl Pen {
    fn draw(&mut self, path: &mut String, point: (u32, u32), is_start: bool) {
        let Some(drawn) = self.drawn.filter(|_| !is_start) else {
            self.finish(path);
            // A line of length 0 with round ends is a dot.
            let _ = write!(path, "M{} {}h0", point.0, point.1);
            self.drawn = Some(point);
            return;
        };
        if point.1 != self.pending.unwrap_or(drawn).1 {
            self.finish(path);
        }
        self.pending = Some(point);
    }

    fn finish(&mut self, path: &mut String) {
        let Some((from, to)) = self.drawn.zip(self.pending.take()) else { return };
        let _ = match (i64::from(to.0) - i64::from(from.0), i64::from(to.1) - i64::from(from.1)) {
            (dx, 0) => write!(path, "h{dx}"),
            (dx, dy) if dy < 0 => write!(path, "l{dx}{dy}"),
            (dx, dy) => write!(path, "l{dx} {dy}"),
        };
        self.drawn = Some(to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_never_rounded_to_none() {
        for (ratio, expected) in [
            (0.0, "±0 %"),
            (-0.042, "−4.2 %"),
            (0.000_01, "+<0.1 %"),
            (-0.000_9, "−<0.1 %"),
            (1.5, "+150.0 %"),
            (1e6, "+>9999 %"),
        ] {
            assert_eq!(format_percent(ratio), expected);
        }
    }

    #[test]
    fn the_pen_joins_level_points_and_lifts_at_a_gap() {
        let draw = |points: &[(u32, u32, bool)]| {
            let (mut path, mut pen) = (String::new(), Pen::default());
            for (x, y, is_start) in points {
                pen.draw(&mut path, (*x, *y), *is_start);
            }
            pen.finish(&mut path);
            path
        };
        assert_eq!(draw(&[(1, 5, true), (2, 5, false), (3, 5, false)]), "M1 5h0h2");
        assert_eq!(draw(&[(1, 5, true), (2, 5, false), (3, 4, false), (4, 7, false)]), "M1 5h0h1l1-1l1 3");
        assert_eq!(draw(&[(1, 5, true), (2, 6, false), (9, 6, true)]), "M1 5h0l1 1M9 6h0");
        assert_eq!(draw(&[]), "");
    }
}
