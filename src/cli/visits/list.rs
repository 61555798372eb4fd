//! `gong visits D list`: the doors by village, masked or, on the record, as they are.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde_json::json;

use super::print;
use crate::app::App;
use crate::cli::{Context, Ended, output, words};
use crate::domain::delivery::Reason;
use crate::domain::reach::facts::Unreached;
use crate::domain::recipient::{Phone, masked, masked_name};
use crate::domain::region::{Level, RegionIndex};
use crate::domain::visit::{VisitResult, row_label};
use crate::planner::today;
use crate::say;
use crate::store::dispatches::Dispatch;
use crate::store::operators::Role;
use crate::store::reach::{Door, DoorFilter, OpenDoor};
use crate::store::visits::DoorList;

/// From this age on people are called old (老年人权益保障法, article 2).
const OLD: i32 = 60;

/// Lists the doors to knock at, by village; who needs help comes first.
///
/// Names and phones are masked. `--reveal` shows them; it needs the role of a
/// dispatcher and is written into the audit log.
#[derive(Debug, Args)]
#[command(after_help = "\
gong visits 3 list
gong visits 3 list --village 城郊村
gong --as 王芳 visits 3 list --format xlsx --out 清单 --reveal
gong --as 王芳 visits 3 list --format pdf --out 清单 --reveal")]
pub struct ListArgs {
    /// A town or any other region: its name, path or code.
    #[arg(long, value_name = "REGION")]
    town: Option<String>,
    /// A village: its name, path or code.
    #[arg(long, value_name = "REGION", conflicts_with = "town")]
    village: Option<String>,
    /// A table here, or files: xlsx (a workbook a town, a sheet a village), csv or pdf (a file a village; a PDF of at most 200 households).
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Folder for the files.
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Also those that were told, have moved or refused, or were reached meanwhile.
    #[arg(long)]
    all: bool,
    /// Shows names, addresses and phones as they are.
    #[arg(long)]
    reveal: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Table,
    Csv,
    Xlsx,
    Pdf,
}

/// The doors of one village, those that need help first.
pub(super) struct Village {
    pub town: String,
    pub name: String,
    doors: Vec<Door>,
}

/// Everything that is listed.
pub(super) struct Listing<'a> {
    pub app: &'a App,
    pub dispatch: &'a Dispatch,
    list: DoorList,
    pub villages: Vec<Village>,
    reveal: bool,
}

pub(super) async fn run(
    context: &Context,
    app: &App,
    (dispatch, list): (&Dispatch, DoorList),
    args: ListArgs,
) -> anyhow::Result<Ended> {
    let index = app.store.regions_index().await?;
    let region_no = args.village.as_ref().or(args.town.as_ref()).map(|text| index.resolve(text)).transpose()?;
    let elderly = today(&app.store, &app.config.quiet()?) - OLD * 10_000;
    let filter = DoorFilter { region_no, all: args.all, elderly };
    let mut doors = app.store.doors(&list, &app.channel_kinds().await?, filter).await?;
    // Whoever was reached after the list began need not be visited any more.
    doors.retain(|door| args.all || door.why.is_some());
    let households = doors.len();
    if args.reveal {
        let operator = context.operator(app).await?;
        operator.need(Role::Dispatcher)?;
        let detail = json!({ "dispatch": dispatch.no, "visits": households });
        app.store.note_act(&operator.name, "reveal", &dispatch.id, &detail).await?;
    }
    let listing = Listing { app, dispatch, list, villages: by_village(doors, &index), reveal: args.reveal };
    if args.format == Format::Table {
        listing.show(context.global.json).await?;
        return Ok(Ended::Done);
    }
    std::fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    let printed = print::print(&listing, args.format, &args.out).await?;
    let (n, villages) = (output::number(i64::try_from(households).unwrap_or(i64::MAX)), listing.villages.len());
    if context.global.json {
        output::json(&json!({ "dispatch_no": dispatch.no, "masked": !args.reveal, "households": households,
            "villages": villages, "files": printed.files, "missing_glyphs": printed.missing }))?;
    } else {
        for file in &printed.files {
            output::line(file.display());
        }
        output::note(say!("{villages} 个村，共 {n} 户", "{n} households in {villages} villages"));
        if !args.reveal {
            output::note(say!(
                "姓名和电话已遮盖；印发给通知人时加 --reveal（留下记录）",
                "names and phones are masked; to print it for those who knock, add --reveal (kept on record)"
            ));
        }
    }
    print::report_missing(&printed);
    Ok(if printed.missing.is_empty() { Ended::Done } else { Ended::InPart })
}

fn by_village(doors: Vec<Door>, index: &RegionIndex) -> Vec<Village> {
    let mut placed: std::collections::BTreeMap<(Option<i64>, i64), Vec<Door>> = std::collections::BTreeMap::new();
    for door in doors {
        let at = |level| index.upwards(door.region_no).find(|r| r.level == level).map(|r| r.no);
        let village = at(Level::Village).unwrap_or(door.region_no);
        placed.entry((at(Level::Town), village)).or_default().push(door);
    }
    let name = |no: i64| index.get(no).map_or_else(String::new, |r| r.name.clone());
    let village = |((town, no), mut doors): ((Option<i64>, i64), Vec<Door>)| {
        doors.sort_unstable_by_key(|d| (!d.is_urgent(), d.ordinal));
        let above = || index.upwards(no).nth(1).map_or_else(String::new, |r| r.name.clone());
        Village { town: town.filter(|t| *t != no).map_or_else(above, name), name: name(no), doors }
    };
    placed.into_iter().map(village).collect()
}

/// The heads over [`Listing::rows`].
pub(super) fn heads() -> Vec<String> {
    vec![
        say!("序号", "row"),
        say!("户主/姓名", "household"),
        say!("住址", "address"),
        say!("人数", "people"),
        say!("电话", "phones"),
        say!("入户原因", "why"),
        say!("需要照顾", "needs"),
        say!("结果", "result"),
        say!("被通知人签字", "signature"),
        say!("通知人", "by"),
        say!("时间", "at"),
    ]
}

impl Listing<'_> {
    /// The rows of one village, under [`heads`].
    pub(super) async fn rows(&self, village: &Village) -> anyhow::Result<Vec<Vec<String>>> {
        let zone = self.app.config.zone()?;
        let opened = self.app.store.open_doors(self.dispatch.no, &village.doors).await?;
        let row = |(door, open): (&Door, OpenDoor)| {
            let why = why(door, !open.phones.is_empty());
            let OpenDoor { name, address, phones, visit } = if self.reveal { open } else { mask(open) };
            let (at, by) =
                visit.map_or_else(Default::default, |(at, by)| (words::when(at, &zone), by.unwrap_or_default()));
            vec![
                row_label(self.dispatch.no, self.list.row(door.ordinal)),
                name,
                address.unwrap_or_default(),
                door.people.to_string(),
                phones.join("、"),
                why,
                needs(door),
                VisitResult::of(door.state).map(VisitResult::label).unwrap_or_default(),
                String::new(),
                by,
                at,
            ]
        };
        Ok(village.doors.iter().zip(opened).map(row).collect())
    }

    async fn show(&self, as_json: bool) -> anyhow::Result<()> {
        let mut out = output::sheet(Path::new("-"))?;
        if as_json {
            write!(out, "{{\"dispatch_no\":{},\"masked\":{},\"rows\":[", self.dispatch.no, !self.reveal)?;
        }
        let mut n = 0;
        for village in &self.villages {
            let rows = self.rows(village).await?;
            if !as_json {
                let (town, name, count) = (&village.town, &village.name, rows.len());
                writeln!(out, "{}", say!("{town} {name}（{count} 户）", "{town} {name} ({count} households)"))?;
                let mut table = output::table(&heads());
                table.add_rows(&rows);
                writeln!(out, "{table}")?;
                n += rows.len();
                continue;
            }
            for (row, door) in rows.iter().zip(&village.doors) {
                let row = json!({ "row": row[0], "town": village.town, "village": village.name, "name": row[1],
                    "address": row[2], "people": door.people, "phones": row[4], "why": row[5], "needs": row[6],
                    "state": door.state.name(), "by": row[9], "at": row[10] });
                write!(out, "{}{row}", if n > 0 { "," } else { "" })?;
                n += 1;
            }
        }
        if as_json {
            writeln!(out, "],\"households\":{n}}}")?;
        }
        Ok(out.flush()?)
    }
}

fn mask(open: OpenDoor) -> OpenDoor {
    let phone = |text: String| Phone::parse(&text).map_or_else(|| masked(&text), |phone| phone.masked());
    OpenDoor {
        name: masked_name(&open.name),
        address: open.address.as_deref().map(masked),
        phones: open.phones.into_iter().map(phone).collect(),
        visit: open.visit.map(|(at, by)| (at, by.as_deref().map(masked_name))),
    }
}

/// Why somebody knocks.
fn why(door: &Door, has_phone: bool) -> String {
    let Some(why) = door.why else { return say!("已收到，不必再去", "reached meanwhile") };
    let text = match why {
        Unreached::NoAddress if has_phone => say!("直接入户", "visited first"),
        Unreached::NoAddress => say!("没有电话", "no phone"),
        Unreached::Failed => {
            let class = door.failure.map(failure).unwrap_or_default();
            if class.is_empty() { why.words() } else { format!("{}（{class}）", why.words()) }
        }
        other => other.words(),
    };
    let (away, people) = (door.away, door.people);
    match (away, why) {
        (0, _) | (_, Unreached::Away) => text,
        _ if people == 1 => say!("{text}，外出", "{text}, away"),
        _ => say!("{text}，{away} 人外出", "{text}, {away} away"),
    }
}

/// What ended a try, in a word; empty where the state says it all.
pub(in crate::cli) fn failure(reason: Reason) -> String {
    match reason {
        Reason::AddressGone => say!("号码停用", "address gone"),
        Reason::Permanent => say!("对方网关拒收", "refused for good"),
        Reason::Expired => say!("过期未发出", "expired"),
        Reason::TooManyAttempts => say!("多次未成", "too many attempts"),
        Reason::Misconfigured => say!("渠道配置有误", "channel misconfigured"),
        Reason::Withdrawn => say!("接收方停止接收", "receiver withdrew"),
        _ => String::new(),
    }
}

fn needs(door: &Door) -> String {
    let words = [
        say!("听力不便", "hearing"),
        say!("视力不便", "sight"),
        say!("行动不便", "mobility"),
        say!("言语不便", "speech"),
        say!("智力或精神残疾", "mental"),
    ];
    let mut all = Vec::new();
    let n = door.elderly;
    if n > 0 {
        all.push(say!("老人 {n} 人", "{n} elderly"));
    }
    all.extend(words.into_iter().enumerate().filter(|(bit, _)| door.needs & (1 << bit) != 0).map(|(_, word)| word));
    all.join("、")
}
