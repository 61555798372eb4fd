//! What the demo leaves in its folder for the newcomer to look at.

use std::collections::BTreeMap;
use std::path::Path;

use super::scenes::Play;
use super::site::{REVIEWER, Site, line};
use crate::say;

/// Writes everything; the names of files and folders with the number of files in each.
///
/// # Errors
/// When a command fails or the folder cannot be written.
pub async fn everything(play: &Play<'_>) -> anyhow::Result<BTreeMap<String, usize>> {
    let site = &play.site;
    site.stage.chapter(&say!("七、留给您的东西", "7. What is left for you"));
    samples(play).await?;
    site.show(&["reach", "1", "--csv", "reach.csv"]).await?;
    site.show(&["reach", "1", "--format", "html", "--out", "reach.html"]).await?;
    site.show(&["report", "1", "--out", "情况报告.pdf"]).await?;
    site.show(&["report", "1", "--out", "情况报告.md"]).await?;
    unlisted(site, &["sheets", "1", "--out", "sheets", "--jpg"]).await?;
    for format in ["xlsx", "pdf"] {
        let args = ["--as", REVIEWER, "visits", "1", "list", "--format", format, "--out", "visits", "--reveal"];
        unlisted(site, &args).await?;
    }
    next(&site.dir)?;
    let mut left = BTreeMap::new();
    for entry in std::fs::read_dir(&site.dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let name = if entry.file_type()?.is_dir() { format!("{name}/") } else { name };
        left.insert(name, files(&entry.path())?);
    }
    Ok(left)
}

/// Runs a command that names every file it writes, and leaves the names out.
async fn unlisted(site: &Site<'_>, args: &[&str]) -> anyhow::Result<()> {
    site.stage.command(&line(args));
    let said = site.run(args).await?;
    site.stage.words(said.stderr.trim_end());
    Ok(())
}

/// The SMS of each item, as it went out.
async fn samples(play: &Play<'_>) -> anyhow::Result<()> {
    let folder = play.site.dir.join("samples");
    std::fs::create_dir_all(&folder)?;
    for item in play.app.store.items().await? {
        let no = item.no.to_string();
        let shown = play.site.query(&["item", "show", &no]).await?;
        let Some(text) = shown["sms"]["text"].as_str().or_else(|| shown["sms"].as_str()) else { continue };
        std::fs::write(folder.join(format!("{no}-{}.sms.txt", item.content.title)), format!("{text}\n"))?;
    }
    Ok(())
}

/// Five commands to try.
fn next(dir: &Path) -> anyhow::Result<()> {
    let program = std::fs::read_link("/proc/self/exe")?;
    let bin = program.parent().unwrap_or(Path::new(".")).display().to_string();
    let dir_shown = dir.display();
    let head = say!(
        "# 先执行这两行，再任选下面的命令：\nexport PATH={bin}:$PATH\ncd {dir_shown}\n",
        "# First these two lines, then any of the commands below:\nexport PATH={bin}:$PATH\ncd {dir_shown}\n"
    );
    let tries = [
        (say!("到达情况，按村", "Whom the alert reached, by village"), "gong reach 1 --by village".to_owned()),
        (
            say!("要上门的户，按村，姓名已遮盖", "The doors to knock at, by village, names masked"),
            "gong visits 1 list --town 河口镇".to_owned(),
        ),
        (
            say!("每份张贴件在哪里、谁贴的、何时撤下", "Where every sheet hangs, who put it up, until when"),
            "gong points 1".to_owned(),
        ),
        (
            say!(
                "再发一轮会怎样：只发给沿河没收到的人（不会真的发）",
                "What a second round to those not reached would be (nothing is sent)"
            ),
            "gong plan 2 --to '未到达:1 且 片区:南溪河沿岸' --plan sms".to_owned(),
        ),
        (say!("操作记录有没有被改过", "Whether the audit log was tampered with"), "gong audit verify".to_owned()),
    ];
    let tries: Vec<String> = tries.into_iter().map(|(why, line)| format!("# {why}\n{line}\n")).collect();
    std::fs::write(dir.join("NEXT.txt"), format!("{head}\n{}", tries.join("\n")))?;
    Ok(())
}

/// How many files are below a path.
fn files(path: &Path) -> anyhow::Result<usize> {
    if !path.is_dir() {
        return Ok(1);
    }
    let mut n = 0;
    for entry in std::fs::read_dir(path)? {
        n += files(&entry?.path())?;
    }
    Ok(n)
}
