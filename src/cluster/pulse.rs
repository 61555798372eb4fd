//! Whether the database's server is still there, or went without a word: its host lost
//! power, or a firewall forgot the connections. No error comes of that, and a statement
//! under way would wait for ever. So the process ends; whoever starts it anew (systemd,
//! a container's policy) connects afresh, and what it held is taken over as after any
//! crash.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::store::Store;
use crate::store::pulse::Pulse;

/// How often it is asked.
const EVERY: Duration = Duration::from_secs(2);
/// A server that shuts down or dies while its host lives says so at once. One that
/// breaks off after such a silence may have left other statements without an answer.
const SUDDEN: Duration = Duration::from_secs(5);
/// Longer than a lease of a batch lasts: nothing is held any more.
const SILENT: Duration = Duration::from_secs(40);

/// What a question came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Alive,
    /// The connection broke; the others see it, too.
    Broke,
    Silence,
}

/// Asks again and again; returns when the server went without a word.
async fn listen(store: &Store) {
    let mut pulse = None;
    loop {
        if pulse.is_none() {
            // Who cannot connect is told so, here as everywhere.
            pulse = store.pulse().await.ok().flatten();
        }
        if let Some(line) = &mut pulse {
            match ask(line).await {
                Word::Alive => {}
                Word::Broke => pulse = None,
                Word::Silence => return,
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn ask(line: &mut Pulse) -> Word {
    let asked = Instant::now();
    let answer = tokio::time::timeout(SILENT, line.beat()).await;
    match answer {
        Ok(Ok(())) => Word::Alive,
        Ok(Err(_)) if asked.elapsed() < SUDDEN => Word::Broke,
        Ok(Err(_)) | Err(_) => Word::Silence,
    }
}

/// Ends the process where the database's server goes without a word.
pub async fn end_when_silent(store: Arc<Store>, stop: CancellationToken) {
    if store.file.is_some() {
        return;
    }
    tokio::select! {
        () = stop.cancelled() => {}
        () = listen(&store) => {
            tracing::error!("the database gave no sign of life; ending, to be started anew and to connect afresh");
            std::process::exit(1);
        }
    }
}
