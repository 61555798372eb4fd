//! Dispatches: created once, moved through their phases, steered by operators.

use serde::Serialize;

use super::{Result, Store, StoreError, Tx};
use crate::clock::Millis;
use crate::domain::plan::Plan;
use crate::say;

/// How many finished dispatches are listed beside the open ones.
pub const LISTED: usize = 20;

/// What an operator decides about a dispatch; the numbers people see follow from it.
#[derive(Debug, Clone)]
pub struct NewDispatch {
    pub item_id: String,
    pub item_version: i32,
    pub audience: String,
    pub canonical: String,
    pub mode: Mode,
    pub lane: i32,
    pub lane_reason: String,
    pub plan: Plan,
    pub list_no: Option<i64>,
    /// The dispatch this is a further round of, or a call about.
    pub parent_no: Option<i64>,
    pub expected: String,
    pub created_by: String,
    pub expires_at: Millis,
    pub effective_at: Option<Millis>,
}

/// Whether it is meant, practised or only computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    Live,
    /// Real people, marked 【演练】, out of live reach.
    Drill,
    /// Nothing leaves: every channel is the rehearsal.
    Dry,
    /// To the operator's own numbers, marked 【测试】, no members.
    Test,
    /// To the duty officers of an alert's villages (叫应), no members, out of live reach.
    Call,
}

impl Mode {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Drill => "drill",
            Self::Dry => "dry",
            Self::Test => "test",
            Self::Call => "call",
        }
    }

    /// The name people see.
    #[must_use]
    pub fn label(self) -> String {
        match self {
            Self::Live => say!("正式", "live"),
            Self::Drill => say!("演练", "drill"),
            Self::Dry => say!("空跑", "dry"),
            Self::Test => say!("测试", "test"),
            Self::Call => say!("叫应", "call"),
        }
    }

    /// What every text begins with.
    #[must_use]
    pub const fn mark(self) -> &'static str {
        match self {
            Self::Live | Self::Dry | Self::Call => "",
            Self::Drill => "【演练】",
            Self::Test => "【测试】",
        }
    }

    fn from_name(name: &str) -> Result<Self> {
        [Self::Live, Self::Drill, Self::Dry, Self::Test, Self::Call]
            .into_iter()
            .find(|m| m.name() == name)
            .ok_or_else(|| StoreError::Damaged(format!("dispatches.mode = {name}")))
    }
}

/// A dispatch as the moving parts need it.
#[derive(Debug, Clone)]
pub struct Dispatch {
    pub no: i64,
    pub id: String,
    pub item_id: String,
    pub item_version: i32,
    pub audience: String,
    pub canonical: String,
    pub mode: Mode,
    pub lane: i32,
    pub plan: Plan,
    pub list_no: Option<i64>,
    /// The dispatch this is a further round of, or a call about.
    pub parent_no: Option<i64>,
    /// active, paused, cancelled, finished
    pub state: String,
    /// snapshot, plan, waiting, done
    pub phase: String,
    /// The step planned last, from 0.
    pub step: i32,
    pub step_due_at: Option<Millis>,
    pub cursor_no: i64,
    pub members: i64,
    pub deliveries: i64,
    pub expected: String,
    pub created_at: Millis,
    pub created_by: String,
    pub expires_at: Millis,
    pub effective_at: Option<Millis>,
    pub finished_at: Option<Millis>,
    pub purged_at: Option<Millis>,
}

#[derive(sqlx::FromRow)]
struct Row {
    no: i64,
    id: String,
    item_id: String,
    item_version: i32,
    audience: String,
    canonical: String,
    mode: String,
    lane: i32,
    plan: String,
    list_no: Option<i64>,
    parent_no: Option<i64>,
    state: String,
    phase: String,
    step: i32,
    step_due_at: Option<Millis>,
    cursor_no: i64,
    members: i64,
    deliveries: i64,
    expected: String,
    created_at: Millis,
    created_by: String,
    expires_at: Millis,
    effective_at: Option<Millis>,
    finished_at: Option<Millis>,
    purged_at: Option<Millis>,
}

impl TryFrom<Row> for Dispatch {
    type Error = StoreError;

    fn try_from(r: Row) -> Result<Self> {
        let plan = serde_json::from_str(&r.plan).map_err(|e| StoreError::Damaged(format!("dispatches.plan: {e}")))?;
        Ok(Self {
            mode: Mode::from_name(&r.mode)?,
            plan,
            no: r.no,
            id: r.id,
            item_id: r.item_id,
            item_version: r.item_version,
            audience: r.audience,
            canonical: r.canonical,
            lane: r.lane,
            list_no: r.list_no,
            parent_no: r.parent_no,
            state: r.state,
            phase: r.phase,
            step: r.step,
            step_due_at: r.step_due_at,
            cursor_no: r.cursor_no,
            members: r.members,
            deliveries: r.deliveries,
            expected: r.expected,
            created_at: r.created_at,
            created_by: r.created_by,
            expires_at: r.expires_at,
            effective_at: r.effective_at,
            finished_at: r.finished_at,
            purged_at: r.purged_at,
        })
    }
}

const COLUMNS: &str = "no, id, item_id, item_version, audience, canonical, mode, lane, plan, list_no, parent_no, state, phase, step, step_due_at, \
     cursor_no, members, deliveries, expected, created_at, created_by, expires_at, effective_at, finished_at, purged_at";

impl Store {
    /// Records a dispatch of an approved version, and in the audit log who sent it.
    /// The version must carry an approval: the same statement that inserts the
    /// dispatch checks it, so no interleaving sends an unapproved one.
    pub async fn create_dispatch(&self, new: &NewDispatch) -> Result<Dispatch> {
        let mut tx = self.begin().await?;
        let (no, id) = tx.insert_dispatch(new, self.now()).await?;
        tx.stop_what_it_ends(new, no, self.now()).await?;
        tx.commit().await?;
        self.dispatch(&id).await
    }

    /// A dispatch by its number, its id, or the unambiguous start of its id.
    pub async fn dispatch(&self, key: &str) -> Result<Dispatch> {
        let key = key.trim();
        let no: i64 = key.parse().unwrap_or(-1);
        let sql = format!("SELECT {COLUMNS} FROM dispatches WHERE no = $1 OR id LIKE $2 ORDER BY no LIMIT 2");
        let prefix = if key.len() >= 8 && key.chars().all(|c| c.is_ascii_hexdigit() || c == '-') {
            format!("{key}%")
        } else {
            String::new()
        };
        let mut rows: Vec<Row> =
            read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(no).bind(prefix).fetch_all(db).await)?;
        match rows.len() {
            1 => rows.remove(0).try_into(),
            0 => Err(StoreError::Refused(say!(
                "没有编号为“{key}”的发布任务。用 gong status 查看全部",
                "there is no dispatch `{key}`. `gong status` lists them"
            ))),
            _ => Err(StoreError::Refused(say!(
                "“{key}”对应多个发布任务，请写得更长",
                "`{key}` fits several dispatches; write more of it"
            ))),
        }
    }

    /// Dispatches that still have work, oldest first; or they and the latest that have none,
    /// newest first.
    pub async fn dispatches(&self, open_only: bool) -> Result<Vec<Dispatch>> {
        let filter = if open_only {
            "WHERE finished_at IS NULL ORDER BY no".to_owned()
        } else {
            format!(
                "WHERE finished_at IS NULL OR no IN \
                 (SELECT no FROM dispatches WHERE finished_at IS NOT NULL ORDER BY no DESC LIMIT {LISTED}) ORDER BY no DESC"
            )
        };
        let sql = format!("SELECT {COLUMNS} FROM dispatches {filter}");
        let rows: Vec<Row> = read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(db).await)?;
        rows.into_iter().map(Dispatch::try_from).collect()
    }

    /// Dispatches of an item, oldest first.
    pub async fn dispatches_of(&self, item_id: &str) -> Result<Vec<Dispatch>> {
        let sql = format!("SELECT {COLUMNS} FROM dispatches WHERE item_id = $1 ORDER BY no");
        let rows: Vec<Row> =
            read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(item_id).fetch_all(db).await)?;
        rows.into_iter().map(Dispatch::try_from).collect()
    }

    /// The further rounds of a dispatch, and theirs, oldest first; calls are none.
    pub async fn rounds_of(&self, no: i64) -> Result<Vec<i64>> {
        let sql = "WITH RECURSIVE later(no) AS (SELECT no FROM dispatches WHERE parent_no = $1 AND mode <> 'call' \
                   UNION SELECT d.no FROM dispatches d JOIN later ON d.parent_no = later.no WHERE d.mode <> 'call') \
                   SELECT no FROM later ORDER BY no";
        Ok(read!(self, |db| sqlx::query_scalar(sql).bind(no).fetch_all(db).await)?)
    }

    /// (number, state, expiry) of every open dispatch.
    pub async fn open_states(&self) -> Result<Vec<(i64, String, Millis)>> {
        let sql = "SELECT no, state, expires_at FROM dispatches WHERE finished_at IS NULL";
        Ok(read!(self, |db| sqlx::query_as(sql).fetch_all(db).await)?)
    }

    /// Pauses, resumes or cancels, with the calls about it; refuses what makes no sense
    /// in its state.
    pub async fn steer_dispatch(&self, no: i64, to: &str, operator: &str) -> Result<()> {
        let from = match to {
            "paused" => "state = 'active'",
            "active" => "state = 'paused'",
            _ => "state IN ('active', 'paused')",
        };
        let mut tx = self.begin().await?;
        let sql = format!(
            "UPDATE dispatches SET state = $2 WHERE (no = $1 OR (parent_no = $1 AND mode = 'call')) AND {from}"
        );
        let changed = exec!(&mut tx, sqlx::query(sqlx::AssertSqlSafe(sql)).bind(no).bind(to))?;
        if changed == 0 {
            let state: String = run!(&mut tx, |c| sqlx::query_scalar("SELECT state FROM dispatches WHERE no = $1")
                .bind(no)
                .fetch_one(c)
                .await)?;
            let (state, to) = (state_word(&state), state_word(to));
            return Err(StoreError::Refused(say!(
                "发布任务 {no} 现在是“{state}”，不能改为“{to}”",
                "dispatch {no} is {state} now and cannot become {to}"
            )));
        }
        tx.append_audit(self.now(), operator, (to, &no.to_string()), &serde_json::json!({})).await?;
        tx.commit().await
    }
}

/// What people call the state of a dispatch.
#[must_use]
pub fn state_word(state: &str) -> String {
    match state {
        "active" => say!("进行中", "active"),
        "paused" => say!("已暂停", "paused"),
        "cancelled" => say!("已取消", "cancelled"),
        _ => say!("已完成", "finished"),
    }
}

impl Tx {
    /// Inserts a dispatch if exactly its version is approved, and says so in the
    /// audit log; returns number and id.
    pub(super) async fn insert_dispatch(&mut self, new: &NewDispatch, now: Millis) -> Result<(i64, String)> {
        let no = self.next_dispatch_no().await?;
        let id = uuid::Uuid::now_v7().to_string();
        let plan = serde_json::to_string(&new.plan).map_err(|e| StoreError::Damaged(e.to_string()))?;
        let sql = "INSERT INTO dispatches (no, id, item_id, item_version, audience, canonical, mode, lane, lane_reason, plan, list_no, parent_no, \
                   state, phase, expected, created_at, created_by, expires_at, effective_at) \
                   SELECT $1, $2, i.id, i.version, $5, $6, $7, $8, $9, $10, $11, $17, 'active', 'snapshot', $12, $13, $14, $15, $16 \
                   FROM items i WHERE i.id = $3 AND i.version = $4 AND i.state = 'approved' \
                   AND EXISTS (SELECT 1 FROM approvals a WHERE a.item_id = i.id AND a.version = i.version)";
        let written = exec!(
            self,
            sqlx::query(sql)
                .bind(no)
                .bind(&id)
                .bind(&new.item_id)
                .bind(new.item_version)
                .bind(&new.audience)
                .bind(&new.canonical)
                .bind(new.mode.name())
                .bind(new.lane)
                .bind(&new.lane_reason)
                .bind(&plan)
                .bind(new.list_no)
                .bind(&new.expected)
                .bind(now)
                .bind(&new.created_by)
                .bind(new.expires_at)
                .bind(new.effective_at)
                .bind(new.parent_no)
        )?;
        if written == 0 {
            return Err(StoreError::Refused(say!(
                "这个事项的当前版本没有审核通过，不能发布。请先执行：gong item approve",
                "the current version of this item is not approved and cannot be sent. Run first: gong item approve"
            )));
        }
        let detail = serde_json::json!({
            "item": new.item_id, "version": new.item_version, "audience": new.canonical, "mode": new.mode.name(), "lane": new.lane,
        });
        self.append_audit(now, &new.created_by, ("send", &id), &detail).await?;
        Ok((no, id))
    }

    /// Moves a dispatch on: where its cursor stands and what it has written so far.
    /// `false` when it is no longer where the work began: another planner was faster.
    pub(super) async fn advance_dispatch(&mut self, to: &Progress<'_>) -> Result<bool> {
        // Not into one that was cancelled, ended or moved on while the chunk was prepared.
        let sql = "UPDATE dispatches SET phase = $2, step = $3, cursor_no = $4, members = members + $5, deliveries = deliveries + $6, \
                   step_due_at = $7 WHERE no = $1 AND phase = $8 AND state <> 'cancelled' AND finished_at IS NULL \
                   AND step = $9 AND cursor_no = $10 AND members = $11";
        let moved = exec!(
            self,
            sqlx::query(sql)
                .bind(to.no)
                .bind(to.phase)
                .bind(to.step)
                .bind(to.cursor_no)
                .bind(to.members)
                .bind(to.deliveries)
                .bind(to.step_due_at)
                .bind(to.from)
                .bind(to.was.step)
                .bind(to.was.cursor_no)
                .bind(to.was.members)
        )?;
        Ok(moved > 0)
    }
}

/// One move of a dispatch's cursor.
pub(super) struct Progress<'a> {
    pub no: i64,
    /// The dispatch as the work found it.
    pub was: &'a Dispatch,
    /// The phase it must still be in.
    pub from: &'static str,
    pub phase: &'static str,
    pub step: i32,
    pub cursor_no: i64,
    pub members: i64,
    pub deliveries: i64,
    pub step_due_at: Option<Millis>,
}
