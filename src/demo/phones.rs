//! Made-up telephone numbers: all from 139 0000 0000 to 139 0099 9999, a million that
//! the demo keeps to. Nothing is ever sent to them, for its gateways are loopback ones.

/// The first number of each block; none runs into the next within 200,000 people.
#[derive(Debug, Clone, Copy)]
pub enum Block {
    /// People and households: 139 0000 0000 on.
    People = 0,
    /// Enterprises, schools, cooperatives: 139 0096 0000 on.
    Organisations = 960_000,
    /// Keepers of notice boards: 139 0097 0000 on.
    Keepers = 970_000,
    /// Duty officers: 139 0098 0000 on.
    Officers = 980_000,
}

const FIRST: u64 = 13_900_000_000;
/// Numbers of [`Block::People`].
pub const MOST_PEOPLE: usize = 960_000;

/// Number `no` of a block.
pub fn phone(block: Block, no: usize) -> String {
    (FIRST + block as u64 + no as u64).to_string()
}
