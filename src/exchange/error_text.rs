//! Recognises known words and sentences in the exchange's error texts, in English and Chinese. Words match only as
//! whole words: `blocked` is not `locked`, and `design` is not `sign`. The API versions use it where no error code
//! decides.
//! Pure: depends on no code, no status and no JSON.

use super::error::Detail;

/// The characters of a text that are searched. An error text is one sentence.
const SEARCHED_MAX_CHARS: usize = 2_000;

/// A subject of error texts.
struct Pattern {
    /// Words and phrases about the subject.
    phrases: &'static [&'static str],
    /// Phrases with one of these words that mean something else.
    exceptions: &'static [&'static str],
}

const LIMIT: Pattern = Pattern {
    phrases: &[
        "too frequent",
        "too frequently",
        "too often",
        "too many request",
        "too many requests",
        "too many api requests",
        "too many calls",
        "too many attempts",
        "too many visits",
        "too many times",
        "request too fast",
        "requests too fast",
        "request is too fast",
        "requests are too fast",
        "operate too fast",
        "operation too fast",
        "calls too fast",
        "rate limit",
        "rate limits",
        "rate limited",
        "rate limiting",
        "ratelimit",
        "request limit exceeded",
        "request limit reached",
        "exceeded the limit of requests",
        "过于频繁",
        "太频繁",
        "过频",
        "操作频繁",
        "请求频繁",
        "访问频繁",
        "频繁操作",
        "频繁请求",
        "频繁访问",
        "過於頻繁",
        "太頻繁",
        "操作頻繁",
        "請求頻繁",
        "触发限流",
        "已限流",
        "被限流",
        "请求限流",
        "接口限流",
        "限流中",
        "请求超限",
        "访问超限",
        "频率超限",
        "次数超限",
        "请求超过限制",
        "请求超出限制",
        "频率超过限制",
        "频率超出限制",
        "次数超过限制",
        "次数超出限制",
        "频率限制",
        "頻率限制",
    ],
    exceptions: &[],
};

/// Whole texts that report a limit or a lock. Inside a sentence each may mean something else, such as locked funds.
const LIMIT_ALONE: [&str; 13] = [
    "locked",
    "temporarily locked",
    "too many",
    "too fast",
    "frequently",
    "limit exceeded",
    "exceeded the limit",
    "exceed limit",
    "频繁",
    "锁定",
    "已锁定",
    "限流",
    "超限",
];

/// A sentence that reports a lock: a subject, an optional filler, and the verb.
struct LockPattern {
    subjects: &'static [&'static str],
    fillers: &'static [&'static str],
    verbs: &'static [&'static str],
    /// The separator between the parts.
    separator: &'static str,
}

const LOCKS: [LockPattern; 2] = [
    LockPattern {
        subjects: &["account", "user", "key", "apikey", "accesskey", "appkey", "ip", "address"],
        fillers: &[
            "is",
            "was",
            "has been",
            "temporarily",
            "is temporarily",
            "has been temporarily",
            "already",
        ],
        verbs: &["locked"],
        separator: " ",
    },
    LockPattern {
        subjects: &[
            "账户", "账号", "帐户", "帐号", "用户", "密钥", "帳戶", "帳號", "賬戶", "賬號", "用戶", "密鑰",
            "ip",
        ],
        fillers: &[
            "已",
            "被",
            "已被",
            "已经被",
            "已經被",
            "暂时",
            "暫時",
            "已暂时",
            "已暫時",
            "被暂时",
            "被暫時",
        ],
        verbs: &["锁定", "鎖定"],
        separator: "",
    },
];

const CLOCK: Pattern = Pattern {
    phrases: &[
        "nonce",
        "timestamp",
        "timestamps",
        "server time",
        "request time",
        "time window",
        "recvwindow",
        "recv window",
        "时间戳",
        "時間戳",
        "服务器时间",
        "伺服器時間",
        "请求时间",
        "請求時間",
    ],
    exceptions: &["server time out", "request time out", "请求时间过长"],
};

const SIGNATURE: Pattern = Pattern {
    phrases: &["sign", "signature", "signed", "unsigned", "签名", "簽名", "验签", "驗簽"],
    exceptions: &[
        "sign in",
        "sign up",
        "sign on",
        "sign out",
        "sign off",
        "signed in",
        "signed up",
        "signed out",
        "signed off",
        "签名单",
    ],
};

const KEY: Pattern = Pattern {
    phrases: &[
        "accesskey",
        "access key",
        "api key",
        "apikey",
        "app key",
        "appkey",
        "secretkey",
        "secret key",
        "unauthorized",
        "unauthorised",
        "密钥",
        "密鑰",
    ],
    exceptions: &[],
};

const ADDRESS: Pattern = Pattern {
    phrases: &["whitelist", "whitelisted", "white list", "allowlist", "白名单", "白名單"],
    exceptions: &[],
};

const PERMISSION: Pattern = Pattern {
    phrases: &["permission", "permissions", "权限", "權限"],
    exceptions: &["特权限", "授权限", "特權限", "授權限"],
};

/// These name a problem of the key only if the key is already known to be refused.
const REFUSED_ADDRESS: Pattern = Pattern { phrases: &["ip"], exceptions: &[] };
const REFUSED_ACTION: Pattern = Pattern { phrases: &["not allowed", "not permitted"], exceptions: &[] };
const REFUSED_INACTIVE: Pattern = Pattern {
    phrases: &[
        "not activated",
        "not yet activated",
        "not active",
        "unactivated",
        "inactive",
        "deactivated",
        "disabled",
        "activation",
        "激活",
        "啟用",
    ],
    exceptions: &[],
};

const OUTAGE: Pattern = Pattern {
    phrases: &[
        "maintenance",
        "maintaining",
        "system busy",
        "system is busy",
        "系统维护",
        "维护中",
        "维护升级",
        "正在维护",
        "停机维护",
        "系統維護",
        "維護中",
        "系统繁忙",
        "系統繁忙",
    ],
    exceptions: &[],
};

const UNREACHABLE: Pattern = Pattern {
    phrases: &["connection refused", "timed out", "timeout", "time out", "unavailable"],
    exceptions: &[],
};

/// An error text, prepared for searching.
pub(super) struct ErrorText {
    /// Lower-case words with one space around each. A run of Chinese characters is a word.
    words: String,
    /// The words without spaces, for Chinese, which does not separate words.
    joined: String,
}

impl ErrorText {
    pub(super) fn new(text: &str) -> Self {
        let words = split_words(text);
        Self { joined: words.replace(' ', ""), words }
    }

    /// Whether it reports a passed limit, or an account that is locked because of one.
    pub(super) fn reports_limit(&self) -> bool {
        self.matches(&LIMIT)
            || LIMIT_ALONE.contains(&self.words.trim())
            || LOCKS.iter().any(|lock| self.reports_lock(lock))
    }

    fn reports_lock(&self, LockPattern { subjects, fillers, verbs, separator }: &LockPattern) -> bool {
        let endings = verbs.iter().flat_map(|verb| {
            let with_filler = fillers.iter().map(move |filler| format!("{filler}{separator}{verb}"));
            with_filler.chain([(*verb).to_owned()])
        });
        let endings: Vec<_> = endings.collect();
        subjects.iter().any(|subject| {
            endings.iter().any(|ending| self.contains_phrase(&format!("{subject}{separator}{ending}")))
        })
    }

    /// Whether it reports a wrong time of the request.
    pub(super) fn reports_clock(&self) -> bool {
        self.matches(&CLOCK)
    }

    /// Whether it reports a wrong signature.
    pub(super) fn reports_signature(&self) -> bool {
        self.matches(&SIGNATURE)
    }

    /// Whether it reports a refused key.
    pub(super) fn reports_key(&self) -> bool {
        [KEY, ADDRESS, PERMISSION].iter().any(|pattern| self.matches(pattern))
    }

    /// Whether it reports that the exchange is busy or in maintenance.
    pub(super) fn reports_outage(&self) -> bool {
        self.matches(&OUTAGE)
    }

    /// Whether it reports that one part of the exchange cannot reach another.
    pub(super) fn reports_unreachable(&self) -> bool {
        self.matches(&UNREACHABLE)
    }

    /// Why the exchange refused a key. The key counts as unknown if the text names no other cause.
    pub(super) fn refusal_detail(&self) -> Detail {
        let matches_any = |patterns: &[Pattern]| patterns.iter().any(|pattern| self.matches(pattern));
        if matches_any(&[ADDRESS, REFUSED_ADDRESS]) {
            return Detail::AddressNotAllowed;
        }
        if matches_any(&[PERMISSION, REFUSED_ACTION]) {
            return Detail::NotPermitted;
        }
        if matches_any(&[REFUSED_INACTIVE]) { Detail::InactiveKey } else { Detail::UnknownKey }
    }

    fn matches(&self, pattern: &Pattern) -> bool {
        let has_phrase = |text: &Self| pattern.phrases.iter().any(|phrase| text.contains_phrase(phrase));
        if !has_phrase(self) {
            return false;
        }
        let (mut words, mut joined) = (self.words.clone(), self.joined.clone());
        for exception in pattern.exceptions {
            // The surrounding spaces stay, so that the neighbours do not become one word.
            words = words.replace(&format!(" {exception} "), "  ");
            joined = joined.replace(exception, " ");
        }
        has_phrase(&Self { words, joined })
    }

    /// Whether it contains `phrase`: Latin letters as whole words, Chinese characters anywhere.
    fn contains_phrase(&self, phrase: &str) -> bool {
        if phrase.is_ascii() {
            self.words.contains(&format!(" {phrase} "))
        } else {
            self.joined.contains(phrase)
        }
    }
}

/// The words of a text in lower case, with one space around each. A word ends where the letters end, where a Chinese
/// character meets another letter, and inside `accessKey`, where a capital letter follows a small one.
fn split_words(text: &str) -> String {
    let mut words = String::from(" ");
    let mut last: Option<char> = None;
    for c in text.chars().take(SEARCHED_MAX_CHARS) {
        let is_letter = c.is_alphanumeric();
        let word_begins = last
            .is_some_and(|last| is_chinese(last) != is_chinese(c) || last.is_lowercase() && c.is_uppercase());
        if (!is_letter || word_begins) && !words.ends_with(' ') {
            words.push(' ');
        }
        if is_letter {
            words.extend(c.to_lowercase());
        }
        last = is_letter.then_some(c);
    }
    if !words.ends_with(' ') {
        words.push(' ');
    }
    words
}

fn is_chinese(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find_topics(text: &str) -> Vec<&'static str> {
        let text = ErrorText::new(text);
        let topics = [
            (text.reports_limit(), "limit"),
            (text.reports_clock(), "clock"),
            (text.reports_signature(), "signature"),
            (text.reports_key(), "key"),
            (text.reports_outage(), "outage"),
            (text.reports_unreachable(), "unreachable"),
        ];
        topics.into_iter().filter_map(|(reports, topic)| reports.then_some(topic)).collect()
    }

    #[test]
    fn texts_are_split_into_words() {
        for (text, expected) in [
            ("", " "),
            (" .,; ", " "),
            ("AccessKey error", " access key error "),
            ("INVALID_SIGN", " invalid sign "),
            ("accessKey=a1B2", " access key a1b2 "),
            ("请检查accesskey是否有效", " 请检查 accesskey 是否有效 "),
            ("账户已锁定。", " 账户已锁定 "),
            ("désigné", " désigné "),
        ] {
            assert_eq!(split_words(text), expected, "{text}");
        }
    }

    #[test]
    fn known_phrases_are_found_in_both_languages_and_any_case() {
        for (text, topic) in [
            ("locked", "limit"),
            ("Locked!", "limit"),
            ("Account locked", "limit"),
            ("ACCOUNT_LOCKED", "limit"),
            ("accountLocked", "limit"),
            ("Your account has been temporarily locked for 10 minutes", "limit"),
            ("account locked: too many calls before this one, try again in 5 seconds", "limit"),
            ("Operate too frequently", "limit"),
            ("too many requests", "limit"),
            ("TooManyRequests", "limit"),
            ("Rate limit exceeded", "limit"),
            ("操作过于频繁", "limit"),
            ("频繁", "limit"),
            ("您的账户已被锁定,请稍后再试", "limit"),
            ("帳號已鎖定", "limit"),
            ("IP已锁定", "limit"),
            ("接口限流中", "limit"),
            ("nonce is outside the window", "clock"),
            ("Invalid timestamp.", "clock"),
            ("The request time 1 exceeds the specified time 2 limit by 5 second", "clock"),
            ("时间戳已过期", "clock"),
            ("Sign error", "signature"),
            ("invalidSignature", "signature"),
            ("request is not signed", "signature"),
            ("签名错误", "signature"),
            ("验签失败", "signature"),
            ("AccessKey error", "key"),
            ("请检查accesskey是否有效", "key"),
            ("IP 1.2.3.4 is not in the whitelist", "key"),
            ("无权限", "key"),
            ("Unauthorized", "key"),
            ("system maintenance", "outage"),
            ("系统维护中", "outage"),
            ("Connection refused: /10.0.26.71:8080", "unreachable"),
            ("Request time out", "unreachable"),
        ] {
            assert_eq!(find_topics(text), [topic], "{text}");
        }
    }

    #[test]
    fn words_inside_words_and_exceptions_are_not_found() {
        for text in [
            "",
            "blocked",
            "Blocked by policy",
            "unlocked",
            "Account unlocked",
            "account blocked",
            "the account is not locked",
            "locked balance is not enough",
            "your funds are locked in an order",
            "deadlocked",
            "interlocking",
            "clocked out",
            "infrequently used",
            "frequently asked questions",
            "too many decimals",
            "amount limit exceeded for this coin",
            "pirate limitation",
            "announcement",
            "pronounced",
            "timestamped",
            "design",
            "assigned",
            "désigné",
            "signé",
            "signal lost",
            "resignation",
            "please sign in",
            "Sign Up first",
            "you are signed out",
            "permissive",
            "authorized",
            "reauthorization",
            "monkey",
            "maintenanceless",
            "无限流量套餐",
            "特权限制",
            "解除锁定",
            "锁定余额不足",
            "资金已锁定",
            "维护者",
            "request error, check parameters",
            "price scale error",
            "잠금",
            "ロックされました",
        ] {
            assert_eq!(find_topics(text), [""; 0], "{text}");
        }
        // The rest of a text with an exception is still searched.
        assert_eq!(find_topics("please sign in, the sign is wrong"), ["signature"]);
        assert_eq!(find_topics("特权限制,无权限"), ["key"]);
    }

    #[test]
    fn the_text_gives_the_cause_of_a_refused_key() {
        let detail = |text: &str| ErrorText::new(text).refusal_detail();
        for (texts, expected) in [
            (
                &["IP 1.2.3.4 is not in the whitelist", "ip not bound", "invalid IP", "不在白名单"][..],
                Detail::AddressNotAllowed,
            ),
            (&["no permission", "Permissions denied", "无权限", "not allowed"], Detail::NotPermitted),
            (
                &["key not activated", "key is disabled", "密钥未激活", "waiting for activation"],
                Detail::InactiveKey,
            ),
            (
                &[
                    "AccessKey error",
                    "key already deleted",
                    "thread failed",
                    "membership ended",
                    "zip is wrong",
                    "inactivity",
                    "reactivated",
                    "",
                ],
                Detail::UnknownKey,
            ),
        ] {
            for text in texts {
                assert_eq!(detail(text), expected, "{text}");
            }
        }
    }

    #[test]
    fn only_the_beginning_of_a_long_text_is_searched() {
        let long_text = |before: usize| format!("{}{}", "x ".repeat(before), "account locked");
        assert_eq!(find_topics(&long_text(100)), ["limit"]);
        assert_eq!(find_topics(&long_text(4_000_000)), [""; 0]);
    }
}
