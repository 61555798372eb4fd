//! A request on its way to the gateway, and the span that names it in traces.

use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;
use tracing::Instrument as _;

use super::job::Row;
use super::window::{Request, Sent};
use crate::channel::{Channel, Class, Outcome};
use crate::clock::Clock;
use crate::store::batches::Lease;

/// Sends in a task of its own, so that every core has its share of the work. What
/// becomes of a request whose task broke, nobody knows.
pub fn hand_over(
    channel: Arc<dyn Channel>,
    name: &str,
    clock: Clock,
    Request { rows, messages }: Request,
    answers: UnboundedSender<Vec<Sent>>,
) {
    let span = request_span(name, &rows);
    let mut under_way = UnderWay { rows, clock, answers };
    tokio::spawn(
        async move {
            let outcomes = channel.send(&messages).await;
            crate::failpoint::at!("after_send");
            tracing::debug!(outcome = outcomes.first().map_or("none", Outcome::word), "answered");
            under_way.answered(outcomes);
        }
        .instrument(span),
    );
}

/// Names a request by its first delivery (dispatch and ordinal, as in the ledger), and
/// nobody it goes to. Costs nothing while nobody asks for debug.
fn request_span(channel: &str, rows: &[(Lease, Row)]) -> tracing::Span {
    let Some((lease, row)) = rows.first() else { return tracing::Span::none() };
    tracing::debug_span!(
        "send",
        channel,
        dispatch = lease.dispatch_no,
        batch = lease.no,
        delivery = row.ordinal,
        attempt = row.attempt,
        messages = rows.len()
    )
}

/// The rows of a request on its way. Whatever ends its task, the worker hears of it once.
struct UnderWay {
    rows: Vec<(Lease, Row)>,
    clock: Clock,
    answers: UnboundedSender<Vec<Sent>>,
}

impl UnderWay {
    fn answered(&mut self, outcomes: Vec<Outcome>) {
        let at = self.clock.now();
        let sent = std::mem::take(&mut self.rows).into_iter().zip(outcomes);
        // The worker waits for every answer before it goes.
        let _ = self.answers.send(sent.map(|((batch, row), outcome)| Sent { batch, row, outcome, at }).collect());
    }
}

impl Drop for UnderWay {
    /// Its task broke: what became of the messages, nobody knows.
    fn drop(&mut self) {
        if !self.rows.is_empty() {
            tracing::error!("a request broke off inside gong");
            let lost = Outcome::Failed { class: Class::Unknown, code: "broken off".to_owned(), retry_after: None };
            self.answered(vec![lost; self.rows.len()]);
        }
    }
}
