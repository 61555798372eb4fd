//! What an import says: how headers were understood, and what came of the rows.

use std::path::Path;

use serde_json::{Value, json};

use crate::cli::output;
use crate::import::Summary;
use crate::import::table::{Mapping, Unknown};
use crate::say;

/// One column of a table.
pub(super) struct Column {
    header: String,
    /// The field, attribute or variable it is taken for.
    key: Option<String>,
    /// What it may be meant for.
    hint: Option<String>,
    said: String,
}

/// The columns of a table; `extra` names what a column is kept as that no field takes.
pub(super) fn columns(mapping: &Mapping, extra: impl Fn(&str) -> Option<String>) -> Vec<Column> {
    let known = mapping.mapped.iter().map(|m| Column {
        header: m.header.clone(),
        key: Some(m.key.to_owned()),
        hint: None,
        said: format!("{} → {}", m.header, m.key),
    });
    let other = mapping.unknown.iter().map(|unknown: &Unknown| {
        let header = unknown.header.clone();
        match extra(&header) {
            Some(key) => Column { said: format!("{header} → {key}"), header, key: Some(key), hint: None },
            None => Column {
                header,
                key: None,
                hint: unknown.suggestion.as_ref().map(|s| s.key.to_owned()),
                said: unknown.to_string(),
            },
        }
    });
    known.chain(other).collect()
}

/// Says each file when it is done, or all as JSON at the end.
pub(super) struct Report {
    dry_run: bool,
    json: bool,
    files: Vec<Value>,
    total: Summary,
}

impl Report {
    pub(super) fn new(dry_run: bool, json: bool) -> Self {
        Self { dry_run, json, files: Vec::new(), total: Summary::default() }
    }

    pub(super) fn rejected(&self) -> bool {
        self.total.rejected > 0
    }

    /// Adds a file; `again` is the command that feeds its mended rejects.
    pub(super) fn add(&mut self, path: &Path, columns: &[Column], summary: &Summary, again: &str) {
        let total = &mut self.total;
        total.read += summary.read;
        total.added += summary.added;
        total.updated += summary.updated;
        total.unchanged += summary.unchanged;
        total.removed += summary.removed;
        total.rejected += summary.rejected;
        if !self.json {
            return tell(path, columns, summary, (self.dry_run, again));
        }
        let of = |c: &Column| json!({ "header": c.header, "key": c.key, "suggestion": c.hint });
        let mut file = counts(summary);
        file["file"] = json!(path);
        file["columns"] = columns.iter().map(of).collect();
        file["landlines"] = json!(summary.landlines);
        file["removal_skipped"] = json!(summary.removal_skipped);
        file["broken_off"] = json!(summary.broken_off);
        file["rejects_file"] = json!(summary.rejects_file);
        self.files.push(file);
    }

    pub(super) fn finish(self) -> anyhow::Result<()> {
        if !self.json {
            return Ok(());
        }
        let mut all = counts(&self.total);
        all["dry_run"] = json!(self.dry_run);
        all["files"] = Value::Array(self.files);
        output::json(&all)
    }
}

fn counts(s: &Summary) -> Value {
    json!({ "read": s.read, "added": s.added, "updated": s.updated, "unchanged": s.unchanged,
            "removed": s.removed, "rejected": s.rejected })
}

fn tell(path: &Path, columns: &[Column], summary: &Summary, (dry_run, again): (bool, &str)) {
    let file = path.display();
    output::line(say!("{file}：", "{file}:"));
    for column in columns {
        output::line(format!("  {}", column.said));
    }
    let n = |n: u64| output::number(i64::try_from(n).unwrap_or(i64::MAX));
    let (read, added, updated) = (n(summary.read), n(summary.added), n(summary.updated));
    let (unchanged, removed, rejected) = (n(summary.unchanged), n(summary.removed), n(summary.rejected));
    let mode =
        if dry_run { say!("（试导入，没有写入）", " (dry run, nothing written)") } else { String::new() };
    output::line(say!(
        "读取 {read} 行：新增 {added}，更新 {updated}，不变 {unchanged}，移出 {removed}，拒绝 {rejected}{mode}",
        "read {read} rows: {added} added, {updated} updated, {unchanged} unchanged, {removed} removed, {rejected} rejected{mode}"
    ));
    if summary.landlines > 0 {
        let landlines = n(summary.landlines);
        output::line(say!(
            "略过 {landlines} 个固定电话：不能接收短信",
            "{landlines} landlines left out: they take no text messages"
        ));
    }
    if summary.removal_skipped {
        output::line(say!(
            "因为有被拒绝的行，没有移出任何对象。改正后请用整个文件重新 --replace",
            "nothing was removed, since rows were rejected. Mend the whole file and run --replace again"
        ));
    }
    if summary.broken_off {
        output::line(say!(
            "文件没有读到末尾，请检查文件是否完整",
            "the file could not be read to its end; check that it is whole"
        ));
    }
    if let Some(rejects) = &summary.rejects_file {
        let rejects = rejects.display();
        output::line(say!(
            "被拒绝的行写在 {rejects}，“原因”列说明问题。改正后再导入：{again}",
            "rejected rows are in {rejects}, with the reason in a column. Mend it and feed it again: {again}"
        ));
    }
}
