//! What gong says of itself: logs for people, counts for Prometheus. Neither holds
//! an address, a name or a text.

pub mod gauges;
pub mod unready;

use std::io::IsTerminal as _;
use std::path::Path;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::channel::{Class, Outcome};
use crate::queue::counts::QueueCounts;
use gauges::Gauges;
use unready::Unready;

/// Days of log files kept.
const KEEP_LOGS: usize = 30;

/// The broker's client calls it an error when a queue is asked for that is not there.
/// Whoever asked hears so as well, and says what there is to say.
const HEARD: &str = "lapin::channel=off";

/// Sends logs to standard error, and to daily files in `dir` where one is given.
/// The guard flushes them; keep it until the end.
pub fn start_logs(filter: &str, dir: Option<&Path>) -> anyhow::Result<Option<WorkerGuard>> {
    let wanted = EnvFilter::try_new(filter)?;
    let filter = match HEARD.parse() {
        Ok(heard) if !filter.contains("lapin") => wanted.add_directive(heard),
        _ => wanted,
    };
    // Colours are for eyes: in a file they are rubbish between the words.
    let colours = std::io::stderr().is_terminal();
    let terminal = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(colours);
    let registry = tracing_subscriber::registry().with(filter).with(terminal);
    let Some(dir) = dir else {
        registry.try_init()?;
        return Ok(None);
    };
    let files = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("gong")
        .filename_suffix("log")
        .max_log_files(KEEP_LOGS)
        .build(dir)?;
    let (writer, guard) = tracing_appender::non_blocking(files);
    registry.with(tracing_subscriber::fmt::layer().json().with_writer(writer)).try_init()?;
    Ok(Some(guard))
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    channel: String,
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfChannel {
    channel: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Told {
    how: &'static str,
}

/// Failures that speak of the gateway, not of the message.
const OF_GATEWAY: [Class; 6] =
    [Class::Throttled, Class::Temporary, Class::Misconfigured, Class::Unknown, Class::Unreachable, Class::Withdrawn];
/// Failures of one message or its address.
const OF_MESSAGE: [Class; 2] = [Class::Permanent, Class::AddressGone];

/// How an alarm is told, or that it could not be.
const TOLD: [&str; 3] = ["command", "channel", "failed"];

/// How a channel's messages were answered since this process began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answered {
    pub accepted: u64,
    /// Failures that speak of the gateway, not of the message.
    pub refused: u64,
}

/// The counts of this process.
#[derive(Debug)]
pub struct Counts {
    registry: Registry,
    answers: Family<Answer, Counter>,
    receipts: Family<OfChannel, Counter>,
    refused: Family<OfChannel, Counter>,
    busy: Family<OfChannel, Counter>,
    alarms: Family<Told, Counter>,
    pub gauges: Gauges,
    /// Transactions of workers that recorded results.
    pub turns: Counter,
    /// Transactions that kept receipts, of one callback or of many.
    pub receipt_groups: Counter,
    /// Dispatches with work left.
    pub open_dispatches: Gauge,
    /// Receipts whose message is not known yet.
    pub unmatched: Gauge,
    /// 1 while the disk has less room than its reserve.
    pub low_disk: Gauge,
    /// Batches put off because they cannot be prepared.
    pub put_off: Counter,
    /// Which dispatches these are of.
    pub unready: Unready,
    /// What the broker's side of the queue counts.
    pub queue: QueueCounts,
}

impl Default for Counts {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("gong");
        let answers = Family::<Answer, Counter>::default();
        registry.register("answers", "Answers of gateways, by class", answers.clone());
        let receipts = Family::<OfChannel, Counter>::default();
        registry.register("receipts", "Receipts kept", receipts.clone());
        let refused = Family::<OfChannel, Counter>::default();
        registry.register("callbacks_refused", "Callbacks not believed or not understood", refused.clone());
        let busy = Family::<OfChannel, Counter>::default();
        registry.register("callbacks_busy", "Callbacks told to come again, for too many receipts waited", busy.clone());
        let alarms = Family::<Told, Counter>::default();
        registry.register("alarms_told", "Alarms told, or not, by way", alarms.clone());
        for how in TOLD {
            let _ = alarms.get_or_create(&Told { how });
        }
        let gauges = Gauges::register(&mut registry);
        let turns = Counter::default();
        registry.register("turns", "Transactions of workers that recorded results", turns.clone());
        let receipt_groups = Counter::default();
        registry.register("receipt_groups", "Transactions that kept receipts", receipt_groups.clone());
        let open_dispatches = Gauge::default();
        registry.register("open_dispatches", "Dispatches with work left", open_dispatches.clone());
        let unmatched = Gauge::default();
        registry.register("receipts_unmatched", "Receipts whose message is not known yet", unmatched.clone());
        let low_disk = Gauge::default();
        registry.register("low_disk", "1 while only immediate messages go out for want of disk", low_disk.clone());
        let put_off = Counter::default();
        registry.register("batches_put_off", "Batches put off because they cannot be prepared", put_off.clone());
        let queue = QueueCounts::default();
        queue.register(&mut registry);
        Self {
            registry,
            answers,
            receipts,
            refused,
            busy,
            alarms,
            gauges,
            turns,
            receipt_groups,
            open_dispatches,
            unmatched,
            low_disk,
            put_off,
            unready: Unready::default(),
            queue,
        }
    }
}

/// The answers of one gateway, by class.
pub struct Answers {
    of: Family<Answer, Counter>,
    channel: String,
    /// At hand, since nearly every answer is one.
    accepted: Option<Counter>,
}

impl Answers {
    /// Counts an answer.
    pub fn count(&mut self, outcome: &Outcome) {
        let of = |class| self.of.get_or_create_owned(&Answer { channel: self.channel.clone(), class });
        match outcome {
            Outcome::Accepted { .. } => self.accepted.get_or_insert_with(|| of(outcome.word())).inc(),
            Outcome::Failed { .. } => of(outcome.word()).inc(),
        };
    }
}

impl Counts {
    /// The counts of a process with these channels. What is counted by label stands at 0
    /// from the start: a series that begins at 1 has not risen, for whoever asks by how
    /// much it rose, and the first failure of all would go unseen.
    #[must_use]
    pub fn of<'a>(channels: impl IntoIterator<Item = &'a str>) -> Self {
        let counts = Self::default();
        for channel in channels {
            let _ = counts.answered(channel);
            for family in [&counts.receipts, &counts.refused, &counts.busy] {
                let _ = family.get_or_create(&OfChannel { channel: channel.to_owned() });
            }
        }
        counts
    }

    /// The counters of the answers of a channel's gateway.
    pub fn answers(&self, channel: &str) -> Answers {
        Answers { of: self.answers.clone(), channel: channel.to_owned(), accepted: None }
    }

    /// How a channel was answered so far. Every class has its series from here on.
    #[must_use]
    pub fn answered(&self, channel: &str) -> Answered {
        let n = |class| self.answers.get_or_create(&Answer { channel: channel.to_owned(), class }).get();
        for class in OF_MESSAGE {
            n(class.word());
        }
        Answered { accepted: n("accepted"), refused: OF_GATEWAY.into_iter().map(|class| n(class.word())).sum() }
    }

    /// Counts an alarm that was told by `how`, or that could not be (`failed`).
    pub fn alarm_told(&self, how: &'static str) {
        self.alarms.get_or_create(&Told { how }).inc();
    }

    /// Counts receipts kept.
    pub fn receipts(&self, channel: &str, n: usize) {
        self.receipts.get_or_create(&OfChannel { channel: channel.to_owned() }).inc_by(n as u64);
    }

    /// Receipts of a channel that this process kept so far.
    #[must_use]
    pub fn receipts_kept(&self, channel: &str) -> u64 {
        self.receipts.get_or_create(&OfChannel { channel: channel.to_owned() }).get()
    }

    /// Counts a callback that was turned away.
    pub fn callback_refused(&self, channel: &str) {
        self.refused.get_or_create(&OfChannel { channel: channel.to_owned() }).inc();
    }

    /// Counts a callback that has to come again.
    pub fn callback_busy(&self, channel: &str) {
        self.busy.get_or_create(&OfChannel { channel: channel.to_owned() }).inc();
    }

    /// The text of `/metrics` (OpenMetrics 1.0).
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut out, &self.registry);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_the_message_do_not_speak_of_the_gateway() {
        let counts = Counts::default();
        let failed = |class| Outcome::Failed { class, code: String::new(), retry_after: None };
        counts.answers("sms").count(&Outcome::Accepted { gateway_ids: Vec::new(), code: String::new() });
        for class in OF_GATEWAY.into_iter().chain(OF_MESSAGE) {
            counts.answers("sms").count(&failed(class));
        }
        assert_eq!(counts.answered("sms"), Answered { accepted: 1, refused: 6 });
        assert_eq!(counts.answered("mail"), Answered::default());
        let text = counts.text();
        assert!(text.contains("gong_answers_total{channel=\"sms\",class=\"address_gone\"} 1"), "{text}");
        assert!(text.contains("gong_answers_total{channel=\"mail\",class=\"accepted\"} 0"), "{text}");
    }

    #[test]
    fn what_is_counted_begins_at_nothing_and_the_first_is_a_rise() {
        let counts = Counts::of(["sms", "mail"]);
        let shown = |line: &str| counts.text().lines().any(|l| l == line);
        for channel in ["sms", "mail"] {
            for name in ["receipts", "callbacks_refused", "callbacks_busy"] {
                assert!(shown(&format!("gong_{name}_total{{channel=\"{channel}\"}} 0")), "{name} of {channel}");
            }
            for class in OF_GATEWAY.into_iter().chain(OF_MESSAGE).map(Class::word).chain(["accepted"]) {
                let line = format!("gong_answers_total{{channel=\"{channel}\",class=\"{class}\"}} 0");
                assert!(shown(&line), "{line}");
            }
        }
        let told = || counts.text().lines().filter(|l| l.starts_with("gong_alarms_told_total{")).count();
        assert_eq!(told(), TOLD.len());
        assert!(TOLD.iter().all(|how| shown(&format!("gong_alarms_told_total{{how=\"{how}\"}} 0"))));
        counts.alarm_told("failed");
        counts.callback_refused("sms");
        assert!(shown("gong_alarms_told_total{how=\"failed\"} 1") && told() == TOLD.len());
        assert!(shown("gong_callbacks_refused_total{channel=\"sms\"} 1"));
    }

    #[test]
    fn what_nobody_can_say_is_not_shown_as_nothing() {
        let counts = Counts::default();
        let shown = |name: &str| counts.text().lines().any(|l| l.starts_with(name));
        for name in ["gong_disk_free_bytes", "gong_store_size_bytes", "gong_receipts_unheard_seconds"] {
            assert!(!shown(name), "{name}");
        }
        counts.gauges.disk_free("site", Some(7));
        counts.gauges.store_size("postgres", Some(9));
        assert!(
            shown("gong_disk_free_bytes{under=\"site\"} 7") && shown("gong_store_size_bytes{engine=\"postgres\"} 9")
        );
        counts.gauges.disk_free("site", None);
        counts.gauges.store_size("postgres", None);
        assert!(!shown("gong_disk_free_bytes") && !shown("gong_store_size_bytes"));
    }

    #[test]
    fn a_channel_stops_for_one_reason_at_a_time() {
        let counts = Counts::default();
        counts.gauges.stopped("sms", Some("unreachable"));
        assert!(counts.gauges.is_stopped("sms", "unreachable") && !counts.gauges.is_stopped("sms", "misconfigured"));
        counts.gauges.stopped("sms", None);
        assert!(!counts.gauges.is_stopped("sms", "unreachable"));
    }
}
