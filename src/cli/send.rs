//! `gong send`: sends an approved item; what goes out is what `gong plan` showed.

use std::io::{BufRead as _, IsTerminal as _};

use clap::Args;

use super::plan::{self, What};
use super::{Context, Ended, calls, output, status};
use crate::app::calls::Called;
use crate::app::prepare::Prepared;
use crate::channel::{AddressKind, Target};
use crate::dispatch::job::{Site, compose};
use crate::domain::item::Content;
use crate::domain::recipient::Phone;
use crate::render::Medium;
use crate::say;
use crate::store::dispatches::{Dispatch, Mode};
use crate::store::operators::Role;

/// Sends an approved item. A running `gong serve` does the work.
#[derive(Debug, Args)]
#[command(
    after_help = "gong send 3 --to '区域:河口镇'\ngong send 3 --mode drill --yes --watch\ngong send 3 --test-to 13900000001"
)]
pub struct SendArgs {
    #[command(flatten)]
    what: What,
    /// Send the text to these numbers only, marked 【测试】, and to nobody of the audience.
    #[arg(long, value_name = "PHONE", value_delimiter = ',')]
    test_to: Vec<String>,
    /// Do not call the duty officers of the villages, for this reason.
    #[arg(long, value_name = "REASON")]
    no_call: Option<String>,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    /// Follow it until it has finished.
    #[arg(long)]
    watch: bool,
}

pub(super) async fn run(context: &Context, args: SendArgs) -> anyhow::Result<Ended> {
    let app = context.app().await?;
    let operator = context.operator(&app).await?;
    operator.need(Role::Dispatcher)?;
    let mut item = None;
    let dispatch = if args.test_to.is_empty() {
        let prepared = app.prepare(&args.what.item, &args.what.wish()?, &operator.name).await?;
        if !agreed(&prepared, &args, context.global.json)? {
            output::note(say!("没有发送", "nothing was sent"));
            return Ok(Ended::Done);
        }
        item = Some(prepared.item.content);
        app.store.create_dispatch(&prepared.new).await?
    } else {
        test(&app, &args, &operator.name).await?
    };
    if context.global.json && !args.watch {
        let call = call(&app, &args, &dispatch, item.as_ref()).await?;
        let mut report = serde_json::to_value(status::report(&app, &dispatch).await?)?;
        report["call"] = call.map(|c| c.no).into();
        output::json(&report)?;
    } else {
        if !context.global.json {
            let (no, id) = (dispatch.no, &dispatch.id);
            output::line(say!("发布任务 {no}（{id}）已建立", "dispatch {no} ({id}) is created"));
        }
        if let Some(call) = call(&app, &args, &dispatch, item.as_ref()).await?
            && !context.global.json
        {
            calls::tell(&app, &call, dispatch.no);
        }
    }
    if !app.engine_runs() {
        output::note(say!(
            "引擎没有运行，任务在等待。请在另一个窗口执行：gong serve",
            "no engine is running, so it waits. In another window, run: gong serve"
        ));
    } else if !args.watch {
        let no = dispatch.no;
        output::note(say!("查看进度：gong status {no} --watch", "to follow it: gong status {no} --watch"));
    }
    if args.watch {
        status::watch(context, &app, &dispatch.id).await?;
    }
    Ok(Ended::Done)
}

/// Calls the duty officers where the rules ask for it. What was sent stays sent when
/// that fails, and the operator hears why.
async fn call(
    app: &super::App,
    args: &SendArgs,
    dispatch: &Dispatch,
    content: Option<&Content>,
) -> anyhow::Result<Option<Dispatch>> {
    let no = dispatch.no;
    let Some(content) = content.filter(|c| app.calls_for(c, dispatch.mode)) else { return Ok(None) };
    if let Some(reason) = &args.no_call {
        let detail = serde_json::json!({ "reason": reason });
        app.store.note_act(&dispatch.created_by, "no call", &dispatch.id, &detail).await?;
        return Ok(None);
    }
    match app.call_by_rule(dispatch, content).await {
        Ok(Called::Made(call)) => return Ok(Some(*call)),
        Ok(Called::NotAsked) => {}
        Ok(Called::NoOfficers) => output::note(say!(
            "没有登记值班负责人，无人可叫应；各村须电话联系，确认后登记：gong confirm {no} --region 村名",
            "no duty officers are registered, so nobody is called; telephone the villages and enter it: gong confirm {no} --region VILLAGE"
        )),
        Err(error) => output::note(say!(
            "已发布，但没有叫应：{error}。解决后执行：gong call {no}",
            "it is sent, and nobody was called: {error}. Once that is mended: gong call {no}"
        )),
    }
    Ok(None)
}

/// A person at a terminal is shown the plan and asked; a script has decided.
fn agreed(prepared: &Prepared, args: &SendArgs, json: bool) -> anyhow::Result<bool> {
    if json {
        return Ok(true);
    }
    plan::show(&prepared.preview);
    if args.yes || prepared.item.state != "approved" || !std::io::stdin().is_terminal() {
        return Ok(true);
    }
    let (n, mode) = (output::number(prepared.preview.members), prepared.new.mode.name());
    output::note(say!(
        "确定向 {n} 人发送（{mode}）吗？输入 yes 确认：",
        "send this to {n} people ({mode})? Type yes to confirm:"
    ));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "yes" | "y" | "是"))
}

async fn test(app: &super::App, args: &SendArgs, operator: &str) -> anyhow::Result<Dispatch> {
    let item = app.store.item(&args.what.item).await?;
    let phone = |text: &String| {
        let wrong = || {
            anyhow::anyhow!(say!(
                "“{text}”不是手机号码：应为 11 位数字",
                "`{text}` is not a mobile number: expected 11 digits"
            ))
        };
        Phone::mobile(text).map(|p| p.as_str().to_owned()).ok_or_else(wrong)
    };
    let phones: Vec<String> = args.test_to.iter().map(phone).collect::<anyhow::Result<_>>()?;
    let plan = match &args.what.plan {
        Some(text) => crate::domain::plan::Plan::parse(text)?,
        None => app.config.default_plan()?,
    };
    plan.check(&app.registry.names().collect::<Vec<_>>())?;
    let unit = Site { name: item.unit.clone(), phone: item.unit_phone.clone() };
    let composer = compose(&app.messages, (Medium::Sms, &item.content), &unit, "", Mode::Test)?;
    anyhow::ensure!(
        !composer.is_personal(),
        say!(
            "正文用到每人不同的变量，不能只发给测试号码。用 gong plan 预览",
            "the text has variables for each recipient and cannot go to test numbers alone. Preview it with gong plan"
        )
    );
    let name = plan.steps.first().and_then(|s| s.channels.first()).cloned().unwrap_or_default();
    anyhow::ensure!(
        app.registry.get(&name).is_some_and(|c| c.target() == Target::Address(AddressKind::Phone)),
        say!(
            "渠道 {name} 不发往手机号码，不能用 --test-to。先用 --mode dry 或另建一个测试群的渠道",
            "channel {name} does not go to phone numbers, so --test-to is not for it. Use --mode dry, or a channel to a chat of your own"
        )
    );
    let channel = app.store.channel_no(&name).await?;
    let first = crate::domain::plan::Plan { steps: vec![crate::domain::plan::Step { channels: vec![name], wait: 0 }] };
    let now = app.store.now();
    let new = crate::store::dispatches::NewDispatch {
        item_id: item.id.clone(),
        item_version: item.version,
        audience: "--test-to".to_owned(),
        canonical: "--test-to".to_owned(),
        mode: Mode::Test,
        lane: 0,
        lane_reason: String::new(),
        plan: first,
        list_no: None,
        parent_no: None,
        expected: "{}".to_owned(),
        created_by: operator.to_owned(),
        expires_at: now + 600_000,
        effective_at: None,
    };
    Ok(app.store.create_test_dispatch(&new, channel, &phones).await?)
}
