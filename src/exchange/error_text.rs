//! Recognises known words and sentences in the exchange's error texts, in English and Chinese. Words match only as
//! whole words: `blocked` is not `locked`, and `design` is not `sign`. The API versions use it where no error code
//! decides.
//! Pure: depends on no code, no status and no JSON.

use super::error::Detail;

/// The characters of a text that are searched. An error text is one sentence.
const SEARCHED_MAX_CHARS: usize = 2_000;

/// A subject of error texts.
struct Pattern {
    /// Words and sentences about the subject.
    says: &'static [&'static str],
    /// Sentences with one of these words that mean something else.
    except: &'static [&'static str],
}

const LIMIT: Pattern = Pattern {
    says: &[
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
    except: &[],
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
    /// The separator between two of them.
    blank: &'static str,
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
        blank: " ",
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
        blank: "",
    },
];

const CLOCK: Pattern = Pattern {
    says: &[
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
    except: &["server time out", "request time out", "请求时间过长"],
};

const SIGNATURE: Pattern = Pattern {
    says: &["sign", "signature", "signed", "unsigned", "签名", "簽名", "验签", "驗簽"],
    except: &[
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
    says: &[
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
    except: &[],
};

const ADDRESS: Pattern = Pattern {
    says: &["whitelist", "whitelisted", "white list", "allowlist", "白名单", "白名單"],
    except: &[],
};

const PERMISSION: Pattern = Pattern {
    says: &["permission", "permissions", "权限", "權限"],
    except: &["特权限", "授权限", "特權限", "授權限"],
};

/// These name a problem of the key only if the key is already known to be refused.
const REFUSED_ADDRESS: Pattern = Pattern { says: &["ip"], except: &[] };
const REFUSED_ACTION: Pattern = Pattern { says: &["not allowed", "not permitted"], except: &[] };
const REFUSED_INACTIVE: Pattern = Pattern {
    says: &[
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
    except: &[],
};

const OUTAGE: Pattern = Pattern {
    says: &[
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
    except: &[],
};

const UNREACHABLE: Pattern =
    Pattern { says: &["connection refused", "timed out", "timeout", "time out", "unavailable"], except: &[] };

/// An error text, prepared for searching.
pub(super) struct ErrorText {
    /// Lower-case words with one space around each. A run of Chinese characters is a word.
    words: String,
    /// The words without spaces, for Chinese, which does not separate words.
    joined: String,
}

impl ErrorText {
    pub(super) fn new(text: &str) -> Self {
        let words = words(text);
        Self { joined: words.replace(' ', ""), words }
    }

    /// Whether it reports a passed limit, or an account that is locked because of one.
    pub(super) fn reports_limit(&self) -> bool {
        self.matches(&LIMIT)
            || LIMIT_ALONE.contains(&self.words.trim())
            || LOCKS.iter().any(|lock| self.reports_lock(lock))
    }

    fn reports_lock(&self, LockPattern { subjects, fillers, verbs, blank }: &LockPattern) -> bool {
        let ends = verbs.iter().flat_map(|verb| {
            let with = fillers.iter().map(move |filler| format!("{filler}{blank}{verb}"));
            with.chain([(*verb).to_owned()])
        });
        let ends: Vec<_> = ends.collect();
        subjects
            .iter()
            .any(|subject| ends.iter().any(|end| self.contains_phrase(&format!("{subject}{blank}{end}"))))
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
        [KEY, ADDRESS, PERMISSION].iter().any(|topic| self.matches(topic))
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
        let is_about = |topics: &[Pattern]| topics.iter().any(|topic| self.matches(topic));
        if is_about(&[ADDRESS, REFUSED_ADDRESS]) {
            return Detail::AddressNotAllowed;
        }
        if is_about(&[PERMISSION, REFUSED_ACTION]) {
            return Detail::NotPermitted;
        }
        if is_about(&[REFUSED_INACTIVE]) { Detail::InactiveKey } else { Detail::UnknownKey }
    }

    fn matches(&self, topic: &Pattern) -> bool {
        let found = |text: &Self| topic.says.iter().any(|known| text.contains_phrase(known));
        if !found(self) {
            return false;
        }
        let (mut words, mut joined) = (self.words.clone(), self.joined.clone());
        for known in topic.except {
            // The surrounding spaces stay, so that the neighbours do not become one word.
            words = words.replace(&format!(" {known} "), "  ");
            joined = joined.replace(known, " ");
        }
        found(&Self { words, joined })
    }

    /// Whether it contains `known`: Latin letters as whole words, Chinese characters anywhere.
    fn contains_phrase(&self, known: &str) -> bool {
        if known.is_ascii() {
            self.words.contains(&format!(" {known} "))
        } else {
            self.joined.contains(known)
        }
    }
}

/// The words of a text in lower case, with one space around each. A word ends where the letters end, where a Chinese
/// character meets another letter, and inside `accessKey`, where a capital letter follows a small one.
fn words(text: &str) -> String {
    let mut words = String::from(" ");
    let mut last: Option<char> = None;
    for c in text.chars().take(SEARCHED_MAX_CHARS) {
        let is_letter = c.is_alphanumeric();
        let begins = last
            .is_some_and(|last| is_chinese(last) != is_chinese(c) || last.is_lowercase() && c.is_uppercase());
        if (!is_letter || begins) && !words.ends_with(' ') {
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

    fn about(text: &str) -> Vec<&'static str> {
        let text = ErrorText::new(text);
        let topics = [
            (text.reports_limit(), "limit"),
            (text.reports_clock(), "clock"),
            (text.reports_signature(), "signature"),
            (text.reports_key(), "key"),
            (text.reports_outage(), "outage"),
            (text.reports_unreachable(), "unreachable"),
        ];
        topics.into_iter().filter_map(|(is, topic)| is.then_some(topic)).collect()
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
            assert_eq!(words(text), expected, "{text}");
        }
    }

    #[test]
    fn known_sentences_are_found_in_both_languages_and_in_either_case() {
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
            assert_eq!(about(text), [topic], "{text}");
        }
    }

    #[test]
    fn words_inside_words_and_sentences_that_mean_something_else_are_not_found() {
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
            assert_eq!(about(text), [""; 0], "{text}");
        }
        // What is left of a text once an exception is taken out of it is still searched.
        assert_eq!(about("please sign in, the sign is wrong"), ["signature"]);
        assert_eq!(about("特权限制,无权限"), ["key"]);
    }

    #[test]
    fn the_cause_of_a_refusal_is_read_from_the_text() {
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
    fn a_long_text_is_searched_at_its_beginning_only() {
        let long = |before: usize| format!("{}{}", "x ".repeat(before), "account locked");
        assert_eq!(about(&long(100)), ["limit"]);
        assert_eq!(about(&long(4_000_000)), [""; 0]);
    }
}
