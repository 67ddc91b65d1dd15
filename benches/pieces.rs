//! What the parts of a poll and of a scrape cost: one account with a thousand currencies.
//! `cargo bench`; what a whole scrape costs, and beside what, is told by benches/compare.py.

#![allow(clippy::indexing_slicing, reason = "a benchmark ends at what it did not expect")]

use std::{fmt::Write as _, hint::black_box, sync::Arc, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use xt_balance_exporter::{
    clock::{MonotonicTime, Timestamp, UnixTime, Uptime},
    exchange::{Wallet, v1},
    exposition::{cache::ExpositionCache, gzip::Chunk},
    snapshot::store::AccountState,
    snapshot::store::{AccountEntry, Store},
    snapshot::wallet::{CurrencyFilter, PollOutcome, PollResult, WalletConfig, WalletSnapshot},
};

const NOW: Timestamp = Timestamp {
    monotonic: MonotonicTime::START,
    uptime: Uptime::START,
    unix: UnixTime::from_secs(1_700_000_000),
};

/// An answer of a thousand rows; all amounts differ from those of another `variant`.
fn body(variant: u64) -> Vec<u8> {
    let mut body = r#"{"code":200,"data":{"#.to_owned();
    for row in 0..1_000_u64 {
        let amount = |factor: u64| (row * 7_919 + variant * 104_729) * factor % 1_000_003;
        let (free, frozen) = (amount(97), amount(89));
        let comma = if row == 0 { "" } else { "," };
        let _ =
            write!(body, r#"{comma}"c{row:03x}":{{"available":"{free}.{frozen:08}","freeze":"{frozen}.5"}}"#);
    }
    body.push_str(r#"},"info":"success"}"#);
    body.into_bytes()
}

fn subject() -> Arc<WalletConfig> {
    let max_age = Duration::from_secs(90);
    Arc::new(WalletConfig {
        account: "account000".into(),
        wallet: Wallet::Spot,
        watch: Vec::new(),
        filter: CurrencyFilter::default(),
        max_age,
    })
}

fn after(standing: &WalletSnapshot, body: &[u8]) -> WalletSnapshot {
    let took = Duration::from_millis(80);
    let outcome = PollOutcome::new(NOW, v1::decode_balances(200, body).map(Some));
    standing.apply(PollResult { at: NOW, took, is_suspect: false, outcome })
}

fn create_cache() -> (Arc<Store>, ExpositionCache) {
    let facts = AccountState {
        name: "account000".into(),
        labels: Arc::default(),
        paused_until: None,
        credentials_loaded: NOW.unix,
        poller_restarts: 0,
    };
    let store = Arc::new(Store::new(vec![AccountEntry::new(facts, vec![subject()], NOW.uptime)]));
    (Arc::clone(&store), ExpositionCache::new(store))
}

fn poll((store, cache): &(Arc<Store>, ExpositionCache), standing: &WalletSnapshot) {
    store.update_account("account000", |account| {
        account.wallets.iter_mut().for_each(|wallet| wallet.set_snapshot(standing.clone()));
    });
    cache.refresh();
}

fn pieces(criterion: &mut Criterion) {
    let bodies = [body(1), body(2)];
    let mut group = criterion.benchmark_group("1000 currencies");
    group
        .bench_function("decode", |bencher| bencher.iter(|| v1::decode_balances(200, black_box(&bodies[0]))));

    let before = after(&WalletSnapshot::new(subject()), &bodies[0]);
    group.bench_function("judge, all changed", |bencher| {
        bencher.iter_batched(
            || PollOutcome::new(NOW, v1::decode_balances(200, &bodies[1]).map(Some)),
            |outcome| before.apply(PollResult { at: NOW, took: Duration::ZERO, is_suspect: false, outcome }),
            criterion::BatchSize::SmallInput,
        );
    });

    let changing = [&before, &after(&before, &bodies[1])].map(WalletSnapshot::clone);
    let known = create_cache();
    let mut turn = 0;
    group.bench_function("render and deflate, all changed", |bencher| {
        bencher.iter(|| {
            turn += 1;
            poll(&known, &changing[turn % 2]);
        });
    });
    let same = after(&before, &bodies[0]);
    poll(&known, &before);
    group.bench_function("render and deflate, nothing changed", |bencher| {
        bencher.iter(|| poll(&known, &same));
    });
    group.bench_function("assemble", |bencher| bencher.iter(|| known.1.render(NOW, None)));
    group.bench_function("assemble, and the exporter's own metrics", |bencher| {
        bencher.iter(|| known.1.render(NOW, Some(NOW.unix)));
    });

    let text = known.1.render(NOW, None).plain.parts.concat();
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("deflate the text as one chunk", |bencher| {
        bencher.iter(|| Chunk::new(black_box(&*text)));
    });
    group.finish();
}

criterion_group!(benches, pieces);
criterion_main!(benches);
