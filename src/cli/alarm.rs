//! `gong alarm`: tells those whom `[alarm]` names what a script or a unit found.

use clap::Args;
use serde_json::json;

use super::{Context, Ended, check, output};
use crate::dispatch::alarm::AlarmSettings;
use crate::dispatch::alarm::tell::{Alarm, Teller};
use crate::say;
use crate::store::StoreError;

/// Tells those whom `[alarm]` names, by every way there is.
///
/// For scripts and units beside gong: a backup that failed, a check that found something.
/// The database is not asked, so it may be the trouble.
#[derive(Debug, Args)]
#[command(after_help = "gong alarm '夜间备份失败'")]
pub struct AlarmArgs {
    /// What is wrong, in a sentence or two.
    #[arg(value_name = "TEXT")]
    text: String,
}

pub(super) async fn run(context: &Context, args: AlarmArgs) -> anyhow::Result<Ended> {
    let config = context.config()?;
    let registry = check::sound_channels(&config);
    let teller = match Teller::new(&config.alarm, &registry, &config.base) {
        Ok(teller) => teller,
        // One way that is wrongly set up must not keep the other one silent.
        Err(error) if !config.alarm.command.is_empty() && !config.alarm.channel.is_empty() => {
            output::note(error);
            let command = AlarmSettings { channel: String::new(), ..config.alarm.clone() };
            Teller::new(&command, &registry, &config.base)?
        }
        Err(error) => return Err(error.into()),
    };
    if teller.is_empty() {
        return Err(StoreError::Refused(say!(
            "没有人会收到：请在配置的 [alarm] 里写明 channel 或 command",
            "nobody would hear it: name a channel or a command in [alarm] of the configuration"
        ))
        .into());
    }
    let site = &config.site.name;
    let alarm = Alarm {
        key: "said".to_owned(),
        kind: "said",
        state: "begins",
        title: say!("gong 警报：{site}", "gong alarm: {site}"),
        text: args.text,
    };
    let told = teller.tell(&alarm).await;
    if context.global.json {
        let ways = told.iter().map(|(how, told)| json!({ "how": how, "error": told.as_ref().err() }));
        output::json(&ways.collect::<Vec<_>>())?;
    } else {
        for (how, told) in &told {
            output::line(match told {
                Ok(()) => say!("已发出（{how}）", "told ({how})"),
                Err(why) => say!("没有发出（{how}）：{why}", "not told ({how}): {why}"),
            });
        }
    }
    let failed = told.iter().filter(|(_, told)| told.is_err()).count();
    Ok(match failed {
        0 => Ended::Done,
        n if n == told.len() => Ended::NotGood,
        _ => Ended::InPart,
    })
}
