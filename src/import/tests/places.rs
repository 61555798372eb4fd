//! Regions and points.

use super::*;
use crate::import::points;

#[tokio::test]
async fn regions_come_in_any_order_and_once() {
    for site in Site::all().await {
        let before = site.dump().await;
        site.store().clock.advance(1_000);
        let again = site.regions(REGIONS, &Run::default()).await;
        assert_eq!((again.added, again.updated, again.unchanged), (0, 0, 6), "{}", site.t.engine);
        assert_eq!(site.dump().await, before, "{}", site.t.engine);
        let index = site.store().regions_index().await.unwrap();
        let group = index.resolve("新村一组").unwrap();
        assert_eq!(index.path(group), "青山县/东镇/新村/一组");
        let up = format!("SELECT COUNT(*) FROM region_closure WHERE descendant = {group}");
        assert_eq!(site.count(&up).await, 4);
        let west = index.resolve("西镇").unwrap();
        assert_eq!(index.get(west).unwrap().parent_no, index.by_code("990101000000"), "told from the code");
    }
}

#[tokio::test]
async fn rows_without_a_parent_are_rejected_and_a_dry_run_writes_nothing() {
    let text = "名称,上级,级别,片区,别名\n二组,新村,custom,低洼区、河边,老二组\n三组,北村,custom,,\n四组,三组,custom,,\n,新村,,,\n";
    for site in Site::all().await {
        let before = site.dump().await;
        let dry = site.regions(text, &Run { dry_run: true, ..Run::default() }).await;
        assert_eq!((dry.added, dry.rejected), (1, 3), "{}", site.t.engine);
        assert_eq!(site.dump().await, before);
        let real = site.regions(text, &Run::default()).await;
        assert_eq!((real.read, real.added, real.rejected), (4, 1, 3));
        let why = rejected(&real);
        assert!(why.contains("没有区域") && why.contains("缺少“名称”"), "{why}");
        assert_eq!(site.count("SELECT COUNT(*) FROM area_regions").await, 2);
        let index = site.store().regions_index().await.unwrap();
        assert_eq!(index.resolve("老二组"), index.resolve("新村/二组"));
    }
}

#[tokio::test]
async fn a_moved_town_takes_its_villages_along() {
    for site in Site::all().await {
        let text = "code,name,parent\n990102000000,绿水县,\n990101100000,东镇,990102000000\n";
        let summary = site.regions(text, &Run::default()).await;
        assert_eq!((summary.added, summary.updated), (1, 1), "{}", site.t.engine);
        let below = |code: &str| {
            format!(
                "SELECT COUNT(*) FROM region_closure c JOIN regions r ON r.no = c.ancestor \
                 WHERE r.code = '{code}' AND c.descendant <> c.ancestor"
            )
        };
        assert_eq!(site.count(&below("990102000000")).await, 4);
        assert_eq!(site.count(&below("990101000000")).await, 1);
        let loop_ = "code,name,parent\n990102000000,绿水县,990101100201\n";
        assert_eq!(site.regions(loop_, &Run::default()).await.rejected, 1);
    }
}

#[tokio::test]
async fn points_and_officers_come_once() {
    let boards = "名称,类型,区域,编号,管护人,电话,服务户号,服务区域\n\
                  ,公告栏,新村,,,,,\n\
                  村口栏,公告栏,新村,P1,王五,0746-2000000,H1、H2,\n\
                  广场屏,电子屏,老村,P2,,13900000031,,新村、老村\n\
                  喇叭,大喇叭,老村,,,,H9,\n\
                  喇叭,飞机,老村,,,,,\n";
    let boards = boards.replace(",管护人,", ",管理员,");
    let officers = "区域,职务,顺序,姓名,电话\n新村,防汛,1,赵六,13900000041\n新村,防汛,2,钱七,0746-2000001\n新村,防汛,2,孙八,13900000042\n";
    for site in Site::all().await {
        site.people("户号,类型,常住地\nH1,户,新村\nH2,户,新村\n").await;
        let run = Run::default();
        let mut dumps = Vec::new();
        for (added, unchanged) in [(2, 0), (0, 2)] {
            let mut table = points::open(&site.file(&boards), &Options::default()).unwrap();
            let s = points::import(site.store(), &mut table, &run, &mut |_| {}).await.unwrap();
            assert_eq!((s.added, s.updated, s.unchanged, s.rejected), (added, 0, unchanged, 3), "{}", site.t.engine);
            assert!(rejected(&s).contains("没有户号"), "{}", rejected(&s));
            let mut table = points::open_officers(&site.file(officers), &Options::default()).unwrap();
            let s = points::import_officers(site.store(), &mut table, &run, &mut |_| {}).await.unwrap();
            assert_eq!((s.added, s.updated, s.unchanged, s.rejected), (added, 0, unchanged, 1), "{}", site.t.engine);
            dumps.push(site.dump().await);
        }
        assert_eq!(dumps[0], dumps[1]);
        assert_eq!(site.count("SELECT COUNT(*) FROM point_households").await, 2);
        assert_eq!(site.count("SELECT COUNT(*) FROM point_regions").await, 2);
    }
}
