//! A part that lives on one connection, and on another when that breaks.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::error::QueueError;
use super::rabbit::Rabbit;

/// A connection that held this long begins the pauses anew.
const GOOD: Duration = Duration::from_mins(1);

/// Runs `serve`, one connection's time, again and again until it ends well or `stop`.
pub(super) async fn steady<F>(rabbit: &Rabbit, stop: &CancellationToken, part: &str, serve: impl Fn() -> F)
where
    F: Future<Output = Result<(), QueueError>>,
{
    let mut failures = 0;
    while !stop.is_cancelled() {
        let began = Instant::now();
        let Err(error) = serve().await else { return };
        if stop.is_cancelled() {
            tracing::info!(part, %error, "the end is not put off for the broker");
            return;
        }
        failures = if began.elapsed() > GOOD { 1 } else { failures + 1 };
        rabbit.counts.broken.inc();
        let pause = rabbit.pause_after(failures);
        tracing::warn!(part, %error, ?pause, "the connection broke; connecting again");
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}
