//! When a worker loads batches, and of which lanes.

use std::ops::RangeInclusive;

use tokio::time::Instant;

use super::{LOADS, STORE_PAUSE, Worker};
use crate::dispatch::loading::{self, Batch, Loaded};
use crate::domain::item::Lane;
use crate::store::Result;

/// What was wanted, when that was asked for, and what came.
pub(super) type Load = (RangeInclusive<Lane>, Instant, Result<Vec<Batch>>);

impl Worker {
    pub(super) fn start_load(&mut self) {
        let (at, empty) = self.look_at;
        while self.loads.len() < LOADS && self.may_start() {
            let asked = Instant::now();
            let wanted = if asked >= self.floor_at && self.line.owes_routine() {
                self.floor_at = asked + self.hold.looks_every();
                Lane::Routine..=Lane::Routine
            } else {
                let Some(last) = self.line.wanted_lane() else { return };
                if last <= empty && asked < at {
                    return;
                }
                Lane::Call..=last
            };
            let (tools, way) = (self.tools.clone(), self.way.clone());
            self.loads.push(tokio::spawn(async move {
                (wanted.clone(), asked, loading::next_batches(&tools, &way, wanted).await)
            }));
        }
    }

    pub(super) fn loaded(&mut self, (wanted, asked, loaded): Load) {
        match loaded {
            Ok(batches) if batches.is_empty() => {
                if *wanted.start() == Lane::Call {
                    self.look_at = (Instant::now() + self.hold.looks_every(), *wanted.end());
                }
            }
            Ok(batches) => {
                self.hold.leased(asked);
                for batch in batches {
                    self.line.add(Loaded::new(batch));
                }
                self.unobeyed = true;
            }
            Err(error) => {
                tracing::warn!(channel = self.way.name, %error, "cannot load a batch; trying again");
                self.look_at = (Instant::now() + STORE_PAUSE, Lane::Routine);
            }
        }
    }
}
