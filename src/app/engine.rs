//! The engine that moves messages: planner, scheduler, workers and the HTTP side, or
//! some of them, as its [`Roles`] say. Drains on shutdown.

use std::fs::File;
use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{App, folder, lock_database};
use crate::cluster::granter::{Granter, SCHEDULER};
use crate::cluster::leading::{Leading, Seat};
use crate::cluster::presence::{self, Board};
use crate::dispatch::control::{Control, Watched, watch_store};
use crate::dispatch::disk::Disk;
use crate::dispatch::job::Jobs;
use crate::dispatch::scheduler::Scheduler;
use crate::dispatch::worker::{Tools, Way, Worker};
use crate::queue::Queue;
use crate::receipts::{ReceiptDesk, maildir};
use crate::say;
use crate::store::StoreError;
use crate::store::workers::Identity;
use crate::telemetry::Counts;
use crate::web;

/// What an engine does of what there is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles {
    /// Plans dispatches.
    pub planner: bool,
    /// Retries, takes over, ends.
    pub scheduler: bool,
    /// Sends.
    pub workers: Served,
    /// Takes callbacks and bounces, and serves pages.
    pub web: bool,
}

/// The channels that an engine's workers serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Served {
    All,
    /// These, by name.
    Only(Vec<String>),
    None,
}

impl Roles {
    /// Everything: the one engine of a county.
    #[must_use]
    pub fn all() -> Self {
        Self { planner: true, scheduler: true, workers: Served::All, web: true }
    }

    /// Workers and nothing else.
    #[must_use]
    pub fn workers(served: Served) -> Self {
        Self { planner: false, scheduler: false, workers: served, web: false }
    }

    fn is_all(&self) -> bool {
        *self == Self::all()
    }

    /// As the store keeps them.
    fn words(&self) -> String {
        let sends = self.workers != Served::None;
        let all = [("planner", self.planner), ("scheduler", self.scheduler), ("workers", sends), ("web", self.web)];
        all.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect::<Vec<_>>().join(",")
    }
}

/// How long the end waits for its parts: one can hang over a line that went dead.
const DRAIN: std::time::Duration = std::time::Duration::from_mins(3);
/// The role of who plans.
const PLANNER: &str = "planner";

/// The parts that every role of one engine shares.
pub(super) struct Common {
    pub(super) stop: CancellationToken,
    tasks: TaskTracker,
    pub(super) wake: Arc<Notify>,
    pub(super) counts: Arc<Counts>,
    pub(super) ways: Arc<Vec<Way>>,
    /// Who this engine is to the others.
    pub(super) owner: String,
    board: Arc<Board>,
    /// Other engines may be on the same store.
    shared: bool,
}

impl App {
    /// Starts an engine with every role.
    pub async fn start_engine(&self) -> anyhow::Result<Engine> {
        self.start_engine_as(&Roles::all()).await
    }

    /// Starts an engine. At most one runs on an embedded store, and it has every role.
    pub async fn start_engine_as(&self, roles: &Roles) -> anyhow::Result<Engine> {
        let lock = self.lock(roles)?;
        let ways = Arc::new(self.ways().await?);
        let serves = self.served(&ways, &roles.workers)?;
        let common = Common {
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            wake: Arc::new(Notify::new()),
            counts: Arc::new(Counts::of(ways.iter().map(|way| way.name.as_str()))),
            ways,
            owner: uuid::Uuid::now_v7().to_string(),
            board: Arc::new(Board::of(serves.iter().map(|w| w.no))),
            shared: lock.is_none(),
        };
        let queue = self.queue(&common)?;
        if lock.is_some() {
            // Holding the lock we know that whoever held these leases is gone.
            self.scheduler(&common, Leading::always()).take_over_all().await?;
        }
        common.supervise(self.monitor(&common)?.run());
        if roles.planner {
            let mut planner = self.planner_of(&common).await?;
            match self.seat(&common, PLANNER) {
                None => common.supervise(planner.run()),
                Some((seat, leading)) => {
                    planner.leading = leading;
                    common.supervise(seat.lead(planner.run()));
                }
            }
        }
        if roles.scheduler {
            self.start_scheduler(&common);
        }
        if roles.planner || roles.scheduler {
            self.start_relay(&common, &queue);
        }
        if roles.scheduler {
            self.tell(&common, &queue).await?;
        }
        if roles.web {
            self.take_letters(&common, &queue)?;
        }
        if !serves.is_empty() {
            self.start_workers(&common, queue, serves)?;
        }
        let shared = self.shared(&common)?;
        if roles.web {
            common.watch_bounces(&shared.desk);
        }
        common.tasks.close();
        let presence = common.shared.then(|| self.be_present(&common, roles));
        let Common { stop, tasks, wake, .. } = common;
        Ok(Engine { stop, tasks, wake, shared, is_web: roles.web, presence, _lock: lock })
    }

    /// The seat of a role that one engine at a time has; none where there is one engine.
    pub(super) fn seat(&self, common: &Common, role: &'static str) -> Option<(Seat, Leading)> {
        common.shared.then(|| Seat::new(Arc::clone(&self.store), role, common.owner.clone()))
    }

    /// Starts what one engine at a time does: retries, takeovers, ends, shares.
    fn start_scheduler(&self, common: &Common) {
        let Some((seat, leading)) = self.seat(common, SCHEDULER) else {
            common.supervise(self.scheduler(common, Leading::always()).run());
            return;
        };
        let scheduler = self.scheduler(common, leading.clone());
        let granter = Granter {
            store: Arc::clone(&self.store),
            declared: common.ways.iter().map(|w| (w.no, w.channel.limits().rate)).collect(),
            owner: common.owner.clone(),
            leading,
            stop: common.stop.clone(),
        };
        common.supervise(seat.lead(async {
            tokio::join!(scheduler.run(), granter.run());
        }));
    }

    fn be_present(&self, common: &Common, roles: &Roles) -> Presence {
        let me = Identity {
            owner: common.owner.clone(),
            host: presence::host(),
            pid: i64::from(std::process::id()),
            roles: roles.words(),
        };
        common.supervise(crate::cluster::timekeeper::keep_time(Arc::clone(&self.store), common.stop.clone()));
        let (stop, board) = (CancellationToken::new(), Arc::clone(&common.board));
        Presence { task: tokio::spawn(presence::be_present(Arc::clone(&self.store), me, board, stop.clone())), stop }
    }

    /// The ways that this engine's workers serve.
    fn served(&self, ways: &[Way], served: &Served) -> anyhow::Result<Vec<Way>> {
        let Served::Only(names) = served else {
            return Ok(if *served == Served::All { ways.to_vec() } else { Vec::new() });
        };
        let find = |name: &String| ways.iter().find(|w| w.name == *name).cloned();
        let found: Option<Vec<Way>> = names.iter().map(find).collect();
        found.ok_or_else(|| {
            let unknown = names.iter().filter(|n| find(n).is_none()).cloned().collect::<Vec<_>>().join(", ");
            let known = ways.iter().map(|w| w.name.as_str()).collect::<Vec<_>>().join(", ");
            let file = self.config.base.join("gong.toml");
            let file = file.display();
            UnknownChannels(say!(
                "--channels：没有渠道 {unknown}。配置（{file}）里声明的渠道：{known}",
                "--channels: there is no channel {unknown}. The configuration ({file}) declares: {known}"
            ))
            .into()
        })
    }

    fn scheduler(&self, common: &Common, leading: Leading) -> Scheduler {
        Scheduler {
            store: Arc::clone(&self.store),
            retry: self.config.retry.clone(),
            ways: Arc::clone(&common.ways),
            wake: Arc::clone(&common.wake),
            stop: common.stop.clone(),
            counts: Arc::clone(&common.counts),
            leading,
        }
    }

    fn start_workers(&self, common: &Common, queue: Queue, serves: Vec<Way>) -> anyhow::Result<()> {
        let disk = Disk::new(folder(self.store.file.as_deref()), self.config.disk.reserve_mb);
        let shared_by = common.shared.then(|| common.owner.clone());
        let (store, counts) = (Arc::clone(&self.store), Arc::clone(&common.counts));
        let watched = Watched { store, disk, counts, shared_by };
        let (out, control) = watch::channel(Control::starting(&watched));
        common.supervise(watch_store(watched, out, common.stop.clone()));
        let jobs = Jobs::new(Arc::clone(&self.store), self.templates()?, self.site());
        let tools = Tools {
            store: Arc::clone(&self.store),
            queue,
            jobs: Arc::new(jobs.linking_to(self.config.open_url()).on(self.paper()?)),
            retry: self.config.retry.clone(),
            control,
            wake: Arc::clone(&common.wake),
            stop: common.stop.clone(),
            owner: common.owner.clone(),
            quiet: self.config.quiet()?,
            counts: Arc::clone(&common.counts),
            board: Arc::clone(&common.board),
        };
        let (store, channels) = (Arc::clone(&self.store), serves.iter().map(|w| w.no).collect::<Vec<_>>());
        let stop = common.stop.clone();
        common.supervise(async move {
            if let Some(Err(error)) = stop.run_until_cancelled(store.retry_misconfigured(&channels)).await {
                tracing::warn!(%error, "what waits for better settings waits for its own time");
            }
        });
        for way in serves {
            common.supervise(Worker::new(tools.clone(), way).run());
        }
        Ok(())
    }

    fn shared(&self, common: &Common) -> anyhow::Result<web::Shared> {
        let (ways, counts) = (Arc::clone(&common.ways), Arc::clone(&common.counts));
        let desk = ReceiptDesk::open(Arc::clone(&self.store), ways, Arc::clone(&counts));
        let templates = self.config.path("templates".as_ref());
        let page = web::calls::CallPage::load(&templates, &self.config.zone()?)?;
        let pages = web::page::Pages::load(&templates, self.config.zone()?, self.site())?;
        Ok(web::Shared { desk, counts, page, pages: Arc::new(pages) })
    }

    /// The lock of the embedded store; `None` where the store is a server.
    fn lock(&self, roles: &Roles) -> anyhow::Result<Option<File>> {
        let Some(file) = self.store.file.as_deref() else { return Ok(None) };
        if !roles.is_all() {
            return Err(StoreError::Refused(say!(
                "数据库是内嵌的（SQLite），同一个数据库只能有一个引擎，它什么都做：请用不带 --no-workers、--channels 的 gong serve。要多个进程分工，请改用 PostgreSQL（[store] url）",
                "the store is the embedded one (SQLite), which has one engine that does everything: run gong serve without --no-workers and --channels. For several processes use PostgreSQL ([store] url)"
            ))
            .into());
        }
        Ok(Some(lock_database(file)?))
    }
}

/// `--channels` names what is not declared.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UnknownChannels(String);

impl Common {
    /// Runs a part of the engine. One that breaks ends the engine: whoever starts the
    /// program anew finds every lease and takes it over.
    pub(super) fn supervise(&self, part: impl Future<Output = ()> + Send + 'static) {
        // Boxed: the whole of a worker would not fit the stack a few times over.
        let (stop, part) = (self.stop.clone(), Box::pin(part));
        self.tasks.spawn(async move {
            if std::panic::AssertUnwindSafe(part).catch_unwind().await.is_err() {
                tracing::error!("a part of the engine broke; the engine stops");
                stop.cancel();
            }
        });
    }

    fn watch_bounces(&self, desk: &ReceiptDesk) {
        for way in self.ways.iter() {
            let Some(dir) = way.channel.bounces() else { continue };
            self.supervise(maildir::watch(desk.clone(), way.name.clone(), dir.to_owned(), self.stop.clone()));
        }
    }
}

/// A running engine.
pub struct Engine {
    stop: CancellationToken,
    tasks: TaskTracker,
    pub wake: Arc<Notify>,
    shared: web::Shared,
    is_web: bool,
    presence: Option<Presence>,
    _lock: Option<File>,
}

/// This engine's word to the others, kept up until it has drained.
struct Presence {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Engine {
    /// Serves HTTP on `listener` until `until` resolves, then drains.
    pub async fn serve(
        self,
        listener: TcpListener,
        until: impl Future<Output = ()> + Send + 'static,
    ) -> anyhow::Result<()> {
        self.run(Some(listener), until).await
    }

    /// Runs until `until` resolves, then drains. A listener gets every route where this
    /// engine has the web role, else health and metrics.
    pub async fn run(
        self,
        listener: Option<TcpListener>,
        until: impl Future<Output = ()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let stopped = CancellationToken::new();
        let (signal, http) = (stopped.clone(), CancellationToken::new());
        let broken = self.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = until => {}
                () = broken.cancelled() => {}
            }
            signal.cancel();
        });
        let server = listener.map(|listener| {
            let shared = self.shared.clone();
            let routes = if self.is_web { web::router(shared) } else { web::health(shared) };
            let server = axum::serve(listener, routes).with_graceful_shutdown(http.clone().cancelled_owned());
            tokio::spawn(server.into_future())
        });
        stopped.cancelled().await;
        let broken = self.stop.is_cancelled();
        tracing::info!("draining: what is under way is heard out");
        // Receipts of what drains still come in; the listener closes with the workers.
        self.drain().await;
        http.cancel();
        if let Some(server) = server {
            // Idle keep-alive connections of gateways are no reason to stay.
            let _ = tokio::time::timeout(std::time::Duration::from_secs(2), server).await;
        }
        anyhow::ensure!(
            !broken,
            say!(
                "引擎的一部分出错，已停止。请查看日志后重新启动",
                "a part of the engine broke, so it stopped. See the log and start it again"
            )
        );
        Ok(())
    }

    /// Stops every task and waits until what was under way is recorded.
    pub async fn drain(self) {
        self.stop.cancel();
        if tokio::time::timeout(DRAIN, self.tasks.wait()).await.is_err() {
            tracing::error!("a part of the engine does not end; what it holds is taken over by others");
        }
        if let Some(Presence { stop, task }) = self.presence {
            stop.cancel();
            // An error is a panic, which the hook has shown.
            let _ = task.await;
        }
    }

    /// The counts of this engine.
    #[must_use]
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.shared.counts)
    }
}
