//! Merged messages before they are sent: which list a personal text draws on, and some
//! of the texts, spread over it.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;
use serde_json::{Map, Value};

use super::App;
use super::prepare::{Prepared, unit};
use crate::channel::{AddressKind, Target};
use crate::dispatch::job::compose;
use crate::domain::recipient::{Email, Phone, masked, masked_name};
use crate::import::masked_cell;
use crate::planner::resolve;
use crate::render::compose::Composer;
use crate::say;
use crate::store::StoreError;
use crate::store::audience::Audience;
use crate::vault::Owner;

/// Rows of a list opened at once while their texts are made.
const PAGE: i64 = 2_000;

/// One merged message.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// Its row in the list's file.
    pub row_no: i64,
    pub name: String,
    pub to: String,
    pub parts: u32,
    pub text: String,
    /// No other of the audience's is longer.
    pub longest: bool,
}

/// What one text would be, by recipient: characters and parts.
type Sizes = HashMap<i64, (usize, u32)>;

impl App {
    /// The list that fills a personal text: the one the audience comes from, or, in a
    /// further round, the one the round before it came from.
    pub(super) async fn list_of(&self, audience: &Audience) -> anyhow::Result<i64> {
        let mut lists: BTreeSet<i64> = audience.lists.iter().copied().collect();
        if lists.is_empty() {
            for round in &audience.rounds {
                lists.extend(self.store.dispatch(&round.to_string()).await?.list_no);
            }
        }
        match lists.into_iter().collect::<Vec<_>>()[..] {
            [one] => Ok(one),
            _ => anyhow::bail!(StoreError::Refused(say!(
                "正文用到每人不同的变量，发布对象必须恰好来自一份名单。写法：--to '名单:某某'；第二轮：--to 'unreached:任务编号'",
                "the text has variables for each recipient, so the audience must come from exactly one list. Write: --to 'list:NAME', or for a further round --to 'unreached:DISPATCH'"
            ))),
        }
    }

    /// Up to `n` of the merged messages: the first and last of the list, the longest, and
    /// others evenly between; none where everybody gets the same. What is personal is
    /// masked unless `reveal`. Whoever reveals has the right to, and writes it down.
    pub async fn samples(&self, prepared: &Prepared, n: usize, reveal: bool) -> anyhow::Result<Vec<Sample>> {
        let Some(list) = prepared.new.list_no.filter(|_| n > 0) else { return Ok(Vec::new()) };
        let Some((mut composer, kind)) = self.personal(prepared)? else { return Ok(Vec::new()) };
        let audience =
            resolve(&self.store, &prepared.new.canonical, &self.config.attributes, &self.config.quiet()?).await?;
        let content = &prepared.item.content;
        let opt_out = content.honours_opt_out().then(|| content.kind.name());
        let sizes = self.sizes(&mut composer, &audience, (list, kind, opt_out)).await?;
        let order: Vec<_> =
            self.store.list_order(list).await?.into_iter().filter(|s| sizes.contains_key(&s.recipient_no)).collect();
        let most = sizes.values().map(|(length, _)| *length).max().unwrap_or_default();
        let Some(longest) = order.iter().position(|s| sizes[&s.recipient_no].0 == most) else {
            return Ok(Vec::new());
        };
        let picked: Vec<_> = spread(order.len(), longest, n).into_iter().map(|at| (at, order[at])).collect();
        let numbers: Vec<i64> = picked.iter().map(|(_, s)| s.recipient_no).collect();
        let (mut vars, cards) =
            (self.store.list_vars(list, &numbers).await?, self.store.name_cards(&numbers, kind).await?);
        let sample = |(at, row): (usize, crate::store::reach::MemberStanding)| {
            let values = vars.remove(&row.recipient_no).unwrap_or_default();
            let values = if reveal { values } else { masked_row(values) };
            let text = composer.text(Value::Object(values))?;
            let card = cards.get(&row.recipient_no).cloned().unwrap_or_default();
            let (name, to) = if reveal {
                (card.name, card.address)
            } else {
                (masked_name(&card.name), masked_address(&card.address))
            };
            let (row_no, parts) = (row.row_no, sizes[&row.recipient_no].1);
            Ok(Sample { row_no, name, to, parts, text: text.text.to_string(), longest: at == longest })
        };
        picked.into_iter().map(sample).collect()
    }

    /// What makes the texts of the first channel that has one for each recipient.
    fn personal(&self, prepared: &Prepared) -> anyhow::Result<Option<(Composer, AddressKind)>> {
        let item = &prepared.item;
        let unit = unit(self, item);
        for name in prepared.new.plan.steps.first().map_or(&[][..], |step| &step.channels[..]) {
            let Some(channel) = self.registry.get(name) else { continue };
            let Target::Address(kind) = channel.target() else { continue };
            let signature = self.registry.signature(name).unwrap_or_default();
            let composer =
                compose(&self.messages, (channel.medium(), &item.content), &unit, signature, prepared.new.mode)?;
            if composer.is_personal() {
                return Ok(Some((composer, kind)));
            }
        }
        Ok(None)
    }

    async fn sizes(
        &self,
        composer: &mut Composer,
        audience: &Audience,
        (list, kind, opt_out): (i64, AddressKind, Option<&str>),
    ) -> anyhow::Result<Sizes> {
        let (mut sizes, mut after) = (Sizes::new(), 0);
        loop {
            let page = self.store.audience_vars(&audience.predicate, list, (kind, opt_out), (after, PAGE)).await?;
            let Some((newest, _)) = page.last() else { return Ok(sizes) };
            after = *newest;
            for (recipient, sealed) in &page {
                let json = self.store.vault.open_sealed(Owner::ListRow(list, *recipient), sealed)?;
                let text = composer.text(serde_json::from_slice(&json)?)?;
                sizes.insert(*recipient, (text.text.chars().count(), text.parts));
            }
        }
    }
}

pub(super) fn masked_row(values: Map<String, Value>) -> Map<String, Value> {
    let mask = |(header, value): (String, Value)| {
        let value = value.as_str().map(|text| masked_cell(&header, text).into()).unwrap_or(value);
        (header, value)
    };
    values.into_iter().map(mask).collect()
}

fn masked_address(text: &str) -> String {
    match (Phone::parse(text), Email::parse(text)) {
        (Some(phone), _) => phone.masked(),
        (None, Some(email)) => email.masked(),
        (None, None) => masked(text),
    }
}

/// `n` of `len` places in order: the longest, the first, the last, then evenly between.
fn spread(len: usize, longest: usize, n: usize) -> BTreeSet<usize> {
    let (n, last) = (n.min(len), len.saturating_sub(1));
    let mut picked = BTreeSet::new();
    let mut pick = |places: &mut dyn Iterator<Item = usize>| {
        for place in places {
            if picked.len() < n {
                picked.insert(place);
            }
        }
        n - picked.len()
    };
    let left = pick(&mut [longest, 0, last].into_iter());
    pick(&mut (1..=left).map(|i| i * last / (left + 1)));
    pick(&mut (0..len));
    picked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_spread_over_the_list() {
        let spread = |len, longest, n| spread(len, longest, n).into_iter().collect::<Vec<_>>();
        assert_eq!(spread(100, 7, 5), [0, 7, 33, 66, 99]);
        assert_eq!(spread(100, 0, 3), [0, 49, 99]);
        assert_eq!(spread(100, 40, 1), [40]);
        assert_eq!(spread(2, 1, 5), [0, 1]);
        assert_eq!(spread(4, 2, 4), [0, 1, 2, 3]);
        assert!(spread(0, 0, 3).is_empty());
    }

    #[test]
    fn a_masked_row_tells_nobody_apart_by_name_or_number() {
        let row =
            serde_json::json!({ "姓名": "张三", "手机": "13900000001", "金额": "120.50", "备注": "电13900000002" });
        let masked = masked_row(row.as_object().cloned().unwrap());
        let text = Value::Object(masked).to_string();
        assert!(text.contains("张*") && text.contains("120.50"), "{text}");
        assert!(!text.contains("三") && !text.contains("0000001") && !text.contains("0000002"), "{text}");
    }
}
