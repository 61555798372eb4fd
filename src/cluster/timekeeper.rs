//! Keeps an engine at the time of the database that it shares with others.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Millis};
use crate::store::Store;

/// How often the database's clock is looked at.
const EVERY: Duration = Duration::from_secs(2);
/// A machine whose own clock is further off, in milliseconds, should be looked at.
const OFF: Millis = 5_000;

/// Looks at the database's clock until `stop`.
pub async fn keep_time(store: Arc<Store>, stop: CancellationToken) {
    let mut was_off = false;
    while !stop.is_cancelled() {
        if let Err(error) = store.soon(store.hear_clock()).await {
            tracing::debug!(%error, "cannot see the database's clock; time goes on by this machine's");
        }
        let ahead_ms = Clock::System.now() - store.now();
        let is_off = ahead_ms.abs() > OFF;
        if is_off && !was_off {
            tracing::warn!(
                ahead_ms,
                "this machine's clock is not the database's, which is gone by; look at NTP on both"
            );
        }
        was_off = is_off;
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}
