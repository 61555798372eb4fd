//! The queued deliveries of a leased batch, with what it takes to render and send them.

use std::collections::HashMap;

use serde::{Deserialize, Deserializer};

use super::batches::Lease;
use super::bulk::Numbers;
use super::lent::Lent;
use super::{Pool, Result, Store, StoreError, Tx};

/// The rows of a batch as one JSON text: a thousand rows handed over one by one cost
/// the driver more than finding them does the database.
pub(super) const LOAD_SQLITE: &str = "SELECT json_group_array(json_array(d.ordinal, d.attempt, d.failures, d.target, \
     hex(a.sealed), a.gone, m.recipient_no, hex(m.vars_sealed))) FROM deliveries d LEFT JOIN addresses a ON a.id = d.target \
     LEFT JOIN members m ON m.dispatch_no = d.dispatch_no AND m.ordinal = d.variant AND d.variant > 0 \
     WHERE d.batch = $1 AND d.batch > 0 AND d.state = 1";

// A server makes JSON more slowly than arrays. And it joins row by row: a thousand
// addresses that lie together are read apart in a third of the time.
pub(super) const ROWS: &str = "SELECT array_agg(ordinal), array_agg(attempt), array_agg(failures), array_agg(target), array_agg(variant) \
     FROM deliveries WHERE dispatch_no = $1 AND batch = $2 AND batch > 0 AND state = 1";
pub(super) const ADDRESSES: &str =
    "SELECT array_agg(id), array_agg(sealed), array_agg(gone) FROM addresses WHERE id = ANY($1)";
pub(super) const NEIGHBOURS: &str =
    "SELECT array_agg(id), array_agg(sealed), array_agg(gone) FROM addresses WHERE id BETWEEN $1 AND $2";
// One by one (OFFSET 0): a server that has not counted the members since the dispatch
// came knows of none, and reads all of the dispatch's for a list.
pub(super) const MEMBERS: &str = "SELECT array_agg(m.ordinal), array_agg(m.recipient_no), array_agg(m.vars_sealed) FROM unnest($2::bigint[]) o \
     CROSS JOIN LATERAL (SELECT r.ordinal, r.recipient_no, r.vars_sealed FROM members r \
     WHERE r.dispatch_no = $1 AND r.ordinal = o OFFSET 0) m";

/// Of as many addresses as this between the first and the last, one must be wanted for
/// all of them to be read: a person has a telephone number, perhaps two, and e-mail.
const SPARSEST: i64 = 3;

/// A column of the rows; null where there are none.
type Column<T> = Option<Vec<T>>;

/// A queued delivery; sealed still.
#[derive(Debug, Deserialize)]
pub struct Waiting {
    pub ordinal: i64,
    pub attempt: i32,
    pub failures: i32,
    /// An address id, a point's number or 0, as the channel has it.
    pub target: i64,
    /// Of the address with that id, if there is one.
    #[serde(deserialize_with = "from_hex")]
    pub address_sealed: Option<Vec<u8>>,
    pub gone: Option<i32>,
    /// Of the member whose own variables the text carries.
    pub recipient_no: Option<i64>,
    #[serde(deserialize_with = "from_hex")]
    pub vars_sealed: Option<Vec<u8>>,
    /// Variables that no list brings: of a call, the village and the link.
    #[serde(skip)]
    pub own: Option<serde_json::Value>,
}

/// Bytes from hexadecimal digits; null and nothing are none.
fn from_hex<'de, D: Deserializer<'de>>(value: D) -> std::result::Result<Option<Vec<u8>>, D::Error> {
    let digits: Option<&str> = Deserialize::deserialize(value)?;
    let Some(digits) = digits.filter(|d| !d.is_empty()) else { return Ok(None) };
    // Twice as fast as `hex::decode`, which collects byte by byte.
    let mut bytes = vec![0; digits.len() / 2];
    hex::decode_to_slice(digits, &mut bytes).map_err(serde::de::Error::custom)?;
    Ok(Some(bytes))
}

impl Store {
    /// The queued deliveries of a leased batch, in order.
    pub async fn load_batch(&self, lease: Lease) -> Result<Vec<Waiting>> {
        let mut rows = match &self.pool {
            Pool::Sqlite { read, .. } => {
                let json: String = sqlx::query_scalar(LOAD_SQLITE).bind(lease.no).fetch_one(read).await?;
                serde_json::from_str(&json).map_err(|e| StoreError::Damaged(e.to_string()))?
            }
            Pool::Postgres(_) => match self.begin_hot().await? {
                Tx::Postgres(mut server) => load(&mut server, lease).await?,
                Tx::Sqlite(_) => Vec::new(),
            },
        };
        rows.sort_unstable_by_key(|row: &Waiting| row.ordinal);
        Ok(rows)
    }
}

async fn load(server: &mut Lent, lease: Lease) -> Result<Vec<Waiting>> {
    type Rows = (Column<i64>, Column<i32>, Column<i32>, Column<i64>, Column<i64>);
    let rows = sqlx::query_as(ROWS).bind(lease.dispatch_no).bind(lease.no).fetch_one(&mut **server).await?;
    let (Some(ordinals), Some(attempts), Some(failures), Some(targets), Some(variants)): Rows = rows else {
        return Ok(Vec::new());
    };
    let addresses = addresses(server, &targets).await?;
    let members = members(server, lease.dispatch_no, &variants).await?;
    let more = attempts.into_iter().zip(failures).zip(targets.into_iter().zip(variants));
    let rows = ordinals.into_iter().zip(more).map(|(ordinal, ((attempt, failures), (target, variant)))| {
        let (address_sealed, gone) = addresses.get(&target).cloned().unzip();
        let (recipient_no, vars_sealed) = members.get(&variant).cloned().unzip();
        let vars_sealed = vars_sealed.flatten();
        Waiting { ordinal, attempt, failures, target, address_sealed, gone, recipient_no, vars_sealed, own: None }
    });
    Ok(rows.collect())
}

/// The addresses with these ids, each with whether it is gone.
async fn addresses(server: &mut Lent, targets: &[i64]) -> Result<HashMap<i64, (Vec<u8>, i32)>> {
    let ids = distinct(targets);
    let (Some(first), Some(last)) = (ids.first(), ids.last()) else { return Ok(HashMap::new()) };
    let near = i64::try_from(ids.len()).is_ok_and(|n| last - first < n * SPARSEST);
    let query = if near {
        sqlx::query_as(NEIGHBOURS).bind(first).bind(last)
    } else {
        sqlx::query_as(ADDRESSES).bind(Numbers(&ids))
    };
    let found: (Column<i64>, Column<Vec<u8>>, Column<i32>) = query.fetch_one(&mut **server).await?;
    Ok(by_key(found))
}

/// The members with these ordinals, each with its own variables.
async fn members(
    server: &mut Lent,
    dispatch_no: i64,
    variants: &[i64],
) -> Result<HashMap<i64, (i64, Option<Vec<u8>>)>> {
    let ordinals = distinct(variants);
    if ordinals.is_empty() {
        return Ok(HashMap::new());
    }
    let query = sqlx::query_as(MEMBERS).bind(dispatch_no).bind(Numbers(&ordinals));
    let found: (Column<i64>, Column<i64>, Column<Option<Vec<u8>>>) = query.fetch_one(&mut **server).await?;
    Ok(by_key(found))
}

/// Each number once, in order; 0 stands for none.
fn distinct(numbers: &[i64]) -> Vec<i64> {
    let mut numbers: Vec<i64> = numbers.iter().copied().filter(|n| *n > 0).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

fn by_key<A, B>((keys, first, second): (Column<i64>, Column<A>, Column<B>)) -> HashMap<i64, (A, B)> {
    let values = first.unwrap_or_default().into_iter().zip(second.unwrap_or_default());
    keys.unwrap_or_default().into_iter().zip(values).collect()
}
