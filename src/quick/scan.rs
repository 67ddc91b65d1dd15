//! JSON read from left to right without a copy, as far as it is plain. What nests deep, or has an escape in
//! one of its texts, is left to others.

/// What is still to be read. Where it is not what it is asked for, that is `None`, and the end of it.
pub(crate) struct Scanner<'a> {
    rest: &'a str,
    /// So much deeper may a value lie.
    depth: u8,
}

impl<'a> Scanner<'a> {
    const DEPTH_MAX: u8 = 16;

    /// A scanner of `text`.
    pub(crate) fn new(text: &'a str) -> Self {
        Self { rest: text, depth: Self::DEPTH_MAX }
    }

    /// An object. `member` reads the value that goes with a name.
    #[inline]
    pub(crate) fn object(&mut self, mut member: impl FnMut(&mut Self, &'a str) -> Option<()>) -> Option<()> {
        self.each(b'{', b'}', |this| {
            let name = this.text()?;
            this.mark(b':').then(|| member(this, name))?
        })
    }

    /// A list. `item` reads a value.
    pub(crate) fn list(&mut self, item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.each(b'[', b']', item)
    }

    #[inline]
    fn each(&mut self, open: u8, close: u8, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        if !self.mark(open) {
            return None;
        }
        self.depth = self.depth.checked_sub(1)?;
        if !self.mark(close) {
            item(self)?;
            while self.mark(b',') {
                item(self)?;
            }
            if !self.mark(close) {
                return None;
            }
        }
        self.depth += 1;
        Some(())
    }

    /// A text without escapes.
    #[inline]
    pub(crate) fn text(&mut self) -> Option<&'a str> {
        if !self.mark(b'"') {
            return None;
        }
        let (text, rest) = self.rest.split_at_checked(plain(self.rest.as_bytes()))?;
        self.rest = rest.strip_prefix('"')?;
        Some(text)
    }

    /// A number, as it is written.
    pub(crate) fn number(&mut self) -> Option<&'a str> {
        self.blanks();
        let bytes = self.rest.as_bytes();
        let digits = |from: usize| bytes.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
        let is = |at: usize, marks: &[u8]| bytes.get(at).is_some_and(|byte| marks.contains(byte));
        let mut end = usize::from(is(0, b"-"));
        let whole = digits(end);
        if whole == 0 || whole > 1 && is(end, b"0") {
            return None;
        }
        end += whole;
        if is(end, b".") {
            end += 1 + Some(digits(end + 1)).filter(|count| *count > 0)?;
        }
        if is(end, b"eE") {
            end += 1 + usize::from(is(end + 1, b"+-"));
            end += Some(digits(end)).filter(|count| *count > 0)?;
        }
        let (number, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        Some(number)
    }

    /// What stands in a text or in a number.
    pub(crate) fn digits(&mut self) -> Option<&'a str> {
        if self.is_next(b'"') { self.text() } else { self.number() }
    }

    /// Any value, passed over.
    pub(crate) fn pass(&mut self) -> Option<()> {
        self.blanks();
        match self.rest.as_bytes().first()? {
            b'{' => self.object(|this, _| this.pass()),
            b'[' => self.list(Self::pass),
            b'"' => self.text().map(|_| ()),
            _ => match ["true", "false", "null"].iter().find_map(|word| self.rest.strip_prefix(word)) {
                Some(rest) => {
                    self.rest = rest;
                    Some(())
                }
                None => self.number().map(|_| ()),
            },
        }
    }

    /// The end.
    pub(crate) fn end(&mut self) -> Option<()> {
        self.blanks();
        self.rest.is_empty().then_some(())
    }

    /// Takes `mark` if it is next, whatever blanks are before it.
    #[inline]
    fn mark(&mut self, mark: u8) -> bool {
        let is_next = self.is_next(mark);
        if is_next {
            self.rest = self.rest.get(1..).unwrap_or_default();
        }
        is_next
    }

    #[inline]
    fn is_next(&mut self, mark: u8) -> bool {
        self.blanks();
        self.rest.as_bytes().first() == Some(&mark)
    }

    #[inline]
    fn blanks(&mut self) {
        if self.rest.as_bytes().first().is_some_and(|byte| *byte <= b' ') {
            self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
        }
    }
}

/// How many bytes of `text` come before the first quotation mark, backslash or control character.
fn plain(text: &[u8]) -> usize {
    const EACH: u64 = 0x0101_0101_0101_0101;
    // Of every byte of a word the highest bit says whether it is below `bound`; right up to the first one.
    let below = |word: u64, bound: u64| word.wrapping_sub(EACH * bound) & !word;
    let (words, last) = text.as_chunks::<8>();
    for (place, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = below(word, 0x20) | below(word ^ (EACH * 0x22), 1) | below(word ^ (EACH * 0x5c), 1);
        let found = found & (EACH * 0x80);
        if found != 0 {
            return place * 8 + (found.trailing_zeros() / 8) as usize;
        }
    }
    let is_plain = |byte: &&u8| !matches!(byte, b'"' | b'\\' | ..b' ');
    words.len() * 8 + last.iter().take_while(is_plain).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(text: &str) -> bool {
        let mut scanner = Scanner::new(text);
        scanner.pass().and_then(|()| scanner.end()).is_some()
    }

    #[test]
    fn what_is_passed_over_is_json_as_others_read_it() {
        for plain in [
            "{}",
            " [ ] ",
            "\t{ \"a\" :\r\n1 , \"b\" : [ true,false , null ] } ",
            "-0",
            "0.50",
            "-12e3",
            "1E+30",
            "1.5e-08",
            "\"\u{7f}é\"",
            r#"["a","",{"":{}}]"#,
            &format!("{}{}", "[".repeat(16), "]".repeat(16)),
        ] {
            assert!(passed(plain), "{plain}");
            assert!(serde_json::from_str::<serde_json::Value>(plain).is_ok(), "{plain}");
        }
        for bad in [
            "",
            "{",
            "[",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":1]",
            "{a:1}",
            "{1:1}",
            "1 1",
            "{} {}",
            "01",
            "-",
            "-a",
            "+1",
            ".5",
            "1.",
            "1.e1",
            "1e",
            "1e+",
            "0x1",
            "nul",
            "nulls",
            "True",
            "\"",
            "\"a",
            "\"a\nb\"",
            "\"\t\"",
            "\u{a0}1",
            "NaN",
            "Infinity",
            "'a'",
        ] {
            assert!(!passed(bad), "{bad}");
            assert!(serde_json::from_str::<serde_json::Value>(bad).is_err(), "{bad}");
        }
        for left_to_others in [r#""\n""#, r#"{"\u0061":1}"#, &format!("{}{}", "[".repeat(17), "]".repeat(17))]
        {
            assert!(!passed(left_to_others), "{left_to_others}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_passed_over_is_json(text in "[\\[\\]{}:,\"\\\\ a1.e-]{0,12}|(\\{\"[a\\n\\\\]{0,9}\":|\\[)?-?[0-9]{0,3}(\\.[0-9]{0,2})?([eE][+-]?[0-9]{0,2})?[}\\]]?") {
            if passed(&text) {
                proptest::prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
            }
        }

        #[test]
        fn a_text_ends_before_the_first_mark_in_it(text in "[a\"\\\\\u{1f} !#\\[\\]é\u{80}\u{a2}]{0,30}") {
            let first = text.bytes().position(|byte| matches!(byte, b'"' | b'\\' | ..b' '));
            proptest::prop_assert_eq!(plain(text.as_bytes()), first.unwrap_or(text.len()));
        }
    }
}
