//! Tests of what a ledger counts.

use super::*;

fn judge(ledger: &mut Ledger, behaviour: &Behaviour, to: &str, id: &str) -> Verdict {
    let message = Message { client_id: Some(id), to: &[to], text: "测试", parts: 1 };
    ledger.judge(behaviour, &message, message.marks(behaviour.by), 1_000)
}

fn counts(ids: u32) -> Stats {
    let behaviour = Behaviour { temporary: 0.2, permanent: 0.1, lost_answer: 0.1, ..Behaviour::default() };
    let mut ledger = Ledger::new(false);
    for i in 0..2_000 {
        judge(&mut ledger, &behaviour, &format!("1390000{i:04}"), &format!("id {}", i + ids));
    }
    ledger.stats()
}

#[test]
fn by_number_the_counts_do_not_hang_on_client_ids() {
    let stats = counts(0);
    assert_eq!(stats, counts(50_000));
    assert!((300..500).contains(&stats.temporary), "{}", stats.temporary);
    assert!((130..270).contains(&stats.permanent), "{}", stats.permanent);
    assert!((130..270).contains(&stats.lost_answers), "{}", stats.lost_answers);
    assert_eq!(stats.requests, stats.accepted + stats.temporary + stats.permanent);
}

#[test]
fn a_repeat_is_a_duplicate_unless_the_gateway_knows_it() {
    for dedupe in [false, true] {
        let behaviour = Behaviour { dedupe, ..Behaviour::default() };
        let mut ledger = Ledger::new(true);
        for _ in 0..3 {
            assert!(matches!(judge(&mut ledger, &behaviour, "13900000001", "a"), Verdict::Accepted(_)));
        }
        let stats = ledger.stats();
        assert_eq!((stats.accepted, stats.duplicates, stats.repeats), if dedupe { (1, 0, 2) } else { (3, 1, 0) });
        assert_eq!(ledger.take_journal().lines().count(), if dedupe { 1 } else { 3 });
    }
}

#[test]
fn a_rate_admits_its_burst_and_no_more() {
    let behaviour = Behaviour { rate: 0.001, burst: 5, ..Behaviour::default() };
    let mut ledger = Ledger::new(false);
    for i in 0..9 {
        judge(&mut ledger, &behaviour, "13900000001", &i.to_string());
    }
    let stats = ledger.stats();
    assert_eq!((stats.accepted, stats.throttled), (5, 4));
}

#[test]
fn the_log_shows_four_digits_and_pages() {
    let mut ledger = Ledger::new(false);
    for i in 0..3 {
        judge(&mut ledger, &Behaviour::default(), "13900001234", &i.to_string());
    }
    let log = ledger.log(1);
    assert_eq!(log.lines().count(), 2);
    assert!(log.contains("\"to_last4\":\"1234\"") && !log.contains("13900001234"), "{log}");
    assert_eq!(ledger.log(99), "");
    assert_eq!(ledger.stats().per_second, [3]);
}
