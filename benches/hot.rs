//! The pure functions that a message passes on its way, one by one: `cargo bench --bench hot`.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use gong::domain::ids::DeliveryRef;
use gong::domain::recipient::Phone;
use gong::domain::share::{Holder, regrant};
use gong::domain::{audience, privacy, sms};
use gong::queue::message;
use gong::render::messages::{Medium, Messages};
use gong::store::outbox::Ticket;
use gong::vault::{Owner, Vault};
use jiff::tz::TimeZone;
use serde_json::{Value, json};

/// Two parts, as notices are.
const NOTICE: &str = "各位村民：今年城乡居民医保集中缴费期到12月31日止，请尽早通过手机或到村委会缴费，逾期将影响明年待遇。咨询电话见村务公开栏。";
const PERSONAL: &str = "{{name}}：您家{{year}}年耕地地力保护补贴{{amount}}元已发放到尾号{{card}}的账户。";
const AUDIENCE: &str =
    "(区域:河口镇 或 区域:南溪镇) 且 非 组:党员干部 且 年龄>=60 且 (组:低保户 或 组:独居老人 或 组:残疾人)";
/// Made up.
const PHONE: &str = "13900000042";

fn segmentation(c: &mut Criterion) {
    let mut group = c.benchmark_group("sms");
    let latin = "Flood warning: move to higher ground before 18:00. Call 0873-0000000 for help. ".repeat(4);
    for (name, text) in [("two parts of Chinese", NOTICE), ("three parts of GSM", &latin)] {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |b| b.iter(|| sms::segments(black_box(text))));
    }
    group.bench_function("signature", |b| b.iter(|| sms::with_signature("某县应急", black_box(NOTICE))));
    group.finish();
}

fn rendering(c: &mut Criterion) {
    let messages = Messages::load(None, &TimeZone::UTC).expect("the shipped templates are sound");
    let shared = json!({ "item": { "title": "补贴" }, "site": { "name": "某镇" }, "mode_mark": "" });
    let vars = json!({ "name": "第1号", "year": 2026, "amount": "1203.50", "card": "0042" });
    let template = messages.text(Medium::Sms, "notice", Some(PERSONAL)).expect("a sound template");
    let mut personal = template.personal(shared.clone());
    let mut group = c.benchmark_group("render");
    group.bench_function("a personal text", |b| {
        b.iter_batched(|| vars.clone(), |vars| personal.render(vars).expect("rendered"), BatchSize::SmallInput);
    });
    let mut same = messages.text(Medium::Sms, "notice", Some(NOTICE)).expect("a sound template").personal(shared);
    group.bench_function("a text for everybody", |b| b.iter(|| same.render(Value::Null).expect("rendered")));
    group.bench_function("compiling a template", |b| {
        b.iter(|| messages.text(Medium::Sms, "notice", Some(black_box(PERSONAL))).expect("a sound template"));
    });
    group.finish();
}

fn secrets(c: &mut Criterion) {
    let vault = Vault::from_key(&[7; 32]);
    let of = DeliveryRef { dispatch_no: 12, ordinal: 345_678, attempt: 1 };
    let (id, owner) = (vault.client_id(of), Owner::Address(42));
    let sealed = vault.seal(owner, PHONE.as_bytes());
    let mut group = c.benchmark_group("vault");
    group.bench_function("client id", |b| b.iter(|| vault.client_id(black_box(of))));
    group.bench_function("reading a client id", |b| b.iter(|| vault.read_client_id(black_box(id))));
    group.bench_function("sealing a phone", |b| b.iter(|| vault.seal(owner, black_box(PHONE.as_bytes()))));
    group.bench_function("opening a phone", |b| b.iter(|| vault.open_text(owner, black_box(&sealed))));
    group.bench_function("hash of a phone", |b| b.iter(|| vault.hash("phone", black_box(PHONE))));
    group.finish();
}

fn reading(c: &mut Criterion) {
    c.bench_function("audience: parse and print", |b| {
        b.iter(|| audience::parse(black_box(AUDIENCE)).expect("an expression").to_string());
    });
    c.bench_function("phone: read", |b| b.iter(|| Phone::parse(black_box("+86 139-0000-0042"))));
    c.bench_function("privacy: a notice without any", |b| b.iter(|| privacy::scan(black_box(NOTICE), &[])));
    c.bench_function("queue: a message there and back", |b| {
        b.iter(|| message::decode(&message::encode(black_box(Ticket { batch: 123_456, epoch: 3 }))));
    });
}

fn sharing(c: &mut Criterion) {
    let holder = |i: u8| Holder {
        lane: Some(i32::from(i % 3)),
        want: (i % 2 == 0).then_some(30.0),
        rate: 10.0,
        held: 10.0,
        alive: true,
    };
    let holders: Vec<Holder> = (0..16).map(holder).collect();
    c.bench_function("share: a rate among 16 engines", |b| b.iter(|| regrant(black_box(200.0), &holders)));
}

criterion_group!(hot, segmentation, rendering, secrets, reading, sharing);
criterion_main!(hot);
