//! What the demo leaves in its folder for the newcomer to look at.

use std::collections::BTreeMap;
use std::path::Path;

use super::scenes::Play;
use super::site::REVIEWER;
use crate::say;

/// Writes everything; the names of files and folders with the number of files in each.
///
/// # Errors
/// When a command fails or the folder cannot be written.
pub async fn everything(play: &Play<'_>) -> anyhow::Result<BTreeMap<String, usize>> {
    let site = &play.site;
    site.stage.chapter(&say!("六、留给您的东西", "6. What is left for you"));
    samples(play).await?;
    site.show(&["reach", "1", "--csv", "reach.csv"]).await?;
    site.show(&["reach", "1", "--format", "html", "--out", "reach.html"]).await?;
    next(&site.dir)?;
    count(&site.dir)
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
            say!("谁没收到、为什么（姓名已遮盖）", "Who was not reached and why (names masked)"),
            "gong unreached 1".to_owned(),
        ),
        (
            say!("这条公开事项从拟稿到发布的经过", "How the item went from draft to dispatch"),
            "gong item show 1".to_owned(),
        ),
        (
            say!(
                "再发一次会怎样：只发给没收到的人（不会真的发）",
                "What a second round to those not reached would be (nothing is sent)"
            ),
            "gong plan 2 --to '未到达:1 且 片区:南溪河沿岸' --plan sms".to_owned(),
        ),
        (
            say!("操作记录有没有被改过", "Whether the audit log was tampered with"),
            format!("gong --as {REVIEWER} audit verify"),
        ),
    ];
    let tries: Vec<String> = tries.into_iter().map(|(why, line)| format!("# {why}\n{line}\n")).collect();
    std::fs::write(dir.join("NEXT.txt"), format!("{head}\n{}", tries.join("\n")))?;
    Ok(())
}

/// Files of the folder, and folders with how many files they hold.
fn count(dir: &Path) -> anyhow::Result<BTreeMap<String, usize>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            all.insert(format!("{name}/"), std::fs::read_dir(entry.path())?.count());
        } else {
            all.insert(name, 1);
        }
    }
    Ok(all)
}
