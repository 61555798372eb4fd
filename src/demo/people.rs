//! Made-up households with the gaps that real rosters have: no phone, a shared one,
//! away, old, poor, hard of hearing, another language, listed twice, opted out.

use std::io::Write;

use super::county::{County, Folk, Village};
use super::dice::Dice;
use super::names;
use super::phones::{Block, MOST_PEOPLE, phone};

/// The year in which ages are counted, fixed so that a seed makes the same people
/// whenever it runs.
const YEAR: usize = 2026;
/// Columns of the roster.
pub const HEADS: [&str; 16] = [
    "编号",
    "姓名",
    "类型",
    "户号",
    "手机",
    "户主电话",
    "监护人电话",
    "邮箱",
    "常住地",
    "户籍地",
    "住址",
    "出生日期",
    "外出",
    "语言",
    "需求",
    "人群",
];
/// Rows of the relief list at most.
const RELIEF: usize = 300;

/// Someone on the relief list (临时救助).
#[derive(Debug, Clone)]
pub struct Relief {
    pub id: String,
    pub name: String,
    pub village: String,
    pub river: bool,
    /// Yuan.
    pub amount: usize,
    pub place: String,
}

/// Someone a second roster knows, too.
#[derive(Debug, Clone)]
pub struct Twice {
    pub name: String,
    pub phone: String,
    pub key: String,
}

/// What was made beside the roster itself.
#[derive(Debug, Default)]
pub struct Made {
    pub persons: usize,
    pub households: usize,
    pub organisations: usize,
    pub twice: Vec<Twice>,
    /// A number, and the kind of item that its owner does not want; empty for all.
    pub opted_out: Vec<(String, &'static str)>,
    pub relief: Vec<Relief>,
}

/// One of a household.
struct Member {
    name: String,
    age: usize,
    phone: Option<String>,
    groups: Vec<&'static str>,
}

/// The household that a row is of.
#[derive(Clone, Copy)]
struct Home<'a> {
    village: &'a Village,
    folk: Folk,
    id: &'a str,
    members: &'a [Member],
}

struct Maker<'a, W: Write> {
    county: &'a County,
    out: csv::Writer<W>,
    dice: Dice,
    phones: usize,
    made: Made,
}

/// Writes a roster of `n` people, and of the organisations among them, to `out`.
///
/// # Errors
/// When it cannot be written, or there are more people than made-up numbers.
pub fn write(county: &County, n: usize, seed: u64, out: impl Write) -> anyhow::Result<Made> {
    let mut maker = Maker {
        county,
        out: csv::Writer::from_writer(out),
        dice: Dice::new(seed, "people"),
        phones: 0,
        made: Made::default(),
    };
    maker.out.write_record(HEADS)?;
    for at in 0..county.villages.len() {
        let until = county.before(at + 1, n);
        while maker.made.persons < until {
            maker.household(at, until - maker.made.persons)?;
        }
        maker.organisations(at, n)?;
    }
    maker.wrong_rows()?;
    anyhow::ensure!(maker.phones < MOST_PEOPLE, "there are not as many made-up numbers");
    maker.out.flush()?;
    Ok(maker.made)
}

impl<W: Write> Maker<'_, W> {
    fn household(&mut self, at: usize, most: usize) -> anyhow::Result<()> {
        let village = &self.county.villages[at];
        let folk = village.folk(&mut self.dice);
        let surname = names::surname(folk, &mut self.dice);
        let size = *self.dice.pick(&[1, 2, 2, 3, 3, 3, 4, 4, 5, 6]);
        self.made.households += 1;
        let household = format!("H{:06}", self.made.households);
        let mute = self.dice.chance(20);
        let (poor, fisher) = (self.dice.chance(90), village.river && self.dice.chance(60));
        let mut members: Vec<Member> = Vec::new();
        for place in 0..size.min(most) {
            let mut member = self.member(place, surname, folk);
            if mute {
                member.phone = None;
            }
            member.groups.extend(poor.then_some("低收入户"));
            member.groups.extend((fisher && place < 2).then_some("渔民"));
            members.push(member);
        }
        if let [only] = &mut members[..]
            && only.age >= 65
        {
            only.groups.push("独居老人");
        }
        let home = Home { village, folk, id: &household, members: &members };
        for place in 0..members.len() {
            self.row(&home, place)?;
        }
        if poor && self.made.relief.len() < RELIEF {
            let amount = 300 + 100 * self.dice.below(18);
            let id = format!("{household}-1");
            let (name, place) = (members[0].name.clone(), format!("{}便民服务站", village.short()));
            let (village, river) = (village.name.clone(), village.river);
            self.made.relief.push(Relief { id, name, village, river, amount, place });
        }
        Ok(())
    }

    /// Who stands at `place` of a household: head, spouse, an elder, children.
    fn member(&mut self, place: usize, surname: &'static str, folk: Folk) -> Member {
        let dice = &mut self.dice;
        let (woman, age, own) = match place {
            0 => (dice.chance(180), 28 + dice.below(50), true),
            1 => (dice.chance(920), 26 + dice.below(45), false),
            2 if dice.chance(300) => (dice.chance(600), 62 + dice.below(30), dice.chance(500)),
            _ => (dice.chance(480), 1 + dice.below(30), true),
        };
        let surname = if own { surname } else { names::surname(folk, dice) };
        let name = names::full(surname, woman, dice);
        let share = match age {
            0..12 => 0,
            12..18 => 400,
            18..60 => 930,
            60..70 => 800,
            _ => 560,
        };
        let with_phone = dice.chance(share);
        let cadre = (22..60).contains(&age) && dice.chance(15);
        let grower = place == 0 && age < 65 && dice.chance(60);
        let phone = with_phone.then(|| self.new_phone());
        let groups = [(age >= 65).then_some("老年人"), cadre.then_some("党员干部"), grower.then_some("种植大户")];
        Member { name, age, phone, groups: groups.into_iter().flatten().collect() }
    }

    fn new_phone(&mut self) -> String {
        self.phones += 1;
        phone(Block::People, self.phones)
    }

    fn row(&mut self, home: &Home<'_>, place: usize) -> anyhow::Result<()> {
        let Home { village, folk, id: household, members } = *home;
        let one = &members[place];
        self.made.persons += 1;
        let id = format!("{household}-{}", place + 1);
        let dice = &mut self.dice;
        let head = members[0].phone.as_deref().unwrap_or_default();
        let shared = if place > 0 && one.phone.is_none() { head } else { "" };
        let second = members.get(1).and_then(|m| m.phone.as_deref()).unwrap_or_default();
        let guardian = if place > 1 && one.age < 14 { second } else { "" };
        let cadre = one.groups.contains(&"党员干部");
        let email = if cadre || dice.chance(8) { format!("{}@example.com", id.to_lowercase()) } else { String::new() };
        let away = (18..50).contains(&one.age) && dice.chance(150);
        let born = format!("{}-{:02}-{:02}", YEAR - one.age, 1 + dice.below(12), 1 + dice.below(28));
        let from_elsewhere = dice.chance(30);
        let hukou = if from_elsewhere { dice.pick(&self.county.villages).key.clone() } else { String::new() };
        let (languages, needs) = (languages(folk, one.age, dice), needs(one.age, dice));
        let away = if away { "是" } else { "否" };
        let own = one.phone.as_deref().unwrap_or_default();
        let groups = one.groups.join("、");
        self.out.write_record([
            &id,
            &one.name,
            "个人",
            household,
            own,
            shared,
            guardian,
            &email,
            &village.key,
            &hukou,
            &address(self.made.households),
            &born,
            away,
            languages,
            needs,
            &groups,
        ])?;
        self.remember(one, village);
        Ok(())
    }

    /// Some refuse routine word, some are listed by a second office as well.
    fn remember(&mut self, one: &Member, village: &Village) {
        let Some(phone) = &one.phone else { return };
        if self.dice.chance(14) {
            let kind = *self.dice.pick(&["", "政策", "公示", "通知"]);
            self.made.opted_out.push((phone.clone(), kind));
        }
        if one.age >= 18 && self.dice.chance(6) {
            let (name, phone, key) = (one.name.clone(), phone.clone(), village.key.clone());
            self.made.twice.push(Twice { name, phone, key });
        }
    }

    /// A school, and enterprises in proportion to the people.
    fn organisations(&mut self, at: usize, n: usize) -> anyhow::Result<()> {
        let village = &self.county.villages[at];
        let here = self.county.before(at + 1, n) - self.county.before(at, n);
        for one in 0..=here / 400 {
            let no = self.made.organisations;
            self.made.organisations += 1;
            let what = ["小学", "果蔬农民专业合作社", "建材店", "水产养殖合作社", "卫生室", "农家客栈"][one % 6];
            let name = format!(
                "{}{what}{}",
                village.short(),
                if one < 6 { String::new() } else { format!("{}号", one / 6 + 1) }
            );
            let (id, email) = (format!("Q{no:05}"), format!("unit{no:05}@example.com"));
            let number = phone(Block::Organisations, no % 10_000);
            let group = if one % 6 == 0 { "学校" } else { "市场主体" };
            self.out.write_record([
                &id,
                &name,
                "单位",
                "",
                &number,
                "",
                "",
                &email,
                &village.key,
                "",
                "",
                "",
                "",
                "",
                "",
                group,
            ])?;
        }
        Ok(())
    }

    /// Two rows as they come from a hurried hand; the import sets them aside.
    fn wrong_rows(&mut self) -> anyhow::Result<()> {
        let key = self.county.villages[0].key.clone();
        let row = |id: &str, phone: &str, place: &str| {
            [id, "待核实", "个人", "", phone, "", "", "", place, "", "", "", "", "", "", ""].map(str::to_owned)
        };
        self.out.write_record(row("X1", "139000", &key))?;
        self.out.write_record(row("X2", "13900000001", "没有这个村"))?;
        Ok(())
    }
}

/// Where in its village a household lives.
fn address(household: usize) -> String {
    format!("第{}小组{}号", household / 40 % 9 + 1, household % 40 + 1)
}

/// The old of the minorities often know their own language alone.
fn languages(folk: Folk, age: usize, dice: &mut Dice) -> &'static str {
    let alone = age >= 60 && dice.chance(500);
    match (folk, alone) {
        (Folk::Han, _) => "汉语",
        (Folk::Yao, true) => "瑶语",
        (Folk::Yao, false) => "瑶语、汉语",
        (Folk::Miao, true) => "苗语",
        (Folk::Miao, false) => "苗语、汉语",
        (Folk::Zhuang, true) => "壮语",
        (Folk::Zhuang, false) => "壮语、汉语",
    }
}

fn needs(age: usize, dice: &mut Dice) -> &'static str {
    let share = if age >= 70 { 280 } else { 12 };
    let kinds = ["听力", "听力", "视力", "行动"];
    if dice.chance(share) { dice.pick::<&'static str>(&kinds) } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(n: usize, seed: u64) -> (Made, Vec<Vec<String>>) {
        let county = County::load(seed).unwrap();
        let mut out = Vec::new();
        let made = write(&county, n, seed, &mut out).unwrap();
        let rows = csv::Reader::from_reader(&out[..]).into_records();
        (made, rows.map(|r| r.unwrap().iter().map(str::to_owned).collect()).collect())
    }

    #[test]
    fn there_are_as_many_as_asked_with_the_gaps_of_life() {
        let (made, rows) = made(5_000, 7);
        let people: Vec<_> = rows.iter().filter(|r| r[2] == "个人" && !r[0].starts_with('X')).collect();
        assert_eq!((people.len(), made.persons), (5_000, 5_000));
        let share = |held: &dyn Fn(&&&Vec<String>) -> bool| people.iter().filter(held).count() * 100 / people.len();
        let own = share(&|r| !r[4].is_empty());
        let shared = share(&|r| r[4].is_empty() && !r[5].is_empty());
        let none = share(&|r| r[4].is_empty() && r[5].is_empty() && r[6].is_empty());
        assert!((50..80).contains(&own) && shared > 8 && none > 5, "{own} {shared} {none}");
        for word in ["瑶语", "苗语", "壮语"] {
            assert!(people.iter().any(|r| r[13] == word), "{word}");
        }
        for group in ["老年人", "低收入户", "渔民", "独居老人", "种植大户", "党员干部"] {
            assert!(people.iter().any(|r| r[15].contains(group)), "{group}");
        }
        assert!(!made.twice.is_empty() && !made.opted_out.is_empty() && !made.relief.is_empty());
        assert!(made.organisations >= 49);
    }

    #[test]
    fn a_seed_makes_the_same_people() {
        assert_eq!(made(300, 7).1, made(300, 7).1);
        assert_ne!(made(300, 7).1, made(300, 8).1);
    }

    #[test]
    fn every_number_is_of_the_made_up_range() {
        let (_, rows) = made(3_000, 1);
        let numbers = rows.iter().filter(|r| !r[0].starts_with('X')).flat_map(|r| &r[4..7]).filter(|n| !n.is_empty());
        for number in numbers {
            assert!(number.len() == 11 && number.starts_with("13900"), "{number}");
        }
    }
}
