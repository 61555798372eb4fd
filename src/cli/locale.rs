//! The command line in the reader's language: help, headings, hints on errors.
//!
//! Doc comments of commands and arguments are the English; `templates/locales/zh.toml`
//! holds the Chinese, by command path and argument id.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::builder::StyledStr;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command, CommandFactory as _, FromArgMatches as _};

use super::{Cli, output};
use crate::lang::{self, Lang};
use crate::{config, say};

const ZH: &str = include_str!("../../templates/locales/zh.toml");
const ROOT: &str = "gong";

mod mistake;

/// Command path → argument id, `about` or `examples` → the words.
type Words = BTreeMap<String, BTreeMap<String, String>>;

// A file that does not parse gives English help; a test keeps it from happening.
static WORDS: LazyLock<Words> = LazyLock::new(|| toml::from_str(ZH).unwrap_or_default());

/// The command line of this process, or the exit code where it ends here (help,
/// version, a mistake).
///
/// # Errors
/// The exit code, everything said already.
pub(super) fn parse() -> Result<Cli, ExitCode> {
    let args = config::arguments();
    lang::set(language(&args));
    let matches = command().try_get_matches_from(&args);
    matches.and_then(|m| Cli::from_arg_matches(&m)).map_err(|error| explain(&error, &args))
}

/// `--lang` or GONG_LANG, read before anything is parsed; what is wrong there is told
/// when they are parsed.
fn language(args: &[OsString]) -> Lang {
    let words: Vec<String> = args.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    let flag = words.iter().enumerate().find_map(|(i, word)| match word.strip_prefix("--lang") {
        Some("") => words.get(i + 1).cloned(),
        Some(rest) => rest.strip_prefix('=').map(str::to_owned),
        None => None,
    });
    let chosen = flag.or_else(|| config::env("GONG_LANG"));
    chosen.and_then(|name| name.parse().ok()).unwrap_or(Lang::Zh)
}

/// The whole command, in the language of this process.
#[must_use]
pub fn command() -> Command {
    let mut built = Cli::command();
    built.build();
    localise(Cli::command(), ROOT, &built)
}

fn localise(command: Command, path: &str, built: &Command) -> Command {
    let words = WORDS.get(path);
    let word = |key: &str| words.and_then(|w| w.get(key)).cloned();
    let zh = lang::current() == Lang::Zh;
    let examples = command.get_after_help().map(ToString::to_string).or_else(|| word("examples"));
    let mut command = command.disable_help_flag(true).help_template(template());
    if let Some(examples) = examples {
        let list: Vec<String> = examples.lines().map(|line| format!("  {line}")).collect();
        let heading = say!("示例", "Examples");
        command = command.after_help(format!("{heading}:\n{}", list.join("\n")));
    }
    if let Some(about) = word("about").filter(|_| zh) {
        command = command.about(about).long_about(None::<&'static str>);
    }
    command = command.mut_args(|arg| {
        let arg = headed(arg, zh);
        match word(arg.get_id().as_str()).filter(|_| zh) {
            Some(help) => arg.help(help).long_help(None::<&'static str>),
            None => arg,
        }
    });
    if zh {
        command = command.override_usage(usage(built)).subcommand_help_heading("命令");
    }
    command = command.arg(flag("help", 'h', ArgAction::Help, say!("显示帮助", "Print help")));
    if path == ROOT {
        let version = flag("version", 'V', ArgAction::Version, say!("显示版本", "Print version"));
        command = command.disable_version_flag(true).arg(version);
    }
    command.mut_subcommands(|sub| {
        let name = sub.get_name().to_owned();
        let path = if path == ROOT { name.clone() } else { format!("{path} {name}") };
        match built.find_subcommand(&name) {
            Some(built) => localise(sub, &path, built),
            None => sub,
        }
    })
}

/// The argument under its heading; what every command takes stands apart.
fn headed(arg: Arg, zh: bool) -> Arg {
    if arg.is_global_set() {
        return arg.help_heading(say!("通用选项", "Global options"));
    }
    match (zh, arg.get_help_heading(), arg.is_positional()) {
        (false, _, _) => arg,
        (true, Some("Behaviour"), _) => arg.help_heading("网关行为"),
        (true, _, true) => arg.help_heading("参数"),
        (true, _, false) => arg.help_heading("选项"),
    }
}

fn flag(name: &'static str, short: char, action: ArgAction, help: String) -> Arg {
    let heading = say!("通用选项", "Global options");
    Arg::new(name).short(short).long(name).action(action).help(help).help_heading(heading).display_order(999)
}

fn template() -> StyledStr {
    say!(
        "{{before-help}}{{about-with-newline}}\n用法: {{usage}}\n\n{{all-args}}{{after-help}}",
        "{{before-help}}{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{{all-args}}{{after-help}}"
    )
    .into()
}

/// clap's own usage with its English words replaced.
fn usage(built: &Command) -> String {
    let usage = built.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    usage.replace("[OPTIONS]", "[选项]").replace("<COMMAND>", "<命令>")
}

fn explain(error: &clap::Error, args: &[OsString]) -> ExitCode {
    let zh = lang::current() == Lang::Zh;
    let shown = error.render().to_string();
    let shown = shown.trim_end();
    let help = || if zh { mistake::marks(shown) } else { shown.to_owned() };
    if !error.use_stderr() {
        output::line(help());
        return ExitCode::SUCCESS;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        output::note(help());
        return ExitCode::from(2);
    }
    let said = if zh { mistake::chinese(error) } else { shown.to_owned() };
    if args.iter().any(|a| a == "--json") {
        output::line(serde_json::json!({ "error": said, "usage": true }));
    }
    output::note(said);
    ExitCode::from(2)
}

#[cfg(test)]
mod tests;
