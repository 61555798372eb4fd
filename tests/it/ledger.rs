//! The books, read by statements of their own: what holds whatever happened.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

/// The database of a site, opened beside the program.
pub struct Ledger(SqlitePool);

impl Ledger {
    pub async fn open(database: &Path) -> Self {
        let options = SqliteConnectOptions::new().filename(database).busy_timeout(std::time::Duration::from_secs(30));
        Self(SqlitePool::connect_with(options).await.unwrap())
    }

    pub async fn close(self) {
        self.0.close().await;
    }

    pub async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.0).await.unwrap()
    }

    pub async fn pairs(&self, sql: &'static str) -> Vec<(i64, i64, i64)> {
        sqlx::query_as(sql).fetch_all(&self.0).await.unwrap()
    }

    /// The file itself is sound.
    pub async fn assert_sound(&self) {
        assert_eq!(self.count("SELECT COUNT(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'").await, 0);
    }

    /// Conservation: members and deliveries are each there once, add up to what the
    /// dispatch says it has planned, and none has fallen out of the line.
    pub async fn assert_conserved(&self) {
        let zero = [
            (
                "members add up",
                "SELECT COUNT(*) FROM dispatches d WHERE d.members <> (SELECT COUNT(*) FROM members m WHERE m.dispatch_no = d.no)",
            ),
            (
                "no recipient is a member twice",
                "SELECT COUNT(*) FROM (SELECT 1 FROM members GROUP BY dispatch_no, recipient_no HAVING COUNT(*) > 1)",
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
            (
                "only leased batches have a window",
                "SELECT COUNT(*) FROM deliveries d WHERE d.state = 2 AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.no = d.batch AND b.state = 1 AND b.epoch = d.epoch)",
            ),
            (
                "what waits for a time has one",
                "SELECT COUNT(*) FROM deliveries WHERE state IN (9, 11, 12) AND next_at IS NULL",
            ),
            (
                "what reached someone was handed over",
                "SELECT COUNT(*) FROM deliveries WHERE reached_at IS NOT NULL AND handed_at IS NULL",
            ),
        ];
        for (what, sql) in zero {
            assert_eq!(self.count(sql).await, 0, "{what}");
        }
    }
}
