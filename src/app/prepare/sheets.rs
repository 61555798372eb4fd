//! What a plan does with notice boards.

use std::collections::BTreeMap;

use super::{App, ChannelPreview, Job, preview};
use crate::channel::{Channel, Target};
use crate::domain::plan::Plan;
use crate::render::compose::headline;
use crate::render::markdown::plain;
use crate::store::Result;
use crate::store::dispatches::Mode;
use crate::store::estimate::ChannelEstimate;
use crate::store::items::Item;

/// Channels of sheets by name, each with how many points it follows an earlier item to.
pub(super) type Boards = BTreeMap<String, i64>;

impl App {
    /// The plan's channels of sheets, each with the points where it follows an earlier
    /// item.
    pub(super) async fn boards_of(&self, plan: &Plan, item: &Item, mode: Mode) -> Result<Boards> {
        let mut boards = BTreeMap::new();
        for name in plan.channels() {
            if self.registry.get(name).is_some_and(|c| c.target() == Target::Point) {
                let no = self.store.channel_no(name).await?;
                let points = self.store.followed_points(&item.id, mode, no).await?;
                boards.insert(name.to_owned(), i64::try_from(points.len()).unwrap_or(i64::MAX));
            }
        }
        Ok(boards)
    }
}

impl Job<'_> {
    /// One sheet a point: those where it follows an earlier item, else those that serve
    /// somebody.
    pub(super) async fn sheets(
        &self,
        name: &str,
        channel: &dyn Channel,
        sample: &mut String,
    ) -> anyhow::Result<(ChannelPreview, Target)> {
        let e = match self.boards.get(name) {
            Some(n) if *n > 0 => ChannelEstimate::of_targets(*n),
            _ => self.app.store.estimate_channel(&self.audience.predicate, Target::Point, false, None).await?,
        };
        let mut made = preview(name, e, (0, 0));
        #[allow(clippy::cast_precision_loss)] // minutes for people to read
        let minutes = e.targets as f64 / channel.limits().rate / 60.0;
        made.minutes = minutes;
        if sample.is_empty() {
            *sample = format!("{}：{}", headline(self.content, self.mode.mark()), plain(&self.content.body));
        }
        Ok((made, Target::Point))
    }
}
