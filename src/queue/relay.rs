//! The relay: publishes ready batches from their outbox, the batch table, with
//! pipelined confirms, and sweeps up after a broker that lost messages.
//!
//! One is enough; two at the same time publish doubles, which are dropped. A message is
//! confirmed first and marked in the store after, so a crash in between doubles it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::error::QueueError;
use super::link;
use super::message::encode;
use super::rabbit::Rabbit;
use super::steady::steady;
use super::topology::{self, DEAD, EXCHANGE, queue_name, routing_key};
use crate::clock::Millis;
use crate::domain::item::Lane;
use crate::store::outbox::{LaneOf, Published, Ticket};

/// How often the outbox is looked at when nobody says that something is in it.
const TICK: Duration = Duration::from_millis(100);
/// Messages published together; an urgent batch waits for no more than these.
const ROUND: i64 = 2_000;
/// How long a queue that refused a message is left alone.
const FULL: Duration = Duration::from_secs(1);
/// How often queues are compared with what the store expects in them.
const SWEEP: Duration = Duration::from_secs(3);
/// A message this old, in milliseconds, lies in a queue or with a consumer.
const ARRIVED: Millis = 2_000;
/// One this old that no consumer can still have in good order is published again, in
/// milliseconds; should one have it after all, that is a double.
const FORGOTTEN: Millis = 15_000;

/// The relay of a site.
pub struct Relay {
    pub rabbit: Arc<Rabbit>,
    /// The channels it serves, by number and name.
    pub channels: Vec<(i32, String)>,
    /// Told when batches may have become ready.
    pub wake: Arc<Notify>,
    pub stop: CancellationToken,
}

/// A figure that is shown for as long as somebody reads it.
struct Shown<'a>(&'a Gauge);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        self.0.set(0);
    }
}

/// What became of a message.
enum Fate {
    Confirmed(Ticket),
    Refused(LaneOf),
}

impl Relay {
    /// Runs until told to stop; whatever the broker does.
    pub async fn run(&self) {
        let _shown = Shown(&self.rabbit.counts.dead);
        steady(&self.rabbit, &self.stop, "relay", || self.serve()).await;
    }

    /// One connection's time.
    async fn serve(&self) -> Result<(), QueueError> {
        let connection = self.rabbit.link.connect("gong relay").await?;
        let channel = self.declare(&connection).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        tracing::debug!("the relay is connected");
        tokio::select! {
            done = self.keep_full(&connection, &channel) => done?,
            () = link::watch(&connection, "relay", &self.rabbit.counts.blocked) => {}
        }
        link::close(&connection).await
    }

    /// Publishes and sweeps until told to stop.
    async fn keep_full(&self, connection: &Connection, channel: &Channel) -> Result<(), QueueError> {
        let (mut full, mut sweep_at) = (HashMap::new(), Instant::now());
        while !self.stop.is_cancelled() {
            // A broker short of memory or disk says so, and hears nothing meanwhile.
            if !connection.status().blocked() {
                if sweep_at <= Instant::now() {
                    link::answered(connection, &self.stop, self.sweep(connection)).await?;
                    link::answered(connection, &self.stop, self.count_dead(connection)).await?;
                    sweep_at = Instant::now() + SWEEP;
                }
                if self.round((connection, channel), &mut full).await? {
                    continue;
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = self.wake.notified() => {}
                () = tokio::time::sleep(TICK) => {}
            }
        }
        Ok(())
    }

    /// Declares everything. Only the relay does, so that a queue that is not there has
    /// been lost with all that was in it, and its batches are published again at once.
    async fn declare(&self, connection: &Connection) -> Result<Channel, QueueError> {
        for (of, queue, _) in self.queues() {
            if topology::depth(connection, &queue).await?.is_none() {
                self.again(of, Millis::MAX, i64::MAX).await?;
            }
        }
        let channel = connection.create_channel().await?;
        topology::declare_ends(&channel).await?;
        for (_, name) in &self.channels {
            topology::declare_lanes(&channel, name).await?;
        }
        Ok(channel)
    }

    /// Every queue, its name and its routing key.
    fn queues(&self) -> impl Iterator<Item = (LaneOf, String, String)> {
        let of = |(no, name): &(i32, String), lane: Lane| {
            (LaneOf { channel: *no, lane: lane.number() }, queue_name(name, lane), routing_key(name, lane))
        };
        self.channels.iter().flat_map(move |channel| Lane::SERVED.map(|lane| of(channel, lane)))
    }

    /// Publishes what is ready, as far as the queues have room. True when there may be
    /// more.
    async fn round(
        &self,
        (connection, channel): (&Connection, &Channel),
        full: &mut HashMap<LaneOf, Instant>,
    ) -> Result<bool, QueueError> {
        full.retain(|_, until| *until > Instant::now());
        let held: HashMap<LaneOf, i64> = self.published(0, 0).await?.iter().map(|p| (of(p), p.n)).collect();
        let mut room: HashMap<LaneOf, i64> = self
            .queues()
            .filter(|(of, ..)| !full.contains_key(of))
            .map(|(of, ..)| (of, self.rabbit.depth - held.get(&of).unwrap_or(&0)))
            .filter(|(_, room)| *room > 0)
            .collect();
        let queues: Vec<LaneOf> = room.keys().copied().collect();
        let store = &self.rabbit.store;
        let mut ready = store.soon(store.unpublished(&queues, ROUND)).await?;
        ready.retain(|(of, _)| {
            room.get_mut(of).is_some_and(|left| {
                *left -= 1;
                *left >= 0
            })
        });
        ready.truncate(usize::try_from(ROUND).unwrap_or(usize::MAX));
        if ready.is_empty() {
            return Ok(false);
        }
        let mut confirmed = Vec::with_capacity(ready.len());
        let mut refused = HashSet::new();
        for fate in link::answered(connection, &self.stop, self.publish(channel, &ready)).await? {
            match fate {
                Fate::Confirmed(ticket) => confirmed.push(ticket),
                Fate::Refused(of) => {
                    self.rabbit.counts.refused.inc();
                    refused.insert(of);
                }
            }
        }
        crate::failpoint::at!("after_publish", !confirmed.is_empty());
        store.soon(store.confirm_published(&confirmed)).await?;
        self.rabbit.counts.published.inc_by(confirmed.len() as u64);
        full.extend(refused.into_iter().map(|of| (of, Instant::now() + FULL)));
        Ok(!confirmed.is_empty())
    }

    /// Publishes all of them before the first confirmation is waited for.
    async fn publish(&self, channel: &Channel, ready: &[(LaneOf, Ticket)]) -> Result<Vec<Fate>, QueueError> {
        let keys: HashMap<LaneOf, String> = self.queues().map(|(of, _, key)| (of, key)).collect();
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let persistent = BasicProperties::default().with_delivery_mode(2).with_content_type("application/json".into());
        let sent = ready.iter().filter_map(|(of, ticket)| {
            let (key, body, properties) = (keys.get(of)?.as_str(), encode(*ticket), persistent.clone());
            Some(async move {
                let sent = channel.basic_publish(EXCHANGE.into(), key.into(), options, &body, properties).await?;
                match sent.await? {
                    Confirmation::Ack(None) => Ok(Fate::Confirmed(*ticket)),
                    // It fits no queue: somebody deleted one, or its binding.
                    Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)) => {
                        Err(QueueError::Missing(format!("{EXCHANGE}.{key}")))
                    }
                    Confirmation::Nack(None) | Confirmation::NotRequested => Ok(Fate::Refused(*of)),
                }
            })
        });
        join_all(sent).await.into_iter().collect()
    }

    /// Compares every queue with what the store expects in it, and publishes again what
    /// is missing.
    async fn sweep(&self, connection: &Connection) -> Result<(), QueueError> {
        let now = self.rabbit.store.now();
        let expected: HashMap<LaneOf, Published> =
            self.published(now - ARRIVED, now - FORGOTTEN).await?.into_iter().map(|p| (of(&p), p)).collect();
        for (of, queue, _) in self.queues() {
            let Some(expected) = expected.get(&of).filter(|p| p.before_first > 0) else { continue };
            let Some(depth) = topology::depth(connection, &queue).await? else {
                return Err(QueueError::Missing(queue));
            };
            let (lost, before) = missing(expected, depth, self.rabbit.prefetch, now);
            if lost > 0 {
                self.again(of, before, lost).await?;
            }
        }
        Ok(())
    }

    /// Shows how many dead letters there are: the broker moves messages there itself, and
    /// tells nobody.
    async fn count_dead(&self, connection: &Connection) -> Result<(), QueueError> {
        // Without it they would be thrown away.
        let depth = topology::depth(connection, DEAD).await?.ok_or_else(|| QueueError::Missing(DEAD.to_owned()))?;
        let dead = i64::from(depth.messages);
        if dead > self.rabbit.counts.dead.set(dead) {
            tracing::warn!(dead, "dead letters lie in gong.dead for somebody to look at");
        }
        Ok(())
    }

    async fn published(&self, first: Millis, second: Millis) -> Result<Vec<Published>, QueueError> {
        Ok(self.rabbit.store.soon(self.rabbit.store.published(first, second)).await?)
    }

    async fn again(&self, of: LaneOf, before: Millis, most: i64) -> Result<(), QueueError> {
        let store = &self.rabbit.store;
        let lost = store.soon(store.publish_again(of, before, most)).await?;
        // Those that may be with a busy worker are no news.
        if lost > 0 && before > self.rabbit.store.now() - FORGOTTEN {
            tracing::warn!(
                channel = of.channel,
                lane = of.lane,
                lost,
                "the broker lost messages; publishing them again"
            );
            self.rabbit.counts.lost.inc_by(lost);
        }
        Ok(())
    }
}

fn of(published: &Published) -> LaneOf {
    LaneOf { channel: published.channel, lane: published.lane }
}

/// How many messages a queue lacks, and of which age. Its consumers may hold some that
/// it does not count; those that stay with one for long are as good as lost.
fn missing(expected: &Published, depth: topology::Depth, prefetch: u16, now: Millis) -> (i64, Millis) {
    let messages = i64::from(depth.messages);
    let with_consumers = i64::from(depth.consumers) * i64::from(prefetch);
    let lost = expected.before_first - messages - with_consumers;
    if lost > 0 {
        return (lost, now - ARRIVED);
    }
    ((expected.before_second - messages).max(0), now - FORGOTTEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_lacks_what_neither_it_nor_its_consumers_can_have() {
        let expected =
            |first, second| Published { channel: 1, lane: 2, n: 99, before_first: first, before_second: second };
        let depth = |messages, consumers| topology::Depth { messages, consumers };
        let now = 1_000_000;
        for (expected, depth, lacks) in [
            (expected(10, 10), depth(10, 0), (0, FORGOTTEN)),
            (expected(10, 0), depth(2, 2), (0, FORGOTTEN)),
            (expected(11, 0), depth(2, 2), (1, ARRIVED)),
            // With a consumer too long: as good as lost.
            (expected(4, 3), depth(0, 1), (3, FORGOTTEN)),
            (expected(4, 3), depth(3, 1), (0, FORGOTTEN)),
            // Stale copies and doubles make a queue longer than expected.
            (expected(1, 1), depth(5, 0), (0, FORGOTTEN)),
        ] {
            let (lost, before) = missing(&expected, depth, 4, now);
            assert_eq!((lost, now - before), lacks, "{expected:?} {depth:?}");
        }
    }
}
