//! The books, read by statements of their own: what holds whatever happened.

use std::collections::HashMap;
use std::path::Path;

use gong::vault::Vault;
use sqlx::PgPool;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use crate::rig::Entry;

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
        for (what, sql) in ALWAYS {
            assert_eq!(self.count(sql).await, 0, "{what}");
        }
    }

    /// What holds besides when every dispatch has ended and every receipt is in.
    pub async fn assert_settled(&self) {
        self.assert_conserved().await;
        for (what, sql) in SETTLED {
            assert_eq!(self.count(sql).await, 0, "{what}");
        }
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
const ALWAYS: [(&str, &str); 12] = [
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
    (
        "an ended dispatch has nothing left to do",
        "SELECT COUNT(*) FROM dispatches d JOIN deliveries e ON e.dispatch_no = d.no WHERE d.finished_at IS NOT NULL AND (d.phase <> 'done' OR e.state IN (0, 1, 9, 11, 12))",
    ),
];

const SETTLED: [(&str, &str); 4] = [
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
        "a receipt of arrival was believed",
        "SELECT COUNT(*) FROM receipts r JOIN deliveries d ON d.dispatch_no = r.dispatch_no AND d.ordinal = r.ordinal WHERE r.state IN (4, 5, 6) AND d.state NOT IN (4, 5, 6)",
    ),
];
