//! Lines of the log that tests wait for or count, each by a part of it. They stand here alone, so that a better wording
//! is one change.

// Start and end
pub const STARTING: &str = "starting xt-balance-exporter";
pub const LISTENING: &str = "listening";
pub const OPEN_TO_OTHER_MACHINES: &str = "other machines can read the balances without a password";
pub const SHUTTING_DOWN: &str = "received SIGTERM, shutting down";
pub const CUT_OFF: &str = "closed connections at shutdown";
pub const EMPTY_SHARD: &str = "no account belongs to this shard";
pub const FEW_FILES: &str = "polls reserve";
pub const RESTORED: &str = "restored from the last process: ";
pub const ONE_REFUSED_KEY: &str = "restored from the last process: 0 paused accounts, 1 refused key";
pub const STATE_FILE_UNREADABLE: &str = "the state file limits.json in $STATE_DIRECTORY is ignored";
pub const STATE_FILE_UNWRITABLE: &str = "the state file limits.json in $STATE_DIRECTORY cannot be written";
pub const STATE_FILE_FROM_FUTURE: &str = "the state file limits.json in $STATE_DIRECTORY is from the future";
pub const STATE_DIRECTORY_RELATIVE: &str = "$STATE_DIRECTORY is ignored";
pub const NOT_NOTIFIED: &str = "cannot notify the service manager";

// Polls
pub const FIRST_POLL_GOOD: &str = "first poll succeeded";
pub const WATCH_PROBLEMS: &str = "watched currencies ";
pub const POLL_FAILED: &str = "poll failed: ";
pub const OTHER_VERSION: &str = "; the key may be for API ";
pub const MAY_NOT_BE_OPEN: &str = "; the account may not have opened coin-margined futures: ";
pub const POLL_FAILED_AGAIN: &str = "poll failed again: ";
pub const PAUSED: &str = "the account is paused after a rate-limit reply";
pub const BALANCES_UNKNOWN: &str = "balances are unknown, because";
pub const PRICES_UNKNOWN: &str = "prices are unknown, because";
pub const PRICES_FAILED: &str = "cannot read prices";
pub const PRICES_GOOD_AGAIN: &str = "prices can be read again";
pub const POLLER_PANICKED: &str = "bug: the poller panicked";
pub const PRICE_POLLER_PANICKED: &str = "bug: the price poller panicked";
/// In the log and in `check`.
pub const NO_SOURCE_ADDRESS: &str = "correct source_address of the egress group";

// Keys and authorities
pub const KEY_FILES_UNREADABLE: &str = "the key files cannot be read";
pub const KEY_FILES_NOT_USED: &str = "cannot use the changed key files";
pub const NEW_KEYS_IN_USE: &str = "new key pair accepted, using it";
pub const AUTHORITIES_KEPT: &str = "keeping the certificate authorities in use: SSL_CERT_FILE cannot be read";
pub const AUTHORITIES_UNREADABLE: &str = "SSL_CERT_FILE cannot be read";

// Files that are read again
pub const RELOADED: &str = "configuration reloaded";
pub const RELOAD_FAILED: &str = "configuration reload failed, the previous configuration stays active";
/// On the status page.
pub const PAGE_RELOAD_FAILED: &str = "the new configuration is invalid";
pub const NOT_A_REGULAR_FILE: &str = "not a regular file";
pub const WEB_CONFIG_IN_FORCE: &str = "web configuration reloaded";
pub const WEB_CONFIG_UNUSABLE: &str = "invalid web configuration";
pub const WEB_CONFIG_UNSEEN: &str = "cannot check the web configuration for changes";
pub const TLS_GONE: &str = "tls_server_config was removed";
pub const TLS_WANTED: &str = "the web configuration enables TLS, which needs a restart";

// To the service manager
pub const STATUS_GOOD: &str = "STATUS=1 account; all last polls succeeded";
pub const STATUS_ONE_STUCK: &str = "STATUS=2 accounts; the poller of 1 is stuck or dead";
pub const STATUS_ENDING: &str = "STATUS=shutting down";

// What the demo prints
pub const DEMO_LOW: &str = " arbitrage/spot: USDT ";
pub const DEMO_REFUSED: &str = " otc-desk/spot: the exchange refuses the key (auth), balances are unknown";
pub const DEMO_END: &str = "The story is over.";
