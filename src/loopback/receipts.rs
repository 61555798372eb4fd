//! Receipts: what is said about a message, when, and the courier that says it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, Uri, header};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use super::behaviour::{Behaviour, Current};
use super::draw::{Draw, Key, Purpose};
use super::json::{Item, Signer};
use crate::clock::Clock;

/// Callbacks under way at once.
const AT_ONCE: usize = 32;
/// A callback unanswered for this long is offered again.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between a final word and what comes after it.
const GAP: Duration = Duration::from_millis(50);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a receipt says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Delivered,
    Undelivered,
    /// Taken by the SMSC: what comes first.
    Taken,
    /// An early word that comes after the final one.
    Late,
}

/// A receipt to be.
#[derive(Debug, PartialEq, Eq)]
pub struct Word {
    pub kind: Kind,
    pub after: Duration,
    /// The answer to the request waits for it.
    pub first: bool,
}

/// What is said about one number of the `turn`-th request for a message.
pub fn words(behaviour: &Behaviour, key: Key, turn: u32) -> Vec<Word> {
    let draw = Draw::new(behaviour.seed, key, turn, Purpose::Receipt);
    let disordered = draw.point(3) < behaviour.disordered;
    let mut words = Vec::with_capacity(3);
    if !disordered {
        words.push(Word { kind: Kind::Taken, after: Duration::ZERO, first: false });
    }
    let point = draw.point(0);
    let told = behaviour.delivered.map_or(1.0 - behaviour.no_receipt, |delivered| behaviour.undelivered + delivered);
    if point >= told {
        return words;
    }
    let kind = if point < behaviour.undelivered { Kind::Undelivered } else { Kind::Delivered };
    let first = draw.point(1) < behaviour.receipt_before_answer;
    let late = if draw.point(5) < behaviour.late { draw.within(6, behaviour.late_by) } else { Duration::ZERO };
    let after = if first { Duration::ZERO } else { draw.within(4, behaviour.receipt_delay) + late };
    words.push(Word { kind, after, first });
    if draw.point(2) < behaviour.doubled {
        words.push(Word { kind, after: after + GAP, first: false });
    }
    if disordered {
        words.push(Word { kind: Kind::Late, after: after + GAP, first: false });
    }
    words
}

/// Something to call back: a GET of a URL, or a POST of items.
pub struct Post {
    pub url: Arc<str>,
    /// Empty for a GET.
    pub items: Vec<Item>,
    pub due: Instant,
    /// Told after the first attempt, whatever came of it.
    pub told: Vec<oneshot::Sender<()>>,
    tries: u32,
    /// When it was first due; the end of retrying is counted from it.
    since: Instant,
    epoch: u64,
    number: u64,
}

impl Post {
    /// One receipt, due after `after`.
    pub fn new(url: Arc<str>, item: Option<Item>, after: Duration) -> Self {
        let due = Instant::now() + after;
        let items = item.into_iter().collect();
        Self { url, items, due, told: Vec::new(), tries: 0, since: due, epoch: 0, number: 0 }
    }

    fn weight(&self) -> u64 {
        self.items.len().max(1) as u64
    }
}

impl PartialEq for Post {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Post {}
impl PartialOrd for Post {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Post {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

/// Counts of receipts; a reset raises the epoch, and posts of an older one are dropped.
#[derive(Default)]
pub struct Tally {
    pub sent: AtomicU64,
    pub failed: AtomicU64,
    pub waiting: AtomicU64,
    epoch: AtomicU64,
    numbers: AtomicU64,
}

impl Tally {
    /// Forgets all counts and whatever still waits.
    pub fn reset(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        for count in [&self.sent, &self.failed, &self.waiting] {
            count.store(0, Ordering::SeqCst);
        }
    }

    fn done(&self, post: &Post, count: &AtomicU64) {
        if post.epoch == self.epoch.load(Ordering::SeqCst) {
            count.fetch_add(post.weight(), Ordering::SeqCst);
            self.waiting.fetch_sub(post.weight(), Ordering::SeqCst);
        }
    }
}

/// The way to the courier.
#[derive(Clone)]
pub struct Outbox {
    posts: mpsc::UnboundedSender<Post>,
    pub tally: Arc<Tally>,
}

impl Outbox {
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Post>) {
        let (posts, inbox) = mpsc::unbounded_channel();
        (Self { posts, tally: Arc::default() }, inbox)
    }

    /// Hands a receipt over; it is dropped once the gateway has stopped.
    pub fn put(&self, mut post: Post) {
        post.epoch = self.tally.epoch.load(Ordering::SeqCst);
        post.number = self.tally.numbers.fetch_add(1, Ordering::Relaxed);
        self.tally.waiting.fetch_add(post.weight(), Ordering::SeqCst);
        let _ = self.posts.send(post);
    }
}

/// Calls back, in due time and again while the receiver is down.
pub struct Courier {
    pub outbox: Outbox,
    pub signer: Signer,
    pub clock: Clock,
    pub behaviour: Arc<Current>,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Courier {
    pub fn new(outbox: Outbox, signer: Signer, clock: Clock, behaviour: Arc<Current>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(PATIENCE));
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(AT_ONCE).build(connector);
        Self { outbox, signer, clock, behaviour, client }
    }

    /// Runs until it is aborted or no one can hand anything over.
    pub async fn run(self: Arc<Self>, mut inbox: mpsc::UnboundedReceiver<Post>) {
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        let mut heap: BinaryHeap<Reverse<Post>> = BinaryHeap::new();
        let mut fresh = Vec::new();
        let mut under_way = JoinSet::new();
        loop {
            let due = heap.peek().map(|next| next.0.due);
            let wait = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                got = inbox.recv_many(&mut fresh, 4_096) => if got == 0 { return },
                () = wait => {}
            }
            heap.extend(fresh.drain(..).map(Reverse));
            while under_way.try_join_next().is_some() {}
            for post in grouped(ready(&mut heap), self.behaviour.get().receipt_batch.max(1)) {
                let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
                let courier = Arc::clone(&self);
                under_way.spawn(async move {
                    courier.deliver(post).await;
                    drop(slot);
                });
            }
        }
    }

    async fn deliver(&self, mut post: Post) {
        let tally = &self.outbox.tally;
        if post.epoch != tally.epoch.load(Ordering::SeqCst) {
            return;
        }
        let said = match post.url.parse::<Uri>() {
            Ok(url) if on_this_machine(&url) => {
                tokio::time::timeout(PATIENCE, self.call(url, &post.items)).await.unwrap_or(false)
            }
            _ => {
                tracing::warn!("a callback names no loopback address; its receipts are dropped");
                tally.done(&post, &tally.failed);
                return;
            }
        };
        for told in post.told.drain(..) {
            let _ = told.send(());
        }
        if said {
            tally.done(&post, &tally.sent);
        } else if post.since.elapsed().as_secs() >= self.behaviour.get().receipt_retry_for {
            tally.done(&post, &tally.failed);
        } else {
            let pause = FIRST_PAUSE.saturating_mul(1 << post.tries.min(6)).min(LONGEST_PAUSE);
            post.tries += 1;
            post.due = Instant::now() + pause;
            let _ = self.outbox.posts.send(post);
        }
    }

    async fn call(&self, url: Uri, items: &[Item]) -> bool {
        let request = if items.is_empty() {
            Request::get(url).body(Full::default())
        } else {
            let Ok(body) = serde_json::to_vec(items) else { return false };
            let timestamp = self.clock.now().to_string();
            let signature = self.signer.sign(timestamp.as_bytes(), &body);
            Request::builder()
                .method(Method::POST)
                .uri(url)
                .header(header::CONTENT_TYPE, "application/json")
                .header("X-Timestamp", timestamp)
                .header("X-Signature", signature)
                .body(Full::from(body))
        };
        let Ok(request) = request else { return false };
        let Ok(answer) = self.client.request(request).await else { return false };
        let taken = answer.status().is_success();
        // Read to its end, so that the connection can be used again.
        answer.into_body().collect().await.is_ok() && taken
    }
}

fn ready(heap: &mut BinaryHeap<Reverse<Post>>) -> Vec<Post> {
    let now = Instant::now();
    let mut ready = Vec::new();
    while heap.peek().is_some_and(|next| next.0.due <= now) {
        ready.extend(heap.pop().map(|next| next.0));
    }
    ready
}

/// Joins items that go to the same place for the first time.
fn grouped(posts: Vec<Post>, batch: usize) -> Vec<Post> {
    let mut groups: Vec<Post> = Vec::with_capacity(posts.len());
    let mut open: HashMap<(Arc<str>, u64), usize> = HashMap::new();
    for mut post in posts {
        if post.items.is_empty() || post.tries > 0 || batch == 1 {
            groups.push(post);
            continue;
        }
        let place = (Arc::clone(&post.url), post.epoch);
        match open.get(&place).map(|at| &mut groups[*at]) {
            Some(group) if group.items.len() < batch => {
                group.items.append(&mut post.items);
                group.told.append(&mut post.told);
            }
            _ => {
                open.insert(place, groups.len());
                groups.push(post);
            }
        }
    }
    groups
}

/// A rehearsal calls nobody outside.
fn on_this_machine(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    local && url.scheme_str() == Some("http")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_receipts_add_up() {
        let count = |behaviour: &Behaviour, kind| {
            (0..4_000_u32).filter(|n| words(behaviour, u128::from(*n), 1).iter().any(|w| w.kind == kind)).count()
        };
        let behaviour = Behaviour { undelivered: 0.1, no_receipt: 0.1, ..Behaviour::default() };
        assert!((300..500).contains(&count(&behaviour, Kind::Undelivered)));
        assert!((3_050..3_350).contains(&count(&behaviour, Kind::Delivered)));
        let half = Behaviour { delivered: Some(0.5), ..Behaviour::default() };
        assert!((1_850..2_150).contains(&count(&half, Kind::Delivered)));
    }

    #[test]
    fn disorder_puts_the_early_word_last() {
        let behaviour = Behaviour { disordered: 1.0, doubled: 1.0, ..Behaviour::default() };
        let kinds: Vec<Kind> = words(&behaviour, 1, 1).iter().map(|word| word.kind).collect();
        assert_eq!(kinds, [Kind::Delivered, Kind::Delivered, Kind::Late]);
        let kinds: Vec<Kind> = words(&Behaviour::default(), 1, 1).iter().map(|word| word.kind).collect();
        assert_eq!(kinds, [Kind::Taken, Kind::Delivered]);
    }

    #[test]
    fn only_this_machine_is_called() {
        let local = |url: &str| on_this_machine(&url.parse().unwrap());
        for url in ["http://127.0.0.1:9/x", "http://localhost/x", "http://[::1]:8/x"] {
            assert!(local(url), "{url}");
        }
        for url in ["http://10.0.0.1/x", "http://example.org/", "/x", "https://127.0.0.1/"] {
            assert!(!local(url), "{url}");
        }
    }
}
