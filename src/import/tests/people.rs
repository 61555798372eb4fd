//! Recipients: identity, households, addresses, and doing nothing twice.

use serde_json::Value;

use super::*;
use crate::store::merges::MergeRule;
use crate::vault::Owner;

const PEOPLE: &str = "外部编号,姓名,手机,邮箱,户号,户主电话,监护人电话,常住地,户籍地,年龄,外出,语言,需求,片区
A1,张 三,139 0000 0001/+86-139-0000-0002,z@x.cn,H1,13900000009,,新村,,66,否,瑶语,听障,低洼区
A2,李四,,,H1,13900000009,,990101100201,老村,,是,,,
,王小五,,,,,13900000003,东镇老村,,8,,,,
,赵六,0746-2000000,,H2,,,老村,,,,,,
,钱七,13900000004,,,,,新村,,,,,,
,钱七,13900000004,,,,,新村,,,,,,
";

#[tokio::test]
async fn people_come_with_households_and_addresses_once() {
    for site in Site::all().await {
        let first = site.people(PEOPLE).await;
        assert_eq!(
            (first.added, first.unchanged, first.rejected),
            (5, 1, 0),
            "{}: {}",
            site.t.engine,
            rejected(&first)
        );
        assert_eq!(first.landlines, 1);
        let before = site.dump().await;
        site.store().clock.advance(1_000);
        let again = site.people(PEOPLE).await;
        assert_eq!((again.added, again.updated, again.unchanged), (0, 0, 6), "{}", site.t.engine);
        assert_eq!(site.dump().await, before, "{}", site.t.engine);
        // Two households, neither a member in its own right.
        assert_eq!(site.count("SELECT COUNT(*) FROM recipients WHERE kind = 2 AND counted = 0").await, 2);
        assert_eq!(site.count("SELECT COUNT(*) FROM recipients WHERE kind = 1 AND counted = 1").await, 5);
        // 0001, 0002, z@x.cn, 0009 (shared), 0003, 0004.
        assert_eq!(site.count("SELECT COUNT(*) FROM addresses").await, 6);
        let via = "SELECT COUNT(*) FROM recipient_addresses WHERE via = ";
        assert_eq!(site.count(&format!("{via} 2")).await, 3, "two persons and their household");
        assert_eq!(site.count(&format!("{via} 3")).await, 1);
        let facts = "SELECT COUNT(*) FROM recipients WHERE born = 19600101 AND away = 0 AND languages = ',yao,' \
                     AND needs = ',hearing,'";
        assert_eq!(site.count(facts).await, 1);
        let sql = "SELECT no, name_sealed FROM recipients WHERE born = 19600101";
        let (no, sealed) = site.store().probe_sealed(sql).await;
        assert_eq!(site.store().vault.open_text(Owner::Recipient(no), &sealed).unwrap(), "张三");
        let sql = "SELECT id, sealed FROM addresses WHERE id = 1";
        let (id, sealed) = site.store().probe_sealed(sql).await;
        assert_eq!(site.store().vault.open_text(Owner::Address(id), &sealed).unwrap(), "13900000001");
    }
}

#[tokio::test]
async fn a_changed_number_replaces_and_blanks_keep() {
    for site in Site::all().await {
        site.people(PEOPLE).await;
        let changed = site.people("外部编号,姓名,手机,常住地\nA1,张三,13900000007,新村\nA2,李四,,新村\n").await;
        assert_eq!((changed.added, changed.updated, changed.unchanged), (0, 1, 1), "{}", site.t.engine);
        let own = "SELECT COUNT(*) FROM recipient_addresses ra JOIN recipients r ON r.no = ra.recipient_no \
                   WHERE r.born = 19600101 AND ra.via = 1 AND ra.kind = 1";
        assert_eq!(site.count(own).await, 1);
        assert_eq!(site.count("SELECT COUNT(*) FROM recipients WHERE away = 1").await, 1, "a blank cell keeps");
        assert_eq!(site.count("SELECT COUNT(*) FROM addresses").await, 7, "the old number stays as a row");
    }
}

#[tokio::test]
async fn lines_of_one_person_add_up_however_far_apart() {
    let mut text = String::from("外部编号,姓名,手机,常住地\nA,张三,13900000001,新村\n");
    text.extend((0..2_500).map(|i| format!("F{i},李四,,新村\n")));
    text.push_str("A,张三,13900000002,新村\n");
    for site in Site::all().await {
        site.people(&text).await;
        let links = "SELECT COUNT(*) FROM recipient_addresses";
        assert_eq!(site.count(links).await, 2, "{}", site.t.engine);
        site.people(&text).await;
        assert_eq!(site.count(links).await, 2);
        site.people("外部编号,姓名,手机,常住地\nA,张三,13900000002,新村\n").await;
        assert_eq!(site.count(links).await, 1);
    }
}

#[tokio::test]
async fn a_household_counts_until_a_person_is_known() {
    for site in Site::all().await {
        site.people("户号,类型,手机,常住地\nH1,户,13900000009,新村\n").await;
        let counted = "SELECT COUNT(*) FROM recipients WHERE kind = 2 AND counted = 1";
        assert_eq!(site.count(counted).await, 1, "{}", site.t.engine);
        site.people("外部编号,姓名,户号,常住地\nA1,张三,H1,新村\n").await;
        assert_eq!(site.count(counted).await, 0);
        site.people("外部编号,姓名,户号,常住地\nA1,张三,H2,新村\n").await;
        assert_eq!(site.count(counted).await, 1, "its person moved to another household");
    }
}

#[tokio::test]
async fn bad_rows_are_rejected_with_a_reason() {
    let text = "姓名,手机,身份证号,常住地,人群,类型,年龄,作物
张三,1390000000,,新村,,,,
李四,,990000195003070011,新村,,,,
王五,,,北村,,,,
赵六,,,新村,党员,,,
钱七,,,新村,,猫,,
,,,新村,,,,
孙八,,,新村,,,300,
周九,,,,,,,
吴十,13900000005,,新村,,,,很多
郑一,13900000006,,新村,,,,12
";
    let read = |header: &str, text: &str| {
        (header == "作物")
            .then(|| text.parse().map(|n: i64| ("crop".into(), Value::from(n))).map_err(|_| "数字".into()))
    };
    let options = recipients::RecipientOptions { attributes: Some(&read), ..recipients::RecipientOptions::new(TODAY) };
    for site in Site::all().await {
        let before = site.dump().await;
        let dry = site.people_with(text, &Run { dry_run: true, ..Run::default() }, &options).await;
        assert_eq!((dry.read, dry.added, dry.rejected), (10, 1, 9), "{}", site.t.engine);
        assert_eq!(site.dump().await, before, "a dry run writes nothing");
        let summary = site.people_with(text, &Run::default(), &options).await;
        assert_eq!((summary.added, summary.rejected), (1, 9));
        let why = rejected(&summary);
        for part in [
            "手机“139***00”不对",
            "身份证号“990***11”不对",
            "没有区域",
            "没有人群“党员”",
            "类型“猫***”不对",
            "缺少“姓名”",
            "年龄“3***”不对",
            "缺少“常住地”",
            "作物“很***”不对：应为数字",
        ] {
            assert!(why.contains(part), "{part}: {why}");
        }
        assert_eq!(site.count("SELECT COUNT(*) FROM recipients WHERE attrs = '{\"crop\":12}'").await, 1);
    }
}

#[tokio::test]
async fn duplicates_are_joined_and_taken_apart() {
    let text = "外部编号,姓名,手机,邮箱,常住地,人群
A1,张三,13900000001,,新村,
A2,张三,13900000001/13900000002,a@x.cn,老村,党员
A3,张三,13900000002,a@x.cn,西镇,
A4,李四,13900000001,,新村,
";
    for site in Site::all().await {
        let options = recipients::RecipientOptions { create_groups: true, ..recipients::RecipientOptions::new(TODAY) };
        assert_eq!(site.people_with(text, &Run::default(), &options).await.added, 4);
        let before = site.dump().await;
        let store = site.store();
        let pairs = store.find_duplicates(MergeRule::NamePhone, 100).await.unwrap();
        assert_eq!(pairs.len(), 2, "{}", site.t.engine);
        let merges = store.merge(&pairs, MergeRule::NamePhone, "op").await.unwrap();
        let kept = pairs[0].kept;
        assert_eq!(site.count("SELECT COUNT(*) FROM recipients WHERE counted = 1").await, 2);
        let members = format!("SELECT COUNT(*) FROM group_members WHERE recipient_no = {kept} AND merge_no > 0");
        assert_eq!(site.count(&members).await, 1);
        let lent = format!("SELECT COUNT(*) FROM recipient_addresses WHERE recipient_no = {kept} AND merge_no > 0");
        assert_eq!(site.count(&lent).await, 2);
        assert!(store.merge(&pairs, MergeRule::NamePhone, "op").await.unwrap().is_empty(), "merged once");
        // Both lend 0002 and the e-mail address: one undone, the other still does.
        assert_eq!(store.undo_merges(&merges[..1]).await.unwrap(), 1);
        assert_eq!(site.count(&lent).await, 2);
        assert_eq!(site.count(&members).await, 0);
        assert_eq!(store.undo_merges(&merges).await.unwrap(), 1);
        let unmerged: Vec<String> = site.dump().await;
        let ours =
            |all: Vec<String>| -> Vec<String> { all.into_iter().filter(|l| !l.starts_with("counters")).collect() };
        assert_eq!(ours(unmerged), ours(before), "{}", site.t.engine);
        assert_eq!(store.find_duplicates(MergeRule::NameBornRegion, 10).await.unwrap(), []);
    }
}
