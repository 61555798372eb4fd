//! What the channel makes of its gateways' answers; over sockets: tests/it/failover.rs.

use super::*;
use crate::channel::{AddressKind, Receipt};
use crate::domain::delivery::Word;

/// Answers as told, and remembers the client ids it saw.
struct Told {
    limits: Limits,
    target: Target,
    answer: Mutex<Outcome>,
    seen: Mutex<Vec<Uuid>>,
}

impl Channel for Told {
    fn limits(&self) -> &Limits {
        &self.limits
    }
    fn target(&self) -> Target {
        self.target
    }
    fn medium(&self) -> Medium {
        Medium::Sms
    }
    fn send<'a>(&'a self, batch: &'a [Outgoing]) -> BoxFuture<'a, Vec<Outcome>> {
        self.seen.lock().unwrap().extend(batch.iter().map(|m| m.client_id));
        std::future::ready(vec![self.answer.lock().unwrap().clone(); batch.len()]).boxed()
    }
    fn receipts(&self, _: &Callback<'_>) -> Result<Intake, CallbackError> {
        let key = ReceiptKey::Gateway("17".into());
        let receipt = Receipt {
            key,
            word: Some(Word::Read),
            code: String::new(),
            event_at: None,
            raw: String::new(),
            gone: false,
        };
        Ok(Intake { receipts: vec![receipt], reply_status: 200, reply_type: String::new(), reply_body: String::new() })
    }
}

fn told(idempotent: bool) -> Arc<Told> {
    let limits = Limits {
        rate: 1e6,
        in_flight: 8,
        window: None,
        batch: 4,
        max_parts: 10,
        evidence: Evidence::Receipts,
        receipt_wait: Duration::from_secs(9),
        idempotent,
        price_milli: 50,
        max_bytes: None,
        read_on: None,
    };
    let answer = Mutex::new(Outcome::Accepted { gateway_ids: vec!["17".into()], code: "0".into() });
    Arc::new(Told { limits, target: Target::Address(AddressKind::Phone), answer, seen: Mutex::default() })
}

fn over(gateways: &[&Arc<Told>]) -> Failover {
    let names = ["a", "b", "c"];
    let member =
        |(name, g): (&&str, &&Arc<Told>)| Member { name: (*name).into(), channel: Arc::clone(g) as Arc<dyn Channel> };
    Failover::new("sms", names.iter().zip(gateways).map(member).collect()).unwrap()
}

fn answers(gateway: &Told, class: Class) {
    *gateway.answer.lock().unwrap() = Outcome::Failed { class, code: "x".into(), retry_after: None };
}

fn message(n: u128) -> Outgoing {
    Outgoing {
        client_id: Uuid::from_u128(n),
        to: "13900000001".into(),
        title: "".into(),
        text: "文".into(),
        html: None,
        facts: None,
        may_opt_out: false,
        parts: 1,
    }
}

fn seen(gateway: &Told) -> usize {
    gateway.seen.lock().unwrap().len()
}

#[tokio::test]
async fn what_was_certainly_not_taken_goes_to_the_other_at_once() {
    for class in [Class::Unreachable, Class::Misconfigured, Class::Throttled] {
        let (a, b) = (told(false), told(false));
        answers(&a, class);
        let both = over(&[&a, &b]);
        for n in 0..20 {
            let accepted = Outcome::Accepted { gateway_ids: vec!["b:17".into()], code: "b: 0".into() };
            assert_eq!(both.send(&[message(n)]).await, [accepted], "{class:?}");
        }
        assert_eq!(seen(&b), 20);
        assert!(seen(&a) > 0);
        // Full it is left alone; erring it is probed.
        assert!(class != Class::Throttled || seen(&a) == 1, "{}", seen(&a));
    }
}

#[tokio::test]
async fn what_may_have_been_taken_stays_where_it_is() {
    for class in [Class::Temporary, Class::Permanent, Class::AddressGone, Class::Unknown] {
        let (a, b) = (told(false), told(false));
        answers(&a, class);
        answers(&b, class);
        let both = over(&[&a, &b]);
        let said = both.send(&[message(1)]).await;
        assert!(
            matches!(&said[0], Outcome::Failed { class: c, code, .. } if *c == class && code == "a: x" || code == "b: x")
        );
        assert_eq!(seen(&a) + seen(&b), 1, "{class:?}");
    }
}

#[tokio::test]
async fn when_none_takes_it_the_best_answer_counts() {
    for (x, y, best) in [
        (Class::Unreachable, Class::Throttled, Class::Throttled),
        (Class::Misconfigured, Class::Unreachable, Class::Unreachable),
        (Class::Misconfigured, Class::Misconfigured, Class::Misconfigured),
    ] {
        for (first, second) in [(x, y), (y, x)] {
            let (a, b) = (told(false), told(false));
            answers(&a, first);
            answers(&b, second);
            let said = over(&[&a, &b]).send(&[message(1)]).await;
            assert!(matches!(&said[0], Outcome::Failed { class, .. } if *class == best), "{said:?}");
        }
    }
}

#[tokio::test]
async fn a_repeat_goes_to_the_gateway_that_can_tell() {
    for idempotent in [true, false] {
        let (a, b) = (told(idempotent), told(idempotent));
        answers(&a, Class::Unknown);
        answers(&b, Class::Unknown);
        let both = over(&[&a, &b]);
        assert!(!both.limits().idempotent);
        for n in 0..10 {
            both.send(&[message(n)]).await;
        }
        for n in 0..10 {
            both.send(&[message(n)]).await;
        }
        let by = |g: &Told, n: u128| g.seen.lock().unwrap().iter().filter(|id| **id == Uuid::from_u128(n)).count();
        let together = (0..10).all(|n| by(&a, n) == 2 || by(&b, n) == 2);
        assert!(!idempotent || together);
    }
}

#[tokio::test]
async fn a_batch_keeps_its_order() {
    let (a, b) = (told(true), told(true));
    answers(&a, Class::Unreachable);
    let both = over(&[&a, &b]);
    let batch: Vec<Outgoing> = (0..4).map(message).collect();
    assert_eq!(both.send(&batch).await.len(), 4);
    assert_eq!(*b.seen.lock().unwrap(), batch.iter().map(|m| m.client_id).collect::<Vec<_>>());
}

#[test]
fn limits_are_joined_and_ids_kept_apart() {
    let (a, b) = (told(true), told(false));
    let both = over(&[&a, &b]);
    let limits = both.limits();
    assert_eq!((limits.in_flight, limits.batch, limits.max_parts), (16, 4, 10));
    assert!((limits.rate - 2e6).abs() < 1.0);
    let callback = Callback { method: "GET", query: &[], headers: &[], body: b"", now: 0 };
    let key = |intake: Intake| intake.receipts[0].key.clone();
    assert_eq!(key(both.receipts(&callback).unwrap()), ReceiptKey::Gateway("a:17".into()));
    assert_eq!(key(both.receipts_of("b", &callback).unwrap()), ReceiptKey::Gateway("b:17".into()));
    assert_eq!(both.receipts_of("c", &callback), Err(CallbackError::NotTaken));
    let other = Told { target: Target::Account, ..Arc::into_inner(told(true)).unwrap() };
    let members = [a as Arc<dyn Channel>, Arc::new(other)];
    let members = members.into_iter().map(|channel| Member { name: "x".into(), channel }).collect();
    assert!(Failover::new("sms", members).is_none());
}

/// Two engines, each with half of the channel's rate; one of two gateways is dead.
#[tokio::test]
async fn the_rate_of_a_gateway_holds_over_all_engines() {
    let (mut a, mut b) = (told(false), told(false));
    for gateway in [&mut a, &mut b] {
        Arc::get_mut(gateway).unwrap().limits.rate = 50.0;
    }
    answers(&b, Class::Unreachable);
    let engines = [over(&[&a, &b]), over(&[&a, &b])];
    let began = Instant::now();
    let engine = async |engine: &Failover, first: u128| {
        engine.pace(50.0);
        for n in (first..).take(60) {
            engine.send(&[message(n)]).await;
        }
    };
    tokio::join!(engine(&engines[0], 0), engine(&engines[1], 1_000));
    let rate = f64::from(u32::try_from(seen(&a)).unwrap()) / began.elapsed().as_secs_f64();
    assert!((35.0..52.0).contains(&rate), "{rate} a second to the one of 50");
}
