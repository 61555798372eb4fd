//! Units that answer for items, and the operators who act for them.

use serde::Serialize;

use super::{Result, Store, StoreError};
use crate::say;

/// Someone who acts, and for which unit.
#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
pub struct Operator {
    pub id: String,
    pub name: String,
    pub unit_id: String,
    pub unit: String,
    /// Comma list of role names.
    pub roles: String,
    pub region_no: Option<i64>,
}

/// What an operator may do. An admin may do all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Author,
    Reviewer,
    Dispatcher,
    Auditor,
    Admin,
}

impl Role {
    pub const ALL: [Self; 5] = [Self::Author, Self::Reviewer, Self::Dispatcher, Self::Auditor, Self::Admin];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Author => "author",
            Self::Reviewer => "reviewer",
            Self::Dispatcher => "dispatcher",
            Self::Auditor => "auditor",
            Self::Admin => "admin",
        }
    }

    /// The role of a name, English or Chinese.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name.trim() {
            "author" | "拟稿" | "拟稿人" => Some(Self::Author),
            "reviewer" | "审核" | "审核人" => Some(Self::Reviewer),
            "dispatcher" | "发布" | "发布人" => Some(Self::Dispatcher),
            "auditor" | "审计" => Some(Self::Auditor),
            "admin" | "管理员" => Some(Self::Admin),
            _ => None,
        }
    }
}

impl Operator {
    /// Holds the role, or is an admin.
    #[must_use]
    pub fn may(&self, role: Role) -> bool {
        self.roles.split(',').any(|r| r == role.name() || r == Role::Admin.name())
    }

    /// Refuses, naming the role that is missing and the command that grants it.
    pub fn need(&self, role: Role) -> Result<()> {
        if self.may(role) {
            return Ok(());
        }
        let (name, role) = (&self.name, role.name());
        Err(StoreError::Refused(say!(
            "{name} 没有“{role}”角色。请由有此角色的人操作（--as 姓名），或由管理员执行：gong operator add {name} --role {role}",
            "{name} does not hold the role `{role}`. Let someone who does act (--as NAME), or have an admin run: gong operator add {name} --role {role}"
        )))
    }
}

const OPERATORS: &str = "SELECT o.id, o.name, o.unit_id, u.name AS unit, o.roles, o.region_no \
                         FROM operators o JOIN units u ON u.id = o.unit_id WHERE o.active = 1";

impl Store {
    /// Adds a unit or renews its phone; returns its id.
    pub async fn save_unit(&self, name: &str, phone: &str) -> Result<String> {
        let mut tx = self.begin().await?;
        let sql = "INSERT INTO units (id, name, phone, created_at) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT (name) DO UPDATE SET phone = excluded.phone RETURNING id";
        let id = uuid::Uuid::now_v7().to_string();
        let now = self.now();
        let id: String =
            run!(&mut tx, |c| sqlx::query_scalar(sql).bind(&id).bind(name).bind(phone).bind(now).fetch_one(c).await)?;
        tx.commit().await?;
        Ok(id)
    }

    /// Adds an operator or renews unit and roles; returns the id.
    pub async fn save_operator(&self, name: &str, unit_id: &str, roles: &[Role]) -> Result<String> {
        let roles: Vec<&str> = roles.iter().map(|r| r.name()).collect();
        let mut tx = self.begin().await?;
        let sql = "INSERT INTO operators (id, name, unit_id, roles, created_at) VALUES ($1, $2, $3, $4, $5) \
                   ON CONFLICT (name) DO UPDATE SET unit_id = excluded.unit_id, roles = excluded.roles, active = 1 RETURNING id";
        let (id, roles, now) = (uuid::Uuid::now_v7().to_string(), roles.join(","), self.now());
        let id: String = run!(&mut tx, |c| sqlx::query_scalar(sql)
            .bind(&id)
            .bind(name)
            .bind(unit_id)
            .bind(&roles)
            .bind(now)
            .fetch_one(c)
            .await)?;
        tx.append_audit(now, name, ("operator", &id), &serde_json::json!({ "roles": roles })).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Every active operator.
    pub async fn operators(&self) -> Result<Vec<Operator>> {
        let sql = format!("{OPERATORS} ORDER BY o.created_at");
        Ok(read!(self, |db| sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(db).await)?)
    }

    /// The operator of this name; without a name the only one there is.
    pub async fn acting(&self, name: Option<&str>) -> Result<Operator> {
        let mut all = self.operators().await?;
        let found = match name {
            Some(name) => all.iter().position(|o| o.name == name || o.id == name),
            None => (all.len() == 1).then_some(0).or_else(|| all.iter().position(|o| o.may(Role::Admin))),
        };
        if let Some(at) = found {
            return Ok(all.swap_remove(at));
        }
        if all.is_empty() {
            return Err(StoreError::Refused(say!(
                "还没有操作员。请先执行：gong operator add 姓名 --role admin",
                "there are no operators yet. Run first: gong operator add NAME --role admin"
            )));
        }
        let known: Vec<&str> = all.iter().map(|o| o.name.as_str()).collect();
        let known = known.join("、");
        Err(StoreError::Refused(match name {
            None => say!("请用 --as 指明操作员：{known}", "say who acts with --as: {known}"),
            Some(name) => say!(
                "没有名为“{name}”的操作员。现有：{known}。增加：gong operator add {name}",
                "there is no operator `{name}`. There are: {known}. To add one: gong operator add {name}"
            ),
        }))
    }
}
