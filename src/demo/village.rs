//! What the villages do: duty officers open the link in their message and confirm,
//! keepers put the sheets up, somebody knocks at doors. All but one duty officer.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::county::SILENT;
use super::scenes::Play;
use super::site::{AUTHOR, REVIEWER};
use crate::domain::delivery::State;
use crate::domain::ids::CallRef;
use crate::say;

/// How long the messages to duty officers may take: they stand behind those to the people.
const PATIENCE: Duration = Duration::from_mins(5);
const LOOK: Duration = Duration::from_millis(100);
/// Doors at which somebody is told, and at which nobody opens.
const TOLD: usize = 5;
const ABSENT: usize = 1;
/// A made-up name for whoever goes from door to door.
const VISITOR: &str = "陈志明";

/// Every village's officer confirms by the link of the message, but the one who never
/// answers. Returns the number of the call.
///
/// # Errors
/// When the messages do not go out or the page does not answer.
pub async fn confirm(play: &Play<'_>, about: i64) -> anyhow::Result<Option<i64>> {
    let store = &play.app.store;
    let Some(call) = store.calls_about(about).await?.into_iter().next() else { return Ok(None) };
    let until = Instant::now() + PATIENCE;
    loop {
        let counts = store.delivery_counts(call.no).await?;
        let open = counts.iter().any(|c| State::from_code(c.state).is_some_and(|s| !s.is_final(false)));
        if !counts.is_empty() && !open {
            break;
        }
        anyhow::ensure!(Instant::now() < until, say!("叫应短信没有发出", "the call did not go out"));
        tokio::time::sleep(LOOK).await;
    }
    // A message that the gateway refused came to nobody, so nobody opens its link.
    let villages = store.called_villages(about).await?;
    let came = villages.iter().flat_map(|v| &v.asked).filter(|a| a.call_no == call.no && a.at.is_some());
    let mut came: Vec<i64> = came.map(|a| a.ordinal).collect();
    came.sort_unstable();
    let asked = came.len();
    let mut confirmed = 0;
    for ordinal in came {
        let of = CallRef { call_no: u32::try_from(call.no)?, ordinal: u32::try_from(ordinal)? };
        let path = format!("/c/{}", store.vault.call_token(of));
        if !http(play.port, "GET", &path).await?.contains(SILENT) {
            http(play.port, "POST", &path).await?;
            confirmed += 1;
        }
    }
    play.site.stage.words(&say!(
        "{asked} 个村的值班负责人收到叫应短信，{confirmed} 个点开链接确认，{SILENT}没有回音",
        "the duty officers of {asked} villages were called, {confirmed} opened the link and confirmed; nobody answers in {SILENT}"
    ));
    Ok(Some(call.no))
}

/// One request to this site's own server, as a telephone makes it.
async fn http(port: u16, method: &str, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let good = answer.starts_with("HTTP/1.1 2") || answer.starts_with("HTTP/1.1 3");
    let line = answer.lines().next().unwrap_or_default();
    anyhow::ensure!(good, "{method} /c/…: {line}");
    Ok(answer)
}

/// Keepers put up all sheets but the last one, and say so in a table.
///
/// # Errors
/// When the table is refused.
pub async fn put_up(play: &Play<'_>, dispatch: i64) -> anyhow::Result<()> {
    let no = dispatch.to_string();
    let sheets = play.site.query(&["points", &no]).await?;
    let rows = sheets["sheets"].as_array().cloned().unwrap_or_default();
    let serials: Vec<&str> = rows.iter().filter_map(|r| r["serial"].as_str()).collect();
    let Some((_, put_up)) = serials.split_last() else { anyhow::bail!("gong points lists no sheets: {sheets}") };
    let mut table = String::from("\u{feff}序号,张贴人\n");
    for serial in put_up {
        // Writing to a String cannot fail.
        let _ = writeln!(table, "{serial},{VISITOR}");
    }
    let file = "tables/张贴回执.csv";
    std::fs::write(play.site.dir.join(file), table)?;
    play.site.show(&["--as", AUTHOR, "posted", &no, "--from", file]).await?;
    Ok(())
}

/// Somebody goes to the first doors of the list.
///
/// # Errors
/// When a result is refused.
pub async fn knock(play: &Play<'_>, dispatch: i64) -> anyhow::Result<()> {
    let no = dispatch.to_string();
    let list = play.site.ask(&["visits", &no, "list"]).await?;
    let rows = list["rows"].as_array().cloned().unwrap_or_default();
    let doors: Vec<String> = rows.iter().filter_map(|r| Some(r["row"].as_str()?.to_owned())).collect();
    let results = std::iter::repeat_n("told", TOLD).chain(std::iter::repeat_n("absent", ABSENT));
    for (door, result) in doors.iter().zip(results) {
        let args = ["--as", REVIEWER, "visits", &no, "record", "--row", door, "--result", result, "--by", VISITOR];
        play.site.show(&args).await?;
    }
    Ok(())
}
