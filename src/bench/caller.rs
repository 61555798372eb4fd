//! Who calls back: a gateway on a thread of its own, at its own pace, over many connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::connection::Connection;

/// Receipts a second.
const RATE: u32 = 5_000;
/// Connections that they come over.
const CONNECTIONS: usize = 256;

/// Requests that were rendered beforehand, called in their order, from the first again
/// after the last.
pub(super) struct Requests {
    all: Vec<String>,
    /// Receipts in each.
    receipts: u32,
    next: AtomicUsize,
}

impl Requests {
    pub fn new(all: Vec<String>, receipts: u32) -> Self {
        Self { all, receipts, next: AtomicUsize::new(0) }
    }

    fn next(&self) -> (usize, &[u8]) {
        let of = self.next.fetch_add(1, Ordering::Relaxed) % self.all.len();
        (of, self.all[of].as_bytes())
    }
}

/// What came of the calls.
pub(super) struct Heard {
    /// Which request each call was that was taken, and how long it took: from when it was
    /// due, not from when it was its turn to be sent.
    taken: Vec<(usize, Duration)>,
    pub refused: u64,
    /// From the first call until it was told to stop.
    lasted: Duration,
}

impl Heard {
    /// The requests that were taken.
    pub fn told(&self) -> impl Iterator<Item = usize> {
        self.taken.iter().map(|(of, _)| *of)
    }

    #[allow(clippy::cast_precision_loss)] // counts of calls
    pub fn per_second(&self) -> f64 {
        self.taken.len() as f64 / self.lasted.as_secs_f64()
    }

    /// Milliseconds within which so many of a hundred were answered.
    pub fn ms(&self, percent: usize) -> f64 {
        self.taken.get(self.taken.len() * percent / 100).map_or(0.0, |(_, took)| took.as_secs_f64() * 1e3)
    }
}

/// One stretch of calls: until when, and to whom to say what came of them.
struct Order {
    stop: CancellationToken,
    heard: oneshot::Sender<anyhow::Result<Heard>>,
}

/// Calls while it is told to. Its connections stay open meanwhile.
pub(super) struct Caller {
    orders: mpsc::UnboundedSender<Order>,
}

/// Calls that are under way.
pub(super) struct Calls {
    stop: CancellationToken,
    heard: oneshot::Receiver<anyhow::Result<Heard>>,
}

impl Caller {
    /// Opens the connections. They are closed when it is dropped.
    pub async fn open(to: SocketAddr, requests: Arc<Requests>) -> anyhow::Result<Self> {
        let (orders, ordered) = mpsc::unbounded_channel();
        let (opened, is_open) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let named = std::thread::Builder::new().name("caller".to_owned());
        named.spawn(move || {
            runtime.block_on(async {
                let (connections, done) = match connect(to).await {
                    Ok(connections) => (connections, Ok(())),
                    Err(error) => (Vec::new(), Err(error)),
                };
                if opened.send(done).is_ok() {
                    obey(connections, &requests, ordered).await;
                }
            });
        })?;
        is_open.await??;
        Ok(Self { orders })
    }

    pub fn start(&self) -> anyhow::Result<Calls> {
        let (answer, heard) = oneshot::channel();
        let stop = CancellationToken::new();
        self.orders.send(Order { stop: stop.clone(), heard: answer })?;
        Ok(Calls { stop, heard })
    }
}

impl Calls {
    /// Waits for the answers that are due.
    pub async fn stop(self) -> anyhow::Result<Heard> {
        self.stop.cancel();
        self.heard.await?
    }
}

/// One after the other: the queue of those who are to be accepted is short.
async fn connect(to: SocketAddr) -> std::io::Result<Vec<Connection>> {
    let mut connections = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        connections.push(Connection::connect(to).await?);
    }
    Ok(connections)
}

async fn obey(mut connections: Vec<Connection>, requests: &Arc<Requests>, mut ordered: mpsc::UnboundedReceiver<Order>) {
    while let Some(order) = ordered.recv().await {
        let called = call(&mut connections, requests, &order.stop).await;
        let broke = called.is_err();
        if order.heard.send(called).is_err() || broke {
            return;
        }
    }
}

async fn call(
    connections: &mut Vec<Connection>,
    requests: &Arc<Requests>,
    stop: &CancellationToken,
) -> anyhow::Result<Heard> {
    let (turn, began) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let mut callers: JoinSet<anyhow::Result<_>> = JoinSet::new();
    for mut connection in connections.drain(..) {
        let (requests, turn, stop) = (Arc::clone(requests), Arc::clone(&turn), stop.clone());
        callers.spawn(async move {
            let (mut taken, mut refused) = (Vec::new(), 0);
            while !stop.is_cancelled() {
                let before = u32::try_from(turn.fetch_add(1, Ordering::Relaxed))?.saturating_mul(requests.receipts);
                let due = began + Duration::from_secs(1) * before / RATE;
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep_until(due.into()) => {}
                }
                let (of, request) = requests.next();
                if let 200..300 = connection.call(request).await? {
                    taken.push((of, due.elapsed()));
                } else {
                    refused += 1;
                }
            }
            Ok((connection, taken, refused))
        });
    }
    stop.cancelled().await;
    let mut heard = Heard { taken: Vec::new(), refused: 0, lasted: began.elapsed() };
    while let Some(done) = callers.join_next().await {
        let (connection, taken, refused) = done??;
        connections.push(connection);
        heard.taken.extend(taken);
        heard.refused += refused;
    }
    heard.taken.sort_unstable_by_key(|(_, took)| *took);
    Ok(heard)
}
