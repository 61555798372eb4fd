//! What people answered goes with what they answered. A reply names no dispatch, only
//! the number it came from, sealed: so numbers are opened, hashed and looked up.

use std::collections::HashMap;

use serde_json::json;
use sqlx::AssertSqlSafe;

use super::super::bulk::{Cell, Col, Rows};
use super::super::{Result, Store};
use super::CHUNK;
use crate::clock::Millis;
use crate::domain::delivery::State;
use crate::domain::recipient::{Phone, purpose};
use crate::store::dispatches::Dispatch;

/// A reply whose number is hashed.
struct Hashed {
    no: i64,
    at: Millis,
    number: Vec<u8>,
}

/// A reply from a number that a dispatch went to.
type Answer = (i64, i64, Millis);

impl Store {
    /// The replies that came, since this dispatch began, from numbers it went to. Where
    /// a later one that is not purged had gone to the same number by then, the reply
    /// is an answer to that, and goes with it.
    pub(super) async fn replies_to(&self, dispatch: &Dispatch) -> Result<Vec<i64>> {
        let sql = format!(
            "CROSS JOIN addresses a WHERE a.kind = 1 AND a.hash = src.hash \
             AND a.id IN (SELECT target FROM deliveries WHERE dispatch_no = $2 AND {})",
            went_out("state")
        );
        let (mut after, mut found) = (0, Vec::new());
        loop {
            let page = self.replies_after(after, dispatch.created_at).await?;
            let Some(last) = page.last() else { return Ok(found) };
            after = last.no;
            let mut tx = self.begin().await?;
            let source = tx.source(&[Col::Int("no"), Col::Int("at"), Col::Bytes("hash")]);
            let sql = format!("SELECT src.no, a.id, src.at FROM {source} {sql}");
            let json = rows(&page).into_json();
            let answers: Vec<Answer> = run!(&mut tx, |c| {
                sqlx::query_as(AssertSqlSafe(sql)).bind(json).bind(dispatch.no).fetch_all(c).await
            })?;
            tx.commit().await?;
            let later = self.later(dispatch, &answers).await?;
            let asked_again = |(_, target, at): &Answer| later.get(target).is_some_and(|began| began <= at);
            found.extend(answers.iter().filter(|answer| !asked_again(answer)).map(|(no, ..)| *no));
        }
    }

    /// When the first of the later dispatches began that went to these numbers, too, and
    /// still stand.
    async fn later(&self, dispatch: &Dispatch, answers: &[Answer]) -> Result<HashMap<i64, Millis>> {
        let targets = json!(answers.iter().map(|(_, target, _)| target).collect::<Vec<_>>()).to_string();
        let mut tx = self.begin().await?;
        let list = tx.pick(
            "SELECT value FROM json_each($1)",
            "SELECT CAST(j AS BIGINT) FROM json_array_elements_text($1::json) j",
        );
        let sql = format!(
            "SELECT o.target, MIN(p.created_at) FROM dispatches p JOIN deliveries o ON o.dispatch_no = p.no \
             WHERE p.purged_at IS NULL AND p.no <> $2 AND p.created_at > $3 AND {} AND o.target IN ({list}) GROUP BY o.target",
            went_out("o.state")
        );
        let found: Vec<(i64, Millis)> = run!(&mut tx, |c| {
            let query = sqlx::query_as(AssertSqlSafe(sql)).bind(targets);
            query.bind(dispatch.no).bind(dispatch.created_at).fetch_all(c).await
        })?;
        tx.commit().await?;
        Ok(found.into_iter().collect())
    }

    /// The replies from numbers that only recipients of this purpose have.
    pub(super) async fn replies_of_purpose(&self, purpose: &str) -> Result<Vec<i64>> {
        let whose = "SELECT 1 FROM recipient_addresses ra JOIN recipients r ON r.no = ra.recipient_no WHERE ra.address_id = a.id";
        let sql = format!(
            "CROSS JOIN addresses a WHERE a.kind = 1 AND a.hash = src.hash \
             AND EXISTS ({whose} AND r.purpose = $2) AND NOT EXISTS ({whose} AND r.purpose <> $2) \
             AND NOT EXISTS (SELECT 1 FROM points p WHERE p.phone_id = a.id) \
             AND NOT EXISTS (SELECT 1 FROM duty_officers o WHERE o.phone_id = a.id)"
        );
        let (mut after, mut found) = (0, Vec::new());
        loop {
            let page = self.replies_after(after, 0).await?;
            let Some(last) = page.last() else { return Ok(found) };
            after = last.no;
            let mut tx = self.begin().await?;
            let source = tx.source(&[Col::Int("no"), Col::Int("at"), Col::Bytes("hash")]);
            let sql = format!("SELECT src.no FROM {source} {sql}");
            let json = rows(&page).into_json();
            let theirs: Vec<i64> = run!(&mut tx, |c| {
                sqlx::query_scalar(AssertSqlSafe(sql)).bind(json).bind(purpose).fetch_all(c).await
            })?;
            tx.commit().await?;
            found.extend(theirs);
        }
    }

    /// The next replies received since `since`; those from no mobile number are left
    /// out, but for the last, whose place is where the next page begins.
    async fn replies_after(&self, after: i64, since: Millis) -> Result<Vec<Hashed>> {
        let sql =
            "SELECT no, received_at, said_sealed FROM replies WHERE no > $1 AND received_at >= $2 ORDER BY no LIMIT $3";
        let page: Vec<(i64, Millis, Vec<u8>)> =
            read!(self, |db| sqlx::query_as(sql).bind(after).bind(since).bind(CHUNK).fetch_all(db).await)?;
        let last = page.last().map(|(no, ..)| *no);
        let mut hashed = Vec::with_capacity(page.len());
        for (no, at, sealed) in page {
            let (from, _) = self.open_reply(no, &sealed)?;
            let number = Phone::mobile(&from).map(|phone| self.vault.hash(purpose::PHONE, phone.as_str()));
            if number.is_some() || Some(no) == last {
                hashed.push(Hashed { no, at, number: number.unwrap_or_default() });
            }
        }
        Ok(hashed)
    }

    /// How many replies came before `before`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn count_replies_before(&self, before: Millis) -> Result<u64> {
        let sql = "SELECT COUNT(*) FROM replies WHERE received_at < $1";
        let n: i64 = read!(self, |db| sqlx::query_scalar(sql).bind(before).fetch_one(db).await)?;
        Ok(u64::try_from(n).unwrap_or(0))
    }

    /// Destroys the replies that came before `before`, whoever sent them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn purge_replies_before(&self, before: Millis, operator: &str) -> Result<u64> {
        self.note_act(operator, "purge", "replies", &json!({ "before": before })).await?;
        let sql = "DELETE FROM replies WHERE no IN (SELECT no FROM replies WHERE received_at < $1 LIMIT $2)";
        self.drain(sql, before).await
    }

    pub(super) async fn drop_replies(&self, nos: &[i64]) -> Result<u64> {
        let mut dropped = 0;
        for some in nos.chunks(usize::try_from(CHUNK).unwrap_or(usize::MAX)) {
            let mut tx = self.begin().await?;
            let sql = format!("DELETE FROM replies WHERE no IN (SELECT no FROM {})", tx.source(&[Col::Int("no")]));
            dropped += tx.bulk(sql, Rows::column(some.iter().copied())).await?;
            tx.commit().await?;
        }
        Ok(dropped)
    }
}

fn rows(page: &[Hashed]) -> Rows {
    let mut rows = Rows::default();
    for reply in page {
        rows.push(&[Cell::Int(reply.no), Cell::Int(reply.at), Cell::Bytes(&reply.number)]);
    }
    rows
}

/// In words of SQL: the delivery went, or may have gone, to a phone or mailbox. Sheets
/// and visits have states of their own from 20 on.
fn went_out(state: &str) -> String {
    let [planned, cancelled, suppressed, printed] =
        [State::Planned, State::Cancelled, State::Suppressed, State::Printed].map(State::code);
    format!("{state} < {printed} AND {state} NOT IN ({planned}, {cancelled}, {suppressed})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::calls::Meaning;
    use crate::store::testing::{NOON, stores};

    const PHONES: [&str; 4] = ["13900000001", "13900000002", "13900000003", "13900000004"];

    /// Addresses 1 to 4; dispatch 1 went to 1, 2 and (a visit) 4, an hour later dispatch
    /// 2 to 2. Before both, between them, and after them everybody answers.
    async fn answered(store: &Store) {
        let unit = store.save_unit("某局", "0873-5550000").await.unwrap();
        let mut tx = store.begin().await.unwrap();
        let sql = "INSERT INTO items (id, no, kind, version, unit_id, state, created_at, created_by) VALUES ('i', 1, 'notice', 1, $1, 'approved', 0, '')";
        exec!(&mut tx, sqlx::query(sql).bind(unit)).unwrap();
        let plan = serde_json::to_string(&crate::domain::plan::Plan::parse("sms").unwrap()).unwrap();
        for (id, phone) in (1_i64..).zip(PHONES) {
            let hash = store.vault.hash(purpose::PHONE, phone);
            let sql = "INSERT INTO addresses (id, kind, hash, sealed) VALUES ($1, 1, $2, $2)";
            exec!(&mut tx, sqlx::query(sql).bind(id).bind(hash)).unwrap();
        }
        let hour = 3_600_000;
        for (no, began) in [(1, NOON), (2, NOON + hour)] {
            let sql = format!(
                "INSERT INTO dispatches (no, id, item_id, item_version, audience, canonical, mode, lane, plan, state, phase, created_at, created_by, expires_at, finished_at) \
                 VALUES ({no}, 'd{no}', 'i', 1, '', '', 'live', 1, $1, 'finished', 'done', {began}, '', 0, {began})"
            );
            exec!(&mut tx, sqlx::query(AssertSqlSafe(sql)).bind(&plan)).unwrap();
        }
        for (dispatch, ordinal, target, state) in [
            (1, 1, 1, State::Delivered),
            (1, 2, 2, State::Unknown),
            (1, 3, 4, State::Absent),
            (1, 4, 3, State::Suppressed),
            (2, 1, 2, State::Sent),
        ] {
            let sql = format!(
                "INSERT INTO deliveries (dispatch_no, ordinal, step, channel, target, variant, state, batch) \
                 VALUES ({dispatch}, {ordinal}, 0, 1, {target}, 0, {}, 0)",
                state.code()
            );
            exec!(&mut tx, sqlx::query(AssertSqlSafe(sql))).unwrap();
        }
        tx.commit().await.unwrap();
        let channel = store.channel_no("sms").await.unwrap();
        for (at, when) in [(NOON - hour, "早"), (NOON + 60_000, "中"), (NOON + 2 * hour, "晚")] {
            for phone in PHONES.into_iter().chain(["10086"]) {
                store.keep_reply(channel, Meaning::Other, (phone, &format!("{when}{phone}"))).await.unwrap();
            }
            let mut tx = store.begin().await.unwrap();
            let sql = "UPDATE replies SET received_at = $1 WHERE no > (SELECT COUNT(*) - 5 FROM replies)";
            exec!(&mut tx, sqlx::query(sql).bind(at)).unwrap();
            tx.commit().await.unwrap();
        }
    }

    async fn left(store: &Store) -> Vec<String> {
        let mut texts: Vec<String> = store.replies(None, 99).await.unwrap().into_iter().map(|r| r.text).collect();
        texts.sort();
        texts
    }

    #[tokio::test]
    async fn answers_go_with_what_they_answer() {
        for t in stores().await {
            answered(&t.store).await;
            let first = t.store.dispatch("1").await.unwrap();
            let second = t.store.dispatch("2").await.unwrap();
            let all = left(&t.store).await;
            assert_eq!(all.len(), 15);
            let gone = t.store.replies_to(&first).await.unwrap();
            assert_eq!(t.store.drop_replies(&gone).await.unwrap(), 3, "{}", t.engine);
            let now = left(&t.store).await;
            let missing: Vec<&String> = all.iter().filter(|text| !now.contains(text)).collect();
            // 2 answered the second dispatch in the evening; 3 was sent nothing, 4 was visited.
            assert_eq!(missing, ["中13900000001", "中13900000002", "晚13900000001"], "{}", t.engine);
            assert_eq!(t.store.replies_to(&second).await.unwrap().len(), 1, "{}", t.engine);
            assert_eq!(t.store.count_replies_before(NOON).await.unwrap(), 5);
            assert_eq!(t.store.purge_replies_before(NOON, "王芳").await.unwrap(), 5, "{}", t.engine);
            assert_eq!(left(&t.store).await.len(), 7);
        }
    }

    #[tokio::test]
    async fn answers_of_one_purpose_go_unless_another_has_the_number() {
        for t in stores().await {
            answered(&t.store).await;
            let mut tx = t.store.begin().await.unwrap();
            for (no, purpose, address) in [(1_i64, "flood", 1_i64), (2, "flood", 2), (3, "other", 2), (4, "other", 3)] {
                let sql = format!(
                    "INSERT INTO recipients (no, kind, counted, region_no, purpose, updated_at) VALUES ({no}, 1, 1, 1, '{purpose}', 0)"
                );
                exec!(&mut tx, sqlx::query(AssertSqlSafe(sql))).unwrap();
                let sql = "INSERT INTO recipient_addresses (recipient_no, kind, priority, address_id, via) VALUES ($1, 1, 1, $2, 1)";
                exec!(&mut tx, sqlx::query(sql).bind(no).bind(address)).unwrap();
            }
            tx.commit().await.unwrap();
            let done = t.store.purge_purpose("flood", "王芳").await.unwrap();
            assert_eq!((done.recipients, done.addresses, done.replies), (2, 1, 3), "{}", t.engine);
            let now = left(&t.store).await;
            assert!(now.len() == 12 && !now.iter().any(|text| text.contains(PHONES[0])), "{}: {now:?}", t.engine);
        }
    }
}
