//! Groups and lists: who is meant, and what the file lacks.

use super::*;
use crate::import::{Mode, groups, lists};
use crate::store::groups::GroupRecord;
use crate::vault::Owner;

const PEOPLE: &str = "外部编号,姓名,手机,户号,常住地
A1,张三,13900000001,H1,新村
A2,李四,13900000002,H1,新村
A3,李四,13900000003,,老村
A4,李四,13900000004,,老村
";

async fn members(site: &Site, text: &str, (run, mode): (&Run, Mode)) -> Summary {
    let group = GroupRecord { name: "低保户".into(), sensitive: Some(true), ..GroupRecord::default() };
    let mut table = groups::open(&site.file(text), &Options::default()).unwrap();
    groups::import(site.store(), &mut table, (run, mode), &group, &mut |_| {}).await.unwrap()
}

#[tokio::test]
async fn members_are_found_by_what_a_row_says() {
    let text = "外部编号,手机,姓名,户号,区域
A1,,,,
,13900000002,,,
,,李四,,老村
,,李四,,新村
,13900000001,李四,,新村
,,李四,H1,
,,李四,H9,
,13900000099,,,
";
    for site in Site::all().await {
        site.people(PEOPLE).await;
        let run = Run::default();
        let summary = members(&site, text, (&run, Mode::Append)).await;
        assert_eq!((summary.added, summary.unchanged, summary.rejected), (2, 2, 4), "{}", site.t.engine);
        let why = rejected(&summary);
        assert!(why.contains("有 2 个对象符合") && why.contains("没有找到这个对象"), "{why}");
        let replaced = members(&site, "外部编号\nA3\nA9\n", (&run, Mode::Replace)).await;
        assert!(replaced.removal_skipped && replaced.removed == 0, "a refused row may be a member");
        let dry = Run { dry_run: true, ..Run::default() };
        let tried = members(&site, "外部编号\nA3\nA1\n", (&dry, Mode::Replace)).await;
        assert_eq!((tried.added, tried.unchanged, tried.removed), (0, 2, 1));
        let replaced = members(&site, "外部编号\nA3\nA1\n", (&run, Mode::Replace)).await;
        assert_eq!((replaced.added, replaced.unchanged, replaced.removed), (0, 2, 1), "{}", site.t.engine);
        assert_eq!(site.count("SELECT COUNT(*) FROM group_members").await, 2);
        assert_eq!(site.count("SELECT COUNT(*) FROM groups WHERE sensitive = 1").await, 1);
    }
}

async fn import_list(site: &Site, text: &str, run: &Run, (create, mode): (bool, Mode)) -> Summary {
    let options = lists::ListOptions { name: "补贴".into(), mode, create, today: TODAY };
    let mut table = lists::open(&site.file(text), &Options::default()).unwrap();
    lists::import(site.store(), &mut table, run, &options, &mut |_| {}).await.unwrap()
}

#[tokio::test]
async fn lists_hold_variables_sealed() {
    let text =
        "外部编号,姓名,手机,常住地,金额,备注\nA1,,,,120.50,一季度\nA2,,,,80,\nA2,,,,81,\nA9,新人,13900000009,老村,5,\n";
    let text = text.replace("常住地", "区域");
    for site in Site::all().await {
        site.people(PEOPLE).await;
        let import = async |text: &str, create, mode| import_list(&site, text, &Run::default(), (create, mode)).await;
        let dry = Run { dry_run: true, ..Run::default() };
        let tried = import_list(&site, &text, &dry, (true, Mode::Append)).await;
        assert_eq!((tried.added, tried.rejected), (3, 1), "{}", site.t.engine);
        assert_eq!(site.count("SELECT COUNT(*) FROM lists").await, 0);
        let first = import(&text, false, Mode::Append).await;
        assert_eq!((first.added, first.rejected), (2, 2), "{}", site.t.engine);
        assert!(rejected(&first).contains("已有一行"), "{}", rejected(&first));
        let second = import(&text, true, Mode::Append).await;
        assert_eq!((second.added, second.unchanged, second.rejected), (1, 2, 1), "{}", site.t.engine);
        let before = site.dump().await;
        let third = import(&text, true, Mode::Append).await;
        assert_eq!((third.added, third.updated, third.unchanged), (0, 0, 3));
        assert_eq!(site.dump().await, before);
        let sql = "SELECT recipient_no, vars_sealed FROM list_rows WHERE row_no = 2";
        let (no, sealed) = site.store().probe_sealed(sql).await;
        let vars = site.store().vault.open_text(Owner::ListRow(1, no), &sealed).unwrap();
        let whole = r#"{"外部编号":"A1","姓名":"","手机":"","区域":"","金额":"120.50","备注":"一季度"}"#;
        assert_eq!(vars, whole);
        let columns = ["外部编号", "姓名", "手机", "区域", "金额", "备注"];
        assert_eq!(site.store().list("补贴").await.unwrap().unwrap().1, columns);
        let same = "外部编号,姓名,手机,区域,金额,备注\nA1,,,,120.50,一季度\n";
        let fewer = import(same, false, Mode::Replace).await;
        assert_eq!((fewer.unchanged, fewer.removed), (1, 2), "{}", site.t.engine);
    }
}
