//! Items, their versions, relations and approvals.

use serde::Serialize;
use serde_json::{Value, json};

use super::dispatches::NewDispatch;
use super::operators::Operator;
use super::{Result, Store, StoreError, Tx};
use crate::clock::Millis;
use crate::domain::item::Content;
use crate::say;

/// An item with its newest version.
#[derive(Debug, Clone)]
pub struct Item {
    pub id: String,
    /// The short number people say.
    pub no: i64,
    pub version: i32,
    /// draft, approved, cancelled
    pub state: String,
    pub unit_id: String,
    pub unit: String,
    pub unit_phone: String,
    pub created_at: Millis,
    pub created_by: String,
    pub content: Content,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    no: i64,
    version: i32,
    state: String,
    unit_id: String,
    unit: String,
    unit_phone: String,
    created_at: Millis,
    created_by: String,
    body: String,
}

/// A row of `approvals`.
#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
pub struct Approval {
    pub version: i32,
    pub r#type: String,
    pub operator: String,
    pub at: Millis,
    pub note: String,
}

/// How a version came to be approved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApprovalType {
    /// By someone other than its author.
    Review,
    /// By its author alone: logged, and its second signature is chased.
    FastLane,
    /// The signature that follows a fast lane.
    Second,
}

impl ApprovalType {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Review => "review",
            Self::FastLane => "fast_lane",
            Self::Second => "second",
        }
    }
}

const ITEMS: &str = "SELECT i.id, i.no, i.version, i.state, i.unit_id, u.name AS unit, u.phone AS unit_phone, i.created_at, \
                     v.created_by, v.body FROM items i JOIN units u ON u.id = i.unit_id \
                     JOIN item_versions v ON v.item_id = i.id AND v.version = i.version";

impl TryFrom<Row> for Item {
    type Error = StoreError;

    fn try_from(r: Row) -> Result<Self> {
        let content =
            serde_json::from_str(&r.body).map_err(|e| StoreError::Damaged(format!("item_versions.body: {e}")))?;
        Ok(Self {
            id: r.id,
            no: r.no,
            version: r.version,
            state: r.state,
            unit_id: r.unit_id,
            unit: r.unit,
            unit_phone: r.unit_phone,
            created_at: r.created_at,
            created_by: r.created_by,
            content,
        })
    }
}

impl Store {
    /// Enters an item as a draft.
    pub async fn add_item(&self, content: &Content, by: &Operator) -> Result<Item> {
        let targets = self.relation_targets(content).await?;
        let mut tx = self.begin().await?;
        let (id, _) = tx.insert_item((content, &targets), by, (self.now(), &json!({ "version": 1 }))).await?;
        tx.commit().await?;
        self.item(&id).await
    }

    /// Enters a new version; the item needs approval again.
    pub async fn edit_item(&self, item: &Item, content: &Content, by: &Operator) -> Result<Item> {
        let targets = self.relation_targets(content).await?;
        let mut tx = self.begin().await?;
        let (now, version) = (self.now(), item.version + 1);
        let sql = "UPDATE items SET version = $2, state = 'draft', kind = $4 WHERE id = $1 AND version = $3 AND state <> 'cancelled'";
        let changed =
            exec!(&mut tx, sqlx::query(sql).bind(&item.id).bind(version).bind(item.version).bind(content.kind.name()))?;
        if changed == 0 {
            return Err(StoreError::Refused(say!(
                "事项已被撤销或刚刚被别人改过，请重新查看：gong item show",
                "the item was cancelled or has just been changed by someone else; look again: gong item show"
            )));
        }
        tx.add_version(&item.id, version, content, (now, &by.name)).await?;
        tx.put_relations(&item.id, &targets).await?;
        tx.append_audit(now, &by.name, ("item", &item.id), &json!({ "version": version })).await?;
        tx.commit().await?;
        self.item(&item.id).await
    }

    /// Records an approval of exactly `item.version`; a version that changed meanwhile
    /// is not approved by it.
    pub async fn approve_item(&self, item: &Item, kind: ApprovalType, by: &Operator, note: &str) -> Result<()> {
        let mut tx = self.begin().await?;
        let now = self.now();
        let sql = "UPDATE items SET state = 'approved' WHERE id = $1 AND version = $2 AND state <> 'cancelled'";
        if exec!(&mut tx, sqlx::query(sql).bind(&item.id).bind(item.version))? == 0 {
            return Err(StoreError::Refused(say!(
                "事项已被撤销或刚刚被改过，没有审核",
                "the item was cancelled or changed meanwhile; it was not approved"
            )));
        }
        let sql = "INSERT INTO approvals (id, item_id, version, type, operator, unit_id, at, note) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
                   ON CONFLICT (item_id, version, type) DO NOTHING";
        exec!(
            &mut tx,
            sqlx::query(sql)
                .bind(uuid::Uuid::now_v7().to_string())
                .bind(&item.id)
                .bind(item.version)
                .bind(kind.name())
                .bind(&by.name)
                .bind(&by.unit_id)
                .bind(now)
                .bind(note)
        )?;
        let detail = json!({ "version": item.version, "type": kind.name(), "note": note });
        tx.append_audit(now, &by.name, ("approve", &item.id), &detail).await?;
        tx.commit().await
    }

    /// How, by which unit and when a version was first approved: (type, unit, time).
    pub async fn approved_by(&self, item_id: &str, version: i32) -> Result<Option<(String, String, Millis)>> {
        let sql = "SELECT a.type, u.name, a.at FROM approvals a JOIN units u ON u.id = a.unit_id \
                   WHERE a.item_id = $1 AND a.version = $2 ORDER BY a.at LIMIT 1";
        Ok(read!(self, |db| sqlx::query_as(sql).bind(item_id).bind(version).fetch_optional(db).await)?)
    }

    /// Calls an item off: nothing of it can be sent any more, and what its dispatches
    /// have not handed over yet stays. Returns the numbers of the dispatches stopped.
    pub async fn cancel_item(&self, item: &Item, by: &Operator) -> Result<Vec<i64>> {
        let mut tx = self.begin().await?;
        exec!(&mut tx, sqlx::query("UPDATE items SET state = 'cancelled' WHERE id = $1").bind(&item.id))?;
        let sql = "UPDATE dispatches SET state = 'cancelled' WHERE item_id = $1 AND state IN ('active', 'paused') RETURNING no";
        let stopped: Vec<i64> = run!(&mut tx, |c| sqlx::query_scalar(sql).bind(&item.id).fetch_all(c).await)?;
        let detail = json!({ "dispatches": stopped });
        tx.append_audit(self.now(), &by.name, ("cancel item", &item.id), &detail).await?;
        tx.commit().await?;
        Ok(stopped)
    }

    /// An item by its number, its id, or the unambiguous start of its id.
    pub async fn item(&self, key: &str) -> Result<Item> {
        let key = key.trim();
        let prefix = if key.len() >= 8 && key.chars().all(|c| c.is_ascii_hexdigit() || c == '-') {
            format!("{key}%")
        } else {
            String::new()
        };
        let sql = format!("{ITEMS} WHERE i.no = $1 OR i.id LIKE $2 ORDER BY i.no LIMIT 2");
        let mut rows: Vec<Row> = read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(key.parse::<i64>().unwrap_or(-1))
            .bind(prefix)
            .fetch_all(db)
            .await)?;
        match rows.len() {
            1 => rows.remove(0).try_into(),
            0 => Err(StoreError::Refused(say!(
                "没有编号为“{key}”的公开事项。用 gong item list 查看",
                "there is no item `{key}`. `gong item list` shows them"
            ))),
            _ => Err(StoreError::Refused(say!(
                "“{key}”对应多个公开事项，请写得更长",
                "`{key}` fits several items; write more of it"
            ))),
        }
    }

    /// The content of one version; a dispatch sends the version it was made of,
    /// whatever was edited since.
    pub async fn item_version(&self, item_id: &str, version: i32) -> Result<Content> {
        let sql = "SELECT body FROM item_versions WHERE item_id = $1 AND version = $2";
        let body: String = read!(self, |db| sqlx::query_scalar(sql).bind(item_id).bind(version).fetch_one(db).await)?;
        serde_json::from_str(&body).map_err(|e| StoreError::Damaged(format!("item_versions.body: {e}")))
    }

    /// Items, newest first.
    pub async fn items(&self) -> Result<Vec<Item>> {
        let sql = format!("{ITEMS} ORDER BY i.no DESC LIMIT 500");
        let rows: Vec<Row> = read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(db).await)?;
        rows.into_iter().map(Item::try_from).collect()
    }

    /// Approvals of an item, oldest first.
    pub async fn approvals(&self, item_id: &str) -> Result<Vec<Approval>> {
        let sql = "SELECT version, type, operator, at, note FROM approvals WHERE item_id = $1 ORDER BY at";
        Ok(read!(self, |db| sqlx::query_as(sql).bind(item_id).fetch_all(db).await)?)
    }

    /// Items approved in the fast lane before `before` whose second signature is missing.
    pub async fn unsigned_fast_lanes(&self, before: Millis) -> Result<Vec<i64>> {
        let sql = "SELECT i.no FROM approvals a JOIN items i ON i.id = a.item_id WHERE a.type = 'fast_lane' AND a.at < $1 \
                   AND NOT EXISTS (SELECT 1 FROM approvals s WHERE s.item_id = a.item_id AND s.version = a.version AND s.type = 'second') ORDER BY i.no";
        Ok(read!(self, |db| sqlx::query_scalar(sql).bind(before).fetch_all(db).await)?)
    }

    /// Items this one lifts, corrects, updates or withdraws, and theirs in turn: the chain.
    pub async fn chain_of(&self, item_id: &str) -> Result<Vec<String>> {
        let sql = "WITH RECURSIVE chain (id) AS (\
                     SELECT target_id FROM item_relations WHERE item_id = $1 AND relation <> 'interprets' \
                     UNION SELECT r.target_id FROM item_relations r JOIN chain c ON r.item_id = c.id WHERE r.relation <> 'interprets'\
                   ) SELECT id FROM chain ORDER BY id";
        Ok(read!(self, |db| sqlx::query_scalar(sql).bind(item_id).fetch_all(db).await)?)
    }

    pub(super) async fn relation_targets(&self, content: &Content) -> Result<Vec<(String, String)>> {
        let mut targets = Vec::new();
        for (relation, target) in &content.relations {
            targets.push((relation.name().to_owned(), self.item(target).await?.id));
        }
        Ok(targets)
    }
}

impl Tx {
    /// Inserts the first version of an item, as a draft; returns its id and number.
    /// `audited` is the time and what the audit log says of it.
    pub(super) async fn insert_item(
        &mut self,
        (content, targets): (&Content, &[(String, String)]),
        by: &Operator,
        (now, audited): (Millis, &Value),
    ) -> Result<(String, i64)> {
        let id = uuid::Uuid::now_v7().to_string();
        let no = self.take_numbers("item", 1).await?;
        let sql = "INSERT INTO items (id, no, kind, version, unit_id, state, created_at, created_by) VALUES ($1, $2, $3, 1, $4, 'draft', $5, $6)";
        exec!(
            self,
            sqlx::query(sql).bind(&id).bind(no).bind(content.kind.name()).bind(&by.unit_id).bind(now).bind(&by.name)
        )?;
        self.add_version(&id, 1, content, (now, &by.name)).await?;
        self.put_relations(&id, targets).await?;
        self.append_audit(now, &by.name, ("item", &id), audited).await?;
        Ok((id, no))
    }

    /// A lift or withdrawal stops what it ends, in the same mode: whoever was told
    /// after it would never hear that it is over.
    pub(super) async fn stop_what_it_ends(&mut self, new: &NewDispatch, no: i64, now: Millis) -> Result<()> {
        let sql = "UPDATE dispatches SET state = 'cancelled' WHERE (mode = $2 OR (mode = 'call' AND parent_no IN (SELECT l.no FROM dispatches l WHERE l.mode = $2))) \
                   AND state IN ('active', 'paused') AND item_id IN (\
                     WITH RECURSIVE chain (id) AS (\
                       SELECT target_id FROM item_relations WHERE item_id = $1 AND relation IN ('lifts', 'withdraws') \
                       UNION SELECT r.target_id FROM item_relations r JOIN chain c ON r.item_id = c.id WHERE r.relation <> 'interprets'\
                     ) SELECT id FROM chain) RETURNING no";
        let stopped: Vec<i64> =
            run!(self, |c| sqlx::query_scalar(sql).bind(&new.item_id).bind(new.mode.name()).fetch_all(c).await)?;
        for ended in stopped {
            let by = json!({ "ended_by": no });
            self.append_audit(now, &new.created_by, ("cancelled", &ended.to_string()), &by).await?;
        }
        Ok(())
    }

    /// The relations of the newest version stand; those of the one before are gone.
    async fn put_relations(&mut self, item_id: &str, targets: &[(String, String)]) -> Result<()> {
        exec!(self, sqlx::query("DELETE FROM item_relations WHERE item_id = $1").bind(item_id))?;
        for (relation, target) in targets {
            let sql =
                "INSERT INTO item_relations (item_id, relation, target_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
            exec!(self, sqlx::query(sql).bind(item_id).bind(relation).bind(target))?;
        }
        Ok(())
    }

    async fn add_version(&mut self, item_id: &str, version: i32, content: &Content, by: (Millis, &str)) -> Result<()> {
        let body = serde_json::to_string(content).map_err(|e| StoreError::Damaged(e.to_string()))?;
        let sql = "INSERT INTO item_versions (item_id, version, title, body, created_at, created_by) VALUES ($1, $2, $3, $4, $5, $6)";
        exec!(
            self,
            sqlx::query(sql).bind(item_id).bind(version).bind(&content.title).bind(body).bind(by.0).bind(by.1)
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::item::{ItemKind, Relation};
    use crate::domain::plan::Plan;
    use crate::store::dispatches::Mode;
    use crate::store::operators::Role;
    use crate::store::testing::stores;

    async fn approved(store: &Store, by: &Operator, relation: Option<(Relation, &Item)>) -> Item {
        let mut content = Content::new(ItemKind::Notice);
        content.title = "停水".to_owned();
        content.relations.extend(relation.map(|(r, of)| (r, of.id.clone())));
        let item = store.add_item(&content, by).await.unwrap();
        store.approve_item(&item, ApprovalType::Review, by, "").await.unwrap();
        item
    }

    fn dispatch(item: &Item, mode: Mode) -> NewDispatch {
        NewDispatch {
            item_id: item.id.clone(),
            item_version: 1,
            audience: "all".to_owned(),
            canonical: "all".to_owned(),
            mode,
            lane: 2,
            lane_reason: String::new(),
            plan: Plan::parse("sms").unwrap(),
            list_no: None,
            parent_no: None,
            expected: "{}".to_owned(),
            created_by: "张三".to_owned(),
            expires_at: i64::MAX,
            effective_at: None,
        }
    }

    #[tokio::test]
    async fn a_lift_stops_the_chain_it_ends_and_an_update_does_not() {
        for test in stores().await {
            let store = &test.store;
            let unit = store.save_unit("某局", "0873-5550000").await.unwrap();
            store.save_operator("张三", &unit, &[Role::Author, Role::Reviewer]).await.unwrap();
            let by = store.acting(Some("张三")).await.unwrap();
            let first = approved(store, &by, None).await;
            let update = approved(store, &by, Some((Relation::Updates, &first))).await;
            let lift = approved(store, &by, Some((Relation::Lifts, &update))).await;
            let live = store.create_dispatch(&dispatch(&first, Mode::Live)).await.unwrap();
            let drill = store.create_dispatch(&dispatch(&first, Mode::Drill)).await.unwrap();
            let updated = store.create_dispatch(&dispatch(&update, Mode::Live)).await.unwrap();
            let state = async |no: i64| store.dispatch(&no.to_string()).await.unwrap().state;
            assert_eq!(state(live.no).await, "active", "{}", test.engine);
            let ended = store.create_dispatch(&dispatch(&lift, Mode::Live)).await.unwrap();
            for (no, expected) in
                [(live.no, "cancelled"), (updated.no, "cancelled"), (drill.no, "active"), (ended.no, "active")]
            {
                assert_eq!(state(no).await, expected, "{} {no}", test.engine);
            }
        }
    }
}
