//! `gong send`: sends an approved item; what goes out is what `gong plan` showed.

use std::io::{BufRead as _, IsTerminal as _};
use std::sync::Arc;

use clap::Args;

use super::plan::{self, What};
use super::words::refused;
use super::{Context, Ended, calls, output, status};
use crate::app::calls::Called;
use crate::app::prepare::Prepared;
use crate::channel::{AddressKind, Channel, Target};
use crate::dispatch::job::{Site, compose};
use crate::domain::item::Content;
use crate::domain::plan::{Plan, Step};
use crate::domain::recipient::{Email, Phone};
use crate::say;
use crate::store::dispatches::{Dispatch, Mode, NewDispatch};
use crate::store::operators::Role;
use crate::store::trial::TrialTarget;

/// Sends an approved item. A running `gong serve` does the work.
#[derive(Debug, Args)]
#[command(
    after_help = "gong send 3 --to '区域:河口镇'\ngong send 3 --mode drill --yes --watch\ngong send 3 --test-to 13900000001"
)]
pub struct SendArgs {
    #[command(flatten)]
    what: What,
    /// Send the text to these numbers or mailboxes only, marked 【测试】, and to nobody of
    /// the audience.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
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
    let (n, mode) = (output::number(prepared.preview.members), prepared.new.mode.label());
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
    let plan = match &args.what.plan {
        Some(text) => Plan::parse(text)?,
        None => app.config.default_plan()?,
    };
    plan.check(&app.registry.names().collect::<Vec<_>>())?;
    let unit = Site { name: item.unit.clone(), phone: item.unit_phone.clone() };
    let addresses = args.test_to.iter().map(|text| address(text)).collect::<anyhow::Result<Vec<_>>>()?;
    let first = plan.steps.first().map(|s| s.channels.clone()).unwrap_or_default();
    let mut targets: Vec<TrialTarget> = Vec::new();
    let mut used = Vec::new();
    for name in &first {
        let Some((kind, channel)) = addressed(app, name) else { continue };
        let composer = compose(&app.messages, (channel.medium(), &item.content), &unit, "", Mode::Test)?;
        if composer.is_personal() {
            return Err(refused(say!(
                "正文用到每人不同的变量，不能只发给测试地址。用 gong plan 预览",
                "the text has variables for each recipient and cannot go to test addresses alone. Preview it with gong plan"
            )));
        }
        let no = app.store.channel_no(name).await?;
        let fitting = addresses.iter().filter(|(of, _)| *of == kind);
        targets.extend(fitting.map(|(kind, address)| TrialTarget {
            channel: no,
            kind: *kind,
            address: address.clone(),
        }));
        used.push((name.clone(), kind));
    }
    check_targets(&first, &used, &addresses)?;
    used.retain(|(_, kind)| addresses.iter().any(|(of, _)| of == kind));
    let plan = Plan { steps: vec![Step { channels: used.into_iter().map(|(name, _)| name).collect(), wait: 0 }] };
    let now = app.store.now();
    let new = NewDispatch {
        item_id: item.id.clone(),
        item_version: item.version,
        audience: "--test-to".to_owned(),
        canonical: "--test-to".to_owned(),
        mode: Mode::Test,
        lane: 0,
        lane_reason: String::new(),
        plan,
        list_no: None,
        parent_no: None,
        expected: "{}".to_owned(),
        created_by: operator.to_owned(),
        expires_at: now + 600_000,
        effective_at: None,
    };
    Ok(app.store.create_test_dispatch(&new, &targets).await?)
}

/// A channel that goes to an address, and to which kind.
fn addressed(app: &super::App, name: &str) -> Option<(AddressKind, Arc<dyn Channel>)> {
    let channel = app.registry.get(name)?;
    match channel.target() {
        Target::Address(kind) => Some((kind, channel)),
        _ => None,
    }
}

/// A mobile number or an e-mail address, in its one form.
fn address(text: &str) -> anyhow::Result<(AddressKind, String)> {
    if text.contains('@') {
        let mail = Email::parse(text).map(|e| (AddressKind::Email, e.as_str().to_owned()));
        return mail.ok_or_else(|| refused(say!("“{text}”不是电子邮箱地址", "`{text}` is not an e-mail address")));
    }
    Phone::mobile(text).map(|p| (AddressKind::Phone, p.as_str().to_owned())).ok_or_else(|| {
        refused(say!("“{text}”不是手机号码：应为 11 位数字", "`{text}` is not a mobile number: expected 11 digits"))
    })
}

/// Refuses a trial that would reach nothing, or leave out an address that was named.
fn check_targets(
    first: &[String],
    used: &[(String, AddressKind)],
    addresses: &[(AddressKind, String)],
) -> anyhow::Result<()> {
    if used.is_empty() {
        let names = first.join("、");
        return Err(refused(say!(
            "第一步的渠道（{names}）不是发给号码或邮箱的，没有可测试的文本。请另写步骤，如：--plan sms",
            "the first step ({names}) goes to no number and no mailbox, so there is nothing to try. Write another plan, such as: --plan sms"
        )));
    }
    let Some((kind, _)) = addresses.iter().find(|(kind, _)| used.iter().all(|(_, of)| of != kind)) else {
        return Ok(());
    };
    let names = used.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join("、");
    Err(refused(match kind {
        AddressKind::Phone => say!(
            "第一步的渠道（{names}）不发手机号码。请写邮箱，或另写步骤，如：--plan sms",
            "the first step ({names}) goes to no phone. Name a mailbox, or write another plan, such as: --plan sms"
        ),
        AddressKind::Email => say!(
            "第一步的渠道（{names}）不发电子邮箱。请写手机号码，或在 --plan 中写邮件渠道",
            "the first step ({names}) goes to no mailbox. Name a phone, or an e-mail channel in --plan"
        ),
    }))
}
