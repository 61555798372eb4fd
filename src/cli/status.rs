//! `gong status`: where dispatches stand.

use std::collections::{BTreeMap, HashSet};
use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::{App, Context, Ended, output};
use crate::channel::point::MISSING;
use crate::channel::{Class, Target};
use crate::domain::delivery::State;
use crate::domain::item::Lane;
use crate::say;
use crate::store::channels::ChannelRow;
use crate::store::dispatches::{Dispatch, LISTED, state_word};
use crate::store::progress::StateCount;

/// Deliveries that a list of dispatches counts at most: a server counts a million in 0.7 s.
const COUNTED: i64 = 1_500_000;

/// Shows where a dispatch stands, or lists the open ones and the latest.
#[derive(Debug, Args)]
#[command(after_help = "gong status\ngong status 3 --watch\ngong status 3 --json")]
pub struct StatusArgs {
    /// Number or id of the dispatch.
    dispatch: Option<String>,
    /// Follow it until it has finished.
    #[arg(long)]
    watch: bool,
}

/// What `status --json` prints.
#[derive(Debug, Serialize)]
pub struct Report {
    pub dispatch: String,
    pub item: String,
    pub members: i64,
    pub deliveries: i64,
    pub states: BTreeMap<&'static str, i64>,
    /// Whether its deliveries were counted: a list leaves the large ones to who asks for them.
    pub counted: bool,
    pub finished: bool,
    pub no: i64,
    pub mode: &'static str,
    /// active, paused, cancelled, finished
    pub state: String,
    pub lane: i32,
    pub step: i32,
    pub steps: usize,
    /// Sheets with characters that no font has.
    pub lacking: i64,
    /// How many of each state, by channel.
    pub channels: BTreeMap<String, BTreeMap<&'static str, i64>>,
    pub posts: Posts,
    /// Its channels that stand paused, while something of it is left.
    pub paused: Vec<Paused>,
}

/// A channel that stands paused for every dispatch.
#[derive(Debug, Serialize)]
pub struct Paused {
    pub channel: String,
    /// Its receiver said that it wants nothing more; nobody of ours paused it.
    pub withdrawn: bool,
}

/// Posts in accounts, which go to nobody in particular.
#[derive(Debug, Default, Serialize)]
pub struct Posts {
    pub planned: i64,
    pub published: i64,
    pub held: Vec<Held>,
}

/// A post that does not stand in its account, and what its gateway last said.
#[derive(Debug, Serialize)]
pub struct Held {
    pub channel: String,
    pub state: &'static str,
    pub code: String,
    /// The channel itself is wrong: nothing will go until it is mended.
    pub misconfigured: bool,
}

/// Counts a dispatch.
pub async fn report(app: &App, d: &Dispatch) -> anyhow::Result<Report> {
    let counts = app.store.delivery_counts(d.no).await?;
    report_of(app, d, &app.store.channels().await?, Some(counts)).await
}

/// What is told of a dispatch whose deliveries were counted, or were not.
async fn report_of(
    app: &App,
    d: &Dispatch,
    rows: &[ChannelRow],
    counts: Option<Vec<StateCount>>,
) -> anyhow::Result<Report> {
    let counted = counts.is_some();
    let mut paused = paused(rows);
    let names: BTreeMap<i32, &str> = rows.iter().map(|c| (c.no, c.name.as_str())).collect();
    let mut states: BTreeMap<&'static str, i64> = BTreeMap::new();
    let mut channels: BTreeMap<String, BTreeMap<&'static str, i64>> = BTreeMap::new();
    for count in counts.unwrap_or_default() {
        let state = State::from_code(count.state).map_or("?", State::name);
        *states.entry(state).or_default() += count.n;
        let name = names.get(&count.channel).copied().unwrap_or_default().to_owned();
        *channels.entry(name).or_default().entry(state).or_default() += count.n;
    }
    let printed = [State::Printed, State::Posted, State::TakenDown].iter().any(|s| states.contains_key(s.name()));
    let lacking = if printed { app.store.sheet_words(d.no, MISSING).await? } else { Vec::new() };
    let mut posts = Posts::default();
    for (_, states) in channels.iter().filter(|(name, _)| is_account(app, name)) {
        posts.planned += states.values().sum::<i64>();
        posts.published += states.get(State::Sent.name()).unwrap_or(&0);
    }
    if posts.planned > posts.published {
        let held = app.store.held_posts(d.no).await?.into_iter();
        posts.held = held
            .map(|h| Held {
                channel: h.channel,
                state: State::from_code(h.state).map_or("?", State::name),
                code: h.code,
                misconfigured: h.class == Class::Misconfigured as i32,
            })
            .collect();
    }
    paused.retain(|p| d.finished_at.is_none() && (!counted || channels.contains_key(&p.channel)));
    Ok(Report {
        paused,
        lacking: lacking.iter().map(|(_, n)| n).sum(),
        dispatch: d.id.clone(),
        item: d.item_id.clone(),
        members: d.members,
        deliveries: d.deliveries,
        states,
        counted,
        finished: d.finished_at.is_some(),
        no: d.no,
        mode: d.mode.name(),
        state: d.state.clone(),
        lane: d.lane,
        step: d.step + 1,
        steps: d.plan.steps.len(),
        channels,
        posts,
    })
}

fn paused(channels: &[ChannelRow]) -> Vec<Paused> {
    let paused = channels.iter().filter(|c| c.paused != 0);
    paused.map(|c| Paused { channel: c.name.clone(), withdrawn: c.is_withdrawn() }).collect()
}

/// What to do about a channel that stands paused.
fn why_paused(Paused { channel, withdrawn }: &Paused) -> String {
    if *withdrawn {
        say!(
            "渠道 {channel} 的接收方声明不再接收，已暂停；与对方核实后执行 gong resume channel:{channel}",
            "the receiver of channel {channel} wants nothing more, and it is paused; ask the receiver, then: gong resume channel:{channel}"
        )
    } else {
        say!(
            "渠道 {channel} 已暂停；恢复：gong resume channel:{channel}",
            "channel {channel} is paused; to go on: gong resume channel:{channel}"
        )
    }
}

fn is_account(app: &App, channel: &str) -> bool {
    app.registry.get(channel).is_some_and(|c| c.target() == Target::Account)
}

pub(super) async fn run(context: &Context, args: StatusArgs) -> anyhow::Result<Ended> {
    let app = context.app().await?;
    let Some(key) = &args.dispatch else { return list(context, &app).await };
    if args.watch {
        watch(context, &app, key).await?;
        return Ok(Ended::Done);
    }
    let report = report(&app, &app.store.dispatch(key).await?).await?;
    if context.global.json {
        output::json(&report)?;
    } else {
        output::line(words(&report));
        if report.lacking > 0 {
            let (lacking, no) = (report.lacking, report.no);
            output::note(say!(
                "{lacking} 份张贴件有字没有字体可用，纸上是空的。安装字体后重新打印：gong sheets {no}",
                "{lacking} sheets lack characters that no font has. Install a font and print them again: gong sheets {no}"
            ));
        }
    }
    Ok(Ended::Done)
}

/// Follows a dispatch until it has finished: a line that renews itself on a terminal,
/// a line for every change elsewhere.
pub async fn watch(context: &Context, app: &App, key: &str) -> anyhow::Result<()> {
    let terminal = std::io::stdout().is_terminal() && !context.global.json;
    let bar = if terminal { indicatif::ProgressBar::new_spinner() } else { indicatif::ProgressBar::hidden() };
    let mut last = String::new();
    loop {
        let dispatch = app.store.dispatch(key).await?;
        let report = report(app, &dispatch).await?;
        let text = words(&report);
        bar.set_message(text.clone());
        bar.tick();
        if !terminal && text != last && !context.global.json {
            output::line(&text);
        }
        last = text;
        if report.finished {
            bar.finish_and_clear();
            if context.global.json {
                output::json(&report)?;
            } else if terminal {
                output::line(&last);
            }
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn list(context: &Context, app: &App) -> anyhow::Result<Ended> {
    let rows = app.store.channels().await?;
    let reports = reports(app, &rows).await?;
    if context.global.json {
        output::json(&reports.iter().map(|(r, _)| r).collect::<Vec<_>>())?;
        return Ok(Ended::Done);
    }
    if reports.is_empty() {
        output::line(say!(
            "还没有发布任务。用 gong send 发布一个事项",
            "no dispatches yet. Send an item with gong send"
        ));
        return tell_workers(app).await;
    }
    let head = [
        say!("编号", "no"),
        say!("方式", "mode"),
        say!("紧急程度", "lane"),
        say!("状态", "state"),
        say!("人数", "members"),
        say!("发送数", "deliveries"),
        say!("各状态", "states"),
        say!("对象", "audience"),
    ];
    let mut table = output::table(&head);
    for (r, d) in &reports {
        table.add_row([
            r.no.to_string(),
            d.mode.label(),
            Lane::from_number(r.lane).map_or("?", Lane::label).to_owned(),
            state_word(&r.state),
            output::number(r.members),
            output::number(r.deliveries),
            if r.counted { counts(&r.states) } else { say!("未统计", "not counted") },
            d.canonical.clone(),
        ]);
    }
    output::line(table);
    if reports.iter().any(|(r, _)| !r.counted) {
        output::note(say!(
            "发送数很多的任务在列表里不统计；要看：gong status 编号",
            "the list does not count the largest; to see one: gong status NO"
        ));
    }
    if reports.iter().filter(|(r, _)| r.finished).count() == LISTED {
        output::note(say!(
            "已完成的只列出最近 {LISTED} 个；更早的：gong status 编号",
            "of those finished only the latest {LISTED} are listed; earlier ones: gong status NO"
        ));
    }
    for paused in paused(&rows) {
        output::note(why_paused(&paused));
    }
    tell_workers(app).await
}

/// The open dispatches and the latest of the others.
async fn reports(app: &App, rows: &[ChannelRow]) -> anyhow::Result<Vec<(Report, Dispatch)>> {
    let all = app.store.dispatches(false).await?;
    let countable = countable(all.iter().map(|d| (d.finished_at.is_some(), d.deliveries, d.no)).collect());
    let mut reports = Vec::with_capacity(all.len());
    for dispatch in all {
        let counts = match countable.get(&dispatch.no) {
            Some(no) => Some(app.store.delivery_counts(*no).await?),
            None => None,
        };
        reports.push((report_of(app, &dispatch, rows, counts).await?, dispatch));
    }
    Ok(reports)
}

/// Of dispatches, each as whether it has ended, its deliveries and its number, those that
/// a list has the time to count: those under way first, and the small ones.
fn countable(mut all: Vec<(bool, i64, i64)>) -> HashSet<i64> {
    all.sort_unstable();
    let mut left = COUNTED;
    let within = all.into_iter().filter(|(_, deliveries, _)| {
        let fits = *deliveries <= left;
        left -= if fits { *deliveries } else { 0 };
        fits
    });
    within.map(|(.., no)| no).collect()
}

/// On a server store: who is there to send.
async fn tell_workers(app: &App) -> anyhow::Result<Ended> {
    let workers = super::workers::look(app).await?;
    if !workers.embedded {
        output::line(super::workers::words(&workers));
    }
    Ok(Ended::Done)
}

fn words(r: &Report) -> String {
    let (no, state, counts) = (r.no, state_word(&r.state), counts(&r.states));
    let (members, deliveries) = (output::number(r.members), output::number(r.deliveries));
    let (step, steps) = (r.step, r.steps);
    let mut posts = match (r.posts.published, r.posts.planned) {
        (_, 0) => String::new(),
        (out, all) => say!("；其中公开发布 {out}/{all} 篇", "; {out} of {all} posts are published"),
    };
    for Held { channel, code, misconfigured, .. } in &r.posts.held {
        posts += &if *misconfigured {
            say!(
                "；{channel} 的密钥或配置不对，未发布（{code}），改好后重启引擎",
                "; {channel} has a wrong secret or setting and is not posted ({code}); mend it and start the engine anew"
            )
        } else {
            say!("；{channel} 尚未发布（{code}）", "; {channel} is not posted ({code})")
        };
    }
    let paused: String = r.paused.iter().map(|p| say!("；", "; ") + &why_paused(p)).collect();
    say!(
        "发布任务 {no} {state}，第 {step}/{steps} 步：{members} 人，{deliveries} 条发送记录（{counts}）{posts}{paused}",
        "dispatch {no} {state}, step {step}/{steps}: {members} people, {deliveries} deliveries ({counts}){posts}{paused}"
    )
}

fn counts(states: &BTreeMap<&'static str, i64>) -> String {
    let shown =
        State::ALL.iter().filter_map(|s| states.get(s.name()).map(|n| format!("{} {}", label(*s), output::number(*n))));
    let shown: Vec<String> = shown.collect();
    if shown.is_empty() { "-".to_owned() } else { shown.join(say!("，", ", ").as_str()) }
}

/// What people call a state.
#[must_use]
pub fn label(state: State) -> String {
    match state {
        State::Planned => say!("计划中", "planned"),
        State::Queued => say!("排队", "queued"),
        State::Sending => say!("发送中", "sending"),
        State::Sent => say!("已提交", "sent"),
        State::Delivered => say!("到达", "delivered"),
        State::Read => say!("已读", "read"),
        State::Confirmed => say!("已确认", "confirmed"),
        State::Undelivered => say!("未送达", "undelivered"),
        State::Unknown => say!("无回音", "unknown"),
        State::Retry => say!("待重试", "retry"),
        State::Failed => say!("失败", "failed"),
        State::Uncertain => say!("待核实", "uncertain"),
        State::Deferred => say!("待天亮", "deferred"),
        State::Cancelled => say!("已取消", "cancelled"),
        State::Suppressed => say!("已退订", "opted out"),
        State::Printed => say!("已打印", "printed"),
        State::Posted => say!("已张贴", "posted"),
        State::TakenDown => say!("已撤下", "taken down"),
        State::Listed => say!("待入户", "to visit"),
        State::Told => say!("已当面告知", "told"),
        State::Absent => say!("不在家", "absent"),
        State::Moved => say!("已搬走", "moved"),
        State::Refused => say!("拒绝", "refused"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_counts_what_is_under_way_before_what_has_ended_and_the_small_before_the_large() {
        let (village, county, province) = (3_000, 800_000, 40_000_000);
        let all = vec![(true, village, 1), (false, province, 2), (false, village, 3), (false, county, 4)];
        assert_eq!(countable(all), HashSet::from([1, 3, 4]));
        let ended = vec![(true, county, 1), (true, village, 2), (true, province, 3), (false, county, 4)];
        assert_eq!(countable(ended), HashSet::from([2, 4]));
    }
}
