//! The pipeline's statements against both engines, one file a subject.

mod approvals;
mod batches;
mod calls;
mod events;
mod handles;
mod histories;
mod kept;
mod marks;
mod meetings;
mod moving;
mod outbox;
mod partitions;
mod parts;
mod planners;
mod plans;
mod points;
mod receipts;
mod registers;
mod runs;
mod schedule;
mod server_plans;
mod sheets;
mod snapshot;
mod turns;
mod unheard;
mod waiting;

use super::batches::Lease;
use super::dispatches::{Dispatch, Mode, NewDispatch};
use super::items::{ApprovalType, Item};
use super::operators::{Operator, Role};
use super::snapshot::{Chunking, StepChannel};
use super::testing::NOON;
use super::turn::{BatchTurn, Change, Record, TAKEN};
use super::{Store, Tx};
use crate::channel::Target;
use crate::channel::{AddressKind, CLASS_ACCEPTED, Class};
use crate::domain::delivery::{Reason, State};
use crate::domain::item::{Content, ItemKind};
use crate::domain::plan::Plan;
use crate::domain::recipient::purpose;
use crate::vault::Owner;

const SMS: i32 = 1;
const DAY: i64 = 86_400_000;

/// A delivery as it stands.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
struct Row {
    ordinal: i64,
    channel: i32,
    state: i32,
    reason: i32,
    batch: i64,
    epoch: i64,
    attempt: i32,
    failures: i32,
    parts: i32,
    next_at: Option<i64>,
    handed_at: Option<i64>,
    reached_at: Option<i64>,
    seen_at: Option<i64>,
}

impl Row {
    fn state(&self) -> State {
        State::from_code(self.state).unwrap()
    }
}

async fn rows(store: &Store, no: i64) -> Vec<Row> {
    let sql = concat!(
        "SELECT ordinal, channel, ",
        super::marks::state!("deliveries"),
        " AS state, reason, batch, epoch, attempt, failures, parts, next_at, handed_at, reached_at, seen_at \
               FROM deliveries WHERE dispatch_no = $1 ORDER BY ordinal"
    );
    read!(store, |db| sqlx::query_as(sql).bind(no).fetch_all(db).await).unwrap()
}

async fn states(store: &Store, no: i64) -> Vec<State> {
    rows(store, no).await.iter().map(Row::state).collect()
}

async fn execute(store: &Store, sql: impl Into<String>) -> u64 {
    let mut tx = store.begin().await.unwrap();
    let done = exec!(&mut tx, sqlx::query(sqlx::AssertSqlSafe(sql.into()))).unwrap();
    tx.commit().await.unwrap();
    done
}

async fn insert(store: &Store, into: &str, rows: &[String]) {
    if !rows.is_empty() {
        execute(store, format!("INSERT INTO {into} VALUES ({})", rows.join("), ("))).await;
    }
}

/// Bytes as a literal of the store's engine.
fn blob(store: &Store, bytes: &[u8]) -> String {
    let hex = crate::vault::hex(bytes);
    store.pool.pick(format!("x'{hex}'"), format!("'\\x{hex}'::bytea"))
}

/// Two admins of one unit.
async fn staff(store: &Store) -> (Operator, Operator) {
    let unit = store.save_unit("某县应急管理局", "0310-0000000").await.unwrap();
    for name in ["甲", "乙"] {
        store.save_operator(name, &unit, &[Role::Admin]).await.unwrap();
    }
    (store.acting(Some("甲")).await.unwrap(), store.acting(Some("乙")).await.unwrap())
}

fn content(title: &str) -> Content {
    Content { title: title.into(), body: title.into(), ..Content::new(ItemKind::Notice) }
}

pub(crate) async fn approved(store: &Store) -> Item {
    let (author, reviewer) = staff(store).await;
    let item = store.add_item(&content("停水通知"), &author).await.unwrap();
    store.approve_item(&item, ApprovalType::Review, &reviewer, "").await.unwrap();
    store.item(&item.id).await.unwrap()
}

pub(crate) fn order(item: &Item, lane: i32) -> NewDispatch {
    NewDispatch {
        item_id: item.id.clone(),
        item_version: item.version,
        audience: "all".into(),
        canonical: "all".into(),
        mode: Mode::Live,
        lane,
        lane_reason: String::new(),
        plan: Plan::parse("sms").unwrap(),
        list_no: None,
        parent_no: None,
        expected: "{}".into(),
        created_by: "甲".into(),
        expires_at: NOON + DAY,
        effective_at: None,
    }
}

/// Recipients 1 to `n` with a phone each (made up, from 139 0000 0000 on), whose
/// address carries the recipient's number.
async fn people(store: &Store, n: i64) {
    insert(store, "regions (no, name, level)", &["1, '甲村', 'village'".into()]).await;
    let all: Vec<String> = (1..=n).map(|no| format!("{no}, 1, 1, 1, 0")).collect();
    insert(store, "recipients (no, kind, counted, region_no, updated_at)", &all).await;
    let all: Vec<String> = (1..=n).map(|no| phone_row(store, no, 0)).collect();
    insert(store, "addresses (id, kind, hash, sealed, gone)", &all).await;
    let all: Vec<String> = (1..=n).map(|no| format!("{no}, 1, 0, {no}, 1")).collect();
    insert(store, "recipient_addresses (recipient_no, kind, priority, address_id, via)", &all).await;
}

fn phone_row(store: &Store, id: i64, gone: i32) -> String {
    let phone = format!("139{id:08}");
    let hash = blob(store, &store.vault.hash(purpose::PHONE, &phone));
    let sealed = blob(store, &store.vault.seal(Owner::Address(id), phone.as_bytes()));
    format!("{id}, 1, {hash}, {sealed}, {gone}")
}

fn sms(batch_size: i64) -> StepChannel {
    StepChannel { no: SMS, stands_for: SMS, kind: Target::Address(AddressKind::Phone), batch_size }
}

fn job<'a>(dispatch: &'a Dispatch, channels: &'a [StepChannel]) -> Chunking<'a> {
    Chunking { dispatch, channels, opt_out_kind: None, defer_until: None, next_step_at: None }
}

/// A dispatch to recipients 1 to `n`, planned, in batches of `size`.
async fn planned(store: &Store, n: i64, size: i64, lane: i32) -> Dispatch {
    let item = approved(store).await;
    let made = store.create_dispatch(&order(&item, lane)).await.unwrap();
    let who: Vec<i64> = (1..=n).collect();
    let chunk = store.snapshot_chunk(&job(&made, &[sms(size)]), &who, true).await.unwrap();
    assert_eq!((chunk.members, chunk.deliveries), (n, n));
    again(store, &made).await
}

async fn again(store: &Store, dispatch: &Dispatch) -> Dispatch {
    store.dispatch(&dispatch.id).await.unwrap()
}

async fn lease(store: &Store) -> Lease {
    store.lease_batches(SMS, "w", -1..=2, 1).await.unwrap().remove(0)
}

fn turn(lease: Lease) -> BatchTurn {
    BatchTurn { lease, records: Vec::new(), unsent: 0, mark: Vec::new(), open_to: 0, close: false, whole: false }
}

async fn run(store: &Store, turn: BatchTurn) -> Vec<i64> {
    store.turn(SMS, &[turn]).await.unwrap().remove(0)
}

async fn mark(store: &Store, lease: Lease, ordinals: &[i64]) -> Vec<i64> {
    run(store, BatchTurn { mark: ordinals.to_vec(), open_to: marked_to(store, lease).await, ..turn(lease) }).await
}

/// How far a batch is marked.
async fn marked_to(store: &Store, lease: Lease) -> i64 {
    store.probe_count(format!("SELECT marked_to FROM batches WHERE no = {}", lease.no)).await
}

async fn record(store: &Store, lease: Lease, records: Vec<Record>) {
    run(store, BatchTurn { records, open_to: marked_to(store, lease).await, ..turn(lease) }).await;
}

fn taken(ordinal: i64, handles: &[&str]) -> Record {
    Record {
        ordinal,
        attempt: 1,
        class: CLASS_ACCEPTED,
        code: "0".into(),
        at: NOON + 1,
        parts: i32::try_from(handles.len().max(1)).unwrap(),
        change: TAKEN,
        handles: handles.iter().map(ToString::to_string).collect(),
        gone: None,
    }
}

fn thrown(ordinal: i64, class: Class, state: State, next_at: Option<i64>) -> Record {
    let (reason, failures, attempts) = match (class, state) {
        (Class::Temporary, State::Retry) => (Reason::Temporary, 1, 1),
        (Class::Throttled, _) => (Reason::Throttled, 0, 0),
        (Class::Unknown, _) => (Reason::NoAnswer, 1, 0),
        (Class::AddressGone, _) => (Reason::AddressGone, 0, 0),
        _ => (Reason::Permanent, 0, 0),
    };
    let change = Change { state, reason, next_at, failures, attempts };
    Record { class: class as i32, code: "503".into(), parts: 0, change, handles: Vec::new(), ..taken(ordinal, &[]) }
}

/// Runs a raw statement in an open transaction, to hold its locks.
async fn hold(tx: &mut Tx, sql: &'static str) {
    exec!(tx, sqlx::query(sql)).unwrap();
}

/// Waits until `n` others wait for `holder`, or for one that waits for it, or until
/// `done`. The embedded engine has one writer, so there they wait by themselves.
async fn until_blocked(store: &Store, holder: &mut Tx, n: i64, done: impl Fn() -> bool) {
    let (super::Pool::Postgres(super::lent::Server { pool, .. }), Tx::Postgres(tx)) = (&store.pool, holder) else {
        return;
    };
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut **tx).await.unwrap();
    let sql = "WITH RECURSIVE w (pid) AS (SELECT a.pid FROM pg_stat_activity a WHERE $1 = ANY (pg_blocking_pids(a.pid)) \
               UNION SELECT a.pid FROM pg_stat_activity a JOIN w ON w.pid = ANY (pg_blocking_pids(a.pid))) SELECT COUNT(*) FROM w";
    while !done() {
        let waiting: i64 = sqlx::query_scalar(sql).bind(pid).fetch_one(pool).await.unwrap();
        if waiting >= n {
            return;
        }
        tokio::task::yield_now().await;
    }
}
