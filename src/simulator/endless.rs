//! JSON answers without end.
//!
//! Only JSON. Must not know faults or replies.

use hyper::body::Bytes;

use super::{account::SimulatedBalance, endpoint::WireFormat, v4_json};

/// An endless answer up to its first row.
pub(super) fn render_head(format: WireFormat) -> String {
    let envelope = match format {
        WireFormat::V1 => r#"{"code":200,"info":"success","data":{"#,
        WireFormat::V4Spot => r#"{"rc":0,"mc":"SUCCESS","ma":[],"result":{"assets":["#,
        WireFormat::Futures => r#"{"returnCode":0,"msgInfo":"success","error":null,"result":["#,
    };
    format!("{envelope}{}", render_row("usdt", format))
}

fn render_row(currency: &str, format: WireFormat) -> String {
    let balance = SimulatedBalance::new("1.00", "0.00");
    match format {
        WireFormat::V1 => format!(r#""{currency}":{{"freeze":"0.00","available":"1.00"}}"#),
        WireFormat::V4Spot => v4_json::spot_row(0, currency, &balance, "1", false),
        WireFormat::Futures => v4_json::futures_row(currency, &balance, false),
    }
}

/// A chunk of 256 rows of an endless answer; chunks count from 0.
pub(super) fn render_rows(chunk: u64, format: WireFormat) -> Bytes {
    let first = chunk * 256 + 1;
    let rows = (first..first + 256).map(|row| format!(",{}", render_row(&format!("c{row}"), format)));
    rows.collect::<String>().into()
}
