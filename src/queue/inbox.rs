//! The inbox of one channel: a connection, a consumer a lane, and the shelf on which
//! messages wait for the worker.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{SelectAll, once};
use futures_util::{StreamExt as _, stream::BoxStream};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions, ConfirmSelectOptions,
};
use lapin::types::FieldTable;
use lapin::{Acker, Channel};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::dead;
use super::error::{QueueError, is_missing};
use super::link;
use super::message::decode;
use super::rabbit::Rabbit;
use super::shelf::{Held, Shelf};
use super::topology::queue_name;
use crate::domain::item::Lane;
use crate::store::outbox::Ticket;

/// How often the shelf is looked through.
const TIDY: Duration = Duration::from_secs(20);
/// A message is acknowledged after this long, whatever its batch does: the lease in the
/// store stands for it. Brokers close on a consumer that keeps one for 30 minutes.
const HOLD: Duration = Duration::from_mins(5);
/// How long a burial may take; less than the end of an inbox may.
const BURIAL: Duration = Duration::from_secs(3);

/// The inbox as the worker sees it.
pub(super) struct Inbox {
    shelf: Arc<Mutex<Shelf<Acker>>>,
    open: watch::Sender<bool>,
    stop: CancellationToken,
    post: TaskTracker,
    acks: TaskTracker,
}

impl Inbox {
    pub(super) fn shelf(&self) -> MutexGuard<'_, Shelf<Acker>> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets messages come, or no more.
    pub(super) fn open(&self, on: bool) {
        self.open.send_if_modified(|was| std::mem::replace(was, on) != on);
    }

    /// Acknowledges messages, beside; the end waits for it.
    pub(super) fn acknowledge(&self, ackers: Vec<Acker>) {
        if !ackers.is_empty() {
            self.acks.spawn(acknowledge(ackers));
        }
    }

    /// Ends it, when everything has been given back and acknowledged.
    pub(super) async fn end(&self) {
        self.stop.cancel();
        self.post.close();
        self.post.wait().await;
    }
}

/// Acknowledges messages. Where the broker is gone they come again, and are dropped then.
async fn acknowledge(ackers: Vec<Acker>) {
    for acker in ackers {
        if acker.ack(BasicAckOptions::default()).await.is_err() {
            return;
        }
    }
}

/// Moves a message to the dead letters, by a connection of its own: of one that has
/// published, a broker short of memory or disk hears nothing more, acknowledgements
/// included. Where that takes long the broker is asked to move it, and says less of why.
async fn bury(rabbit: Arc<Rabbit>, delivery: Delivery, why: String) {
    let buried = async {
        let connection = rabbit.link.connect("gong burial").await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        dead::bury(&channel, &delivery, dead::SHORT, &why).await?;
        Ok::<_, QueueError>(connection)
    };
    let buried = tokio::time::timeout(BURIAL, buried).await;
    if !matches!(buried, Ok(Ok(_))) {
        tracing::warn!("cannot move a message to the dead letters; the broker is asked to");
        // Where that fails, too, the message comes again.
        let _ = delivery.acker.reject(BasicRejectOptions { requeue: false }).await;
    }
    rabbit.counts.poison.inc();
    if let Ok(Ok(connection)) = buried {
        let _ = link::close(&connection).await;
    }
}

/// Waits until the inbox is open, or shut; false where nobody can change it any more.
async fn becomes(open: &mut watch::Receiver<bool>, wanted: bool) -> bool {
    open.wait_for(|on| *on == wanted).await.is_ok()
}

/// Opens the inbox of a channel.
pub(super) fn start(rabbit: Arc<Rabbit>, name: &str) -> Arc<Inbox> {
    let (open, opened) = watch::channel(true);
    let inbox = Arc::new(Inbox {
        shelf: Arc::default(),
        open,
        stop: CancellationToken::new(),
        post: TaskTracker::new(),
        acks: TaskTracker::new(),
    });
    let post = Post {
        shelf: Arc::clone(&inbox.shelf),
        name: name.to_owned(),
        open: opened,
        stop: inbox.stop.clone(),
        acks: inbox.acks.clone(),
        rabbit,
    };
    inbox.post.spawn(post.run());
    inbox
}

/// What fills the inbox.
struct Post {
    rabbit: Arc<Rabbit>,
    shelf: Arc<Mutex<Shelf<Acker>>>,
    name: String,
    open: watch::Receiver<bool>,
    stop: CancellationToken,
    acks: TaskTracker,
}

/// A message and its lane, or the word that a lane's consumer has ended.
type Came = Option<(i32, lapin::Result<Delivery>)>;
type Consumers = SelectAll<BoxStream<'static, Came>>;

impl Post {
    async fn run(self) {
        let mut failures = 0;
        while !self.stop.is_cancelled() {
            let began = Instant::now();
            let Err(error) = self.serve().await else { return };
            // Their acknowledgements are void; the broker delivers them again.
            *self.shelf() = Shelf::default();
            failures = if began.elapsed() > HOLD { 1 } else { failures + 1 };
            let pause = self.rabbit.pause_after(failures);
            if matches!(&error, QueueError::Missing(_)) {
                tracing::debug!(channel = self.name, "the relay has not declared the queues yet");
            } else {
                self.rabbit.counts.broken.inc();
                tracing::warn!(channel = self.name, %error, ?pause, "the inbox broke; connecting again");
            }
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf<Acker>> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the inbox is open; false where it ends first.
    async fn is_open(&self) -> bool {
        let mut open = self.open.clone();
        tokio::select! {
            () = self.stop.cancelled() => false,
            known = becomes(&mut open, true) => known,
        }
    }

    /// One connection's time; it ends well only when the inbox does.
    async fn serve(&self) -> Result<(), QueueError> {
        if !self.is_open().await {
            return Ok(());
        }
        let connection = self.rabbit.link.connect(&format!("gong work {}", self.name)).await?;
        let channel = connection.create_channel().await?;
        // Before it is used, so that every consumer has its own.
        channel.basic_qos(self.rabbit.prefetch, BasicQosOptions::default()).await?;
        while self.is_open().await {
            let mut consumers = self.subscribe(&channel).await?;
            self.take_in(&mut consumers).await?;
            self.shut(&channel, consumers).await?;
        }
        // The worker has returned its leases; what it held is held by nobody.
        let under_way = self.shelf().clear_under_way();
        self.acks.spawn(acknowledge(under_way.into_iter().map(|held| held.acker).collect()));
        self.acks.close();
        self.acks.wait().await;
        link::close(&connection).await
    }

    async fn subscribe(&self, channel: &Channel) -> Result<Consumers, QueueError> {
        let mut all = SelectAll::new();
        for lane in Lane::SERVED {
            let queue = queue_name(&self.name, lane);
            let options = BasicConsumeOptions::default();
            let consumer = channel
                .basic_consume(queue.as_str().into(), lane.name().into(), options, FieldTable::default())
                .await
                .map_err(|e| if is_missing(&e) { QueueError::Missing(queue) } else { e.into() })?;
            let came = consumer.map(move |delivery| Some((lane.number(), delivery)));
            all.push(came.chain(once(std::future::ready(None))).boxed());
        }
        Ok(all)
    }

    /// Puts on the shelf what comes, until the inbox is shut.
    async fn take_in(&self, consumers: &mut Consumers) -> Result<(), QueueError> {
        let (mut tidy, mut open) = (tokio::time::interval(TIDY), self.open.clone());
        loop {
            tokio::select! {
                came = consumers.next() => match came.flatten() {
                    Some((lane, delivery)) => self.put(lane, delivery?),
                    // The queue was deleted under it.
                    None => return Err(QueueError::Missing(queue_name(&self.name, Lane::Call))),
                },
                _ = tidy.tick() => self.tidy().await?,
                _ = becomes(&mut open, false) => return Ok(()),
                () = self.stop.cancelled() => return Ok(()),
            }
        }
    }

    fn put(&self, lane: i32, delivery: Delivery) {
        match decode(&delivery.data) {
            Ok(ticket) => {
                self.shelf().put(Held { ticket, lane, since: Instant::now(), acker: delivery.acker });
                self.rabbit.wake.notify_waiters();
            }
            // One that is none of ours goes to the dead letters, with the reason.
            Err(why) => {
                let queue = delivery.routing_key.as_str();
                tracing::error!(
                    channel = self.name,
                    queue,
                    why,
                    "a message that cannot be read; see the queue gong.dead"
                );
                self.acks.spawn(bury(Arc::clone(&self.rabbit), delivery, why));
            }
        }
    }

    /// Nothing is kept from the broker for long: what waits goes back through the
    /// relay, and what is under way is guarded by its lease.
    async fn tidy(&self) -> Result<(), QueueError> {
        let Some(before) = Instant::now().checked_sub(HOLD) else { return Ok(()) };
        let (waiting, under_way) = {
            let mut kept = self.shelf();
            (kept.overdue_waiting(before), kept.overdue_under_way(before))
        };
        self.acks.spawn(acknowledge(under_way.into_iter().map(|held| held.acker).collect()));
        self.give_back(waiting).await
    }

    /// Says in the store that no message stands for these, then acknowledges them.
    async fn give_back(&self, waiting: Vec<Held<Acker>>) -> Result<(), QueueError> {
        let tickets: Vec<Ticket> = waiting.iter().map(|held| held.ticket).collect();
        self.rabbit.store.soon(self.rabbit.store.unpublish(&tickets)).await?;
        self.acks.spawn(acknowledge(waiting.into_iter().map(|held| held.acker).collect()));
        Ok(())
    }

    /// Ends the consumers and gives back what had come and was not leased.
    async fn shut(&self, channel: &Channel, mut consumers: Consumers) -> Result<(), QueueError> {
        for lane in Lane::SERVED {
            channel.basic_cancel(lane.name().into(), BasicCancelOptions::default()).await?;
        }
        while let Some(came) = consumers.next().await {
            if let Some((lane, delivery)) = came {
                self.put(lane, delivery?);
            }
        }
        let waiting = self.shelf().clear_waiting();
        self.give_back(waiting).await
    }
}
