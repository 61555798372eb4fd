//! `gong pause`, `resume`, `cancel`, `rate`: what operators decide while it runs.

use clap::Args;

use super::words::refused;
use super::{App, Context, Ended, output};
use crate::say;
use crate::store::operators::Role;

/// Holds for everything not yet handed over, within a second.
#[derive(Debug, Args)]
pub struct Steer {
    /// Number or id of the dispatch, or `channel:NAME`.
    #[arg(value_name = "DISPATCH")]
    target: String,
}

/// Sets the rate of a channel, in SMS parts a second.
#[derive(Debug, Args)]
#[command(after_help = "gong rate sms 20\ngong rate sms declared")]
pub struct Rate {
    /// The channel.
    channel: String,
    /// Parts a second, or `declared` for the declaration's own.
    rate: String,
}

pub(super) async fn run(context: &Context, args: Steer, to: &'static str) -> anyhow::Result<Ended> {
    let app = context.app().await?;
    let operator = context.operator(&app).await?;
    operator.need(Role::Dispatcher)?;
    if let Some(channel) = args.target.strip_prefix("channel:") {
        known(&app, channel)?;
        if to == "cancelled" {
            return Err(refused(say!("渠道只能暂停或恢复", "a channel can be paused or resumed, not cancelled")));
        }
        app.store.pause_channel(channel, to == "paused", &operator.name).await?;
        if context.global.json {
            output::json(&serde_json::json!({ "channel": channel, "state": to }))?;
        } else if to == "paused" {
            output::line(say!(
                "渠道 {channel} 已暂停。恢复：gong resume channel:{channel}",
                "channel {channel} is paused. To go on: gong resume channel:{channel}"
            ));
        } else {
            output::line(say!("渠道 {channel} 已恢复", "channel {channel} goes on"));
        }
        return Ok(Ended::Done);
    }
    let dispatch = app.store.dispatch(&args.target).await?;
    app.store.steer_dispatch(dispatch.no, to, &operator.name).await?;
    if context.global.json {
        output::json(&serde_json::json!({ "dispatch": dispatch.id, "no": dispatch.no, "state": to }))?;
    } else {
        let no = dispatch.no;
        let said = match to {
            "paused" => say!(
                "发布任务 {no} 已暂停。恢复：gong resume {no}",
                "dispatch {no} is paused. To go on: gong resume {no}"
            ),
            "active" => say!("发布任务 {no} 已恢复", "dispatch {no} goes on"),
            _ => say!(
                "发布任务 {no} 已取消，未提交的不再发出。已发出的如需更正，请发布更正或解除事项",
                "dispatch {no} is cancelled; what was not handed over stays. To correct what went out, send a correction or a lift"
            ),
        };
        output::line(said);
    }
    Ok(Ended::Done)
}

pub(super) async fn rate(context: &Context, args: Rate) -> anyhow::Result<Ended> {
    let app = context.app().await?;
    let operator = context.operator(&app).await?;
    operator.need(Role::Dispatcher)?;
    let channel = &args.channel;
    known(&app, channel)?;
    let rate = match args.rate.as_str() {
        "declared" | "默认" => None,
        text => {
            let parsed = text.parse::<f64>().ok().filter(|r| r.is_finite() && *r > 0.0);
            Some(parsed.ok_or_else(|| {
                refused(say!(
                    "速率“{text}”不对：应为大于 0 的数（条/秒），或 declared",
                    "the rate `{text}` is wrong: expected a number above 0 (parts a second), or `declared`"
                ))
            })?)
        }
    };
    app.store.set_rate(channel, rate, &operator.name).await?;
    if context.global.json {
        output::json(&serde_json::json!({ "channel": channel, "rate": rate }))?;
    } else if let Some(rate) = rate {
        output::line(say!("渠道 {channel} 的速率：{rate} 条/秒", "rate of channel {channel}: {rate} parts a second"));
    } else {
        output::line(say!("渠道 {channel} 的速率：按网关声明", "rate of channel {channel}: as declared"));
    }
    Ok(Ended::Done)
}

fn known(app: &App, channel: &str) -> anyhow::Result<()> {
    if app.registry.get(channel).is_some() {
        return Ok(());
    }
    let known = app.registry.names().collect::<Vec<_>>().join(", ");
    Err(refused(say!(
        "没有名为“{channel}”的渠道；现有：{known}",
        "there is no channel named `{channel}`; there are: {known}"
    )))
}
