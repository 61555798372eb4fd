//! The rehearsal channel: takes everything at once, and nothing leaves.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{Callback, CallbackError, Channel, Intake, Limits, Outcome, Outgoing, Target};
use crate::render::Medium;

/// A channel that accepts and forgets.
pub struct Rehearsal {
    limits: Limits,
    target: Target,
    medium: Medium,
}

impl Rehearsal {
    /// A rehearsal within the given limits.
    #[must_use]
    pub const fn new(limits: Limits, (target, medium): (Target, Medium)) -> Self {
        Self { limits, target, medium }
    }
}

impl Channel for Rehearsal {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn target(&self) -> Target {
        self.target
    }

    fn medium(&self) -> Medium {
        self.medium
    }

    fn send<'a>(&'a self, batch: &'a [Outgoing]) -> BoxFuture<'a, Vec<Outcome>> {
        let accepted = Outcome::Accepted { gateway_ids: Vec::new(), code: "rehearsal".into() };
        std::future::ready(vec![accepted; batch.len()]).boxed()
    }

    fn receipts(&self, _: &Callback<'_>) -> Result<Intake, CallbackError> {
        Err(CallbackError::NotTaken)
    }
}
