//! Posts of accounts before they go out: what no account can take, and which accounts
//! a lift or correction would leave out.

use serde_json::Value;

use super::App;
use crate::channel::{Channel, Limits, Target};
use crate::dispatch::job::{Site, compose, fitting};
use crate::domain::item::{Content, Relation};
use crate::domain::plan::Plan;
use crate::render::compose::Composer;
use crate::say;
use crate::store::dispatches::Mode;
use crate::store::items::Item;
use crate::store::{Result, StoreError};

/// Refuses a post with variables of recipients, and a text longer than the channel
/// `name` takes.
pub(super) fn check(name: &str, channel: &dyn Channel, composer: &mut Composer) -> anyhow::Result<()> {
    if channel.target() == Target::Account && composer.is_personal() {
        anyhow::bail!(StoreError::Refused(say!(
            "渠道 {name} 一次发布给所有人，正文不能用每人不同的变量。请改模板 templates/media",
            "channel {name} posts one text for everybody, which cannot have variables of recipients. Change the template in templates/media"
        )));
    }
    if composer.is_personal() {
        return Ok(());
    }
    match too_long(name, channel.limits(), composer)? {
        Some(why) => Err(StoreError::Refused(why).into()),
        None => Ok(()),
    }
}

/// Says by how much a text is too long for a channel, if it is.
fn too_long(name: &str, limits: &Limits, composer: &mut Composer) -> anyhow::Result<Option<String>> {
    let bytes = composer.text(Value::Null)?.text.len();
    Ok(limits.max_bytes.filter(|most| bytes > *most).map(|most| {
        say!(
            "渠道 {name} 的内容有 {bytes} 字节（一个汉字三字节），最多 {most} 字节。请缩短正文，或在配置里写明截短后去哪里看全文：[channels.{name}.limits] read_on",
            "the text for channel {name} has {bytes} bytes (three a Chinese character) of at most {most}. Shorten the body, or say where to read on once it is cut: read_on in [channels.{name}.limits]"
        )
    }))
}

impl App {
    /// What is wrong with the posts of an item, for whoever approves it. No post is
    /// bound to be sent, so nothing of it forbids the approval.
    #[must_use]
    pub fn posts_at_fault(&self, content: &Content, unit: &Site) -> Vec<String> {
        let fault = |name: &str| -> Option<String> {
            let channel = self.registry.get(name).filter(|c| c.target() == Target::Account)?;
            let signature = self.registry.signature(name).unwrap_or_default();
            let made = compose(&self.messages, (channel.medium(), content), unit, signature, Mode::Live)
                .and_then(|made| fitting(made, channel.limits()));
            match made {
                Ok(mut composer) => check(name, &*channel, &mut composer).err().map(|e| e.to_string()),
                Err(error) => Some(format!("{name}: {error}")),
            }
        };
        self.registry.names().filter_map(fault).collect()
    }

    /// Accounts in which the items that this one ends or corrects were posted, and
    /// which `plan` leaves out.
    pub(super) async fn not_posted(&self, item: &Item, plan: &Plan) -> Result<Vec<String>> {
        let follows = |r: &Relation| matches!(r, Relation::Lifts | Relation::Corrects | Relation::Withdraws);
        if !item.content.relations.iter().any(|(r, _)| follows(r)) {
            return Ok(Vec::new());
        }
        let mut posted = self.store.posted_on(&self.store.chain_of(&item.id).await?).await?;
        posted.retain(|name| !plan.steps.iter().any(|step| step.channels.contains(name)));
        Ok(posted)
    }
}
