//! Every command and argument has its Chinese, and every command its examples.

use super::*;

/// Every command with its path.
fn walk(command: &Command, path: &str, visit: &mut impl FnMut(&str, &Command)) {
    visit(path, command);
    for sub in command.get_subcommands() {
        let name = sub.get_name();
        let path = if path == ROOT { name.to_owned() } else { format!("{path} {name}") };
        walk(sub, &path, visit);
    }
}

#[test]
fn every_command_and_argument_has_its_chinese() {
    let words: Words = toml::from_str(ZH).expect("templates/locales/zh.toml parses");
    let mut missing = Vec::new();
    walk(&Cli::command(), ROOT, &mut |path, command| {
        let has = |key: &str| words.get(path).and_then(|w| w.get(key)).is_some_and(|w| !w.trim().is_empty());
        let ids = command.get_arguments().map(|a| a.get_id().to_string());
        for key in std::iter::once("about".to_owned()).chain(ids) {
            if !has(&key) {
                missing.push(format!("[\"{path}\"] {key}"));
            }
        }
        if command.get_about().is_none() && path != ROOT && command.get_after_help().is_some() {
            missing.push(format!("`{path}` has no English doc comment"));
        }
        if command.get_after_help().is_none() && !has("examples") {
            missing.push(format!("[\"{path}\"] examples (or #[command(after_help = …)])"));
        }
    });
    assert!(missing.is_empty(), "templates/locales/zh.toml lacks:\n{}", missing.join("\n"));
}

#[test]
fn help_is_chinese_and_can_be_english() {
    let mut command = command();
    command.build();
    walk(&command, ROOT, &mut |path, command| {
        let help = mistake::marks(&command.clone().render_long_help().to_string());
        for english in [
            "Usage:",
            "Options:",
            "Arguments:",
            "Commands:",
            "[OPTIONS]",
            "<COMMAND>",
            "Behaviour:",
            "[default:",
            "[env:",
            "ossible values",
            "liases:",
        ] {
            assert!(!help.contains(english), "`{path} --help` says {english}\n{help}");
        }
        assert!(help.contains("示例:"), "`{path} --help` shows no example\n{help}");
    });
}

#[test]
fn the_language_is_known_before_parsing() {
    let args = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
    assert_eq!(language(&args("gong --lang en item list")), Lang::En);
    assert_eq!(language(&args("gong item list --lang=en")), Lang::En);
    assert_eq!(language(&args("gong item list --lang zh")), Lang::Zh);
    assert_eq!(language(&args("gong item list")), Lang::Zh);
    assert_eq!(language(&args("gong item list --lang en_US.UTF-8")), Lang::En);
}

#[test]
fn a_language_that_we_do_not_speak_is_told() {
    for name in ["xx", "english", "EN"] {
        let error = command().try_get_matches_from(["gong", "status", "--lang", name]).unwrap_err();
        assert!(mistake::chinese(&error).contains("应为 zh 或 en"), "{name}");
    }
}

#[test]
fn the_command_is_sound() {
    command().debug_assert();
}

/// Words of clap's that a reader of Chinese would see.
const ENGLISH: &[&str] = &[
    "error",
    "unexpected",
    "unrecognized",
    "required",
    "invalid",
    "argument",
    "provided",
    "information",
    "Usage",
    "OPTIONS",
    "COMMAND",
    "tip",
    "similar",
    "possible",
    "cannot",
    "supplied",
    "subcommand",
    "digit",
    "float",
    "found",
];

/// Every command, called wrongly in every way clap knows of, answers in Chinese.
#[test]
fn mistakes_are_told_in_chinese() {
    let mut lines: Vec<Vec<String>> = Vec::new();
    let mut built = command();
    built.build();
    walk(&built, ROOT, &mut |path, command| {
        let base: Vec<String> =
            std::iter::once("gong").chain(path.split(' ').filter(|p| *p != ROOT)).map(str::to_owned).collect();
        let with = |more: &[&str]| base.iter().cloned().chain(more.iter().map(ToString::to_string)).collect();
        lines.extend([with(&[]), with(&["--no-such"]), with(&["甲", "乙", "丙", "丁", "戊", "己"]), with(&["--lang"])]);
        for arg in command.get_arguments() {
            let Some(long) = arg.get_long() else { continue };
            let long = format!("--{long}");
            lines.extend([
                with(&[&long]),
                with(&[&long, "-x"]),
                with(&[&format!("{long}=?")]),
                with(&["a", "b", &long, "?"]),
            ]);
            lines.push(with(&[&long, "1", &long, "1"]));
            lines.push(with(&[&long[..long.len() - 1], "1"]));
        }
    });
    let mut heard = 0;
    for line in lines {
        let Err(error) = command().try_get_matches_from(&line) else { continue };
        if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            continue;
        }
        heard += 1;
        let said = mistake::chinese(&error);
        // What the reader typed, and the names of our own options, are no words of clap's.
        let words: Vec<&str> = said
            .split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '<' | '[' | '/')))
            .filter(|w| !w.starts_with(['-', '<', '[']))
            .collect();
        let usage = said.find("\n用法:").map_or(said.as_str(), |at| &said[..at]);
        for word in ENGLISH {
            let ours = line.iter().any(|typed| typed.contains(word));
            assert!(ours || !words.contains(word), "{line:?} → {said}");
        }
        assert!(
            usage.starts_with("错误: ") && usage.chars().filter(|c| *c > '\u{2e80}').count() >= 4,
            "{line:?} → {said}"
        );
        assert!(error.kind() != ErrorKind::ValueValidation || !usage.contains("不能写“”"), "{line:?} → {said}");
    }
    assert!(heard > 300, "{heard}");
}
