//! Makes a text from outside safe to show: one line of limited length, without secrets and signatures.
//! Pure: depends on neither HTTP nor error types.

/// The most characters of a failure text.
const TEXT_MAX_CHARS: usize = 300;
/// The characters that are searched for secrets: more than are kept, because replacements shorten the text.
const SEARCHED_MAX_CHARS: usize = 8_192;

/// Makes `text` safe to show: on one line, without the `secrets` and without anything that looks like a signature,
/// shortened. The line comes first, because a line break inside a secret would hide the rest of it from the search.
#[must_use]
pub(super) fn redact(text: &str, secrets: &[&str]) -> String {
    let (mut text, is_cut) = escape_to_one_line(text);
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = redact_matches(&text, |rest| match_secret(rest, secret.as_bytes(), is_cut));
    }
    // The exchange may echo the signature of any earlier call.
    truncate(redact_matches(&text, |rest| match_signature(rest, is_cut)))
}

/// Turns white space into single spaces and removes control characters. Returns whether the text continues after the
/// part that is searched.
fn escape_to_one_line(text: &str) -> (String, bool) {
    let mut line = String::new();
    let mut length = 0;
    for c in text.trim_end().chars() {
        let c = if c.is_whitespace() { ' ' } else { c };
        if c.is_control() || (c == ' ' && (line.is_empty() || line.ends_with(' '))) {
            continue;
        }
        if length == SEARCHED_MAX_CHARS {
            return (line, true);
        }
        line.push(c);
        length += 1;
    }
    (line, false)
}

fn truncate(text: String) -> String {
    match text.char_indices().nth(TEXT_MAX_CHARS) {
        None => text,
        Some((at, _)) => text.get(..at).map(|head| format!("{head}…")).unwrap_or_default(),
    }
}

/// Replaces every match. `found` returns the length of the match at the beginning of a text.
fn redact_matches(text: &str, found: impl Fn(&[u8]) -> Option<usize>) -> String {
    let text = text.as_bytes();
    let mut shown = Vec::with_capacity(text.len());
    let mut at = 0;
    // Searches from every byte and not from every letter: text before a secret may look as if it took the secret's
    // first bytes, as `%d` does before `Fxyz`.
    while let Some((byte, after)) = text.get(at..).and_then(<[u8]>::split_first) {
        if let Some(length) = found(text.get(at..).unwrap_or_default()) {
            shown.extend_from_slice(b"[redacted]");
            at += length;
        } else {
            shown.push(*byte);
            at = text.len() - after.len();
        }
    }
    String::from_utf8_lossy(&shown).into_owned()
}

/// The hexadecimal digits of an HMAC-SHA256.
const SIGNATURE_DIGITS: usize = 64;

/// The length of a possible signature at the beginning of `text`: this number of digits, or more. At the end of a cut
/// text, the beginning of a signature counts too.
fn match_signature(text: &[u8], is_cut: bool) -> Option<usize> {
    let (mut at, mut digits) = (0, 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let Some(length) = decode_letter(rest, u8::is_ascii_hexdigit) else { break };
        at += length;
        digits += 1;
    }
    (digits >= SIGNATURE_DIGITS || is_cut && digits > 0 && at == text.len()).then_some(at)
}

/// The length of `secret` at the beginning of `text`, in either case, because hex may come back in both, and
/// percent-encoded or not. At the end of a cut text, the beginning of a secret counts too.
fn match_secret(text: &[u8], secret: &[u8], is_cut: bool) -> Option<usize> {
    let mut at = 0;
    for (place, wanted) in secret.iter().enumerate() {
        let rest = text.get(at..).unwrap_or_default();
        if rest.is_empty() {
            return (is_cut && place > 0).then_some(at);
        }
        at += decode_letter(rest, |byte| byte.eq_ignore_ascii_case(wanted))?;
    }
    Some(at)
}

/// The length in bytes of the first letter of `text`, if one of its decodings `fits`.
fn decode_letter(text: &[u8], fits: impl Fn(&u8) -> bool) -> Option<usize> {
    let (_, length) = possible_decodings(text).filter(|(byte, _)| fits(byte)).last()?;
    Some(length)
}

/// The possible decodings of the first letter of `text`, with their lengths: as it is, and with percent-encoding
/// decoded once, twice and so on.
fn possible_decodings(text: &[u8]) -> impl Iterator<Item = (u8, usize)> {
    let decode = |(byte, length): &(u8, usize)| {
        let digits = text.get(*length..length + 2).filter(|_| *byte == b'%')?;
        Some((hex(digits)?, length + 2))
    };
    std::iter::successors(text.first().map(|byte| (*byte, 1)), decode)
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
    u8::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_from_outside_is_made_fit_to_be_shown() {
        let shown = |text: &str| redact(text, &["s3cret", ""]);
        assert_eq!(shown("a\r\n\tb\u{0} \u{1b}[31mc"), "a b [31mc");
        assert_eq!(shown("key S3CRET and s3cret"), "key [redacted] and [redacted]");
        assert_eq!(shown("s3c\u{0}ret"), "[redacted]", "a control character hides nothing");
        assert_eq!(shown("").len(), 0);
        let long = shown(&"é".repeat(1_000));
        assert_eq!(long.chars().count(), TEXT_MAX_CHARS + 1);
        let cut = shown(&format!("{}s3cret", "x".repeat(TEXT_MAX_CHARS - 3)));
        assert!(!cut.contains("s3c"), "{cut}");
    }

    #[test]
    fn a_secret_is_found_however_it_was_encoded() {
        let shown = |text: &str| redact(text, &["a+/b"]);
        for text in ["A+/B", "a%2B%2fb", "%61%2b/%62", "a%252B%2Fb", "%2561+/b"] {
            assert_eq!(shown(&format!("x{text}y")), "x[redacted]y", "{text}");
        }
        let shown_of = |secret, text: &str| redact(text, &[secret]);
        assert_eq!(
            shown_of("Fuzz4", "%%dFuzz4%d%46uzz4"),
            "%%d[redacted]%d[redacted]",
            "no letter takes part of it"
        );
        assert_eq!(shown_of("a%41", "a%41 a%2541 aA"), "[redacted] [redacted] aA");
        for text in ["a+b", "a%2B%2", "100% of é%", "%zz%+1", "a%2B%2Fc", "%"] {
            assert_eq!(shown(text), text);
        }
    }

    #[test]
    fn an_unknown_text_like_a_signature_is_redacted() {
        let shown = |text: &str| redact(text, &[]);
        let signature = "0123456789abcdef".repeat(4);
        let encoded = signature.replace('0', "%30").replace('a', "%2561");
        for text in [&signature, &signature.to_uppercase(), &encoded, &signature.repeat(2)] {
            assert_eq!(shown(&format!("signature={text}&x")), "signature=[redacted]&x", "{text}");
        }
        let shorter = &signature[..SIGNATURE_DIGITS - 1];
        assert_eq!(shown(shorter), shorter);
        let cut = format!("{}zz{signature}", "a".repeat(SEARCHED_MAX_CHARS - 12));
        assert_eq!(shown(&cut), "[redacted]zz[redacted]");
    }

    #[test]
    fn a_secret_that_is_cut_off_where_the_search_ends_is_not_shown() {
        let secret = "0123456789".repeat(400);
        let shown = |length: usize| {
            let text = secret.repeat(2).to_uppercase() + &"z".repeat(SEARCHED_MAX_CHARS);
            let text = format!("{}{text}", "x".repeat(length));
            redact(&text, &[&secret])
        };
        assert!(shown(5).starts_with("xxxxx[redacted][redacted]zzz"));
        let cut = format!("{secret}{secret}{}", &secret[..3_000]);
        let text = redact(&cut, &[&secret]);
        assert_eq!(text, "[redacted][redacted][redacted]");
    }
}
