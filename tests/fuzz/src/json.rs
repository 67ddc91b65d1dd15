//! A second opinion on JSON: RFC 8259 read one character at a time into a tree that forgets nothing, neither a digit
//! nor a name that comes twice. Slow and plain on purpose; shares nothing with what it judges.

use serde_json::Value;

/// `None` if an escape in it names half a character.
pub type Text = Option<String>;

/// A JSON value in its original spelling.
#[derive(Debug)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// The characters of a number.
    Number(String),
    /// A text.
    Text(Text),
    /// In order.
    List(Vec<Json>),
    /// In order, names that come twice included.
    Object(Vec<(Text, Json)>),
}

/// Reads a whole document; `None` if it is not JSON.
#[must_use]
pub fn read(text: &str) -> Option<Json> {
    let mut reader = Reader { left: text };
    let value = reader.value()?;
    reader.blank();
    reader.left.is_empty().then_some(value)
}

impl Json {
    /// The entries called `name`; `None` if this is no object whose every name is text.
    #[must_use]
    pub fn fields(&self, name: &str) -> Option<Vec<&Json>> {
        let Self::Object(entries) = self else { return None };
        let entries = entries.iter().map(|(key, value)| Some((key.as_deref()?, value)));
        let entries = entries.collect::<Option<Vec<_>>>()?;
        Some(entries.into_iter().filter(|(key, _)| *key == name).map(|(_, value)| value).collect())
    }

    /// The entry called `name`, if there is just one.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Json> {
        match self.fields(name)?.as_slice() {
            [one] => Some(one),
            _ => None,
        }
    }

    /// Holds this reading against that of `serde_json`, of the same text.
    #[must_use]
    pub fn is_like(&self, other: &Value) -> bool {
        match (self, other) {
            (Self::Null, Value::Null) => true,
            (Self::Bool(a), Value::Bool(b)) => a == b,
            (Self::Number(a), Value::Number(b)) => {
                let (a, b) = (a.parse::<f64>().unwrap_or(f64::NAN), b.as_f64().unwrap_or(f64::NAN));
                (a - b).abs() <= a.abs() * 1e-12
            }
            (Self::Text(a), Value::String(b)) => a.as_deref() == Some(b),
            (Self::List(a), Value::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is_like(b))
            }
            (Self::Object(a), Value::Object(b)) => {
                // Of a name that comes twice, `Value` keeps the last.
                let last = |name: &str| a.iter().rfind(|(key, _)| key.as_deref() == Some(name));
                a.iter().all(|(name, _)| name.as_ref().is_some_and(|name| b.contains_key(name)))
                    && b.iter().all(|(name, b)| last(name).is_some_and(|(_, a)| a.is_like(b)))
            }
            _ => false,
        }
    }

    /// Whether `serde_json::Value` cannot hold it, though it is JSON: half a character, a number past f64, or lists
    /// within lists without end.
    #[must_use]
    pub fn is_beyond_value(&self) -> bool {
        self.holds(&|json| match json {
            Self::Text(text) => text.is_none(),
            Self::Number(digits) => digits.parse::<f64>().is_ok_and(f64::is_infinite),
            Self::Object(entries) => entries.iter().any(|(name, _)| name.is_none()),
            _ => false,
        }) || self.depth() > 127
    }

    fn holds(&self, wanted: &dyn Fn(&Self) -> bool) -> bool {
        wanted(self)
            || match self {
                Self::List(items) => items.iter().any(|item| item.holds(wanted)),
                Self::Object(entries) => entries.iter().any(|(_, item)| item.holds(wanted)),
                _ => false,
            }
    }

    fn depth(&self) -> usize {
        match self {
            Self::List(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Self::Object(entries) => 1 + entries.iter().map(|(_, item)| item.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }
}

struct Reader<'a> {
    left: &'a str,
}

impl Reader<'_> {
    fn value(&mut self) -> Option<Json> {
        self.blank();
        match self.left.chars().next()? {
            '{' => self.object(),
            '[' => self.list(),
            '"' => self.text().map(Json::Text),
            '-' | '0'..='9' => self.number().map(Json::Number),
            _ => {
                let words = [("null", Json::Null), ("true", Json::Bool(true)), ("false", Json::Bool(false))];
                words.into_iter().find_map(|(word, json)| self.eats(word).then_some(json))
            }
        }
    }

    fn object(&mut self) -> Option<Json> {
        self.must("{")?;
        let mut entries = Vec::new();
        self.blank();
        if self.eats("}") {
            return Some(Json::Object(entries));
        }
        loop {
            self.blank();
            let name = self.text()?;
            self.blank();
            self.must(":")?;
            entries.push((name, self.value()?));
            self.blank();
            if self.eats("}") {
                return Some(Json::Object(entries));
            }
            self.must(",")?;
        }
    }

    fn list(&mut self) -> Option<Json> {
        self.must("[")?;
        let mut items = Vec::new();
        self.blank();
        if self.eats("]") {
            return Some(Json::List(items));
        }
        loop {
            items.push(self.value()?);
            self.blank();
            if self.eats("]") {
                return Some(Json::List(items));
            }
            self.must(",")?;
        }
    }

    fn text(&mut self) -> Option<Text> {
        self.must("\"")?;
        let mut units = Vec::new();
        loop {
            match self.next()? {
                '"' => return Some(String::from_utf16(&units).ok()),
                '\\' => units.push(match self.next()? {
                    'b' => 0x08,
                    't' => 0x09,
                    'n' => 0x0a,
                    'f' => 0x0c,
                    'r' => 0x0d,
                    'u' => self.hex()?,
                    same @ ('"' | '\\' | '/') => same as u16,
                    _ => return None,
                }),
                '\0'..' ' => return None,
                plain => units.extend_from_slice(plain.encode_utf16(&mut [0; 2])),
            }
        }
    }

    fn hex(&mut self) -> Option<u16> {
        (0..4).try_fold(0, |unit, _| Some(unit * 16 + u16::try_from(self.next()?.to_digit(16)?).ok()?))
    }

    fn number(&mut self) -> Option<String> {
        let whole = self.left;
        self.eats("-");
        if !self.eats("0") {
            self.digits()?;
        }
        if self.eats(".") {
            self.digits()?;
        }
        if self.eats("e") || self.eats("E") {
            let _ = self.eats("+") || self.eats("-");
            self.digits()?;
        }
        whole.strip_suffix(self.left).map(str::to_owned)
    }

    fn digits(&mut self) -> Option<()> {
        let left = self.left.trim_start_matches(|c: char| c.is_ascii_digit());
        let any = left.len() < self.left.len();
        self.left = left;
        any.then_some(())
    }

    fn blank(&mut self) {
        self.left = self.left.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.left.chars();
        let next = chars.next();
        self.left = chars.as_str();
        next
    }

    fn eats(&mut self, word: &str) -> bool {
        self.left.strip_prefix(word).map(|left| self.left = left).is_some()
    }

    fn must(&mut self, word: &str) -> Option<()> {
        self.eats(word).then_some(())
    }
}
