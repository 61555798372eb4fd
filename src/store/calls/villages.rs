//! The villages of a dispatch's audience, their officers in the order of calling, whom
//! calls have asked, and who confirmed.

use std::collections::HashMap;

use serde_json::json;
use sqlx::AssertSqlSafe;

use crate::clock::Millis;
use crate::domain::calls::{Asked, Confirmed, How, Officer, Village};
use crate::domain::delivery::State;
use crate::domain::recipient::{Phone, masked, masked_name};
use crate::store::{Result, Store, StoreError};
use crate::vault::Owner;

#[derive(sqlx::FromRow)]
struct OfficerRow {
    village: i64,
    region_no: i64,
    region: String,
    role: String,
    name_sealed: Vec<u8>,
    phone_id: i64,
    phone_sealed: Vec<u8>,
    gone: i32,
}

#[derive(sqlx::FromRow)]
struct AskedRow {
    dispatch_no: i64,
    ordinal: i64,
    step: i32,
    target: i64,
    variant: i64,
    state: i32,
    handed_at: Option<Millis>,
}

#[derive(sqlx::FromRow)]
struct ConfirmedRow {
    region_no: i64,
    how: String,
    at: Millis,
    call_no: Option<i64>,
    ordinal: Option<i64>,
}

/// The village a region lies in; one below no village (a farm, a town) is its own.
pub(super) fn village_of(region: &str) -> String {
    format!(
        "COALESCE((SELECT MIN(v.no) FROM region_closure vc JOIN regions v ON v.no = vc.ancestor \
         WHERE vc.descendant = {region} AND v.level = 'village'), {region})"
    )
}

impl Store {
    /// The villages that a dispatch goes to, by town and name, with all that is known
    /// of their call. After a purge only those that confirmed are left.
    ///
    /// # Errors
    /// When sealed data does not open, or the database fails.
    pub async fn called_villages(&self, about_no: i64) -> Result<Vec<Village>> {
        let mut villages = self.audience_villages(about_no).await?;
        let at: HashMap<i64, usize> = villages.iter().enumerate().map(|(at, v)| (v.region_no, at)).collect();
        for row in self.officers_for(&villages).await? {
            if let Some(village) = at.get(&row.village).and_then(|at| villages.get_mut(*at)) {
                village.officers.push(self.officer(row)?);
            }
        }
        for row in self.asked_about(about_no).await? {
            let Some(village) = at.get(&row.variant).and_then(|at| villages.get_mut(*at)) else { continue };
            let state = State::from_code(row.state)
                .ok_or_else(|| StoreError::Damaged(format!("deliveries.state = {}", row.state)))?;
            let (call_no, ordinal, step) = (row.dispatch_no, row.ordinal, row.step);
            village.asked.push(Asked { call_no, ordinal, step, phone_id: row.target, state, at: row.handed_at });
        }
        for row in self.confirmations_of(about_no).await? {
            let Some(village) = at.get(&row.region_no).and_then(|at| villages.get_mut(*at)) else { continue };
            let how = How::from_name(&row.how)
                .ok_or_else(|| StoreError::Damaged(format!("confirmations.how = {}", row.how)))?;
            let (at, call_no, ordinal) = (row.at, row.call_no, row.ordinal);
            village.confirmed.get_or_insert(Confirmed { how, at, call_no, ordinal });
        }
        Ok(villages)
    }

    async fn audience_villages(&self, about_no: i64) -> Result<Vec<Village>> {
        let village = village_of("g.region_no");
        let sql = format!(
            "SELECT r.no, r.name, COALESCE((SELECT MIN(t.name) FROM region_closure tc JOIN regions t ON t.no = tc.ancestor \
             WHERE tc.descendant = r.no AND t.no <> r.no AND t.level = 'town'), '') AS town FROM regions r WHERE r.no IN (\
             SELECT {village} FROM (SELECT DISTINCT m.region_no FROM members m WHERE m.dispatch_no = $1) g \
             UNION SELECT c.region_no FROM confirmations c WHERE c.dispatch_no = $1) ORDER BY r.code, r.name, r.no"
        );
        let rows: Vec<(i64, String, String)> =
            read!(self, |db| sqlx::query_as(AssertSqlSafe(sql)).bind(about_no).fetch_all(db).await)?;
        let village = |(region_no, name, town)| Village {
            region_no,
            name,
            town,
            officers: Vec::new(),
            asked: Vec::new(),
            confirmed: None,
        };
        Ok(rows.into_iter().map(village).collect())
    }

    /// Officers of these villages, and after them those of the farm or town above, as
    /// they are called: the nearest first, then by place.
    async fn officers_for(&self, villages: &[Village]) -> Result<Vec<OfficerRow>> {
        let list = self.pool.pick(
            "SELECT value AS no FROM json_each($1)",
            "SELECT CAST(j AS BIGINT) AS no FROM json_array_elements_text($1::json) j",
        );
        let sql = format!(
            "SELECT w.no AS village, a.no AS region_no, a.name AS region, o.role, o.name_sealed, o.phone_id, \
             ad.sealed AS phone_sealed, ad.gone FROM ({list}) w JOIN region_closure rc ON rc.descendant = w.no \
             JOIN regions a ON a.no = rc.ancestor JOIN duty_officers o ON o.region_no = a.no \
             JOIN addresses ad ON ad.id = o.phone_id \
             WHERE a.no = w.no OR a.level IN ('village', 'custom', 'town') \
             ORDER BY w.no, (SELECT COUNT(*) FROM region_closure up WHERE up.descendant = a.no) DESC, o.place, o.role, o.id"
        );
        let wanted: Vec<i64> = villages.iter().map(|v| v.region_no).collect();
        let wanted = json!(wanted).to_string();
        Ok(read!(self, |db| sqlx::query_as(AssertSqlSafe(sql)).bind(wanted).fetch_all(db).await)?)
    }

    fn officer(&self, row: OfficerRow) -> Result<Officer> {
        let name = self.vault.open_text(Owner::Officer(row.region_no), &row.name_sealed)?;
        let phone = self.vault.open_text(Owner::Address(row.phone_id), &row.phone_sealed)?;
        let mobile = Phone::mobile(&phone);
        Ok(Officer {
            phone_id: row.phone_id,
            name: masked_name(&name),
            role: row.role,
            by_sms: mobile.is_some() && row.gone == 0,
            phone: mobile.map_or_else(|| masked(&phone), |p| p.masked()),
            of: (row.region_no != row.village).then_some(row.region),
        })
    }

    async fn asked_about(&self, about_no: i64) -> Result<Vec<AskedRow>> {
        let sql = "SELECT d.dispatch_no, d.ordinal, d.step, d.target, d.variant, d.state, d.handed_at FROM dispatches p \
                   JOIN deliveries d ON d.dispatch_no = p.no WHERE p.parent_no = $1 AND p.mode = 'call' ORDER BY d.dispatch_no, d.ordinal";
        Ok(read!(self, |db| sqlx::query_as(sql).bind(about_no).fetch_all(db).await)?)
    }

    async fn confirmations_of(&self, about_no: i64) -> Result<Vec<ConfirmedRow>> {
        let sql =
            "SELECT region_no, how, at, call_no, ordinal FROM confirmations WHERE dispatch_no = $1 ORDER BY at, how";
        Ok(read!(self, |db| sqlx::query_as(sql).bind(about_no).fetch_all(db).await)?)
    }
}
