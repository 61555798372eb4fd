//! `gong plan`: what would be sent, in one screen.

use clap::Args;
use serde_json::json;

use super::{Context, Ended, output};
use crate::app::prepare::{Preview, Wish};
use crate::app::samples::Sample;
use crate::channel::Target;
use crate::domain::figures::yuan_rounded;
use crate::domain::item::Lane;
use crate::say;
use crate::store::dispatches::Mode;
use crate::store::operators::Role;

/// Shows what sending an item would do: how many people, what it costs, how long it
/// takes, and whom it does not reach. Nothing is written.
#[derive(Debug, Args)]
#[command(
    after_help = "gong plan 3\ngong plan 3 --to '区域:河口镇 且 非 组:党员干部'\ngong plan 3 --to 'region:532532101000' --plan 'sms > 30m > visit'\ngong plan 3 --to '名单:2026年补贴' --samples 5"
)]
pub struct PlanArgs {
    #[command(flatten)]
    pub what: What,
    /// How many merged messages to show, where everybody gets a text of their own.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub samples: usize,
    /// Shows names, numbers and texts as they are.
    #[arg(long)]
    pub reveal: bool,
}

/// What to send, to whom and how; `send` takes the same.
#[derive(Debug, Clone, Args)]
pub struct What {
    /// Number or id of the item.
    pub item: String,
    /// The audience, where it is not the item's own.
    #[arg(long, value_name = "EXPRESSION")]
    pub to: Option<String>,
    /// Channels and waiting times, e.g. 'sms > 30m > visit'.
    #[arg(long, value_name = "STEPS")]
    pub plan: Option<String>,
    /// immediate, prompt or routine, where the rule's lane is not wanted.
    #[arg(long, requires = "lane_reason")]
    pub lane: Option<String>,
    /// Why another lane.
    #[arg(long, value_name = "REASON")]
    pub lane_reason: Option<String>,
    /// live, drill or dry.
    #[arg(long, default_value = "live")]
    pub mode: String,
}

impl What {
    /// What the operator asks for.
    pub fn wish(&self) -> anyhow::Result<Wish> {
        let lane = match &self.lane {
            None => None,
            Some(word) => {
                let lane = Lane::from_word(word).ok_or_else(|| {
                    anyhow::anyhow!(say!(
                        "紧急程度“{word}”不对：应为 特急、加急、常规",
                        "the lane `{word}` is wrong: expected immediate, prompt or routine"
                    ))
                })?;
                Some((lane as i32, self.lane_reason.clone().unwrap_or_default()))
            }
        };
        Ok(Wish { to: self.to.clone(), plan: self.plan.clone(), lane, mode: Some(mode(&self.mode)?) })
    }
}

fn mode(word: &str) -> anyhow::Result<Mode> {
    Ok(match word {
        "live" | "正式" => Mode::Live,
        "drill" | "演练" => Mode::Drill,
        "dry" | "试算" => Mode::Dry,
        _ => anyhow::bail!(say!(
            "方式“{word}”不对：应为 live、drill 或 dry",
            "the mode `{word}` is wrong: expected live, drill or dry"
        )),
    })
}

pub(super) async fn run(context: &Context, args: PlanArgs) -> anyhow::Result<Ended> {
    let app = context.app().await?;
    let prepared = app.prepare(&args.what.item, &args.what.wish()?, "").await?;
    let samples = app.samples(&prepared, args.samples, args.reveal).await?;
    if args.reveal {
        let operator = context.operator(&app).await?;
        operator.need(Role::Dispatcher)?;
        let detail = json!({ "samples": samples.len() });
        app.store.note_act(&operator.name, "reveal", &prepared.item.id, &detail).await?;
    }
    let mut preview = prepared.preview;
    if !args.reveal
        && let Some(first) = samples.first()
    {
        // What stands for the text is one of them, and no less private.
        preview.sample.clone_from(&first.text);
    }
    if context.global.json {
        let mut all = serde_json::to_value(&preview)?;
        all["samples"] = serde_json::to_value(&samples)?;
        output::json(&all)?;
        return Ok(Ended::Done);
    }
    show(&preview);
    show_samples(&samples);
    if prepared.item.state != "approved" {
        output::note(say!(
            "事项还没有审核通过，不能发布。下一步：gong item approve",
            "the item is not approved yet. Next: gong item approve"
        ));
    }
    Ok(Ended::Done)
}

fn show_samples(samples: &[Sample]) {
    if samples.is_empty() {
        return;
    }
    let n = samples.len();
    output::line(say!("合成后的短信，取 {n} 条：", "{n} of the merged messages:"));
    for Sample { row_no, name, to, parts, text, longest } in samples {
        let mark = if *longest { say!("，最长的一条", ", the longest of all") } else { String::new() };
        output::line(say!(
            "  第 {row_no} 行  {name}  {to}  {parts} 条{mark}\n    {text}",
            "  row {row_no}  {name}  {to}  {parts} parts{mark}\n    {text}"
        ));
    }
}
/// What a channel's deliveries are where they go to an account.
const POST: &str = Target::Account.name();

/// Prints a preview for people.
pub(super) fn show(p: &Preview) {
    let (members, households) = (output::number(p.members), output::number(p.households));
    output::line(if p.channels.iter().all(|c| c.target == POST) {
        say!(
            "只公开发布，不逐人通知；对象 {members} 人 / {households} 户",
            "it is posted and goes to nobody in particular; the audience is {members} people in {households} households"
        )
    } else {
        say!("将通知 {members} 人 / {households} 户", "{members} people in {households} households will be told")
    });
    let (audience, plan, lane) = (&p.audience, &p.plan, Lane::from_word(p.lane).map_or(p.lane, Lane::label));
    output::line(say!("对象：{audience}", "audience: {audience}"));
    output::line(say!("步骤：{plan}    紧急程度：{lane}", "plan: {plan}    lane: {lane}"));
    let head = [
        say!("渠道", "channel"),
        say!("发送数", "deliveries"),
        say!("可达人数", "addressable"),
        say!("经家庭电话", "via household"),
        say!("已退订", "opted out"),
        say!("每条短信数", "parts each"),
        say!("短信总数", "parts"),
        say!("费用（元）", "cost (yuan)"),
        say!("预计分钟", "minutes"),
        say!("回执", "receipts"),
    ];
    let mut table = output::table(&head);
    for c in &p.channels {
        let (deliveries, post) = (output::number(c.deliveries), c.target == POST);
        table.add_row([
            c.channel.clone(),
            if post { say!("{deliveries} 篇", "{deliveries} post") } else { deliveries },
            if post { "-".to_owned() } else { output::number(c.addressable) },
            output::number(c.via_household),
            output::number(c.suppressed),
            c.parts_each.to_string(),
            output::number(c.parts),
            yuan_rounded(c.cost_milli),
            minutes(c.minutes),
            if c.receipts { say!("有", "yes") } else { say!("无回执", "none") },
        ]);
    }
    output::line(table);
    texts(p);
    missing(p);
}

/// The text of every channel, said once where they are the same.
fn texts(p: &Preview) {
    let mut shown: Vec<&str> = Vec::new();
    for c in p.channels.iter().filter(|c| !c.text.is_empty()) {
        if shown.contains(&c.text.as_str()) {
            continue;
        }
        shown.push(&c.text);
        let channel = &c.channel;
        output::line(say!("内容（{channel}）：", "text ({channel}):"));
        for line in c.text.lines() {
            output::line(format!("  {line}"));
        }
        if c.cut {
            let bytes = c.text.len();
            output::line(say!(
                "  （正文超过该渠道的长度，已在句末截短为 {bytes} 字节；要全文请写短一些）",
                "  (longer than the channel takes: cut at the end of a sentence to {bytes} bytes; for all of it, write less)"
            ));
        }
    }
}

fn missing(p: &Preview) {
    if !p.not_posted.is_empty() {
        let (names, plan) = (p.not_posted.join("、"), p.plan.split('>').next().unwrap_or_default().trim());
        let with = [&[plan.to_owned()], &p.not_posted[..]].concat().join(",");
        output::line(say!(
            "原来的内容还发布在 {names}，这次的步骤里没有。要在那里也更正或解除，加上：--plan '{with}'",
            "what this follows also stands on {names}, which the plan leaves out. To correct or lift it there too, add: --plan '{with}'"
        ));
    }
    if p.no_address > 0 {
        let n = output::number(p.no_address);
        output::line(say!("没有可用号码或地址的 {n} 人，例如：", "{n} people have no address, for example:"));
        for one in &p.no_address_some {
            let why = if one.why == "address_gone" {
                say!("号码已停用", "number gone")
            } else {
                say!("未登记", "none on record")
            };
            output::line(format!("  {}  {}  {why}", one.name, one.region));
        }
    }
    if !p.villages_without_point.is_empty() {
        let (n, names) = (p.villages_without_point.len(), p.villages_without_point.join("、"));
        output::line(say!("{n} 个村没有公告栏：{names}", "{n} villages have no notice board: {names}"));
    }
}

fn minutes(m: f64) -> String {
    if m < 0.1 { "<0.1".to_owned() } else { format!("{m:.1}") }
}
