//! How a flag and the configuration file write a watched currency and its thresholds. Both end in the same validation.
//! Knows no account.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};
use smol_str::SmolStr;

use crate::{
    exchange::{Wallet, currency_name},
    quoting::quote_currency,
    snapshot::wallet::{Thresholds, WatchedCurrency},
    yaml::required_value,
};

/// A watched currency; `None` stands for all wallets of the account.
pub(super) type WatchEntry = (Option<Wallet>, WatchedCurrency);

/// Thresholds before validation.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Levels {
    warn: f64,
    /// `None` stands for half of `warn`.
    page: Option<f64>,
}

/// Where an entry is written, so that an error shows the right spelling.
#[derive(Clone, Copy)]
enum Syntax {
    Flag,
    Yaml,
}

impl Syntax {
    /// How entries are written.
    fn example(self) -> &'static str {
        match self {
            Self::Flag => {
                "write usdt, usdt=500 (warn) or usdt=500:200 (warn:page), one currency per flag, or commas in XT_BALANCE_WATCH"
            }
            Self::Yaml => "write `watch: {usdt: 500}` or `watch: {usdt: {warn: 500, page: 200}}`",
        }
    }

    /// The entry of `name` without a threshold.
    fn entry_without_threshold(self, name: &str) -> String {
        match self {
            Self::Flag => name.to_owned(),
            Self::Yaml => format!("`{name}: ~`"),
        }
    }

    /// The entry of `name` with both thresholds.
    fn entry(self, name: &str, warn: f64, page: f64) -> String {
        match self {
            Self::Flag => format!("{name}={warn}:{page}"),
            Self::Yaml => format!("`{name}: {{warn: {warn}, page: {page}}}`"),
        }
    }
}

/// Parses the value of a flag: `usdt`, `usdt=500`, `usdt=500:200` or, for one wallet, `spot/usdt=500`.
///
/// # Errors
/// What is wrong, and how to write it. Repeats numbers and short names of currencies only.
pub(super) fn parse_watch_flag(text: &str) -> Result<WatchEntry, String> {
    let (name, levels) = text.split_once('=').map_or((text, None), |(name, levels)| (name, Some(levels)));
    let (wallet, currency) = parse_name(name, Syntax::Flag)?;
    let parse = |text: &str| {
        parse_amount(text).ok_or_else(|| {
            let (currency, example) = (quote_currency(&currency), Syntax::Flag.example());
            format!("the threshold of {currency} is not a number: {example}")
        })
    };
    let levels = match levels.map(|levels| levels.split_once(':').ok_or(levels)) {
        Some(Ok((warn, page))) => Some(Levels { warn: parse(warn)?, page: Some(parse(page)?) }),
        Some(Err(warn)) => Some(Levels { warn: parse(warn)?, page: None }),
        None => None,
    };
    validate_entry(wallet, currency, levels, Syntax::Flag)
}

/// The value of a watched currency in the file: nothing, a number, or `{warn: 500, page: 200}`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct WatchYaml(Option<Levels>);

impl WatchYaml {
    /// Validates the entry of the currency `name`, which may begin with a wallet, as in `spot/usdt`.
    ///
    /// # Errors
    /// What is wrong, and how to write it. Repeats numbers and short names of currencies only.
    pub(super) fn validate(self, name: &str) -> Result<WatchEntry, String> {
        let (wallet, currency) = parse_name(name, Syntax::Yaml)?;
        validate_entry(wallet, currency, self.0, Syntax::Yaml)
    }
}

impl<'de> Deserialize<'de> for WatchYaml {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WatchVisitor).map(Self)
    }
}

struct WatchVisitor;

impl<'de> Visitor<'de> for WatchVisitor {
    type Value = Option<Levels>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or two thresholds")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Some(Levels { warn: number, page: None }))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        AmountVisitor.visit_u64(number).and_then(|number| self.visit_f64(number))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        AmountVisitor.visit_i64(number).and_then(|number| self.visit_f64(number))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        AmountVisitor.visit_str(text).and_then(|number| self.visit_f64(number))
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Self::Value, M::Error> {
        let LevelsYaml { warn, page } = LevelsYaml::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Some(Levels { warn: warn.0, page: page.map(|page| page.0) }))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LevelsYaml {
    warn: AmountYaml,
    // `page: ~` could mean "half of warn" as well as "never page".
    #[serde(default, deserialize_with = "required_value")]
    page: Option<AmountYaml>,
}

/// A decimal number. Its errors do not repeat the text.
pub(super) struct AmountYaml(pub f64);

impl<'de> Deserialize<'de> for AmountYaml {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AmountVisitor).map(Self)
    }
}

struct AmountVisitor;

impl Visitor<'_> for AmountVisitor {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<f64, E> {
        Ok(number)
    }

    // Above 2^53 it is rounded, like every amount.
    #[expect(clippy::cast_precision_loss)]
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<f64, E> {
        Ok(number as f64)
    }

    /// Only negative integers arrive here.
    fn visit_i64<E: de::Error>(self, _: i64) -> Result<f64, E> {
        Err(E::custom("a threshold must be above 0"))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<f64, E> {
        // Does not repeat the text, unlike serde's own error.
        parse_amount(text).ok_or_else(|| E::custom("not a number"))
    }
}

/// Parses a decimal number. `None` also for words such as `inf` and `nan`.
fn parse_amount(text: &str) -> Option<f64> {
    let is_decimal = |c: char| c.is_ascii_digit() || ".eE+-".contains(c);
    Some(text.trim()).filter(|text| text.chars().all(is_decimal))?.parse().ok()
}

/// Parses `usdt`, or `spot/usdt` for one wallet only.
fn parse_name(text: &str, syntax: Syntax) -> Result<(Option<Wallet>, SmolStr), String> {
    let (wallet, name) = match text.split_once('/') {
        Some((wallet, name)) => (Some(wallet.trim().parse()?), name),
        None => (None, text),
    };
    let currency = parse_currency(name).map_err(|why| format!("{why}: {}", syntax.example()))?;
    Ok((wallet, currency))
}

/// Parses the name of a currency as a user writes it. An answer of the exchange may contain other names.
///
/// # Errors
/// Which characters a name has.
pub(super) fn parse_currency(text: &str) -> Result<SmolStr, &'static str> {
    let is_allowed = |c: char| c.is_alphanumeric() || ".-_()$+".contains(c);
    currency_name(text)
        .filter(|name| name.chars().all(is_allowed) && name.chars().any(char::is_alphanumeric))
        .ok_or("the name of a currency has only letters, digits and . - _ ( ) $ +")
}

fn validate_entry(
    wallet: Option<Wallet>,
    currency: SmolStr,
    levels: Option<Levels>,
    syntax: Syntax,
) -> Result<WatchEntry, String> {
    // A list splits 1,000 into the threshold 1 and the currency 000, 1,500.50 and 0,05 likewise.
    let is_end_of_number = currency.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if levels.is_none() && wallet.is_none() && is_end_of_number {
        return Err(format!(
            "'{currency}' may be the end of a number such as 1,{currency}: write numbers without commas (1500.50), and a currency of this name with its wallet, such as spot/{currency}",
        ));
    }
    let thresholds = levels.map(|levels| levels.validate(&currency, syntax)).transpose()?;
    Ok((wallet, WatchedCurrency { currency, thresholds }))
}

impl Levels {
    fn validate(self, currency: &str, syntax: Syntax) -> Result<Thresholds, String> {
        // An alert on a threshold of 0 or less could never fire. Half of a subnormal number may be 0.
        let can_fire = |threshold: f64| threshold > 0.0 && threshold.is_normal();
        let Self { warn, page } = self;
        let name = quote_currency(currency);
        if !can_fire(warn) {
            return Err(format!(
                "the threshold of {name} is {warn}, but must be above 0: write {} to watch without a threshold",
                syntax.entry_without_threshold(name.trim_matches('\''))
            ));
        }
        let page = page.unwrap_or(warn / 2.0);
        if !can_fire(page) {
            return Err(format!(
                "the page threshold of {name} is {page}, but must be above 0, because an empty balance pages: remove it to page below half of the threshold"
            ));
        }
        if page > warn {
            let example = syntax.entry(name.trim_matches('\''), page, warn);
            return Err(format!(
                "the page threshold of {name} is {page}, but must not be above its threshold, which is {warn}: write the higher one first, as in {example}"
            ));
        }
        Ok(Thresholds { warn, page })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::KeyExamples;

    /// Wallet, currency and thresholds, as in `spot/usdt=500:250`.
    fn describe((wallet, watch): &WatchEntry) -> String {
        let wallet = wallet.map(|wallet| format!("{wallet}/")).unwrap_or_default();
        let levels = watch.thresholds.map(|Thresholds { warn, page }| format!("={warn}:{page}"));
        format!("{wallet}{}{}", watch.currency, levels.unwrap_or_default())
    }

    fn parse_yaml(text: &str) -> Result<String, String> {
        let watch: std::collections::BTreeMap<String, WatchYaml> =
            crate::yaml::read(text, &KeyExamples { lines: &[], currencies: "" })?;
        let entries = watch.iter().map(|(name, watch)| watch.validate(name).map(|entry| describe(&entry)));
        entries.collect::<Result<Vec<_>, _>>().map(|entries| entries.join(" "))
    }

    #[test]
    fn flags_have_no_one_or_two_thresholds() {
        for (text, expected) in [
            ("usdt", "usdt"),
            ("USDT=500", "usdt=500:250"),
            ("usdt=500:200", "usdt=500:200"),
            ("usdt=500:500", "usdt=500:500"),
            (" usdt = 5e2 : .5 ", "usdt=500:0.5"),
            ("spot/usdt=500:200", "spot/usdt=500:200"),
            ("gal(ft)=1", "gal(ft)=1:0.5"),
            ("币安人生=1", "币安人生=1:0.5"),
            ("$A.b-c_d+1=1", "$a.b-c_d+1=1:0.5"),
            ("4=1", "4=1:0.5"),
            ("404=1", "404=1:0.5"),
            ("spot/404", "spot/404"),
            ("spot/1000", "spot/1000"),
        ] {
            assert_eq!(
                parse_watch_flag(text).map(|entry| describe(&entry)),
                Ok(expected.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn a_flag_that_can_be_misread_is_rejected_with_the_right_spelling() {
        let name = "the name of a currency has only letters";
        let number = "the threshold of 'usdt' is not a number";
        for (text, expected) in [
            ("usdt:500", name),
            ("usdt 500", name),
            ("usdt>500", name),
            ("usdt<500", name),
            ("usdt,btc", name),
            ("[usdt]", name),
            ("", name),
            ("=500", name),
            ("-", name),
            ("usdt=500,btc=1", number),
            ("usdt=500=200", number),
            ("usdt=1,000", number),
            ("usdt=1_000", number),
            ("usdt=1 000", number),
            ("usdt=500:", number),
            ("usdt=:200", number),
            ("usdt=500:200:100", number),
            ("usdt=500usdt", number),
            ("usdt=0x1F4", number),
            ("usdt=inf", number),
            ("usdt=NaN", number),
            ("usdt=٥٠٠", number),
            ("usdt=--5", number),
        ] {
            let error = parse_watch_flag(text).err().unwrap_or_default();
            assert!(error.starts_with(expected), "{text}: {error}");
            assert!(
                error.contains("write usdt, usdt=500 (warn) or usdt=500:200 (warn:page)"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn thresholds_that_could_never_fire_are_rejected() {
        for (text, expected) in [
            ("usdt=0", "the threshold of 'usdt' is 0, but must be above 0"),
            ("usdt=-5", "the threshold of 'usdt' is -5, but"),
            ("usdt=1e400", "the threshold of 'usdt' is inf, but"),
            ("usdt=1e-400", "the threshold of 'usdt' is 0, but"),
            ("usdt=5e-324", "must be above 0"),
            ("usdt=500:0", "the page threshold of 'usdt' is 0, but must be above 0"),
            ("usdt=500:-1", "the page threshold of 'usdt' is -1, but"),
            (
                "usdt=200:500",
                "must not be above its threshold, which is 200: write the higher one first, as in usdt=500:200",
            ),
            ("000", "'000' may be the end of a number such as 1,000"),
            ("1000", "'1000' may be the end of a number"),
        ] {
            let error = parse_watch_flag(text).err().unwrap_or_default();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let error = parse_yaml("usdt: {warn: 200, page: 500}").err().unwrap_or_default();
        assert!(error.ends_with("as in `usdt: {warn: 500, page: 200}`"), "{error}");
    }

    #[test]
    fn a_file_has_no_one_or_two_thresholds() {
        for (text, expected) in [
            ("{usdt: 500, btc: ~}", "btc usdt=500:250"),
            ("usdt:", "usdt"),
            ("usdt: 0.5", "usdt=0.5:0.25"),
            ("usdt: '500'", "usdt=500:250"),
            ("usdt: 5e2", "usdt=500:250"),
            ("usdt: 0500", "usdt=500:250"),
            ("usdt: 18446744073709551616", "usdt=18446744073709552000:9223372036854776000"),
            ("usdt: {warn: 500}", "usdt=500:250"),
            ("{usdt: {warn: 500, page: 2e2}}", "usdt=500:200"),
            ("usdt:\n  page: 200\n  warn: 500", "usdt=500:200"),
            ("4: 1", "4=1:0.5"),
            ("spot/1e3: 1", "spot/1e3=1:0.5"),
            ("no: 1", "no=1:0.5"),
        ] {
            assert_eq!(parse_yaml(text), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_file_that_can_be_misread_is_rejected() {
        for text in [
            "[usdt]",
            "usdt",
            "usdt: [500]",
            "usdt: 500:200",
            "usdt: yes",
            "usdt: 1 000",
            "usdt: 1_000",
            "usdt: .nan",
            "usdt: .inf",
            "usdt: -.inf",
            "usdt: 1e999",
            "usdt: -1",
            "usdt: 0",
            "usdt: ''",
            "usdt: {}",
            "usdt: {page: 200}",
            "usdt: {warn: ~}",
            "usdt: {warn: 500, page: ~}",
            "usdt: {warn: 500, page: 0}",
            "usdt: {warn: 500, page: 501}",
            "usdt: {warn: 500, low: 1}",
            "usdt: {warn: {warn: 1}}",
            "{usdt:500}",
            "{usdt: 1,000}",
            "{usdt: 1,500.50}",
            "{usdt: 2,5}",
            "usdt=500: ~",
            "usdt 500: ~",
            "'': 1",
            "~: 1",
            "usdt: !!str 5x",
        ] {
            assert!(parse_yaml(text).is_err(), "{text}: {:?}", parse_yaml(text));
        }
    }
}
