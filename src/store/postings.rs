//! Posting receipts (张贴回执): a sheet was put up, or taken down; who said so is sealed.

use std::collections::{BTreeMap, HashMap};

use serde_json::json;

use super::bulk::{Cell, Col, Rows};
use super::dispatches::Dispatch;
use super::{Result, Store, Tx};
use crate::clock::Millis;
use crate::domain::delivery::{Event, State, next};
use crate::domain::recipient::masked_name;
use crate::domain::serial::Serial;
use crate::vault::{Owner, Vault};

/// What was done with a sheet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    Posted,
    TakenDown,
}

impl Action {
    /// The stored word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Posted => "posted",
            Self::TakenDown => "taken_down",
        }
    }

    const fn event(self) -> Event {
        match self {
            Self::Posted => Event::Post,
            Self::TakenDown => Event::TakeDown,
        }
    }
}

/// One receipt as somebody states it.
#[derive(Clone)]
pub struct Posting {
    pub ordinal: i64,
    pub action: Action,
    /// `None` = now, or whenever it was said already.
    pub at: Option<Millis>,
    /// Who did it; a person's name.
    pub by: Option<String>,
    /// When the sheet is to come down.
    pub take_down_at: Option<Millis>,
}

/// What became of a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    New,
    /// It was known; a take-down date may have been added.
    Known,
    /// The dispatch has no such sheet.
    NoSheet,
    /// The sheet stands where nothing can hang: never sent, or called off.
    Not(State),
}

/// A stored receipt.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct PostingRow {
    pub ordinal: i64,
    pub action: String,
    pub at: Millis,
    by_sealed: Option<Vec<u8>>,
    pub take_down_at: Option<Millis>,
    pub operator: String,
}

impl PostingRow {
    /// Who did it, masked; empty where nobody said or the name was destroyed.
    #[must_use]
    pub fn by(&self, vault: &Vault, dispatch_no: i64) -> String {
        let Some(sealed) = &self.by_sealed else { return String::new() };
        let name = vault.open_text(Owner::Posting(dispatch_no, self.ordinal), sealed);
        name.map_or_else(|_| String::new(), |name| masked_name(&name))
    }
}

/// Whether receipts are kept or only tried.
pub use super::recipients::Keep;

/// What one call will write.
#[derive(Default)]
struct Writes {
    /// The new states, with the time of posting.
    states: BTreeMap<i64, (State, Option<Millis>)>,
    rows: Vec<(Posting, Millis)>,
    /// Take-down dates of receipts that were known: ordinal, action, at, date.
    dates: Vec<(i64, Action, Millis, Millis)>,
}

impl Store {
    /// Keeps receipts about sheets of a dispatch on `channels` and moves the sheets by
    /// the table of transitions, in one transaction; the same receipt again changes
    /// nothing. `operator` is who entered them.
    pub async fn record_postings(
        &self,
        dispatch: &Dispatch,
        channels: &[i32],
        postings: &[Posting],
        (operator, keep): (&str, Keep),
    ) -> Result<Vec<Recorded>> {
        if postings.is_empty() {
            return Ok(Vec::new());
        }
        let mut tx = self.begin().await?;
        let ordinals: Vec<i64> = postings.iter().map(|p| p.ordinal).collect();
        let states = tx.sheet_states(dispatch.no, channels, &ordinals).await?;
        let known = tx.known_postings(dispatch.no, &ordinals).await?;
        let (writes, outcomes) = weigh(postings, states, known, self.now());
        tx.write_postings(self, dispatch.no, &writes, operator).await?;
        for action in [Action::Posted, Action::TakenDown] {
            let n = writes.rows.iter().filter(|(p, _)| p.action == action).count();
            if n > 0 {
                let detail = json!({ "dispatch": dispatch.no, "sheets": n });
                tx.append_audit(self.now(), operator, (action.name(), &dispatch.id), &detail).await?;
            }
        }
        if keep == Keep::Commit {
            tx.commit().await?;
        }
        Ok(outcomes)
    }

    /// The receipts about one sheet, in the order in which they were entered.
    pub async fn postings_of(&self, sheet: Serial) -> Result<Vec<PostingRow>> {
        let sql = "SELECT ordinal, action, at, by_sealed, take_down_at, operator FROM postings WHERE dispatch_no = $1 AND ordinal = $2 \
                   ORDER BY recorded_at, at";
        Ok(read!(self, |db| sqlx::query_as(sql).bind(sheet.dispatch_no).bind(sheet.ordinal).fetch_all(db).await)?)
    }

    /// The receipts about a dispatch, in the order in which they were entered.
    pub async fn postings(&self, dispatch_no: i64) -> Result<Vec<PostingRow>> {
        let sql = "SELECT ordinal, action, at, by_sealed, take_down_at, operator FROM postings WHERE dispatch_no = $1 \
                   ORDER BY ordinal, recorded_at, at";
        Ok(read!(self, |db| sqlx::query_as(sql).bind(dispatch_no).fetch_all(db).await)?)
    }
}

type Known = HashMap<(i64, String), Vec<(Millis, Option<Millis>)>>;

/// Decides what each receipt changes; a later one in the list sees what an earlier did.
fn weigh(
    postings: &[Posting],
    mut states: HashMap<i64, State>,
    mut known: Known,
    now: Millis,
) -> (Writes, Vec<Recorded>) {
    let mut writes = Writes::default();
    let mut outcomes = Vec::with_capacity(postings.len());
    for posting in postings {
        let Some(state) = states.get_mut(&posting.ordinal) else {
            outcomes.push(Recorded::NoSheet);
            continue;
        };
        let said = known.entry((posting.ordinal, posting.action.name().to_owned())).or_default();
        if let Some((at, date)) = said.iter_mut().find(|(at, _)| posting.at.is_none_or(|new| new == *at)) {
            if let Some(new) = posting.take_down_at.filter(|new| Some(*new) != *date) {
                *date = Some(new);
                writes.dates.push((posting.ordinal, posting.action, *at, new));
            }
            outcomes.push(Recorded::Known);
            continue;
        }
        let moved = next(*state, posting.action.event());
        let later = matches!((*state, posting.action), (State::Posted | State::TakenDown, _));
        if moved.is_none() && !later {
            outcomes.push(Recorded::Not(*state));
            continue;
        }
        let at = posting.at.unwrap_or(now);
        *state = moved.unwrap_or(*state);
        let posted = (posting.action == Action::Posted).then_some(at);
        let write = writes.states.entry(posting.ordinal).or_insert((*state, None));
        *write = (*state, write.1.or(posted));
        said.push((at, posting.take_down_at));
        writes.rows.push((posting.clone(), at));
        outcomes.push(Recorded::New);
    }
    (writes, outcomes)
}

impl Tx {
    async fn sheet_states(
        &mut self,
        dispatch_no: i64,
        channels: &[i32],
        ordinals: &[i64],
    ) -> Result<HashMap<i64, State>> {
        let channels: Vec<String> = channels.iter().chain(&[-1]).map(ToString::to_string).collect();
        let these = self.pick(
            "SELECT value FROM json_each($2)",
            "SELECT CAST(j AS BIGINT) FROM json_array_elements_text($2::json) j",
        );
        let lock = self.pick("", " ORDER BY ordinal FOR UPDATE");
        let sql = format!(
            "SELECT ordinal, state FROM deliveries WHERE dispatch_no = $1 AND ordinal IN ({these}) AND channel IN ({}){lock}",
            channels.join(", ")
        );
        let rows: Vec<(i64, i32)> = run!(self, |c| sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(dispatch_no)
            .bind(json!(ordinals).to_string())
            .fetch_all(c)
            .await)?;
        Ok(rows.into_iter().filter_map(|(ordinal, state)| Some((ordinal, State::from_code(state)?))).collect())
    }

    async fn known_postings(&mut self, dispatch_no: i64, ordinals: &[i64]) -> Result<Known> {
        let these = self.pick(
            "SELECT value FROM json_each($2)",
            "SELECT CAST(j AS BIGINT) FROM json_array_elements_text($2::json) j",
        );
        let sql = format!(
            "SELECT ordinal, action, at, take_down_at FROM postings WHERE dispatch_no = $1 AND ordinal IN ({these})"
        );
        let rows: Vec<(i64, String, Millis, Option<Millis>)> =
            run!(self, |c| sqlx::query_as(sqlx::AssertSqlSafe(sql))
                .bind(dispatch_no)
                .bind(json!(ordinals).to_string())
                .fetch_all(c)
                .await)?;
        let mut known = Known::new();
        for (ordinal, action, at, date) in rows {
            known.entry((ordinal, action)).or_default().push((at, date));
        }
        Ok(known)
    }

    async fn write_postings(&mut self, store: &Store, dispatch_no: i64, w: &Writes, operator: &str) -> Result<()> {
        let mut rows = Rows::default();
        for (posting, at) in &w.rows {
            let by = posting.by.as_deref().filter(|by| !by.is_empty());
            let by = by.map(|by| store.vault.seal(Owner::Posting(dispatch_no, posting.ordinal), by.as_bytes()));
            rows.push(&[
                dispatch_no.into(),
                posting.ordinal.into(),
                posting.action.name().into(),
                (*at).into(),
                by.as_deref().into(),
                posting.take_down_at.into(),
                operator.into(),
                Cell::Int(store.now()),
            ]);
        }
        let columns = [
            Col::Int("dispatch_no"),
            Col::Int("ordinal"),
            Col::Text("action"),
            Col::Int("at"),
            Col::Bytes("by_sealed"),
            Col::Int("take_down_at"),
            Col::Text("operator"),
            Col::Int("recorded_at"),
        ];
        let (source, list) =
            (self.source(&columns), "dispatch_no, ordinal, action, at, by_sealed, take_down_at, operator, recorded_at");
        self.bulk(
            format!("INSERT INTO postings ({list}) SELECT {list} FROM {source} WHERE TRUE ON CONFLICT DO NOTHING"),
            rows,
        )
        .await?;
        self.move_sheets(dispatch_no, w).await
    }

    async fn move_sheets(&mut self, dispatch_no: i64, w: &Writes) -> Result<()> {
        let mut rows = Rows::default();
        for (ordinal, (state, posted)) in &w.states {
            rows.push(&[dispatch_no.into(), (*ordinal).into(), state.code().into(), (*posted).into()]);
        }
        let source = self.source(&[Col::Int("dn"), Col::Int("o"), Col::Int("state"), Col::Int("posted")]);
        let sql = format!(
            "UPDATE deliveries SET state = CAST(src.state AS INTEGER), reason = 0, next_at = NULL, \
             handed_at = COALESCE(deliveries.handed_at, src.posted), reached_at = COALESCE(deliveries.reached_at, src.posted) \
             FROM {source} WHERE deliveries.dispatch_no = src.dn AND deliveries.ordinal = src.o"
        );
        self.bulk(sql, rows).await?;
        let mut rows = Rows::default();
        for (ordinal, action, at, date) in &w.dates {
            rows.push(&[dispatch_no.into(), (*ordinal).into(), action.name().into(), (*at).into(), (*date).into()]);
        }
        let source =
            self.source(&[Col::Int("dn"), Col::Int("o"), Col::Text("action"), Col::Int("at"), Col::Int("date")]);
        let sql = format!(
            "UPDATE postings SET take_down_at = src.date FROM {source} WHERE postings.dispatch_no = src.dn \
             AND postings.ordinal = src.o AND postings.action = src.action AND postings.at = src.at"
        );
        self.bulk(sql, rows).await?;
        Ok(())
    }
}
