//! Batches from their table through relay, broker and inbox to a claim and its
//! acknowledgement, beside a bare publish and consume.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Map;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::broker::{self, Broker};
use super::dispatch::persons_for;
use super::site::{CHANNEL, Site};
use super::{Measured, Run, Settings, peak};
use crate::channel::declaration::LimitsSpec;
use crate::channel::registry::ChannelSettings;
use crate::domain::item::Lane;
use crate::queue::counts::QueueCounts;
use crate::queue::relay::Relay;
use crate::queue::{Queue, QueueSettings, Rabbit};
use crate::say;

/// Messages a second of the channel: so few that each is a batch of its own.
const SLOW: f64 = 0.01;
/// Who claims.
const OWNER: &str = "bench";
/// Claims under way at once, and batches each asks for, as a worker does.
const CLAIMS: usize = 2;
const LOOK: Duration = Duration::from_millis(2);

pub(super) async fn run(settings: &Settings, n: i64) -> anyhow::Result<Measured> {
    let Some(url) = &settings.broker else {
        anyhow::bail!(say!("请用 --broker 指定消息队列", "name the broker with --broker"));
    };
    let site = Site::open(settings, slow(), None).await?;
    site.people(persons_for(n)).await?;
    let (mut runs, mut details) = (Vec::new(), Map::new());
    let QueueSettings { depth, prefetch, .. } = broker::settings(url);
    for counted in settings.rounds() {
        let dispatch = site.planned().await?;
        let n = site.app.store.open_batches(dispatch.no).await?;
        let (took, published) = through(&site, url, n).await?;
        let held = peak::read();
        let window = usize::try_from(depth)?;
        let bare = Broker::entered(url)?.bare(n, window, prefetch).await?;
        site.app.store.empty_ledger().await?;
        details.insert("published".into(), published.into());
        if counted {
            runs.push(Run::new(n, took, bare, held));
        }
    }
    site.close().await?;
    details.insert("depth".into(), depth.into());
    details.insert("prefetch".into(), prefetch.into());
    let ceiling = "as many messages published with confirms to a quorum queue, consumed and acknowledged, with the same depth and prefetch";
    Ok(Measured { name: "queue", ceiling, runs, details })
}

fn slow() -> ChannelSettings {
    let limits = LimitsSpec { rate: Some(SLOW), ..LimitsSpec::default() };
    ChannelSettings { limits, ..super::rehearsal() }
}

/// How long it takes until `n` batches are claimed and acknowledged, and how many
/// messages it took.
async fn through(site: &Site, url: &str, n: i64) -> anyhow::Result<(Duration, u64)> {
    let (store, wake) = (Arc::clone(&site.app.store), Arc::new(Notify::new()));
    let counts = QueueCounts::default();
    let pauses = Arc::new(|_| 200);
    let rabbit = Rabbit::new(&broker::settings(url), (Arc::clone(&store), Arc::clone(&wake)), pauses, counts.clone())?;
    let no = store.channel_no(CHANNEL).await?;
    let (stop, channels) = (CancellationToken::new(), vec![(no, CHANNEL.to_owned())]);
    let relay = Relay { rabbit: Arc::clone(&rabbit), channels, wake, stop: stop.clone() };
    let queue = Queue::Rabbit(rabbit);
    peak::reset();
    let began = Instant::now();
    let relaying = tokio::spawn(async move { relay.run().await });
    queue.consume((no, CHANNEL), true);
    let mut claimed = 0;
    while claimed < n {
        let lease = || queue.lease(no, OWNER, Lane::Call.number()..=Lane::Routine.number(), 1);
        let asked = (0..CLAIMS).map(|_| lease());
        let leases: Vec<_> = futures_util::future::try_join_all(asked).await?.into_iter().flatten().collect();
        if leases.is_empty() {
            tokio::time::sleep(LOOK).await;
        }
        claimed += i64::try_from(leases.len())?;
        queue.settled(no, &leases);
    }
    // The end waits for the last acknowledgement.
    queue.leave(no).await;
    let took = began.elapsed();
    stop.cancel();
    relaying.await?;
    Ok((took, counts.published.get()))
}
