//! The report says what the facts say, in words that can be pasted.

use super::*;
use crate::domain::calls::{Asked, Confirmed, How, Officer};
use crate::domain::delivery::State;
use crate::domain::reach::{ChannelKind, ChannelRow, People, Reasons, RegionRow};

fn zone() -> TimeZone {
    TimeZone::get("Asia/Shanghai").unwrap()
}

/// Monday 2026-06-01 10:00 in Beijing.
const AT: Millis = 1_780_279_200_000;

fn village(name: &str, officers: Vec<Officer>) -> Village {
    Village { region_no: 1, name: name.into(), town: "河口镇".into(), officers, asked: Vec::new(), confirmed: None }
}

fn officer(of: Option<&str>) -> Officer {
    Officer {
        phone_id: 1,
        name: "张*".into(),
        role: "村支书".into(),
        phone: "139****0001".into(),
        of: of.map(str::to_owned),
        by_sms: true,
    }
}

fn asked(at: Option<Millis>) -> Asked {
    Asked { call_no: 2, ordinal: 1, step: 0, phone_id: 1, state: State::Sent, at }
}

fn reach() -> ReachReport {
    let reasons = Reasons { no_address: 7, no_word: 3, ..Reasons::default() };
    let people = People {
        audience: 100,
        informed: 90,
        unreached: 10,
        told_in_person: 2,
        unreached_by_reason: reasons,
        ..People::default()
    };
    let town = RegionRow {
        region_no: 3,
        parent_no: None,
        code: None,
        name: "河口镇".into(),
        level: "town".into(),
        people: people.clone(),
        households: 40,
        covered_households: 0,
    };
    let sms = Some(ChannelKind::Electronic { receipts: true, price_milli: 50 });
    let post = Some(ChannelKind::Electronic { receipts: false, price_milli: 0 });
    ReachReport {
        as_of: Timestamp::from_millisecond(AT + 1_920_000).unwrap(),
        covered_households: 30,
        sheets: Vec::new(),
        by_region: vec![town],
        by_channel: vec![
            ChannelRow { deliveries: 93, handed_over: 93, reached: 88, ..ChannelRow::new("sms".into(), sms) },
            ChannelRow { deliveries: 1, handed_over: 1, ..ChannelRow::new("群机器人".into(), post) },
            ChannelRow {
                deliveries: 5,
                handed_over: 5,
                reached: 4,
                ..ChannelRow::new("board".into(), Some(ChannelKind::Point))
            },
        ],
        time_to_50_s: Some(75),
        time_to_90_s: None,
        time_to_99_s: None,
        households: 40,
        by_group: Vec::new(),
        parts: 186,
        cost_milli: 9_300,
        dispatch_no: 1,
        mode: "live".into(),
        effective_at: None,
        people,
    }
}

fn situation() -> Situation {
    let mut done = village("城郊村", vec![officer(None)]);
    done.asked.push(asked(Some(AT)));
    done.confirmed = Some(Confirmed { how: How::Link, at: AT + 95_000, call_no: Some(2), ordinal: Some(1) });
    let mut open = village("北山村", vec![officer(Some("河口镇"))]);
    open.asked.extend([asked(Some(AT)), asked(Some(AT + 600_000))]);
    Situation {
        dispatch_no: 1,
        mode: "live".into(),
        title: "暴雨[红色]预警".into(),
        kind: "预警".into(),
        level: Some("红色".into()),
        document_no: None,
        item_no: 3,
        item_version: 2,
        area: Some("沿河各村".into()),
        unit: "河口县应急管理局".into(),
        phone: "0873-5550000".into(),
        approved: Some(Approved { unit: "河口县人民政府".into(), at: AT - 300_000, fast_lane: false }),
        sent_at: AT,
        sent_by: "李四".into(),
        reach: reach(),
        called: true,
        villages: vec![done, open, village("南山村", Vec::new())],
        next: vec![
            Next::Step { channels: vec!["visit".into()], at: AT + 3_600_000 },
            Next::Call { at: AT + 2_000_000 },
        ],
    }
}

#[test]
fn the_report_says_all_that_an_office_asks() {
    let text = situation().text(&zone());
    for expected in [
        "关于《暴雨[红色]预警》发布情况的报告\n（截至2026年6月1日10时32分）",
        "一、发布内容\n2026年6月1日10时00分，河口县应急管理局发布预警《暴雨[红色]预警》，级别：红色（事项 3 第 2 版，发布任务 1）",
        "2026年6月1日9时55分经河口县人民政府审核同意",
        "应通知 100 人、40 户，涉及 1 个乡镇、3 个村；已通知 90 人（90.0%），未通知到 10 人",
        "河口镇：应通知 100 人、40 户，已通知 90 人",
        "通知到 50% 的对象用时：1 分 15 秒；通知到 90%：尚未达到",
        "短信：93 条，已提交 93，到达 88",
        "群机器人：1 条，已提交 1，无回执",
        "已张贴 4 处，约覆盖 30 户（估算",
        "当面告知 2 人",
        "应叫应 3 个村，已确认 1 个，最快用时 1 分 35 秒",
        "河口镇北山村：河口镇村支书 张* 139****0001，2026年6月1日10时00分起叫应 2 次",
        "河口镇南山村：无值班负责人",
        "没有联系方式 7 人、已提交尚无回执 3 人",
        "2026年6月1日11时00分起，对仍未通知到的人员改用：入户",
        "计费 186 条，费用 9.30 元",
        "河口县应急管理局\n2026年6月1日\n",
    ] {
        assert!(text.contains(expected), "{expected}\n--\n{text}");
    }
    assert!(!text.contains("城郊村"), "who confirmed is not on the list");
    assert!(!text.contains("须电话联系，联系后登记"), "somebody is still to be asked");
}

#[test]
fn what_does_not_apply_is_left_out() {
    let mut s = situation();
    s.mode = "drill".into();
    s.called = false;
    s.reach.people.unreached = 0;
    s.next = vec![Next::Finished { at: Some(AT + 60_000) }];
    s.approved = Some(Approved { unit: "河口县应急管理局".into(), at: AT, fast_lane: true });
    let text = s.text(&zone());
    assert!(text.starts_with("【演练】关于"), "{text}");
    assert!(!text.contains("叫应") && !text.contains("未通知到的人员"), "{text}");
    assert!(text.contains("四、下一步\n发布任务已于2026年6月1日10时01分完成"), "{text}");
    assert!(text.contains("绿色通道"), "{text}");
}

#[test]
fn once_nobody_is_left_to_ask_villages_are_for_the_telephone() {
    let mut s = situation();
    s.next = vec![Next::UnderWay];
    assert!(s.text(&zone()).contains("2 个村的值班人员须电话联系"));
}

#[test]
fn markdown_holds_tables_and_no_markup_of_ours() {
    let text = situation().markdown(&zone());
    assert!(text.starts_with("# 关于《暴雨\\[红色\\]预警》"), "{text}");
    assert!(text.contains("| 乡镇 | 应通知（人） |") && text.contains("|---|---|"), "{text}");
    assert!(text.contains("| 河口镇北山村 | 河口镇村支书 | 张\\* | 139\\*\\*\\*\\*0001 |"), "{text}");
}
