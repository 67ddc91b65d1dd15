//! Replies that faults send in place of the exchange's answer.
//!
//! Must not know the socket, or when a fault applies.

use flate2::{Compress, Compression, Crc, FlushCompress};
use hyper::{
    body::Bytes,
    header::{CONTENT_ENCODING, LOCATION, RETRY_AFTER},
};
use serde_json::{Map, Value, json};

use super::{
    endless,
    endpoint::WireFormat,
    fault::Effect,
    reply::{Delivery, SimulatedReply},
    v4_json,
};

/// Builds the reply of an effect that replaces the exchange's answer; `None` if the effect keeps the answer.
pub(super) fn build_replacement(effect: &Effect, format: WireFormat) -> Option<SimulatedReply> {
    Some(match effect {
        Effect::Status { status, body, content_type, retry_after, location } => {
            let content_type = content_type.as_deref().unwrap_or(HTML);
            SimulatedReply::with_content_type(*status, content_type, body.clone())
                .with_header(RETRY_AFTER, retry_after.as_deref())
                .with_header(LOCATION, location.as_deref())
        }
        Effect::Maintenance => SimulatedReply::with_content_type(503, HTML, MAINTENANCE),
        Effect::Code { code, info, msg, msg_info } => {
            let mut body = Map::from_iter([("code".to_owned(), json!(code))]);
            let optional = [("info", info.clone().map(Value::from)), ("msg", msg.clone().map(Value::from))];
            for (name, value) in optional.into_iter().chain([("msgInfo", msg_info.clone())]) {
                body.extend(value.map(|value| (name.to_owned(), value)));
            }
            SimulatedReply::json(Value::from(body).to_string())
        }
        Effect::Mc(code) => SimulatedReply::json(v4_json::spot_error(code)),
        Effect::Error { code, msg } => SimulatedReply::json(v4_json::futures_error(code, msg)),
        Effect::Body(text) => SimulatedReply::json(text.clone()),
        Effect::Deep { levels } => SimulatedReply::json(deep_json(*levels, format)),
        Effect::Silence => SimulatedReply::json(String::new()).with_delivery(Delivery::Never),
        Effect::Reset => SimulatedReply::json(String::new()).with_delivery(Delivery::Reset),
        Effect::Endless => {
            SimulatedReply::json(endless::render_head(format)).with_delivery(Delivery::Endless(format))
        }
        Effect::GzipBomb { mebibytes } => SimulatedReply::json(String::new())
            .with_header(CONTENT_ENCODING, Some("gzip"))
            .with_body(gzip_blanks(*mebibytes)),
        Effect::Delay { .. }
        | Effect::Slow { .. }
        | Effect::CutShort
        | Effect::Restatus { .. }
        | Effect::Surplus { .. }
        | Effect::Cached { .. }
        | Effect::WrongTime { .. }
        | Effect::Revoked
        | Effect::DropCurrency(_)
        | Effect::EmptyData
        | Effect::Zeros
        | Effect::Row { .. } => return None,
    })
}

/// A good answer whose data is nested this deep.
fn deep_json(levels: usize, format: WireFormat) -> String {
    let (open, close) = ("[".repeat(levels), "]".repeat(levels));
    match format {
        WireFormat::V1 => format!(r#"{{"code":200,"data":{open}{close},"info":"success"}}"#),
        WireFormat::V4Spot => format!(r#"{{"rc":0,"mc":"SUCCESS","ma":[],"result":{open}{close}}}"#),
        WireFormat::Futures => {
            format!(r#"{{"returnCode":0,"msgInfo":"success","error":null,"result":{open}{close}}}"#)
        }
    }
}

/// A valid gzip file of blanks. JSON allows blanks between any two of its tokens.
///
/// Each compressed MiB ends with a full flush, so the bytes of every MiB are the same. They are repeated, and the large
/// text is never built.
fn gzip_blanks(mebibytes: u32) -> Bytes {
    let block = vec![b' '; 1 << 20];
    let mut compress = Compress::new(Compression::best(), false);
    let mut deflated = Vec::with_capacity(1 << 16);
    let flushed = compress.compress_vec(&block, &mut deflated, FlushCompress::Full);
    debug_assert!(flushed.is_ok());
    let mut block_checksum = Crc::new();
    block_checksum.update(&block);
    let mut checksum = Crc::new();
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]; // the header of a file without a name
    for _ in 0..mebibytes {
        file.extend_from_slice(&deflated);
        checksum.combine(&block_checksum);
    }
    file.extend_from_slice(&[3, 0]); // an empty last block
    file.extend_from_slice(&checksum.sum().to_le_bytes());
    file.extend_from_slice(&checksum.amount().to_le_bytes());
    file.into()
}

const HTML: &str = "text/html; charset=utf-8";

const MAINTENANCE: &str = "<!DOCTYPE html>
<html>
<head><title>503 Service Temporarily Unavailable</title></head>
<body>
<center><h1>503 Service Temporarily Unavailable</h1></center>
<p>The system is under maintenance. Please come back later.</p>
</body>
</html>
";
