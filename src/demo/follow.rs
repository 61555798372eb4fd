//! Looking on while dispatches run: how far each channel is, until nothing is left.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::gateways::Gateways;
use super::{Bar, Stage, Told};
use crate::app::App;
use crate::channel::Evidence;
use crate::domain::delivery::State;
use crate::say;

const LOOK: Duration = Duration::from_millis(250);
/// Without any change for so long, the demo gives up.
const PATIENCE: Duration = Duration::from_mins(2);

/// Shows the channels of these dispatches until all of them have finished and no
/// receipt is on its way.
///
/// # Errors
/// When nothing moves any more, or the database fails.
pub async fn until_finished(app: &App, stage: &dyn Stage, gateways: &Gateways, nos: &[i64]) -> anyhow::Result<()> {
    let (mut last, mut moved) = (Vec::new(), Instant::now());
    loop {
        let bars = bars(app, nos).await?;
        if bars != last {
            stage.progress(&bars);
            (last, moved) = (bars, Instant::now());
        }
        if finished(app, nos).await? && gateways.waiting() == 0 {
            break;
        }
        anyhow::ensure!(
            moved.elapsed() < PATIENCE,
            say!("发送停住了。请看 logs/serve.log", "sending has come to a halt. See logs/serve.log")
        );
        tokio::time::sleep(LOOK).await;
    }
    stage.progress_over();
    Ok(())
}

async fn finished(app: &App, nos: &[i64]) -> anyhow::Result<bool> {
    for no in nos {
        if app.store.dispatch(&no.to_string()).await?.finished_at.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn channel_names(app: &App) -> anyhow::Result<BTreeMap<i32, String>> {
    Ok(app.store.channels().await?.into_iter().map(|c| (c.no, c.name)).collect())
}

async fn bars(app: &App, nos: &[i64]) -> anyhow::Result<Vec<Bar>> {
    let names = channel_names(app).await?;
    let mut bars: BTreeMap<i32, Bar> = BTreeMap::new();
    for no in nos {
        for count in app.store.delivery_counts(*no).await? {
            let bar = bars.entry(count.channel).or_default();
            bar.total += count.n;
            let Some(state) = State::from_code(count.state) else { continue };
            match state {
                State::Delivered | State::Read | State::Confirmed | State::Posted | State::Told => {
                    bar.arrived += count.n;
                }
                State::Failed | State::Undelivered => bar.failed += count.n,
                State::Retry | State::Uncertain => bar.again += count.n,
                _ => {}
            }
            let proven = names.get(&count.channel).and_then(|name| app.registry.get(name)).map(|c| c.limits().evidence);
            bar.settled += if state.is_final(proven == Some(Evidence::Receipts)) { count.n } else { 0 };
        }
    }
    let with_name = |(no, bar): (i32, Bar)| Bar { channel: names.get(&no).cloned().unwrap_or_default(), ..bar };
    Ok(bars.into_iter().map(with_name).collect())
}

/// A dispatch at its end.
///
/// # Errors
/// When the database fails.
pub async fn told(app: &App, no: i64) -> anyhow::Result<Told> {
    let dispatch = app.store.dispatch(&no.to_string()).await?;
    let content = app.store.item_version(&dispatch.item_id, dispatch.item_version).await?;
    let people = app.store.reach(no, &app.channel_kinds().await?, app.store.now()).await?.people;
    let names = channel_names(app).await?;
    let mut channels: BTreeMap<String, BTreeMap<&'static str, i64>> = BTreeMap::new();
    for count in app.store.delivery_counts(no).await? {
        let state = State::from_code(count.state).map_or("?", State::name);
        let name = names.get(&count.channel).cloned().unwrap_or_default();
        *channels.entry(name).or_default().entry(state).or_default() += count.n;
    }
    Ok(Told {
        no,
        title: content.title,
        members: dispatch.members,
        deliveries: dispatch.deliveries,
        reached: people.reached,
        informed: people.informed,
        unreached: people.unreached,
        channels,
    })
}
