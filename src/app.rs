//! Wires a site together: configuration, key, store, channels. [`engine`] moves messages.

pub mod alarm;
pub mod calls;
pub mod engine;
mod events;
pub mod intake;
pub mod posts;
pub mod prepare;
mod queue;
pub mod review;
pub mod samples;
mod situation;

pub use engine::{Engine, Roles, Served};

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::channel::registry::{ChannelSettings, Registry, Site as ChannelSite};
use crate::channel::{Evidence, Target};
use crate::clock::Clock;
use crate::cluster::leading::Leading;
use crate::config::{self, Config};
use crate::dispatch::job::Site;
use crate::dispatch::paper::Paper;
use crate::dispatch::worker::Way;
use crate::domain::plan::VISIT;
use crate::domain::reach::{ChannelKind, ChannelKinds};
use crate::planner::{PlannedChannel, Planner, REHEARSAL};
use crate::receipts::ReceiptDesk;
use crate::render::following::Following;
use crate::render::messages::Messages;
use crate::say;
use crate::sheet::Press;
use crate::store::{Store, StoreError, owner};
use crate::vault::Vault;

/// An open site: what every command works with.
pub struct App {
    pub config: Config,
    pub store: Arc<Store>,
    pub messages: Messages,
    pub registry: Registry,
    pub press: Press,
}

impl App {
    /// Opens the site of a configuration for the commands beside the engine: the
    /// channels' secrets may lack, nothing is sent.
    pub async fn open(config: Config) -> anyhow::Result<Self> {
        Self::open_as(config, Clock::System, false).await
    }

    /// Opens it to send, with a clock of the caller's.
    pub async fn open_with(config: Config, clock: Clock) -> anyhow::Result<Self> {
        Self::open_as(config, clock, true).await
    }

    async fn open_as(mut config: Config, clock: Clock, to_send: bool) -> anyhow::Result<Self> {
        // Whichever channels there are, a rehearsal stands in for them in a dry run.
        config
            .channels
            .entry(REHEARSAL.to_owned())
            .or_insert_with(|| ChannelSettings { gateway: REHEARSAL.to_owned(), ..ChannelSettings::default() });
        let vault = Vault::open(&config.path(&config.store.key_file))?;
        let store = Store::open(&config.store_url(), vault, clock).await?;
        let zone = config.zone()?;
        let messages = Messages::load(Some(&config.path("templates".as_ref())), &zone)?;
        let (channels_dir, public_url) = (config.path("channels".as_ref()), config.public_url());
        let press = Press::new(config.press());
        let site = ChannelSite {
            channels_dir: channels_dir.is_dir().then_some(channels_dir.as_path()),
            base_dir: &config.base,
            env: &config::env,
            public_url: &public_url,
            zone,
            clock: store.clock.clone(),
            to_send,
            press: press.clone(),
        };
        let registry = Registry::build(&config.channels, &site)?;
        Ok(Self { config, store: Arc::new(store), messages, registry, press })
    }

    /// The site as texts name it.
    #[must_use]
    pub fn site(&self) -> Site {
        Site { name: self.config.site.name.clone(), phone: self.config.site.phone.clone() }
    }

    /// The site's templates, which the engine reads again when they change.
    fn templates(&self) -> anyhow::Result<Following> {
        Ok(Following::new(self.config.path("templates".as_ref()), self.config.zone()?, self.messages.clone()))
    }

    /// The declared channels with their numbers.
    pub async fn ways(&self) -> Result<Vec<Way>, StoreError> {
        let mut ways = Vec::new();
        for name in self.registry.names() {
            let Some(channel) = self.registry.get(name) else { continue };
            let signature = self.registry.signature(name).unwrap_or_default().to_owned();
            ways.push(Way { no: self.store.channel_no(name).await?, name: name.to_owned(), channel, signature });
        }
        Ok(ways)
    }

    /// The channels a plan can name, the door-knock list among them.
    pub async fn planned_channels(&self) -> Result<Vec<PlannedChannel>, StoreError> {
        let mut all: Vec<PlannedChannel> =
            self.ways().await?.iter().map(|w| PlannedChannel::of(w.no, &w.name, &*w.channel)).collect();
        let no = self.store.channel_no(VISIT).await?;
        all.push(PlannedChannel { no, name: VISIT.to_owned(), kind: Target::Visit, rate: 1.0 });
        Ok(all)
    }

    /// What each channel proves and costs, for counting reach; the rehearsal, which
    /// stands in for all in a dry run, is among them.
    pub async fn channel_kinds(&self) -> Result<ChannelKinds, StoreError> {
        let kind = |way: &Way| {
            let limits = way.channel.limits();
            let receipts = limits.evidence == Evidence::Receipts;
            let kind = match way.channel.target() {
                Target::Address(_) => ChannelKind::Electronic { receipts, price_milli: limits.price_milli },
                Target::Account => ChannelKind::Account,
                Target::Point => ChannelKind::Point,
                Target::Visit => ChannelKind::Visit,
            };
            (way.no, kind)
        };
        let mut kinds: ChannelKinds = self.ways().await?.iter().map(kind).collect();
        kinds.insert(self.store.channel_no(VISIT).await?, ChannelKind::Visit);
        Ok(kinds)
    }

    /// What sheets say of this site beside the item.
    pub fn paper(&self) -> anyhow::Result<Paper> {
        Ok(Paper { public_url: self.config.public_url(), zone: self.config.zone()? })
    }

    /// The channels whose deliveries are sheets.
    pub async fn boards(&self) -> Result<Vec<i32>, StoreError> {
        let ways = self.ways().await?;
        Ok(ways.iter().filter(|w| w.channel.target() == Target::Point).map(|w| w.no).collect())
    }

    /// The planner of this site, to be run or stepped.
    pub async fn planner(&self, wake: Arc<Notify>, stop: CancellationToken) -> anyhow::Result<Planner> {
        Ok(Planner {
            store: Arc::clone(&self.store),
            channels: self.planned_channels().await?,
            attributes: self.config.attributes.clone(),
            quiet: self.config.quiet()?,
            wake,
            stop,
            leading: Leading::always(),
            counts: Arc::default(),
        })
    }

    async fn planner_of(&self, common: &engine::Common) -> anyhow::Result<Planner> {
        let planner = self.planner(Arc::clone(&common.wake), common.stop.clone()).await?;
        Ok(Planner { counts: Arc::clone(&common.counts), ..planner })
    }

    /// Whoever takes receipts in.
    pub async fn desk(&self) -> Result<ReceiptDesk, StoreError> {
        let ways = Arc::new(self.ways().await?);
        Ok(ReceiptDesk::open(Arc::clone(&self.store), ways, Arc::default()))
    }

    /// Whether an engine holds the embedded store.
    #[must_use]
    pub fn engine_runs(&self) -> bool {
        let Some(database) = &self.store.file else { return true };
        let Ok(file) = File::options().write(true).open(lock_path(database)) else { return false };
        matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock))
    }
}

/// Takes the lock that an engine holds on an embedded database while it runs.
pub fn lock_database(database: &Path) -> anyhow::Result<File> {
    owner::check(database)?;
    let path = lock_path(database);
    let file = File::options().create(true).truncate(false).write(true).open(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            let path = path.display();
            Err(StoreError::Refused(say!(
                "已有一个 gong serve 在使用这个数据库（锁文件 {path}）。同一个数据库只能有一个引擎；其他命令可以照常使用",
                "another gong serve is using this database (lock {path}). One database has one engine; other commands work beside it"
            ))
            .into())
        }
        Err(std::fs::TryLockError::Error(error)) => Err(error.into()),
    }
}

fn lock_path(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(".engine.lock");
    path.into()
}

/// The folder a file lies in.
fn folder(file: Option<&Path>) -> Option<PathBuf> {
    let folder = file?.parent().filter(|p| !p.as_os_str().is_empty());
    Some(folder.unwrap_or(Path::new(".")).to_owned())
}
