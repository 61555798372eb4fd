//! A site to measure in: made-up people, one approved notice, one channel named sms.

use std::collections::BTreeMap;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::gateway::PASSWORD;
use super::{Settings, broker, channels};
use crate::app::App;
use crate::channel::AddressKind;
use crate::channel::registry::ChannelSettings;
use crate::clock::Millis;
use crate::config::Config;
use crate::domain::item::{Content, ItemKind, Lane};
use crate::domain::plan::Plan;
use crate::planner::Planner;
use crate::store::dispatches::{Dispatch, Mode, NewDispatch};
use crate::store::items::ApprovalType;
use crate::store::made_up::{MadeUp, village_code};
use crate::store::operators::Role;
use crate::store::schema;
use crate::vault::Vault;

/// The channel under measurement.
pub const CHANNEL: &str = "sms";
/// A channel whose gateway only calls back.
pub const BACK: &str = "back";
/// What everybody is told: two SMS parts, as notices are.
pub const TEXT: &str = "各位村民：今年城乡居民医保集中缴费期到12月31日止，请尽早通过手机或到村委会缴费，逾期将影响明年待遇。咨询电话见村务公开栏。";
pub const WHO: &str = "bench";
const DAY: Millis = 86_400_000;
/// Persons a village.
const VILLAGE: i64 = 2_000;

/// What a dispatch asks for.
#[derive(Debug, Clone)]
pub struct Ask {
    pub audience: String,
    pub plan: &'static str,
    pub lane: Lane,
}

impl Default for Ask {
    fn default() -> Self {
        Self { audience: "all".to_owned(), plan: CHANNEL, lane: Lane::Routine }
    }
}

impl Ask {
    /// To one village alone.
    pub fn village(self) -> Self {
        Self { audience: format!("region:{}", village_code(0)), ..self }
    }
}

/// An open site and what has to go when it closes.
pub struct Site {
    pub app: App,
    pub folder: TempDir,
    seed: u64,
    schema: Option<(String, String)>,
}

impl Site {
    /// A site with one channel; `public_url` is where gateways call back.
    pub async fn open(
        settings: &Settings,
        channel: ChannelSettings,
        public_url: Option<String>,
    ) -> anyhow::Result<Self> {
        Self::open_with(settings, [(CHANNEL.to_owned(), channel)].into(), public_url).await
    }

    /// A site that sends through `channel`, and is called back at `public_url` with so many
    /// receipts a callback.
    pub async fn open_heard(
        settings: &Settings,
        channel: ChannelSettings,
        (public_url, receipts): (&str, usize),
    ) -> anyhow::Result<Self> {
        let channels = [(CHANNEL.to_owned(), channel), (BACK.to_owned(), channels::back(receipts))].into();
        Self::open_with(settings, channels, Some(public_url.to_owned())).await
    }

    async fn open_with(
        settings: &Settings,
        channels: BTreeMap<String, ChannelSettings>,
        public_url: Option<String>,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("gong-bench-").tempdir_in(&settings.dir)?;
        let mut config = Config { base: std::path::absolute(folder.path())?, ..Config::default() };
        let schema = match &settings.store {
            Some(server) => Some((server.clone(), schema::create(server).await?)),
            None => None,
        };
        config.store.url = match &schema {
            Some((server, name)) => schema::url(server, name),
            None => "sqlite:bench.db".to_owned(),
        };
        config.store.key_file = "bench.key".into();
        if let Some(url) = &settings.broker {
            config.queue = broker::settings(url);
        }
        config.server.public_url = public_url;
        // No quiet hours: it is measured at night, too.
        config.quiet_hours.from.clone_from(&config.quiet_hours.to);
        config.channels = channels;
        std::fs::write(folder.path().join("secret"), PASSWORD)?;
        channels::declare(folder.path())?;
        Vault::create(&config.path(&config.store.key_file))?;
        let app = App::open(config).await?;
        let unit = app.store.save_unit("测速单位", "13900000000").await?;
        app.store.save_operator(WHO, &unit, &[Role::Admin]).await?;
        Ok(Self { app, folder, seed: settings.seed, schema })
    }

    /// Makes up people.
    pub async fn people(&self, persons: i64) -> anyhow::Result<()> {
        self.people_with(persons, AddressKind::Phone).await
    }

    /// The same, with addresses of another kind.
    pub async fn people_with(&self, persons: i64, kind: AddressKind) -> anyhow::Result<()> {
        let villages = (persons / VILLAGE).clamp(1, 5_000);
        Ok(self.app.store.make_up_people_with(MadeUp { persons, villages, seed: self.seed }, kind).await?)
    }

    /// A new dispatch to everybody, not yet planned.
    pub async fn dispatch(&self) -> anyhow::Result<Dispatch> {
        self.dispatch_of(Ask::default()).await
    }

    /// A new dispatch, not yet planned.
    pub async fn dispatch_of(&self, ask: Ask) -> anyhow::Result<Dispatch> {
        let store = &self.app.store;
        let operator = store.acting(Some(WHO)).await?;
        let content =
            Content { title: "医保缴费".into(), sms: Some(TEXT.into()), ..Content::new(ItemKind::Notice) };
        let item = store.add_item(&content, &operator).await?;
        store.approve_item(&item, ApprovalType::FastLane, &operator, "").await?;
        let new = NewDispatch {
            item_id: item.id,
            item_version: item.version,
            canonical: ask.audience.clone(),
            audience: ask.audience,
            mode: Mode::Live,
            lane: ask.lane.number(),
            lane_reason: String::new(),
            plan: Plan::parse(ask.plan)?,
            list_no: None,
            parent_no: None,
            expected: "{}".into(),
            created_by: WHO.into(),
            expires_at: store.now() + DAY,
            effective_at: None,
        };
        Ok(store.create_dispatch(&new).await?)
    }

    /// The planner, to be stepped by hand.
    pub async fn planner(&self) -> anyhow::Result<Planner> {
        self.app.planner(Arc::new(Notify::new()), CancellationToken::new()).await
    }

    /// A new dispatch to everybody, planned to its end.
    pub async fn planned(&self) -> anyhow::Result<Dispatch> {
        self.planned_of(Ask::default()).await
    }

    /// The same, with no batch ready before [`Store::hold_batches`] lets them go.
    ///
    /// [`Store::hold_batches`]: crate::store::Store::hold_batches
    pub async fn held(&self, ask: Ask) -> anyhow::Result<Dispatch> {
        let dispatch = self.planned_of(ask).await?;
        self.app.store.hold_batches(dispatch.no, true).await?;
        Ok(dispatch)
    }

    /// A new dispatch, planned to its end.
    pub async fn planned_of(&self, ask: Ask) -> anyhow::Result<Dispatch> {
        let dispatch = self.dispatch_of(ask).await?;
        let planner = self.planner().await?;
        let mut pace = crate::planner::Pace::default();
        while planner.step(&mut pace).await? {}
        self.app.store.settle().await?;
        Ok(self.app.store.dispatch(&dispatch.id).await?)
    }

    /// Closes the database and removes what was made in it.
    pub async fn close(self) -> anyhow::Result<()> {
        self.app.store.close().await;
        if let Some((server, name)) = &self.schema {
            schema::drop(server, name).await?;
        }
        Ok(())
    }
}
