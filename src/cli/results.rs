//! `gong results`: the rows of the list a dispatch was sent by, with what came of each.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value, json};

use super::book::{Book, Page};
use super::visits::failure;
use super::{App, Context, Ended, output, reach_view, words};
use crate::channel::AddressKind;
use crate::domain::audience::{self, Leaf, Referent};
use crate::domain::delivery::State;
use crate::domain::plan::VISIT;
use crate::domain::reach::ChannelKinds;
use crate::domain::reach::facts::{self, Unreached};
use crate::domain::region::RegionIndex;
use crate::domain::visit::VisitResult;
use crate::import::masked_cell;
use crate::say;
use crate::store::dispatches::Dispatch;
use crate::store::operators::Role;
use crate::store::reach::{MemberStanding, NameCard, Outcome};

/// Rows read at a time.
const PAGE: usize = 2_000;

/// Gives a list back as it came in, with a status, channel, time and reason a row.
///
/// Without a list it is a row a member. Names and phones are masked. `--reveal` shows
/// them; it needs the role of a dispatcher and is written into the audit log.
#[derive(Debug, Args)]
#[command(after_help = "\
gong results 3
gong --as 王芳 results 3 --reveal --out 补贴-结果.xlsx
gong results 3 --rounds --out 补贴-结果.csv")]
pub struct ResultsArgs {
    /// Number or id of the dispatch.
    #[arg(value_name = "DISPATCH")]
    dispatch: String,
    /// The file to write, .xlsx or .csv; standard output with `-` or when not given.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Joins the results of its further rounds: the best one of each row.
    #[arg(long)]
    rounds: bool,
    /// Shows names and phones as they are.
    #[arg(long)]
    reveal: bool,
}

pub(super) async fn run(context: &Context, args: ResultsArgs) -> anyhow::Result<Ended> {
    let app = context.app().await?;
    let dispatch = app.store.dispatch(&args.dispatch).await?;
    let rows = Rows::of(&app, &dispatch, &args).await?;
    if args.reveal {
        let operator = context.operator(&app).await?;
        operator.need(Role::Dispatcher)?;
        let detail = json!({ "dispatch": dispatch.no, "rows": rows.order.len() });
        app.store.note_act(&operator.name, "reveal", &dispatch.id, &detail).await?;
    }
    let to = args.out.unwrap_or_else(|| "-".into());
    let reached = if context.global.json && to == Path::new("-") {
        let mut out = output::sheet(&to)?;
        let reached = rows.write_json(&mut *out).await?;
        out.flush()?;
        reached
    } else if to.extension().is_some_and(|e| e.eq_ignore_ascii_case("xlsx")) {
        let mut book = Book::new();
        let mut sheet = book.sheet(&say!("结果", "results"))?;
        let reached = rows.write(&mut Out::Book(&mut sheet)).await?;
        tokio::task::block_in_place(|| book.save(&to))?;
        reached
    } else {
        let mut out = output::sheet(&to)?;
        let reached = rows.write(&mut Out::Csv(&mut *out)).await?;
        out.flush()?;
        reached
    };
    tell(context, (&dispatch, &to), (rows.order.len(), reached))?;
    Ok(Ended::Done)
}

fn tell(context: &Context, (dispatch, to): (&Dispatch, &Path), (rows, reached): (usize, usize)) -> anyhow::Result<()> {
    if context.global.json {
        if to != Path::new("-") {
            output::json(&json!({ "dispatch_no": dispatch.no, "rows": rows, "reached": reached, "file": to }))?;
        }
        return Ok(());
    }
    let (no, shown) = (dispatch.no, to.display());
    if to == Path::new("-") {
        output::note(say!("共 {rows} 行，已到达 {reached}", "{rows} rows, {reached} reached"));
    } else {
        output::line(say!("{shown}：共 {rows} 行，已到达 {reached}", "{shown}: {rows} rows, {reached} reached"));
    }
    if reached < rows {
        output::note(say!(
            "只发给未到达的：gong send 事项编号 --to 'unreached:{no}'",
            "to send to the others alone: gong send ITEM --to 'unreached:{no}'"
        ));
    }
    if dispatch.purged_at.is_some() {
        output::note(say!(
            "这个发布任务的个人数据已销毁，只保留汇总：gong reach",
            "the personal data of this dispatch is destroyed; the totals remain: gong reach"
        ));
    }
    Ok(())
}

/// Where rows go.
enum Out<'o, 'b> {
    Csv(&'o mut dyn Write),
    Book(&'o mut Page<'b>),
}

impl Out<'_, '_> {
    fn row(&mut self, cells: &[String]) -> anyhow::Result<()> {
        match self {
            Self::Csv(out) => Ok(out.write_all(reach_view::csv_line(cells).as_bytes())?),
            Self::Book(page) => page.plain(cells),
        }
    }
}

/// One round of the dispatch: its members by recipient.
struct Round {
    no: i64,
    /// Sorted by recipient.
    members: Vec<(i64, i64)>,
}

impl Round {
    fn ordinal(&self, recipient: i64) -> Option<i64> {
        let at = self.members.binary_search_by_key(&recipient, |(no, _)| *no).ok()?;
        Some(self.members[at].1)
    }
}

/// The rows to be written, and where their parts are found.
struct Rows<'a> {
    app: &'a App,
    kinds: ChannelKinds,
    /// The list with its columns.
    list: Option<(i64, Vec<String>)>,
    order: Vec<MemberStanding>,
    rounds: Vec<Round>,
    index: RegionIndex,
    reveal: bool,
}

/// One row: its own cells, and status, channel, time and reason.
struct Row {
    own: Vec<String>,
    status: [String; 4],
    reached: bool,
}

impl<'a> Rows<'a> {
    async fn of(app: &'a App, dispatch: &Dispatch, args: &ResultsArgs) -> anyhow::Result<Self> {
        let store = &app.store;
        let list = match dispatch.list_no {
            Some(no) => store.list_by_no(no).await?,
            None => match list_of(&dispatch.canonical) {
                Some(name) => store.list(&name).await?,
                None => None,
            },
        };
        let mut numbers = vec![dispatch.no];
        if args.rounds {
            numbers.extend(store.rounds_of(dispatch.no).await?);
        }
        let (mut rounds, mut order) = (Vec::new(), Vec::new());
        for no in numbers {
            let members = store.member_order(no).await?;
            if no == dispatch.no {
                order.clone_from(&members);
            }
            let mut members: Vec<(i64, i64)> = members.iter().map(|m| (m.recipient_no, m.row_no)).collect();
            members.sort_unstable();
            rounds.push(Round { no, members });
        }
        if let Some((list, _)) = &list {
            order = store.list_order(*list).await?;
        }
        let (kinds, index) = (app.channel_kinds().await?, store.regions_index().await?);
        Ok(Self { app, kinds, list, order, rounds, index, reveal: args.reveal })
    }

    fn heads(&self) -> Vec<String> {
        let mut heads = match &self.list {
            Some((_, columns)) => columns.clone(),
            None => vec![say!("序号", "ordinal"), say!("姓名", "name"), say!("手机", "phone"), say!("区域", "region")],
        };
        heads.extend([
            say!("到达状态", "status"),
            say!("渠道", "channel"),
            say!("到达时间", "reached at"),
            say!("原因", "reason"),
        ]);
        heads
    }

    async fn write(&self, out: &mut Out<'_, '_>) -> anyhow::Result<usize> {
        out.row(&self.heads())?;
        let mut reached = 0;
        for page in self.order.chunks(PAGE) {
            for row in self.page(page).await? {
                reached += usize::from(row.reached);
                out.row(&[row.own, row.status.into()].concat())?;
            }
        }
        Ok(reached)
    }

    /// One JSON object whose rows are written as they are read.
    async fn write_json(&self, out: &mut dyn Write) -> anyhow::Result<usize> {
        let (heads, no) = (self.heads(), self.rounds.first().map_or(0, |r| r.no));
        write!(out, "{{\"dispatch_no\":{no},\"masked\":{},\"rows\":[", !self.reveal)?;
        let (mut reached, mut comma) = (0, "");
        for page in self.order.chunks(PAGE) {
            for row in self.page(page).await? {
                reached += usize::from(row.reached);
                let cells = [row.own, row.status.into()].concat();
                let object: Map<String, Value> =
                    heads.iter().cloned().zip(cells.into_iter().map(Value::from)).collect();
                write!(out, "{comma}{}", Value::Object(object))?;
                comma = ",";
            }
        }
        writeln!(out, "],\"reached\":{reached}}}")?;
        Ok(reached)
    }

    async fn page(&self, page: &[MemberStanding]) -> anyhow::Result<Vec<Row>> {
        let recipients: Vec<i64> = page.iter().map(|m| m.recipient_no).collect();
        let mut best: HashMap<i64, Outcome> = HashMap::new();
        for round in &self.rounds {
            let ordinals: Vec<i64> = recipients.iter().filter_map(|no| round.ordinal(*no)).collect();
            for (recipient, outcome) in self.app.store.outcomes(round.no, &self.kinds, &ordinals).await? {
                // A later round went to those whom the one before had not reached.
                if best.get(&recipient).is_none_or(|earlier| !earlier.facts.has(facts::INFORMED)) {
                    best.insert(recipient, outcome);
                }
            }
        }
        let (mut vars, mut cards) = (HashMap::new(), HashMap::new());
        match &self.list {
            Some((list, _)) => vars = self.app.store.list_vars(*list, &recipients).await?,
            None => cards = self.app.store.name_cards(&recipients, AddressKind::Phone).await?,
        }
        let zone = self.app.config.zone()?;
        let row = |member: &MemberStanding| {
            let own = match &self.list {
                Some((_, columns)) => self.listed(columns, vars.remove(&member.recipient_no).unwrap_or_default()),
                None => self.carded(member, cards.remove(&member.recipient_no).unwrap_or_default()),
            };
            let outcome = best.remove(&member.recipient_no);
            let at = outcome.as_ref().and_then(|o| o.reached_at);
            let reached = outcome.as_ref().is_some_and(|o| o.facts.has(facts::INFORMED));
            let channel = outcome.as_ref().and_then(|o| o.channel.as_deref()).map(channel).unwrap_or_default();
            let (status, reason) = outcome.as_ref().map_or_else(not_sent, words_of);
            let at = at.map(|at| words::when(at, &zone)).unwrap_or_default();
            Row { own, status: [status, channel, at, reason], reached }
        };
        Ok(page.iter().map(row).collect())
    }

    fn listed(&self, columns: &[String], mut vars: Map<String, Value>) -> Vec<String> {
        let cell = |header: &String| {
            let text = match vars.remove(header) {
                Some(Value::String(text)) => text,
                Some(Value::Null) | None => String::new(),
                Some(other) => other.to_string(),
            };
            if self.reveal { text } else { masked_cell(header, &text) }
        };
        columns.iter().map(cell).collect()
    }

    fn carded(&self, member: &MemberStanding, card: NameCard) -> Vec<String> {
        let mask = |header: &str, text: String| if self.reveal { text } else { masked_cell(header, &text) };
        vec![
            member.row_no.to_string(),
            mask("姓名", card.name),
            mask("手机", card.address),
            self.index.path(card.region_no),
        ]
    }
}

/// The list an audience was taken from, where it was one.
fn list_of(canonical: &str) -> Option<String> {
    let expr = audience::parse(canonical).ok()?;
    let names = expr.leaves().into_iter().filter_map(|leaf| match leaf {
        Leaf::Named(Referent::List, names) => Some(names.clone()),
        _ => None,
    });
    match &names.flatten().collect::<Vec<_>>()[..] {
        [one] => Some(one.text.clone()),
        _ => None,
    }
}

fn channel(name: &str) -> String {
    if name == VISIT { say!("入户", "visit") } else { name.to_owned() }
}

fn not_sent() -> (String, String) {
    (say!("未发送", "not sent"), say!("不在发布对象中", "not of the audience"))
}

/// Status and reason of a row.
fn words_of(outcome: &Outcome) -> (String, String) {
    let facts = outcome.facts;
    let Some(why) = facts.unreached() else {
        let status = if facts.has(facts::SEEN) {
            say!("已读", "seen")
        } else if facts.has(facts::DIRECT) {
            say!("已到达", "reached")
        } else if facts.has(facts::HOUSEHOLD) {
            say!("已到达（户内电话）", "reached via household")
        } else {
            say!("已当面告知", "told in person")
        };
        return (status, String::new());
    };
    let status = match why {
        Unreached::NoWord if facts.has(facts::ACCEPT_ONLY) => say!("已提交（无回执）", "handed over, no receipts"),
        Unreached::NoWord => say!("已提交", "handed over"),
        Unreached::Pending => say!("待发送", "pending"),
        _ => say!("未到达", "not reached"),
    };
    let mut reason = match (why, outcome.state) {
        (Unreached::Failed, Some(State::Undelivered)) => say!("网关回执：未送达", "receipt: undelivered"),
        _ => why.words(),
    };
    let class = outcome.reason.map(failure).unwrap_or_default();
    if why == Unreached::Failed && !class.is_empty() {
        reason = format!("{reason}（{class}）");
    }
    if let Some(visit) = outcome.visit {
        let found = VisitResult::of(visit).map_or_else(|| say!("待入户", "to be visited"), VisitResult::label);
        reason = say!("{reason}；入户：{found}", "{reason}; visit: {found}");
    }
    (status, reason)
}
