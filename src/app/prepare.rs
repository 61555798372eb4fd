//! Before anything is sent: what would be sent, to how many, at what cost and in
//! what time, and whom it would not reach. `gong plan` shows it; `gong send` sends
//! exactly that.

mod preview;
mod sheets;

pub use preview::{ChannelPreview, NoAddress, Preview};
use serde_json::{Map, Value};
use sheets::Boards;

use super::{App, posts};
use crate::channel::{AddressKind, Evidence, Target};
use crate::clock::Millis;
use crate::dispatch::job::{Site, compose, fitting};
use crate::domain::item::{Content, Relation};
use crate::domain::plan::{Plan, VISIT};
use crate::planner::{REHEARSAL, resolve};
use crate::render::compose::Composer;
use crate::say;
use crate::store::audience::Audience;
use crate::store::dispatches::{Mode, NewDispatch};
use crate::store::estimate::{ChannelEstimate, Unaddressed};
use crate::store::items::Item;
use crate::store::{Result, StoreError};
use crate::vault::Owner;

/// Rows of a list opened at once while their texts are counted.
const PAGE: i64 = 2_000;
/// How many people without an address are named.
const NAMED: i64 = 20;

/// What an operator asks for.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// The audience, where it is not the item's own.
    pub to: Option<String>,
    /// The plan, where it is not the site's default.
    pub plan: Option<String>,
    /// Send in this lane, and why.
    pub lane: Option<(i32, String)>,
    pub mode: Option<Mode>,
}

/// A dispatch ready to be created, and what it will write.
pub struct Prepared {
    pub item: Item,
    pub new: NewDispatch,
    pub preview: Preview,
}

impl App {
    /// Works out a dispatch without writing anything.
    pub async fn prepare(&self, item_key: &str, wish: &Wish, operator: &str) -> anyhow::Result<Prepared> {
        let item = self.store.item(item_key).await?;
        let content = item.content.clone();
        let mode = wish.mode.unwrap_or(Mode::Live);
        let text = self.audience_text(&item, wish).await?;
        let quiet = self.config.quiet()?;
        let audience = resolve(&self.store, &text, &self.config.attributes, &quiet).await?;
        let plan = match &wish.plan {
            Some(text) => Plan::parse(text)?,
            None => self.config.default_plan()?,
        };
        plan.check(&self.registry.names().collect::<Vec<_>>())?;
        let boards = self.boards_of(&plan, &item, mode).await?;
        let (members, households) = self.count(&audience, &content, &boards).await?;
        let mut job = Job {
            app: self,
            content: &content,
            audience: &audience,
            unit: unit(self, &item),
            mode,
            list_no: None,
            boards,
        };
        let (channels, sample) = job.channels(&plan).await?;
        let list_no = job.list_no;
        let lane = wish.lane.clone().unwrap_or((content.lane() as i32, String::new()));
        let expires_at = content.expiry(self.approved_at(&item).await?);
        let preview = self.preview(&item, &audience, (&plan, channels), (members, households)).await?;
        let preview = Preview { lane: lane_name(lane.0), expires_at, sample, ..preview };
        let new = NewDispatch {
            item_id: item.id.clone(),
            item_version: item.version,
            audience: text,
            canonical: audience.canonical,
            mode,
            lane: lane.0,
            lane_reason: lane.1,
            plan,
            list_no,
            // A further round follows the one it goes on from.
            parent_no: if let [one] = audience.rounds[..] { Some(one) } else { None },
            expected: serde_json::json!({ "members": members, "deliveries": preview.deliveries }).to_string(),
            created_by: operator.to_owned(),
            expires_at,
            effective_at: content.effective_at,
        };
        Ok(Prepared { item, new, preview })
    }

    /// Whom it is for: a lift or correction goes to those who were told, whoever they
    /// are now; anything else to the audience asked for, or the item's own.
    async fn audience_text(&self, item: &Item, wish: &Wish) -> Result<String> {
        let follows = |r: &Relation| matches!(r, Relation::Lifts | Relation::Corrects | Relation::Withdraws);
        let bound = item.content.relations.iter().any(|(r, _)| follows(r));
        if !bound && let Some(text) = wish.to.clone().or_else(|| item.content.audience.clone()) {
            return Ok(text);
        }
        let mut told = Vec::new();
        for earlier in self.store.chain_of(&item.id).await? {
            let sent = self.store.dispatches_of(&earlier).await?;
            told.extend(sent.iter().filter(|d| d.mode == wish.mode.unwrap_or(Mode::Live)).map(|d| d.no.to_string()));
        }
        if bound && wish.to.is_some() {
            return Err(StoreError::Refused(say!(
                "更正、解除和撤回只发给原来收到的人，不能另选对象。请去掉 --to",
                "a correction, lift or withdrawal goes to those who were told, and to nobody else. Leave --to out"
            )));
        }
        if told.is_empty() {
            let no = item.no;
            return Err(StoreError::Refused(say!(
                "没有指定发布对象。用 --to 写明，如：gong plan {no} --to '区域:河口镇'",
                "no audience was given. Name it with --to, e.g.: gong plan {no} --to 'region:河口镇'"
            )));
        }
        Ok(format!("told:({})", told.join(", ")))
    }

    /// How many people and households; nobody is an error unless sheets are to be hung
    /// beside earlier ones.
    async fn count(&self, audience: &Audience, content: &Content, boards: &Boards) -> anyhow::Result<(i64, i64)> {
        let quiet = self.config.quiet()?;
        let scope = match &content.scope {
            Some(scope) => Some(resolve(&self.store, scope, &self.config.attributes, &quiet).await?),
            None => None,
        };
        let count = self.store.count_audience(audience, scope.as_ref()).await?;
        let (outside, scope) = (count.outside_scope, content.scope.as_deref().unwrap_or_default());
        if outside > 0 {
            anyhow::bail!(StoreError::Refused(say!(
                "发布对象中有 {outside} 人不在本事项允许的公开范围内（{scope}）。请缩小对象，或修改事项并重新审核",
                "{outside} of the audience are outside what this item may be shown to ({scope}). Narrow the audience, or edit the item and have it approved again"
            )));
        }
        if count.people == 0 && boards.values().all(|n| *n == 0) {
            anyhow::bail!(StoreError::Refused(say!(
                "发布对象是空的：没有人符合这个条件",
                "the audience is empty: nobody fits the expression"
            )));
        }
        Ok((count.people, count.households))
    }

    async fn approved_at(&self, item: &Item) -> Result<Millis> {
        let approvals = self.store.approvals(&item.id).await?;
        Ok(approvals.iter().find(|a| a.version == item.version).map_or_else(|| self.store.now(), |a| a.at))
    }

    async fn preview(
        &self,
        item: &Item,
        audience: &Audience,
        (plan, channels): (&Plan, Vec<(ChannelPreview, Target)>),
        (members, households): (i64, i64),
    ) -> Result<Preview> {
        let kind = |k: &Target| if let Target::Address(kind) = k { Some(*kind as i32) } else { None };
        let kinds: Vec<i32> = channels.iter().filter_map(|(_, k)| kind(k)).collect();
        let (no_address, some) = if kinds.is_empty() {
            (0, Vec::new())
        } else {
            self.store.unaddressed(&audience.predicate, &kinds, NAMED).await?
        };
        let channels: Vec<ChannelPreview> = channels.into_iter().map(|(c, _)| c).collect();
        Ok(Preview {
            item: item.id.clone(),
            audience: audience.canonical.clone(),
            plan: plan.to_string(),
            members,
            households,
            deliveries: channels.iter().map(|c| c.deliveries).sum(),
            parts: channels.iter().map(|c| c.parts).sum(),
            cost_milli: channels.iter().map(|c| c.cost_milli).sum(),
            minutes: channels.iter().map(|c| c.minutes).fold(0.0, f64::max),
            channels,
            no_address,
            no_address_some: some.into_iter().map(|u| self.named(u)).collect(),
            villages_without_point: self.store.villages_without_point(&audience.predicate).await?,
            not_posted: self.not_posted(item, plan).await?,
            lane: "",
            expires_at: 0,
            sample: String::new(),
        })
    }

    fn named(&self, one: Unaddressed) -> NoAddress {
        let sealed = one.name_sealed.unwrap_or_default();
        let name = self.store.vault.open_text(Owner::Recipient(one.no), &sealed).unwrap_or_default();
        let name = crate::domain::recipient::masked_name(&name);
        NoAddress { name, region: one.region, why: if one.gone > 0 { "address_gone" } else { "no_address" } }
    }
}

/// The unit that answers for an item, as texts name it.
pub fn unit(app: &App, item: &Item) -> Site {
    if item.unit.is_empty() { app.site() } else { Site { name: item.unit.clone(), phone: item.unit_phone.clone() } }
}

fn lane_name(lane: i32) -> &'static str {
    crate::domain::item::Lane::from_number(lane).map_or("routine", crate::domain::item::Lane::name)
}

/// What the channels of the first step have in common.
struct Job<'a> {
    app: &'a App,
    content: &'a Content,
    audience: &'a Audience,
    unit: Site,
    mode: Mode,
    list_no: Option<i64>,
    /// Channels of sheets, each with the points where it follows an earlier item.
    boards: Boards,
}

impl Job<'_> {
    /// Previews of the first step's channels, and a text.
    async fn channels(&mut self, plan: &Plan) -> anyhow::Result<(Vec<(ChannelPreview, Target)>, String)> {
        let mut sample = String::new();
        let mut previews = Vec::new();
        // Every channel must be able to make its text; only the first step's are counted.
        for (at, name) in plan.steps.iter().enumerate().flat_map(|(at, s)| s.channels.iter().map(move |c| (at, c))) {
            let made = if name == VISIT { self.visits().await? } else { self.channel(name, &mut sample).await? };
            if at == 0 {
                previews.push(made);
            }
        }
        Ok((previews, sample))
    }

    async fn visits(&self) -> Result<(ChannelPreview, Target)> {
        let e = self.app.store.estimate_channel(&self.audience.predicate, Target::Visit, false, None).await?;
        Ok((preview(VISIT, e, (0, 0)), Target::Visit))
    }

    async fn channel(&mut self, name: &str, sample: &mut String) -> anyhow::Result<(ChannelPreview, Target)> {
        let app = self.app;
        let Some(channel) = app.registry.get(name) else {
            anyhow::bail!(say!("没有名为“{name}”的渠道", "there is no channel named `{name}`"))
        };
        if channel.target() == Target::Point {
            return self.sheets(name, &*channel, sample).await;
        }
        let signature = app.registry.signature(name).unwrap_or_default();
        let made = compose(&app.messages, (channel.medium(), self.content), &self.unit, signature, self.mode)?;
        let (mut composer, kind) = (fitting(made, channel.limits())?, channel.target());
        posts::check(name, &*channel, &mut composer)?;
        let opt_out = self.content.honours_opt_out().then(|| self.content.kind.name());
        let estimate =
            app.store.estimate_channel(&self.audience.predicate, kind, composer.is_personal(), opt_out).await?;
        let (each, parts, text) = match kind {
            Target::Address(address) if composer.is_personal() => {
                self.own_parts(&mut composer, (address, opt_out), estimate).await?
            }
            _ => {
                let text = composer.text(Value::Null)?;
                (text.parts, (estimate.targets - estimate.suppressed) * i64::from(text.parts), text.text.to_string())
            }
        };
        let limits = channel.limits();
        if each > limits.max_parts {
            let most = limits.max_parts;
            anyhow::bail!(StoreError::Refused(say!(
                "短信有 {each} 条长，渠道 {name} 最多 {most} 条。请在事项中写一个更短的短信文本（短信:）",
                "the text has {each} parts; channel {name} takes {most} at most. Give the item a shorter text of its own (sms:)"
            )));
        }
        if sample.is_empty() {
            sample.clone_from(&text);
        }
        let rate = if self.mode == Mode::Dry {
            app.registry.get(REHEARSAL).map_or(1.0, |c| c.limits().rate)
        } else {
            limits.rate
        };
        let mut made = preview(name, estimate, (each, parts));
        made.cost_milli = parts * limits.price_milli;
        #[allow(clippy::cast_precision_loss)] // minutes for people to read
        let minutes = parts as f64 / rate / 60.0;
        made.minutes = minutes;
        made.receipts = limits.evidence == Evidence::Receipts;
        (made.target, made.text, made.cut) = (kind.name(), text, composer.is_cut());
        if kind == Target::Account {
            made.addressable = 0;
        }
        Ok((made, kind))
    }

    /// Where every recipient has a text of their own: (most parts of one text, parts
    /// in all, one of the texts with what is personal masked). Every text is made once, so that none fails later.
    async fn own_parts(
        &mut self,
        composer: &mut Composer,
        target: (AddressKind, Option<&str>),
        estimate: ChannelEstimate,
    ) -> anyhow::Result<(u32, i64, String)> {
        let list = self.app.list_of(self.audience).await?;
        self.list_no = Some(list);
        let (mut most, mut all, mut made, mut sample, mut after) = (0, 0_i64, 0_i64, String::new(), 0);
        loop {
            let page = self.app.store.audience_vars(&self.audience.predicate, list, target, (after, PAGE)).await?;
            let Some((newest, _)) = page.last() else { break };
            after = *newest;
            for (recipient, sealed) in &page {
                let json = self.app.store.vault.open_sealed(Owner::ListRow(list, *recipient), sealed)?;
                let values: Map<String, Value> = serde_json::from_slice(&json)?;
                if sample.is_empty() {
                    let masked = super::samples::masked_row(values.clone());
                    sample = composer.text(Value::Object(masked))?.text.to_string();
                }
                let text = composer.text(Value::Object(values))?;
                most = most.max(text.parts);
                all += i64::from(text.parts);
                made += 1;
            }
        }
        let without = estimate.targets - estimate.suppressed - made;
        anyhow::ensure!(
            without <= 0,
            StoreError::Refused(say!(
                "发布对象中有 {without} 人在名单里没有自己的一行，他们的变量无从填写。请缩小对象，或把他们补进名单",
                "{without} of the audience have no row of their own in the list, so their text lacks its variables. Narrow the audience, or add them to the list"
            ))
        );
        Ok((most, all, sample))
    }
}

fn preview(name: &str, e: ChannelEstimate, (each, parts): (u32, i64)) -> ChannelPreview {
    ChannelPreview {
        channel: name.to_owned(),
        target: Target::Visit.name(),
        deliveries: e.targets,
        addressable: e.addressable,
        via_household: e.via_household,
        suppressed: e.suppressed,
        parts_each: each,
        parts,
        cost_milli: 0,
        minutes: 0.0,
        receipts: false,
        text: String::new(),
        cut: false,
    }
}
