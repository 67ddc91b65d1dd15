//! The part of the accounts that one of several processes watches. Depends on nothing: it reads neither files nor the
//! environment.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};

/// Maximum number of shards. An account is compared with each of them.
const MAX_SHARDS: u32 = 1000;
/// Stands for the number of a shard that the name of a pod determines.
const POD: &str = "pod";

/// One of the parts into which the accounts are divided. Every account belongs to exactly one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 1 to `count`.
    number: u32,
    count: u32,
}

/// A value of `--shard`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardFlag {
    /// Such as `2/5`.
    Given(Shard),
    /// `pod/COUNT`: the ordinal at the end of the name of a `StatefulSet`'s pod, plus one.
    Pod {
        /// From 1 to [`MAX_SHARDS`].
        count: u32,
    },
}

impl Default for Shard {
    /// The only shard, which has all accounts.
    fn default() -> Self {
        Self { number: 1, count: 1 }
    }
}

impl Shard {
    /// Counted from 1.
    #[must_use]
    pub fn number(self) -> u32 {
        self.number
    }

    /// The number of shards.
    #[must_use]
    pub fn count(self) -> u32 {
        self.count
    }

    /// Whether the account called `name` belongs to this shard.
    #[must_use]
    pub fn contains(self, name: &str) -> bool {
        self.find(name) == self.number
    }

    /// The number of the shard that the account called `name` belongs to.
    #[must_use]
    pub fn find(self, name: &str) -> u32 {
        find_shard(name, self.count)
    }
}

/// The number of the shard that watches the account called `name`: of all numbers N from 1 to `count` the one with the
/// greatest SHA-256 digest of `N/name`, compared byte by byte (rendezvous hashing). So one more shard only takes accounts
/// from the others, and each of them loses an equal part.
fn find_shard(name: &str, count: u32) -> u32 {
    let digest = |number: &u32| <[u8; 32]>::from(Sha256::digest(format!("{number}/{name}")));
    (1..=count).max_by_key(digest).unwrap_or(1)
}

/// Parses digits without a sign.
fn parse_number(digits: &str) -> Option<u32> {
    digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.count)
    }
}

impl FromStr for ShardFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str =
            "write the shard and the number of shards, such as 2/5, or pod/5 in a StatefulSet of five pods";
        let (shard, count) = text.split_once('/').ok_or(EXAMPLE)?;
        let count = parse_number(count).ok_or(EXAMPLE)?;
        if !(1..=MAX_SHARDS).contains(&count) {
            return Err(format!("the number of shards must be from 1 to {MAX_SHARDS}: {EXAMPLE}"));
        }
        if shard == POD {
            return Ok(Self::Pod { count });
        }
        let number = parse_number(shard).ok_or(EXAMPLE)?;
        if !(1..=count).contains(&number) {
            return Err(format!("shards are counted from 1 to the number of shards: {EXAMPLE}"));
        }
        Ok(Self::Given(Shard { number, count }))
    }
}

impl ShardFlag {
    /// The shard. `pod_name` is the name of the pod, or of the machine.
    ///
    /// # Errors
    /// If the shard depends on the name and the name does not end in the ordinal of a shard. The error is the predicate
    /// of a sentence about the flag.
    pub fn resolve(self, pod_name: &str) -> Result<Shard, String> {
        let count = match self {
            Self::Given(shard) => return Ok(shard),
            Self::Pod { count } => count,
        };
        let fix = format!(
            "run the exporter in a StatefulSet of {count} pods, or write the shard, such as 1/{count}"
        );
        let ordinal = pod_name.rsplit_once('-').and_then(|(_, ordinal)| parse_number(ordinal));
        match ordinal {
            None => Err(format!(
                "needs a name of the pod that ends in a hyphen and an ordinal, in POD_NAME or as the host name: {fix}"
            )),
            Some(ordinal) if ordinal >= count => Err(format!(
                "has shards for the ordinals 0 to {}, but the name of the pod ends in {ordinal}: {fix}",
                count - 1
            )),
            Some(ordinal) => Ok(Shard { number: ordinal + 1, count }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const ACCOUNTS: u32 = 1_000;

    fn names() -> impl Iterator<Item = String> {
        (0..ACCOUNTS).map(|number| format!("sub-account-{number}"))
    }

    fn shard(text: &str) -> Shard {
        let shard = text.parse::<ShardFlag>().and_then(|flag| flag.resolve("no-pod"));
        shard.unwrap_or_else(|why| panic!("{text}: {why}"))
    }

    /// `for n in 1 2 3 4 5; do printf '%s/%s' $n treasury | sha256sum; done`
    #[test]
    fn the_hash_never_changes() {
        for (name, numbers) in [
            ("treasury", [1, 2, 2, 2, 2]),
            ("main", [1, 2, 2, 4, 4]),
            ("desk-a", [1, 1, 1, 1, 1]),
            ("ünïcode / name", [1, 2, 2, 4, 6]),
        ] {
            let found = [1, 2, 3, 5, 12].map(|count| find_shard(name, count));
            assert_eq!(found, numbers, "{name}");
        }
    }

    #[test]
    fn every_account_belongs_to_exactly_one_shard_and_the_shards_are_of_similar_size() {
        for count in [1, 2, 5, 12] {
            let shards: Vec<_> = (1..=count).map(|number| shard(&format!("{number}/{count}"))).collect();
            let mut sizes = BTreeMap::<u32, u32>::new();
            for name in names() {
                let owners: Vec<_> = shards.iter().filter(|shard| shard.contains(&name)).collect();
                let [owner] = *owners else { panic!("{name}: {owners:?}") };
                *sizes.entry(owner.number()).or_default() += 1;
            }
            let fair = ACCOUNTS / count;
            let range = fair * 7 / 10..=fair * 13 / 10;
            assert_eq!(sizes.len(), shards.len());
            assert!(sizes.values().all(|size| range.contains(size)), "{count}: {sizes:?}");
        }
    }

    #[test]
    fn one_more_shard_only_takes_accounts_from_the_others() {
        for count in [1, 4, 11] {
            let moved = names().filter(|name| find_shard(name, count) != find_shard(name, count + 1));
            let moved: Vec<_> = moved.collect();
            assert!(moved.iter().all(|name| find_shard(name, count + 1) == count + 1), "{count}");
            let fair = ACCOUNTS as usize / (count as usize + 1);
            assert!((fair * 7 / 10..=fair * 13 / 10).contains(&moved.len()), "{count}: {}", moved.len());
        }
    }

    #[test]
    fn a_flag_is_a_shard_or_the_ordinal_of_a_pod() {
        assert_eq!(shard("2/5"), Shard { number: 2, count: 5 });
        assert_eq!(shard("1/1"), Shard::default());
        assert_eq!("pod/5".parse(), Ok(ShardFlag::Pod { count: 5 }));
        let pod = ShardFlag::Pod { count: 12 };
        for (name, number) in [("xt-balance-exporter-0", 1), ("x-11", 12), ("a-3-07", 8)] {
            assert_eq!(pod.resolve(name), Ok(Shard { number, count: 12 }), "{name}");
        }
        for name in ["", "x", "x-", "x-12", "x-a", "x-5b", "12", "x-+1", "x-4294967296"] {
            assert!(pod.resolve(name).is_err(), "{name}");
        }
        for text in [
            "",
            "/",
            "2",
            "2/",
            "/5",
            "0/5",
            "6/5",
            "2/0",
            "-1/5",
            "+1/5",
            "2/+5",
            "2/5/7",
            "1/1001",
            "pod",
            "pod/0",
            "POD/5",
            "two/5",
            " 2/5",
            "2 / 5",
            "1/4294967297",
        ] {
            let error = text.parse::<ShardFlag>().err().unwrap_or_else(|| panic!("accepted: {text}"));
            assert!(error.contains("2/5"), "{error}");
        }
    }
}
