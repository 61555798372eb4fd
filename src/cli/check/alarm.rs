//! The alarm: whether anybody hears it, and, where asked, a real test.

use super::Report;
use crate::channel::registry::Registry;
use crate::config::Config;
use crate::dispatch::alarm::tell::{Alarm, Teller};
use crate::say;

const NAME: &str = "alarm";

/// A line on who is told; with `test`, one more a way that a test alarm went.
pub(super) async fn look(report: &mut Report, config: &Config, registry: &Registry, test: bool) {
    let Some(teller) = report.need(NAME, Teller::new(&config.alarm, registry, &config.base)) else { return };
    if teller.is_empty() {
        let what = say!("出了问题没有人会收到警报", "nobody is told when the sending is in trouble");
        let todo = say!(
            "在配置的 [alarm] 里写明 channel 或 command",
            "name a channel or a command in [alarm] of the configuration"
        );
        // Who asks for a test alarm wants somebody to hear it.
        return if test { report.bad(NAME, what, todo) } else { report.warn(NAME, what, todo) };
    }
    let (program, channel) = (config.alarm.command.first(), &config.alarm.channel);
    let channel = Some(channel).filter(|name| !name.is_empty());
    let ways: Vec<&str> = program.into_iter().chain(channel).map(String::as_str).collect();
    let ways = ways.join(", ");
    report.good(NAME, say!("警报发给 {ways}", "alarms go to {ways}"));
    if !test {
        return;
    }
    for (how, told) in teller.tell(&Alarm::test(&config.site.name)).await {
        let id = format!("{NAME}:{how}");
        match told {
            Ok(()) => report.good(&id, say!("警报测试已发出（{how}）", "a test alarm went out ({how})")),
            Err(why) => report.bad(
                &id,
                say!("警报测试没有发出（{how}）：{why}", "the test alarm did not go out ({how}): {why}"),
                say!("核对 [alarm] 里的渠道、号码或程序", "check the channel, the numbers or the program in [alarm]"),
            ),
        }
    }
}
