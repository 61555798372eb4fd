//! The chapters of the demo, in the order in which a county does the work.

use std::path::Path;
use std::time::{Duration, Instant};

use super::county::{County, Shipped};
use super::gateways::{Gateways, Pace};
use super::people::Made;
use super::server::{self, Server};
use super::site::{self, AUTHOR, REVIEWER, Site};
use super::{Outcome, Settings, Stage, Told, books, follow, leave, tables, village};
use crate::app::App;
use crate::config::Config;
use crate::say;

/// Rows of the list that is published; a sheet has room for them.
const PUBLISHED: usize = 24;
/// How often a dispatch is looked at while the next chapter waits for it.
const LOOK: Duration = Duration::from_millis(100);

/// An item of the demo: its file, the channels of its first step, and what follows.
struct Item {
    file: &'static str,
    ways: &'static [&'static str],
    /// After the wait, those not reached are put on the door-knock list.
    visits: bool,
}

/// In the order in which they are entered, which gives them their numbers.
const ITEMS: [Item; 7] = [
    Item { file: "1-红色预警.md", ways: &["sms", "email", "wecom", "webhook", "board"], visits: true },
    Item { file: "2-救助需求.md", ways: &["sms", "email", "webhook"], visits: false },
    Item { file: "3-政策.md", ways: &["email", "wecom", "webhook"], visits: false },
    Item { file: "4-政策解读.md", ways: &["sms"], visits: false },
    Item { file: "5-公示.md", ways: &["sms", "wecom", "board"], visits: false },
    Item { file: "6-领取通知.md", ways: &["sms"], visits: false },
    Item { file: "7-解除.md", ways: &["sms", "email", "wecom", "webhook", "board"], visits: false },
];
/// The one that lifts the first.
const LIFT: usize = 6;

/// What all chapters work with.
pub struct Play<'a> {
    pub site: Site<'a>,
    pub gateways: Gateways,
    pub pace: Pace,
    pub made: Made,
    pub app: App,
    /// Where `gong serve` listens.
    pub port: u16,
}

/// Plays every chapter.
///
/// # Errors
/// When one cannot go on.
pub async fn run(settings: &Settings, stage: &dyn Stage) -> anyhow::Result<Outcome> {
    let began = Instant::now();
    site::take(&settings.dir)?;
    let (pace, site) = (Pace::of(settings.people), Site { dir: settings.dir.clone(), stage });
    let made = make(&site, settings)?;
    let gateways = Gateways::start(&site.dir, settings.seed, pace).await?;
    let port = server::free_port()?;
    stage.chapter(&say!("一、建站，导入台账", "1. A site, and its tables"));
    site.init(port, &gateways.declarations()).await?;
    let merged = import(&site).await?;
    let app = App::open(Config::load(&site.dir.join("gong.toml"))?).await?;
    let play = Play { site, gateways, pace, made, app, port };
    let server = Server::start(&play.site, port).await?;
    let nos = send(&play).await?;
    let told = tell(&play, &nos).await?;
    let left = leave::everything(&play).await?;
    let (peak, Play { site, gateways, made, app, .. }) = (server.peak(), play);
    server.stop().await?;
    let (taken, posts) = gateways.stop().await?;
    let (mut gateways, mut wrong) = books::of_gateways(&app, &taken).await?;
    gateways.extend(posts);
    for one in &told {
        wrong.extend(books::of_dispatch(&app, one).await?);
    }
    app.store.close().await;
    Ok(Outcome {
        dir: site.dir,
        seed: settings.seed,
        persons: made.persons,
        households: made.households,
        organisations: made.organisations,
        merged,
        dispatches: told,
        gateways,
        left,
        wrong,
        seconds: began.elapsed().as_secs_f64(),
        server_peak_bytes: peak,
    })
}

fn make(site: &Site<'_>, settings: &Settings) -> anyhow::Result<Made> {
    let stage = site.stage;
    stage.chapter(&say!("虚构一个县的人", "A county of made-up people"));
    let county = County::load(settings.seed)?;
    let made = tables::write(&site.dir, &county, settings.people, settings.seed)?;
    let (persons, households, organisations) = (made.persons, made.households, made.organisations);
    stage.words(&say!(
        "河口瑶族自治县（区划为真，人为虚构，号码都在 139 0000 0000 – 139 0099 9999）：{persons} 人、{households} 户、{organisations} 个单位",
        "Hekou Yao Autonomous County (places are real, people are not, numbers lie in 139 0000 0000 – 139 0099 9999): {persons} people, {households} households, {organisations} organisations"
    ));
    items(&site.dir, &made)?;
    Ok(made)
}

/// The items of the demo, with the published list made from the people.
fn items(dir: &Path, made: &Made) -> anyhow::Result<()> {
    let folder = dir.join("items");
    std::fs::create_dir_all(&folder)?;
    for Item { file, .. } in ITEMS {
        let item = Shipped::get(&format!("items/{file}")).ok_or_else(|| anyhow::anyhow!("{file} is not embedded"))?;
        let text = String::from_utf8(item.data.into_owned())?;
        std::fs::write(folder.join(file), text.replace("{{名单}}", &published(made)))?;
    }
    Ok(())
}

/// The relief list as it may hang in public: names hidden but for the surname.
fn published(made: &Made) -> String {
    let near: Vec<_> = made.relief.iter().filter(|r| r.river).take(PUBLISHED).collect();
    let rows = near.iter().enumerate().map(|(no, one)| {
        let hidden = crate::domain::recipient::masked_name(&one.name).replace('*', "某");
        format!("| {} | {hidden} | {} | {} 元 |", no + 1, one.village, one.amount)
    });
    let head = ["| 序号 | 姓名 | 村（社区） | 拟救助金额 |", "|---|---|---|---|"].map(str::to_owned);
    head.into_iter().chain(rows).collect::<Vec<_>>().join("\n")
}

/// Imports every table and joins duplicates; returns how many there were.
async fn import(site: &Site<'_>) -> anyhow::Result<i64> {
    let who = ["--as", AUTHOR];
    let import = async |args: &[&str]| -> anyhow::Result<()> {
        let args = [&who[..], &["import"], args].concat();
        site.stage.command(&site::line(&args));
        // How each column was understood is left out here.
        let said = site.run(&args).await?.stdout;
        let lines: Vec<&str> = said.lines().filter(|l| !l.contains(" → ") && !l.ends_with('：')).collect();
        site.stage.words(&lines.join("\n"));
        Ok(())
    };
    import(&["regions", tables::DIVISIONS, "--edition", "2023-06-30"]).await?;
    import(&["recipients", tables::PEOPLE, "--create-groups", "--source", "乡镇台账", "--purpose", "防汛"]).await?;
    import(&["recipients", tables::SECOND, "--create-groups", "--source", "民政局", "--purpose", "救助"]).await?;
    let joined = site.ask(&[&who[..], &["merges", "apply", "--rule", "name+phone"]].concat()).await?;
    let merged = joined["merged"].as_i64().unwrap_or(0);
    site.stage.words(&say!("合并了 {merged} 个重复的对象", "{merged} duplicates joined"));
    import(&["points", tables::POINTS]).await?;
    import(&["officers", tables::OFFICERS]).await?;
    import(&["optouts", tables::OPT_OUTS]).await?;
    import(&["lists", tables::RELIEF, "--list", "临时救助"]).await?;
    Ok(merged)
}

/// The plan of an item, of the channels that this site has.
fn steps(item: &Item, play: &Play<'_>) -> String {
    let ways: Vec<&str> = item.ways.iter().copied().filter(|way| Gateways::CHANNELS.contains(way)).collect();
    let first = ways.join(",");
    if item.visits { format!("{first} > {}s > visit", play.pace.wait) } else { first }
}

/// Enters, approves and sends everything; returns the numbers of the dispatches.
async fn send(play: &Play<'_>) -> anyhow::Result<Vec<i64>> {
    let (stage, mut nos) = (play.site.stage, Vec::new());
    stage.chapter(&say!("二、红色预警：拟稿、审核、发布", "2. A red alert: written, approved, sent"));
    let alert = publish(play, 0, true).await?;
    nos.push(alert);
    let call = village::confirm(play, alert).await?;
    stage.chapter(&say!(
        "三、同时：救助、政策与解读、公示、领取通知",
        "3. Meanwhile: relief, a policy with its interpretation, a publication, a notice"
    ));
    for at in 1..LIFT {
        nos.push(publish(play, at, false).await?);
    }
    let all: Vec<i64> = nos.iter().copied().chain(call).collect();
    follow::until_finished(&play.app, stage, &play.gateways, &all).await?;
    stage.chapter(&say!("四、村里：张贴、入户", "4. In the villages: sheets put up, doors knocked at"));
    village::put_up(play, alert).await?;
    village::knock(play, alert).await?;
    stage.chapter(&say!(
        "五、水退了：解除预警，发给收到过的人",
        "5. The water falls: the alert is lifted for those who were told"
    ));
    let lift = publish(play, LIFT, false).await?;
    follow::until_finished(&play.app, stage, &play.gateways, &[lift]).await?;
    nos.push(lift);
    Ok(nos)
}

/// One item from its file to its dispatch.
async fn publish(play: &Play<'_>, at: usize, closely: bool) -> anyhow::Result<i64> {
    let (item, site) = (&ITEMS[at], &play.site);
    let way = steps(item, play);
    let (file, no) = (format!("items/{}", item.file), (at + 1).to_string());
    site.show(&["--as", AUTHOR, "item", "add", &file]).await?;
    site.show(&["--as", REVIEWER, "item", "approve", &no]).await?;
    if closely {
        site.show(&["plan", &no, "--plan", &way]).await?;
    }
    let sent = site.ask(&["--as", REVIEWER, "send", &no, "--plan", &way, "--yes"]).await?;
    let Some(dispatch) = sent["no"].as_i64() else { anyhow::bail!("gong send printed no number: {sent}") };
    planned(&play.app, dispatch).await?;
    Ok(dispatch)
}

/// Waits until the audience is frozen, so that the next item finds the writer free.
async fn planned(app: &App, no: i64) -> anyhow::Result<()> {
    while app.store.dispatch(&no.to_string()).await?.phase == "snapshot" {
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// What each dispatch came to, and the tables of the first.
async fn tell(play: &Play<'_>, nos: &[i64]) -> anyhow::Result<Vec<Told>> {
    play.site.stage.chapter(&say!("六、谁收到了，谁没收到", "6. Who was reached, and who was not"));
    play.site.show(&["reach", "1"]).await?;
    play.site.show(&["report", "1"]).await?;
    play.site.show(&["audit", "verify"]).await?;
    let mut told = Vec::new();
    for no in nos {
        told.push(follow::told(&play.app, *no).await?);
    }
    Ok(told)
}
