//! Sums up the division tree: each member and household once in every region
//! above the one it lives in.

use std::collections::BTreeMap;

use super::{People, RegionRow};

/// The tree is at most this deep; more would be a loop in the data.
const DEPTH: usize = 32;

/// One region of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub no: i64,
    pub parent_no: Option<i64>,
    pub code: Option<String>,
    pub name: String,
    pub level: String,
}

/// What was counted in one region itself, without those below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leaf {
    pub people: People,
    pub households: i64,
    pub covered_households: i64,
}

/// Regions by number, with every ancestor of the ones that matter.
#[derive(Debug, Clone, Default)]
pub struct Tree(BTreeMap<i64, Node>);

impl Tree {
    /// A tree of these regions.
    #[must_use]
    pub fn new(nodes: Vec<Node>) -> Self {
        Self(nodes.into_iter().map(|n| (n.no, n)).collect())
    }

    /// The region and all above it, lowest first.
    fn upward(&self, no: i64) -> impl Iterator<Item = &Node> {
        std::iter::successors(self.0.get(&no), |n| n.parent_no.and_then(|p| self.0.get(&p))).take(DEPTH)
    }

    /// The names from the top down to the region: `河口县/莲花镇/东村`; empty when
    /// the region is not in the tree.
    #[must_use]
    pub fn path(&self, no: i64) -> String {
        let mut names: Vec<&str> = self.upward(no).map(|n| n.name.as_str()).collect();
        names.reverse();
        names.join("/")
    }

    /// Sums the leaves upward; rows come depth first, siblings by code, then name.
    #[must_use]
    pub fn sum(&self, leaves: &BTreeMap<i64, Leaf>) -> Vec<RegionRow> {
        let mut sums: BTreeMap<i64, Leaf> = BTreeMap::new();
        for (no, leaf) in leaves {
            for node in self.upward(*no) {
                let sum = sums.entry(node.no).or_default();
                sum.people.merge(&leaf.people);
                sum.households += leaf.households;
                sum.covered_households += leaf.covered_households;
            }
        }
        let mut rows: Vec<(Vec<_>, RegionRow)> =
            sums.into_iter().filter_map(|(no, sum)| Some((self.place(no), row(self.0.get(&no)?, sum)))).collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        rows.into_iter().map(|(_, row)| row).collect()
    }

    /// Where a region stands in reading order; a region without a code comes after
    /// its coded siblings.
    fn place(&self, no: i64) -> Vec<(bool, &str, &str, i64)> {
        let mut keys: Vec<_> = self
            .upward(no)
            .map(|n| (n.code.is_none(), n.code.as_deref().unwrap_or_default(), n.name.as_str(), n.no))
            .collect();
        keys.reverse();
        keys
    }
}

fn row(node: &Node, sum: Leaf) -> RegionRow {
    RegionRow {
        region_no: node.no,
        parent_no: node.parent_no,
        code: node.code.clone(),
        name: node.name.clone(),
        level: node.level.clone(),
        people: sum.people,
        households: sum.households,
        covered_households: sum.covered_households,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(no: i64, parent_no: Option<i64>, code: Option<&str>, name: &str) -> Node {
        Node { no, parent_no, code: code.map(str::to_owned), name: name.into(), level: "custom".into() }
    }

    fn tree() -> Tree {
        Tree::new(vec![
            node(1, None, Some("532532000000"), "河口县"),
            node(2, Some(1), Some("532532101000"), "乙镇"),
            node(3, Some(1), Some("532532100000"), "甲镇"),
            node(4, Some(3), None, "农场"),
            node(5, Some(3), Some("532532100200"), "东村"),
        ])
    }

    #[test]
    fn a_path_reads_from_the_top() {
        assert_eq!(tree().path(5), "河口县/甲镇/东村");
        assert_eq!(tree().path(99), "");
    }

    #[test]
    fn sums_go_up_and_rows_read_like_the_tree() {
        let leaf =
            |audience| Leaf { people: People { audience, ..People::default() }, households: 1, ..Leaf::default() };
        let rows = tree().sum(&BTreeMap::from([(2, leaf(1)), (4, leaf(10)), (5, leaf(100)), (99, leaf(7))]));
        let read: Vec<_> = rows.iter().map(|r| (r.name.as_str(), r.people.audience, r.households)).collect();
        assert_eq!(read, [("河口县", 111, 3), ("甲镇", 110, 2), ("东村", 100, 1), ("农场", 10, 1), ("乙镇", 1, 1)]);
    }

    #[test]
    fn a_loop_in_the_data_ends() {
        let looped = Tree::new(vec![node(1, Some(2), None, "a"), node(2, Some(1), None, "b")]);
        assert_eq!(looped.path(1).matches('/').count(), DEPTH - 1);
    }
}
