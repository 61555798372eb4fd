//! What the scan finds, and what it lets pass. All numbers are made up.

use super::*;
use proptest::prelude::*;

fn kinds(text: &str) -> Vec<FindingKind> {
    scan(text, &[]).into_iter().map(|finding| finding.kind).collect()
}

/// A made-up ID number with the right check digit.
fn id_number(first17: &str) -> String {
    "10X98765432"
        .chars()
        .map(|check| format!("{first17}{check}"))
        .find(|id| is_id_number(id))
        .expect("one of eleven check digits fits")
}

fn card(front: &str) -> String {
    (0..10).map(|check| format!("{front}{check}")).find(|card| is_card(card)).expect("one of ten fits")
}

#[test]
fn known_answers_of_the_check_digits() {
    // The example of GB 11643-1999.
    assert!(is_id_number("11010519491231002X"));
    assert!(!is_id_number("110105194912310021"));
    assert!(!is_id_number(&"1".repeat(18)));
    // 4111 1111 1111 1111 is the card industry's test number.
    assert!(is_card("4111111111111111"));
    assert!(!is_card("4111111111111112"));
    assert!(!is_card("0000000000000000"));
}

#[test]
fn a_birth_date_that_never_was_is_no_id_number() {
    for (date, real) in [("20240229", true), ("20230229", false), ("19001301", false), ("18991231", false)] {
        assert_eq!(is_birth_date(date), real, "{date}");
    }
}

#[test]
fn finds_each_kind_with_its_place() {
    let text = "名单：\n张三 11010519491231002X 13900000001\n李四，卡号4111111111111111。";
    let found = scan(text, &[]);
    let places: Vec<_> = found.iter().map(|f| (f.kind, f.line, f.column, f.masked.as_str())).collect();
    assert_eq!(
        places,
        [
            (FindingKind::IdNumber, 2, 4, "1101************2X"),
            (FindingKind::Mobile, 2, 23, "139****0001"),
            (FindingKind::BankCard, 3, 6, "************1111"),
        ]
    );
}

#[test]
fn sees_through_disguises() {
    for text in [
        "１３９００００００００",
        "139 0000 0000",
        "139-0000-0000",
        "1 3 9 0 0 0 0 0 0 0 0",
        "139\u{200b}0000\u{feff}0000",
        "+86 139 0000 0000",
        "008613900000000",
        "电话13900000000转",
        "13900000000x2",
        "2026 13900000000",
        "13900000000 18",
    ] {
        assert_eq!(kinds(text), [FindingKind::Mobile], "{text}");
    }
    for text in ["110105 19491231 002x", "１１０１０５１９４９１２３１００２Ｘ", "110105-1949-1231-002 X"]
    {
        assert_eq!(kinds(text), [FindingKind::IdNumber], "{text}");
    }
    assert_eq!(kinds("4111 1111 1111 1111"), [FindingKind::BankCard]);
}

#[test]
fn lets_pass_what_is_not_personal() {
    for text in [
        "0431-88880000",
        "010-62000000-13900",
        "0431-13345678-901",
        "12345、110、96110、400-800-0000",
        "139000000001",
        "12900000000",
        "2026-06-01 14:00 至 2026-06-02 08:00",
        "139\n00000000",
        "文号〔2026〕12号，金额 1,390,000.00 元",
        "530000000000",
    ] {
        assert_eq!(kinds(text), [], "{text}");
    }
}

#[test]
fn the_units_own_mobile_is_allowed() {
    let own = ["139-0000-0000".to_owned()];
    let text = "咨询 +86 13900000000，或 13900000001";
    let found = scan(text, &own);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].masked, "139****0001");
    assert_eq!(mask_except(text, &own), "咨询 +86 13900000000，或 139****0001");
}

#[test]
fn masking_keeps_the_text_around() {
    assert_eq!(mask("张三 139 0000 0001，欠款"), "张三 139 **** 0001，欠款");
    assert_eq!(mask("１３９００００００００"), "１３９****００００");
    assert_eq!(mask("电话 0431-88880000"), "电话 0431-88880000");
}

proptest! {
    #[test]
    fn a_planted_value_is_found_and_masked_away(
        area in "[1-8][0-9]{5}", year in 1900..2100i32, month in 1..=12i32, day in 1..=28i32,
        serial in "[0-9]{3}", front in "62[0-9]{13,16}", line in "1390000[0-9]{4}",
    ) {
        let id = id_number(&format!("{area}{year}{month:02}{day:02}{serial}"));
        let card = card(&front);
        let text = format!("甲：{id}；乙：{card}；丙：{line}。");
        prop_assert!(scan(&text, &[]).len() == 3);
        let masked = mask(&text);
        prop_assert!(!masked.contains(&id) && !masked.contains(&card) && !masked.contains(&line));
        prop_assert_eq!(masked.chars().count(), text.chars().count());
        prop_assert!(scan(&masked, &[]).is_empty());
    }

    #[test]
    fn any_text_is_scanned_without_panic(text in "[0-9０-９ xX\\-\n县+]{0,80}") {
        let found = scan(&text, &[]);
        prop_assert_eq!(found.is_empty(), mask(&text) == text);
    }
}
