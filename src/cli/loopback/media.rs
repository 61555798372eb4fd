//! `gong loopback media`: chat robots and a webhook receiver on this machine.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::flags::Answers;
use super::{channel, from_file, stopped, until_stopped};
use crate::cli::{Context, Ended, output};
use crate::loopback::{Credentials, Loopback, MediaSetup};
use crate::say;

/// Chat robots (WeCom, DingTalk, Feishu) and a signed webhook receiver, each with its
/// vendor's signature, pace and answers.
#[derive(Debug, Args)]
#[command(after_help = "gong loopback media --print-channel --secrets-dir data >> gong.toml\n\
                        gong loopback media --dir posts\n\
                        gong loopback media --temporary 0.2 --lost-answer 0.1 --seed 7\n\
                        gong plan 3 --plan 'wecom,dingtalk,feishu,webhook'")]
pub(super) struct MediaArgs {
    /// Where to listen, on this machine; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9014")]
    listen: SocketAddr,
    /// WeCom's key, and the token of DingTalk and Feishu.
    #[arg(long, value_name = "KEY", default_value = "loopback")]
    key: String,
    /// What DingTalk and Feishu sign with; the webhook's whsec_ is made of it.
    #[arg(long, value_name = "SECRET", default_value = "loopback-secret")]
    secret: String,
    /// Write every post to a file in this folder.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// A TOML file that says how it behaves; flags override it.
    #[arg(long, value_name = "FILE")]
    behaviour: Option<PathBuf>,
    /// Append a line for every post to this file.
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Print the counts as JSON when it stops.
    #[arg(long)]
    stats_on_exit: bool,
    /// Print the lines of gong.toml that post here, and stop.
    #[arg(long)]
    print_channel: bool,
    /// Write the secrets to files in this folder, for --print-channel.
    #[arg(long, value_name = "DIR", requires = "print_channel")]
    secrets_dir: Option<PathBuf>,
    // Last, for what follows would stand under its heading.
    #[command(flatten)]
    flags: Flags,
}

/// The part of a behaviour that posts can meet, one flag a field.
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "Behaviour")]
struct Flags {
    #[command(flatten)]
    #[serde(flatten)]
    answers: Answers,
    /// Answer a repeated webhook-id as before and take no second post.
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dedupe: bool,
}

pub(super) async fn run(context: &Context, args: MediaArgs) -> anyhow::Result<Ended> {
    let setup = MediaSetup { key: args.key, secret: args.secret, dir: args.dir };
    if args.print_channel {
        output::line(blocks(args.listen, &setup, args.secrets_dir.as_deref())?);
        return Ok(Ended::Done);
    }
    let behaviour = from_file(args.behaviour.as_deref())?.patched(&serde_json::to_vec(&args.flags)?)?;
    // The SMS interfaces listen too, with the same secret for want of another.
    let sms = Credentials { username: "gong".to_owned(), password: setup.secret.clone(), secret: setup.secret.clone() };
    let gateway = Loopback { journal: args.journal, media: Some(setup), ..Loopback::new(sms, behaviour) };
    let stats = until_stopped(context, gateway, args.listen).await?;
    let (requests, taken, throttled, refused) = (stats.requests, stats.messages, stats.throttled, stats.refused);
    let words = say!(
        "请求 {requests}，收下 {taken} 篇，限流 {throttled}，验签或格式不符 {refused}",
        "{requests} requests, {taken} posts taken, {throttled} too fast, {refused} unsigned or malformed"
    );
    stopped(context, args.stats_on_exit, &stats, words)
}

/// A block of `gong.toml` for each of the four; secrets go to files in `secrets_dir`, or
/// else come from the environment.
fn blocks(listen: SocketAddr, setup: &MediaSetup, secrets_dir: Option<&Path>) -> anyhow::Result<String> {
    let whsec = setup.whsec();
    let token = ("token", setup.key.as_str());
    let secret = ("secret", setup.secret.as_str());
    let four = [
        ("wecom", "", vec![("key", setup.key.as_str())]),
        ("dingtalk", "", vec![token, secret]),
        ("feishu", "", vec![token, secret]),
        ("webhook", "/webhook", vec![("key", whsec.as_str())]),
    ];
    let about = say!(
        "群机器人和网络推送的回环，仅供演练：gong loopback media",
        "loopback robots and webhook, to rehearse with: gong loopback media"
    );
    let mut text = format!("\n# {about}");
    for (name, path, secrets) in four {
        let mut specs = Vec::new();
        for (secret, value) in secrets {
            let spec = if let Some(dir) = secrets_dir {
                let path = dir.join(format!("loopback-{name}-{secret}"));
                channel::write(&path, value)?;
                format!("file:{}", path.display())
            } else {
                let variable = format!("GONG_LOOPBACK_{}_{}", name.to_uppercase(), secret.to_uppercase());
                output::note(say!(
                    "请先执行：export {variable}={value}（或加 --secrets-dir data 写成文件）",
                    "first run: export {variable}={value} (or add --secrets-dir data to write files)"
                ));
                format!("env:{variable}")
            };
            specs.push(format!("{secret} = {}", toml::Value::String(spec)));
        }
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\n[channels.{name}]\ngateway = \"{name}\"\nvars    = {{ url = \"http://{listen}{path}\" }}\nsecrets = {{ {} }}\n",
            specs.join(", ")
        );
    }
    Ok(text)
}
