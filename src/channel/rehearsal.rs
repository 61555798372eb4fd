//! The rehearsal channel: takes everything at once, and nothing leaves.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{AddressKind, Callback, CallbackError, Channel, Intake, Limits, Outcome, Outgoing};

/// A channel that accepts and forgets.
pub struct Rehearsal {
    limits: Limits,
    address: AddressKind,
}

impl Rehearsal {
    /// A rehearsal within the given limits.
    #[must_use]
    pub const fn new(limits: Limits, address: AddressKind) -> Self {
        Self { limits, address }
    }
}

impl Channel for Rehearsal {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn address(&self) -> AddressKind {
        self.address
    }

    fn send<'a>(&'a self, batch: &'a [Outgoing]) -> BoxFuture<'a, Vec<Outcome>> {
        let accepted = Outcome::Accepted { gateway_ids: Vec::new(), code: "rehearsal".into() };
        std::future::ready(vec![accepted; batch.len()]).boxed()
    }

    fn receipts(&self, _: &Callback<'_>) -> Result<Intake, CallbackError> {
        Err(CallbackError::NotTaken)
    }
}
