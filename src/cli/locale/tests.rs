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
        let help = command.clone().render_long_help().to_string();
        for english in ["Usage:", "Options:", "Arguments:", "Commands:", "[OPTIONS]", "<COMMAND>", "Behaviour:"] {
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
}

#[test]
fn the_command_is_sound() {
    command().debug_assert();
}
