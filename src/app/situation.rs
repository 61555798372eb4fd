//! Gathers the facts of the situation report (情况报告).

use super::App;
use crate::domain::report::{Approved, Next, Situation};
use crate::store::Result;
use crate::store::dispatches::Dispatch;

impl App {
    /// What is known of a dispatch now; of a call, the facts of what it is about.
    ///
    /// # Errors
    /// When sealed data does not open, or the database fails.
    pub async fn situation(&self, dispatch: &Dispatch) -> Result<Situation> {
        let about = self.store.called_about(dispatch).await?;
        let content = self.store.item_version(&about.item_id, about.item_version).await?;
        let item = self.store.item(&about.item_id).await?;
        let calls = self.store.calls_about(about.no).await?;
        let villages = self.store.called_villages(about.no).await?;
        let approved = self.store.approved_by(&about.item_id, about.item_version).await?;
        let reach = self.store.reach(about.no, &self.channel_kinds().await?, self.store.now()).await?;
        let called =
            !calls.is_empty() || villages.iter().any(|v| v.confirmed.is_some()) || self.calls_for(&content, about.mode);
        Ok(Situation {
            dispatch_no: about.no,
            mode: about.mode.name().to_owned(),
            title: content.title,
            kind: content.kind.label().to_owned(),
            level: content.level.map(|l| l.zh(content.kind).to_owned()),
            document_no: content.document_no,
            item_no: item.no,
            item_version: about.item_version,
            area: content.area_text,
            unit: content.issuer.unwrap_or(item.unit),
            phone: if content.phone.is_empty() { item.unit_phone } else { content.phone },
            approved: approved.map(|(kind, unit, at)| Approved { unit, at, fast_lane: kind == "fast_lane" }),
            sent_at: about.created_at,
            sent_by: about.created_by.clone(),
            reach,
            called,
            villages,
            next: next(&about, &calls),
        })
    }
}

fn next(about: &Dispatch, calls: &[Dispatch]) -> Vec<Next> {
    let mut all = vec![match (about.state.as_str(), about.phase.as_str(), about.step_due_at) {
        ("cancelled", ..) => Next::Cancelled,
        ("paused", ..) => Next::Paused,
        ("active", "waiting", Some(at)) => {
            let further = usize::try_from(about.step + 1).ok().and_then(|s| about.plan.steps.get(s));
            Next::Step { channels: further.map(|s| s.channels.clone()).unwrap_or_default(), at }
        }
        ("active", ..) => Next::UnderWay,
        _ => Next::Finished { at: about.finished_at },
    }];
    let due = calls.iter().filter(|c| c.state == "active" && c.phase == "waiting").filter_map(|c| c.step_due_at);
    all.extend(due.min().map(|at| Next::Call { at }));
    all
}
