//! What `gong import` is told, and the words it says it back with.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use jiff::civil::Date;

use crate::cli::output::Misused;
use crate::import::table::{Options, Table};
use crate::import::{self, Mode, Summary};
use crate::say;

#[derive(Debug, Subcommand)]
pub enum What {
    /// The division tree: code, name, parent, level, areas, aliases.
    #[command(after_help = "gong import regions 区划.xlsx --edition 2023-06-30")]
    Regions {
        #[command(flatten)]
        files: Files,
        /// Edition of the division tables, such as 2023-06-30.
        #[arg(long, value_name = "DATE", default_value = "")]
        edition: String,
    },
    /// People, households and organisations.
    #[command(
        after_help = "gong import recipients 对象.csv --source 乡镇台账 --purpose 防汛 --create-groups\ngong import recipients 对象.xlsx --sheet 名册 --column phone=联系方式 --dry-run"
    )]
    Recipients {
        #[command(flatten)]
        files: Files,
        /// Makes groups that the file names and that do not exist.
        #[arg(long)]
        create_groups: bool,
        /// Residence of rows that name none.
        #[arg(long, value_name = "REGION")]
        region: Option<String>,
        /// Where the data comes from.
        #[arg(long, default_value = "")]
        source: String,
        /// What the data may be used for; `gong purge --purpose` destroys it by this word.
        #[arg(long, default_value = "")]
        purpose: String,
    },
    /// The members of a group, or a group by rule.
    #[command(
        after_help = "gong import groups 低保户.csv --group 低保户 --replace\ngong import groups --group 种粮大户 --rule '作物=水稻 且 亩数>=50'"
    )]
    Groups(GroupArgs),
    /// A list: variables for each recipient, such as an amount.
    #[command(after_help = "gong import lists 补贴.csv --list 2026年补贴")]
    Lists {
        #[command(flatten)]
        files: Files,
        /// Name of the list.
        #[arg(long = "list", value_name = "NAME")]
        name: String,
        #[command(flatten)]
        whole: Whole,
        /// Makes recipients of rows that match nobody and say name and region.
        #[arg(long)]
        create: bool,
    },
    /// Boards, screens, loudspeakers and desks.
    #[command(after_help = "gong import points 公告栏.csv")]
    Points {
        #[command(flatten)]
        files: Files,
    },
    /// Duty officers, by region and order of calling.
    #[command(after_help = "gong import officers 责任人.csv")]
    Officers {
        #[command(flatten)]
        files: Files,
    },
    /// Who does not want to hear: phones and mailboxes, with the kind of item.
    #[command(after_help = "gong import optouts 退订.csv\ngong import optouts 恢复.csv --remove")]
    Optouts {
        #[command(flatten)]
        files: Files,
        /// Takes these refusals back.
        #[arg(long)]
        remove: bool,
    },
}

/// What every import takes.
#[derive(Debug, Args)]
pub struct Files {
    /// CSV or xlsx files, read one after the other.
    #[arg(value_name = "FILE")]
    pub(super) paths: Vec<PathBuf>,
    /// Reads and checks everything, and writes nothing but the rejected rows.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// The header to take for a field.
    #[arg(long = "column", value_name = "KEY=HEADER", value_parser = pair)]
    pub(super) columns: Vec<(String, String)>,
    /// Worksheet of a workbook.
    #[arg(long, value_name = "NAME")]
    pub(super) sheet: Option<String>,
    /// Folder for files of rejected rows; beside the table when not given.
    #[arg(long, value_name = "DIR")]
    pub(super) rejects: Option<PathBuf>,
}

/// Whether a file is the whole of it.
#[derive(Debug, Clone, Copy, Args)]
pub struct Whole {
    /// The file is all there is: what it lacks is taken out.
    #[arg(long, conflicts_with = "append")]
    pub(super) replace: bool,
    /// The file adds to what is there (the default).
    #[arg(long)]
    pub(super) append: bool,
}

impl Whole {
    pub(super) fn mode(self) -> Mode {
        if self.replace { Mode::Replace } else { Mode::Append }
    }
}

#[derive(Debug, Args)]
pub struct GroupArgs {
    #[command(flatten)]
    pub(super) files: Files,
    /// Name of the group.
    #[arg(long = "group", value_name = "NAME")]
    pub(super) name: String,
    #[command(flatten)]
    pub(super) whole: Whole,
    /// Members by an audience expression instead of a list.
    #[arg(long, value_name = "AUDIENCE", conflicts_with = "paths")]
    pub(super) rule: Option<String>,
    /// Never shown or exported by name.
    #[arg(long)]
    pub(super) sensitive: bool,
    /// Date of the list.
    #[arg(long, value_name = "DATE")]
    pub(super) list_date: Option<String>,
    /// Last day on which the group holds.
    #[arg(long, value_name = "DATE")]
    pub(super) valid_until: Option<Date>,
}

/// Reads `key=header`.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, header)) if !key.trim().is_empty() && !header.trim().is_empty() => {
            Ok((key.trim().to_owned(), header.trim().to_owned()))
        }
        _ => Err(say!("应为 字段=表头，如 phone=联系方式", "expected KEY=HEADER, such as phone=Mobile")),
    }
}

impl What {
    pub(super) fn files(&self) -> &Files {
        match self {
            Self::Groups(group) => &group.files,
            Self::Regions { files, .. }
            | Self::Recipients { files, .. }
            | Self::Lists { files, .. }
            | Self::Points { files }
            | Self::Officers { files }
            | Self::Optouts { files, .. } => files,
        }
    }

    /// Refuses where there is nothing to read. Only a rule needs no file, and an argument
    /// shared by all kinds cannot say so to clap.
    pub(super) fn need_files(&self) -> anyhow::Result<()> {
        let by_rule = matches!(self, Self::Groups(group) if group.rule.is_some());
        if self.files().paths.is_empty() && !by_rule {
            let kind = self.word();
            return Err(Misused(say!(
                "请给出要导入的文件。如：gong import {kind} 文件.xlsx",
                "name the files to import, such as: gong import {kind} FILE.xlsx"
            ))
            .into());
        }
        Ok(())
    }

    pub(super) fn mode(&self) -> Mode {
        match self {
            Self::Groups(group) => group.whole.mode(),
            Self::Lists { whole, .. } => whole.mode(),
            _ => Mode::Append,
        }
    }

    pub(super) const fn word(&self) -> &'static str {
        match self {
            Self::Regions { .. } => "regions",
            Self::Recipients { .. } => "recipients",
            Self::Groups(_) => "groups",
            Self::Lists { .. } => "lists",
            Self::Points { .. } => "points",
            Self::Officers { .. } => "officers",
            Self::Optouts { .. } => "optouts",
        }
    }

    /// The command that feeds the mended rejects; they are never the whole of a group.
    pub(super) fn again(&self, summary: &Summary) -> String {
        let Some(file) = &summary.rejects_file else { return String::new() };
        let mut words = vec!["gong import".to_owned(), self.word().to_owned(), quoted(&file.display().to_string())];
        let mut with = |name: &str, value: &str| {
            if !value.is_empty() {
                words.push(format!("{name} {}", quoted(value)));
            }
        };
        match self {
            Self::Regions { edition, .. } => with("--edition", edition),
            Self::Recipients { source, purpose, region, .. } => {
                with("--region", region.as_deref().unwrap_or_default());
                with("--source", source);
                with("--purpose", purpose);
            }
            Self::Groups(group) => with("--group", &group.name),
            Self::Lists { name, .. } => with("--list", name),
            Self::Points { .. } | Self::Officers { .. } | Self::Optouts { .. } => {}
        }
        for (key, header) in &self.files().columns {
            with("--column", &format!("{key}={header}"));
        }
        match self {
            Self::Recipients { create_groups: true, .. } => words.push("--create-groups".into()),
            Self::Lists { create: true, .. } => words.push("--create".into()),
            Self::Optouts { remove: true, .. } => words.push("--remove".into()),
            _ => {}
        }
        words.join(" ")
    }

    /// Opens a table; reads its first rows, on a thread that may wait for the disk.
    pub(super) fn open(&self, path: &Path) -> Result<Table, import::ImportError> {
        use import::{groups, lists, optouts, points, recipients, regions};
        let files = self.files();
        let options = Options { columns: files.columns.clone(), sheet: files.sheet.clone(), extra: false };
        let open = match self {
            Self::Regions { .. } => regions::open,
            Self::Recipients { .. } => recipients::open,
            Self::Groups(_) => groups::open,
            Self::Lists { .. } => lists::open,
            Self::Points { .. } => points::open,
            Self::Officers { .. } => points::open_officers,
            Self::Optouts { .. } => optouts::open,
        };
        Ok(tokio::task::block_in_place(|| open(path, &options))?)
    }
}

/// A word as a shell takes it.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:+，、".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_given_as_pairs() {
        assert_eq!(pair("phone = 联系 方式").unwrap(), ("phone".into(), "联系 方式".into()));
        assert!(pair("phone").is_err() && pair("=x").is_err() && pair("phone=").is_err());
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(quoted("对象.csv"), "对象.csv");
        assert_eq!(quoted("a b's"), r"'a b'\''s'");
    }
}
