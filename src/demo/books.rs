//! Whether everything adds up: the ledger with itself, and with what the gateways took.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::gateways::Key;
use super::{Taken, Told};
use crate::app::App;
use crate::say;

/// What is wrong with a dispatch; nothing, when everything adds up.
///
/// # Errors
/// When the database fails.
pub async fn of_dispatch(app: &App, told: &Told) -> anyhow::Result<Vec<String>> {
    let report = app.store.reach(told.no, &app.channel_kinds().await?, app.store.now()).await?;
    let (no, people) = (told.no, &report.people);
    let states: i64 = told.channels.values().flat_map(BTreeMap::values).sum();
    let channels: i64 = report.by_channel.iter().map(|c| c.deliveries).sum();
    let reasons: i64 = people.unreached_by_reason.list().iter().map(|(_, n)| n).sum();
    let checks = [
        (states, told.deliveries, say!("各状态之和与发送记录数", "the states and the deliveries")),
        (channels, told.deliveries, say!("各渠道之和与发送记录数", "the channels and the deliveries")),
        (people.audience, told.members, say!("到达统计与发布名单", "the reach and the members")),
        (
            people.informed + people.unreached,
            told.members,
            say!("知悉与未到达之和与发布名单", "the informed with the unreached, and the members"),
        ),
        (reasons, people.unreached, say!("未到达原因之和与未到达", "the reasons and the unreached")),
    ];
    let wrong = checks.into_iter().filter(|(a, b, _)| a != b);
    Ok(wrong
        .map(|(a, b, what)| say!("发布任务 {no}：{what}不符（{a} ≠ {b}）", "dispatch {no}: {what} differ ({a}, {b})"))
        .collect())
}

/// Holds what the gateways took against the ledger: everything handed over is there,
/// and whatever is there twice is called a possible duplicate.
///
/// # Errors
/// When the database fails.
pub async fn of_gateways(
    app: &App,
    taken: &HashMap<&'static str, HashMap<Key, u64>>,
) -> anyhow::Result<(BTreeMap<String, Taken>, Vec<String>)> {
    let mut wrong = Vec::new();
    let mut counts = BTreeMap::new();
    let doubtful: HashMap<Key, bool> = app
        .store
        .doubtful_deliveries()
        .await?
        .into_iter()
        .map(|d| ((d.dispatch_no, d.ordinal), d.handed_over != 0))
        .collect();
    for (channel, took) in taken {
        let doubled: Vec<&Key> = took.iter().filter(|(_, times)| **times > 1).map(|(key, _)| key).collect();
        let unflagged = doubled.iter().filter(|key| !doubtful.contains_key(*key)).count();
        if unflagged > 0 {
            wrong.push(say!(
                "渠道 {channel}：{unflagged} 条在网关出现两次，而台账没有标记",
                "channel {channel}: the gateway has {unflagged} twice that the ledger does not flag"
            ));
        }
        let handed = app.store.handed_over(app.store.channel_no(channel).await?).await?;
        // Taken, but the answer was lost and no receipt came: nobody here knows.
        let unknown: HashSet<&Key> = took.keys().filter(|key| doubtful.get(*key) == Some(&false)).collect();
        let (here, there) = (handed, i64::try_from(took.len() - unknown.len())?);
        if here != there {
            wrong.push(say!(
                "渠道 {channel}：台账已提交 {here} 条，网关收到 {there} 条",
                "channel {channel}: the ledger handed over {here}, the gateway took {there}"
            ));
        }
        let taken = Taken { messages: took.len() as u64, doubled: doubled.len() as u64 };
        counts.insert((*channel).to_owned(), taken);
    }
    Ok((counts, wrong))
}
