//! Many callbacks at once, one that cannot be kept, a line that is full.

use futures_util::FutureExt as _;
use futures_util::future::join_all;

use super::*;
use crate::channel::ReceiptKey;
use crate::domain::delivery::Word;
use crate::store::testing::{TestStore, stores};

const CHANNEL: i32 = 1;

fn said(id: usize, code: &str) -> Vec<Receipt> {
    let key = ReceiptKey::Gateway(format!("g{id}"));
    vec![Receipt { key, word: Some(Word::Sent), gone: false, code: code.into(), event_at: None, raw: String::new() }]
}

fn line(t: &TestStore) -> (Line, Counter) {
    let groups = Counter::default();
    (Line::open(Arc::new(t.store.clone()), CHANNEL, groups.clone()), groups)
}

async fn kept(t: &TestStore) -> i64 {
    t.store.unmatched_receipts().await.unwrap()
}

#[tokio::test]
async fn callbacks_that_come_together_are_kept_together() {
    for t in stores().await {
        let (line, groups) = line(&t);
        let all = join_all((0..1_000).map(|n| line.keep(said(n, "0")))).await;
        assert!(all.into_iter().all(|taken| taken.unwrap() == Taken { matched: 0, waiting: 1 }), "{}", t.engine);
        assert_eq!(kept(&t).await, 1_000, "{}", t.engine);
        assert!(groups.get() <= 10, "{} groups on {}", groups.get(), t.engine);
        // One after the other each has its own, and waits for no other.
        let before = groups.get();
        for n in 0..3 {
            line.keep(said(n, "0")).await.unwrap();
        }
        assert_eq!(groups.get() - before, 3, "{}", t.engine);
        assert_eq!(line.keep(Vec::new()).await.unwrap(), Taken::default());
    }
}

#[tokio::test]
async fn a_callback_that_cannot_be_kept_fails_alone() {
    for t in stores().await {
        let poison = if t.engine == "sqlite" {
            "CREATE TRIGGER poison BEFORE INSERT ON receipts WHEN NEW.code = 'poison' BEGIN SELECT RAISE(ABORT, 'poison'); END"
        } else {
            "ALTER TABLE receipts ADD CONSTRAINT poison CHECK (code <> 'poison')"
        };
        t.store.probe_run(poison).await;
        let (line, _) = line(&t);
        let code = |n| if n == 7 { "poison" } else { "0" };
        let all = join_all((0..50).map(|n| line.keep(said(n, code(n))))).await;
        for (n, taken) in all.into_iter().enumerate() {
            assert_eq!(taken.is_err(), n == 7, "{n} on {}: {taken:?}", t.engine);
        }
        assert_eq!(kept(&t).await, 49, "{}", t.engine);
    }
}

#[tokio::test]
async fn a_full_line_refuses_and_takes_again_later() {
    for t in stores().await {
        let (mut line, _) = line(&t);
        line.room = Arc::new(Semaphore::new(3));
        let slow = t.store.begin().await.unwrap();
        let mut slow = Some(slow);
        let first = join_all((0..3).map(|n| line.keep(said(n, "0"))));
        let more = async {
            let refused = line.keep(said(9, "0")).await;
            // Whoever waits is still answered.
            drop(slow.take());
            refused
        };
        let (first, refused) = tokio::join!(first, more);
        assert!(matches!(refused, Err(IntakeError::Busy)), "{}: {refused:?}", t.engine);
        assert!(first.iter().all(Result::is_ok), "{}: {first:?}", t.engine);
        line.keep(said(9, "0")).await.unwrap();
        assert_eq!(kept(&t).await, 4, "{}", t.engine);
    }
}

#[tokio::test]
async fn what_was_handed_in_is_kept_though_nobody_waits_for_it() {
    for t in stores().await {
        let (line, _) = line(&t);
        assert!(line.keep(said(1, "0")).now_or_never().is_none());
        drop(line);
        while kept(&t).await == 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn groups_are_cut_between_callbacks() {
    let room = Arc::new(Semaphore::new(10));
    let waiting = |n: usize| Waiting {
        receipts: (0..n).flat_map(|n| said(n, "0")).collect(),
        answer: oneshot::channel().0,
        _room: Arc::clone(&room).try_acquire_owned().unwrap(),
    };
    let mut line: VecDeque<Waiting> = [1, GROUP - 1, 1, 2 * GROUP, 3].map(waiting).into();
    let mut sizes = Vec::new();
    while !line.is_empty() {
        sizes.push(next_group(&mut line).iter().map(|w| w.receipts.len()).collect::<Vec<_>>());
    }
    assert_eq!(sizes, [vec![1, GROUP - 1], vec![1], vec![2 * GROUP], vec![3]]);
}

#[test]
fn silence_is_waited_for_longer_while_they_come_unasked() {
    let after = |seen: &[bool]| seen.iter().fold(*QUIET.start(), |quiet, unasked| next_quiet(quiet, *unasked));
    assert_eq!(after(&[true]), *QUIET.start() * 2);
    assert_eq!(after(&[true; 9]), *QUIET.end());
    assert_eq!(after(&[true, true, false]), *QUIET.start() * 2);
    assert_eq!(after(&[true, false, false, false]), *QUIET.start());
}
