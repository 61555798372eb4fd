//! The books, read by statements of their own: what holds whatever happened.

use std::collections::HashMap;
use std::path::Path;

use gong::loopback::{Behaviour, Span};
use gong::vault::Vault;
use sqlx::PgPool;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use crate::rig::{Entry, SOON};
use crate::site::{ALERT, Site, finished, gateway, wish};

/// The database of a site, opened beside the program.
pub enum Ledger {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// What the gateway's log said of the books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copies {
    /// Hand-overs that the books call uncertain.
    pub flagged: usize,
    /// Deliveries that the gateway has more than once.
    pub doubled: usize,
    /// Deliveries that the gateway does not have.
    pub missing: usize,
}

impl Ledger {
    pub async fn open(database: &Path) -> Self {
        let options = SqliteConnectOptions::new().filename(database).busy_timeout(std::time::Duration::from_secs(30));
        Self::Sqlite(SqlitePool::connect_with(options).await.unwrap())
    }

    pub async fn close(self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }

    pub async fn count(&self, sql: &'static str) -> i64 {
        match self {
            Self::Sqlite(pool) => sqlx::query_scalar(sql).fetch_one(pool).await.unwrap(),
            Self::Postgres(pool) => sqlx::query_scalar(sql).fetch_one(pool).await.unwrap(),
        }
    }

    /// The same of one dispatch, which the statement calls `$1`.
    async fn count_of(&self, sql: &'static str, dispatch: i64) -> i64 {
        match self {
            Self::Sqlite(pool) => sqlx::query_scalar(sql).bind(dispatch).fetch_one(pool).await.unwrap(),
            Self::Postgres(pool) => sqlx::query_scalar(sql).bind(dispatch).fetch_one(pool).await.unwrap(),
        }
    }

    pub async fn pairs(&self, sql: &'static str) -> Vec<(i64, i64, i64)> {
        match self {
            Self::Sqlite(pool) => sqlx::query_as(sql).fetch_all(pool).await.unwrap(),
            Self::Postgres(pool) => sqlx::query_as(sql).fetch_all(pool).await.unwrap(),
        }
    }

    /// The file itself is sound.
    pub async fn assert_sound(&self) {
        assert_eq!(self.count("SELECT COUNT(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'").await, 0);
    }

    /// What holds at every moment. Conservation: members and deliveries are each there
    /// once, add up to what the dispatch says it has planned, and none has fallen out of
    /// the line. Evidence: what a receipt has raised has not fallen.
    pub async fn assert_conserved(&self) {
        let wrong = self.wrong(&ALWAYS).await;
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    /// What holds besides when every dispatch has ended and every receipt is in.
    pub async fn assert_settled(&self) {
        self.assert_conserved().await;
        let wrong = self.wrong(&SETTLED).await;
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    /// Of a dispatch to all `people` that [`Site::settle`] made: each is a member, and who
    /// has a phone is spoken to. What the dispatch says of itself counts for nothing here.
    pub async fn assert_whole(&self, dispatch: i64, people: usize) {
        let lacks = self.lacks(dispatch, people).await;
        assert!(lacks.is_empty(), "dispatch {dispatch} to {people}: {lacks:?}");
    }

    async fn lacks(&self, dispatch: i64, people: usize) -> Vec<String> {
        let (own, household, _) = Site::shares(people);
        let phones = own + household;
        let mut lacks = Vec::new();
        for ((what, sql), meant) in WHOLE.into_iter().zip([0, people, phones, phones]) {
            let found = self.count_of(sql, dispatch).await;
            if usize::try_from(found).unwrap() != meant {
                lacks.push(format!("{what}: {found}, not {meant}"));
            }
        }
        lacks
    }

    /// Which of these statements count something, and how much.
    async fn wrong(&self, statements: &[(&'static str, &'static str)]) -> Vec<(&'static str, i64)> {
        let mut wrong = Vec::new();
        for (what, sql) in statements {
            wrong.push((*what, self.count(sql).await));
        }
        wrong.retain(|(_, n)| *n != 0);
        wrong
    }

    /// Against the gateway's own log: everything that it has is ours, what the books call
    /// handed over it has, and for each copy beyond the first there is a flag.
    pub async fn assert_flagged(&self, vault: &Vault, log: &[Entry]) -> Copies {
        let mut took: HashMap<(i64, i64), usize> = HashMap::new();
        for entry in log {
            let of = vault.read_client_id(entry.client_id).expect("the gateway knows ids of ours only");
            *took.entry((i64::from(of.dispatch_no), i64::from(of.ordinal))).or_default() += 1;
        }
        let flags: HashMap<(i64, i64), usize> = self
            .pairs("SELECT dispatch_no, ordinal, COUNT(*) FROM tries WHERE class = 6 GROUP BY dispatch_no, ordinal")
            .await
            .into_iter()
            .map(|(dispatch, ordinal, n)| ((dispatch, ordinal), usize::try_from(n).unwrap()))
            .collect();
        for (of, n) in &took {
            let flagged = flags.get(of).copied().unwrap_or(0);
            assert!(*n <= 1 + flagged, "{of:?} is at the gateway {n} times, and flagged {flagged} times");
        }
        let mut missing = 0;
        for (dispatch, ordinal, state) in
            self.pairs("SELECT dispatch_no, ordinal, CAST(state AS BIGINT) FROM deliveries").await
        {
            if !took.contains_key(&(dispatch, ordinal)) {
                missing += 1;
                assert!(
                    !(3..=7).contains(&state),
                    "{dispatch}.{ordinal} is in state {state}, and the gateway has it not"
                );
            }
        }
        let doubled = took.values().filter(|n| **n > 1).count();
        Copies { flagged: flags.values().sum(), doubled, missing }
    }
}

/// Statements that count what must not be.
const ALWAYS: [(&str, &str); 13] = [
    (
        "members add up",
        "SELECT COUNT(*) FROM dispatches d WHERE d.members <> (SELECT COUNT(*) FROM members m WHERE m.dispatch_no = d.no)",
    ),
    (
        "no recipient is a member twice",
        "SELECT COUNT(*) FROM (SELECT 1 FROM members GROUP BY dispatch_no, recipient_no HAVING COUNT(*) > 1) AS twice",
    ),
    (
        "deliveries add up",
        "SELECT COUNT(*) FROM dispatches d WHERE d.deliveries <> (SELECT COUNT(*) FROM deliveries e WHERE e.dispatch_no = d.no)",
    ),
    (
        "every delivery speaks to a member",
        "SELECT COUNT(*) FROM deliveries WHERE (dispatch_no, ordinal) NOT IN (SELECT dispatch_no, delivery FROM delivery_members)",
    ),
    (
        "every link has both ends",
        "SELECT COUNT(*) FROM delivery_members l LEFT JOIN deliveries d ON d.dispatch_no = l.dispatch_no AND d.ordinal = l.delivery LEFT JOIN members m ON m.dispatch_no = l.dispatch_no AND m.ordinal = l.member WHERE d.ordinal IS NULL OR m.ordinal IS NULL",
    ),
    (
        "a queued delivery is in a batch that goes on",
        "SELECT COUNT(*) FROM deliveries d WHERE d.state = 1 AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.no = d.batch AND b.state IN (0, 1))",
    ),
    ("only leased batches have a window", "SELECT COUNT(*) FROM batches WHERE marked_to <> 0 AND state <> 1"),
    ("what is under way stands in no row of its own", "SELECT COUNT(*) FROM deliveries WHERE state = 2"),
    ("what waits for a time has one", "SELECT COUNT(*) FROM deliveries WHERE state IN (9, 11, 12) AND next_at IS NULL"),
    (
        "what reached someone was handed over",
        "SELECT COUNT(*) FROM deliveries WHERE reached_at IS NOT NULL AND handed_at IS NULL",
    ),
    (
        "what reached someone stays so",
        "SELECT COUNT(*) FROM deliveries WHERE reached_at IS NOT NULL AND state NOT IN (4, 5, 6, 21, 22, 31)",
    ),
    ("what was read stays so", "SELECT COUNT(*) FROM deliveries WHERE seen_at IS NOT NULL AND state NOT IN (5, 6)"),
    (
        "an ended dispatch has nothing left to do",
        "SELECT COUNT(*) FROM dispatches d JOIN deliveries e ON e.dispatch_no = d.no WHERE d.finished_at IS NOT NULL AND (d.phase <> 'done' OR e.state IN (0, 1, 9, 11, 12))",
    ),
];

const SETTLED: [(&str, &str); 5] = [
    (
        "for what was handed over there is an answer or a receipt",
        "SELECT COUNT(*) FROM deliveries d WHERE d.state IN (3, 4, 5, 6, 7) AND NOT EXISTS (SELECT 1 FROM tries a WHERE a.dispatch_no = d.dispatch_no AND a.ordinal = d.ordinal) \
         AND NOT EXISTS (SELECT 1 FROM receipts r WHERE r.dispatch_no = d.dispatch_no AND r.ordinal = d.ordinal)",
    ),
    ("nobody holds a batch", "SELECT COUNT(*) FROM batches WHERE state <> 2"),
    (
        "a receipt whose message is known was matched",
        "SELECT COUNT(*) FROM receipts r JOIN handles h ON h.channel = r.channel AND h.gateway_id = r.gateway_id WHERE r.dispatch_no IS NULL",
    ),
    (
        ARRIVED,
        "WITH said AS (SELECT r.dispatch_no, r.ordinal, r.attempt, COALESCE(h.part, 0) AS part, COALESCE(h.parts, 1) AS parts, MAX(r.state) AS best \
         FROM receipts r LEFT JOIN handles h ON h.channel = r.channel AND h.gateway_id = r.gateway_id AND h.dispatch_no = r.dispatch_no \
         AND h.ordinal = r.ordinal AND h.attempt = r.attempt WHERE r.dispatch_no IS NOT NULL AND r.state IN (4, 5, 6) GROUP BY 1, 2, 3, 4, 5), \
         whole AS (SELECT dispatch_no, ordinal, MIN(best) AS best FROM said GROUP BY dispatch_no, ordinal, attempt, parts HAVING COUNT(*) >= parts), \
         heard AS (SELECT dispatch_no, ordinal, MAX(best) AS best FROM whole GROUP BY dispatch_no, ordinal) \
         SELECT COUNT(*) FROM deliveries d LEFT JOIN heard ON heard.dispatch_no = d.dispatch_no AND heard.ordinal = d.ordinal \
         WHERE COALESCE(heard.best, 0) <> CASE WHEN d.state IN (4, 5, 6) THEN d.state ELSE 0 END",
    ),
    (
        "what the gateway gave up is not called on its way",
        "SELECT COUNT(*) FROM receipts r JOIN deliveries d ON d.dispatch_no = r.dispatch_no AND d.ordinal = r.ordinal AND d.attempt = r.attempt \
         WHERE r.state = 7 AND d.state NOT IN (4, 5, 6, 7, 10, 13, 14)",
    ),
];

/// Evidence only rises, and what is said twice counts once: what arrived stands at the
/// best word that all parts of one of its messages have, neither below nor above it.
const ARRIVED: &str = "what arrived stands where its receipts put it";

/// Of one dispatch: what must be there, by what was settled.
const WHOLE: [(&str, &str); 4] = [
    (
        "left out",
        "SELECT COUNT(*) FROM recipients WHERE counted = 1 AND status = 1 AND no NOT IN (SELECT recipient_no FROM members WHERE dispatch_no = $1)",
    ),
    ("members", "SELECT COUNT(*) FROM members WHERE dispatch_no = $1"),
    ("deliveries", "SELECT COUNT(*) FROM deliveries WHERE dispatch_no = $1"),
    ("spoken to", "SELECT COUNT(DISTINCT member) FROM delivery_members WHERE dispatch_no = $1"),
];

/// Takes these statements to a copy of books that balance; what the copy is said to lack,
/// and which rules it breaks.
async fn found_after(books: &Path, dispatch: i64, people: usize, falsify: &'static str) -> (bool, Vec<&'static str>) {
    let copy = tempfile::NamedTempFile::new().unwrap();
    std::fs::copy(books, copy.path()).unwrap();
    let ledger = Ledger::open(copy.path()).await;
    let Ledger::Sqlite(pool) = &ledger else { unreachable!() };
    sqlx::raw_sql(falsify).execute(pool).await.unwrap();
    let wrong = [ledger.wrong(&ALWAYS).await, ledger.wrong(&SETTLED).await].concat();
    let whole = ledger.lacks(dispatch, people).await.is_empty();
    ledger.close().await;
    (whole, wrong.into_iter().map(|(what, _)| what).collect())
}

/// The books are worth as much as what they find.
#[tokio::test(flavor = "multi_thread")]
async fn books_that_were_falsified_are_found_out() {
    const PEOPLE: usize = 20;
    let gateway = gateway(Behaviour { receipt_delay: Span::fixed(1), ..Behaviour::default() }).await;
    let mut site = Site::new().await.with_kannel(gateway.addr, "rate = 5000, in_flight = 4");
    let app = site.open().await;
    site.settle(&app, PEOPLE).await;
    let serving = site.serve(&app).await;
    let item = site.approve(&app, ALERT).await;
    let dispatch = site.send(&app, &item, &wish("all", "sms")).await.no;
    finished(&app, dispatch, SOON).await;
    serving.stop().await;
    app.store.close().await;
    gateway.stop().await;
    let found = async |falsify| found_after(&site.database(), dispatch, PEOPLE, falsify).await;
    assert_eq!(found("SELECT 1").await, (true, vec![]));
    for (falsify, rule) in [
        // A receipt says that it was read, and it fell to delivered; the same with its time.
        ("UPDATE receipts SET state = 5 WHERE ordinal = 1 AND state = 4", ARRIVED),
        ("UPDATE deliveries SET seen_at = 1 WHERE ordinal = 1", "what was read stays so"),
        ("UPDATE receipts SET state = 3 WHERE ordinal = 1", ARRIVED),
        // One part was said to have arrived, twice, and of the other nothing.
        (
            "INSERT INTO handles (channel, gateway_id, dispatch_no, ordinal, attempt, part, parts) \
             SELECT channel, 'one', dispatch_no, 1, attempt, 1, 2 FROM receipts WHERE ordinal = 1 AND state = 4; \
             UPDATE receipts SET gateway_id = 'one' WHERE ordinal = 1; \
             INSERT INTO receipts (channel, received_at, gateway_id, state, code, dispatch_no, ordinal, attempt) \
             SELECT channel, received_at, gateway_id, state, code, dispatch_no, ordinal, attempt FROM receipts WHERE ordinal = 1",
            ARRIVED,
        ),
        (
            "UPDATE receipts SET state = 7 WHERE ordinal = 1; \
             UPDATE deliveries SET state = 8, reached_at = NULL WHERE ordinal = 1",
            "what the gateway gave up is not called on its way",
        ),
    ] {
        assert_eq!(found(falsify).await, (true, vec![rule]), "{falsify}");
    }
    // A planner has left a chunk out, and the dispatch knows no better.
    let left_out = "DELETE FROM delivery_members WHERE member <= 5; DELETE FROM members WHERE ordinal <= 5; \
         DELETE FROM receipts WHERE ordinal NOT IN (SELECT delivery FROM delivery_members); \
         DELETE FROM deliveries WHERE ordinal NOT IN (SELECT delivery FROM delivery_members); \
         UPDATE dispatches SET members = (SELECT COUNT(*) FROM members), deliveries = (SELECT COUNT(*) FROM deliveries)";
    assert_eq!(found(left_out).await, (false, vec![]));
}
