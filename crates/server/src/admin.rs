//! Health and control ports, on the threads of a small runtime.
//!
//! ```text
//!   kubelet, Prometheus ─▶ health port   /livez /readyz /metrics     no authentication, read only, no data
//!   operator            ─▶ control port  /v1/…  bearer token  ─▶ bridge ─▶ gate or executor
//!                                                             └▶ backups (tasks of this runtime)
//! ```
//!
//! Order matters: this starts before anything is decided or loaded, because a server that holds or restores is alive,
//! must say why it is not ready, and learns over the control port how to go on. What must not happen here: waiting for the
//! disk or for the owner of the data in a health answer, and panicking on input.

mod config_check;
mod control;
mod health;
mod listener;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::listener::{BoundedListener, Bounds};
use crate::backup::upload::{BackupSettings, Backups};
use crate::bridge::ServerHandle;
use crate::config::{BindAddress, Config};
use crate::metrics::Metrics;
use crate::network::listener::{ListenError, listen};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 64;
/// Of each listening socket.
const BOUNDS: Bounds = Bounds {
    // Kubelet, Prometheus and one operator need a handful.
    connections_max: 64,
    // Longer than a scrape interval, so that a monitor keeps its connection.
    idle_time_max: Duration::from_secs(75),
    // A head has a few hundred bytes, and comes in one packet from all that we know.
    head_time_max: Duration::from_secs(10),
};
/// Longest wait for requests that are being answered when the server stops.
const STOP_TIME_MAX: Duration = Duration::from_secs(10);

/// Where the ports listen, and what they hand on.
#[derive(Debug, Clone)]
pub(crate) struct AdminOptions {
    /// Addresses of the health port; empty: no such port.
    pub(crate) health: Vec<BindAddress>,
    /// Its number.
    pub(crate) health_port: u16,
    /// Addresses of the control port; empty: no such port.
    pub(crate) control: Vec<BindAddress>,
    /// Its number.
    pub(crate) control_port: u16,
    /// File with the bearer token of the control port. Read for every request, so that a rotated token works at once.
    /// `None`, missing or empty: every request is refused.
    pub(crate) control_token_file: Option<PathBuf>,
    /// For backups.
    pub(crate) backup: BackupSettings,
}

impl AdminOptions {
    /// What a configuration says. The control port opens only when a token file is configured.
    #[must_use]
    pub(crate) fn new(config: &Config, instance: String) -> Self {
        // `bind ""` keeps clients off the network. Whoever watches the server from its own machine is none.
        let addresses: Vec<_> =
            if config.bind.is_empty() { BindAddress::loopback().into() } else { config.bind.clone() };
        let when = |open: bool| if open { addresses.clone() } else { Vec::new() };
        Self {
            health: when(config.health_port != 0),
            health_port: config.health_port,
            control: when(config.control_port != 0 && config.control_token_file.is_some()),
            control_port: config.control_port,
            control_token_file: config.control_token_file.clone(),
            backup: BackupSettings {
                temp_dir: config.dir.clone(),
                credentials_root: config.credentials_dir.clone(),
                instance,
            },
        }
    }
}

/// Why the ports did not open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartAdminError {
    /// An address cannot be listened on.
    #[error("failed to open the {name} port; set {name}-port to another number, or to 0 to do without it")]
    Listen {
        /// `health` or `control`.
        name: &'static str,
        /// The cause.
        source: ListenError,
    },
    /// A listening socket cannot be handed to the runtime.
    #[error("failed to watch the {name} port")]
    Watch {
        /// `health` or `control`.
        name: &'static str,
        /// The cause.
        source: io::Error,
    },
}

/// The open ports. Dropping it leaves them open until their runtime ends.
#[derive(Debug)]
pub(crate) struct Admin {
    runtime: Handle,
    stop: watch::Sender<bool>,
    backups: Backups,
    health: Option<SocketAddr>,
    control: Option<SocketAddr>,
    servers: Vec<JoinHandle<()>>,
}

impl Admin {
    /// Opens the ports of `options` on `runtime`; they answer from now on, also while its other threads are busy, as long
    /// as one is not.
    ///
    /// # Errors
    /// [`StartAdminError`] naming the port.
    pub(crate) fn start(
        runtime: &Handle,
        options: AdminOptions,
        handle: &ServerHandle,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, StartAdminError> {
        let AdminOptions { health, health_port, control, control_port, control_token_file, backup } = options;
        let backups = Backups::new(Arc::new(handle.clone()), backup, Arc::clone(metrics));
        let mut admin = Self {
            runtime: runtime.clone(),
            stop: watch::Sender::new(false),
            backups: backups.clone(),
            health: None,
            control: None,
            servers: Vec::new(),
        };
        let router = health::router(handle.clone(), Arc::clone(metrics));
        admin.health = admin.serve("health", &health, health_port, &router)?;
        let router = control::router(handle.clone(), backups, control_token_file);
        admin.control = admin.serve("control", &control, control_port, &router)?;
        Ok(admin)
    }

    /// First address of the health port, as bound.
    #[must_use]
    #[cfg(test)]
    pub(crate) fn health_address(&self) -> Option<SocketAddr> {
        self.health
    }

    /// First address of the control port, as bound.
    #[must_use]
    #[cfg(test)]
    pub(crate) fn control_address(&self) -> Option<SocketAddr> {
        self.control
    }

    /// Cancels running backups (aborting their uploads), answers what is being asked, closes the ports; bounded in time.
    ///
    /// Order matters: the owner of the data still drains its inbox, or has dropped it; else backups that wait for a
    /// snapshot are waited for in vain. Not to be called on a thread of the runtime.
    pub(crate) fn stop(self) {
        let Self { runtime, stop, backups, health: _, control: _, servers } = self;
        runtime.block_on(async {
            let ending = async {
                backups.shutdown().await;
                stop.send_replace(true);
                for server in servers {
                    // A server that panicked is gone as well.
                    let _ = server.await;
                }
            };
            if tokio::time::timeout(STOP_TIME_MAX, ending).await.is_err() {
                tracing::warn!("requests to the health or control port were cut off");
            }
        });
    }

    fn serve(
        &mut self,
        name: &'static str,
        bind: &[BindAddress],
        port: u16,
        router: &Router,
    ) -> Result<Option<SocketAddr>, StartAdminError> {
        let listeners =
            listen(bind, port, BACKLOG).map_err(|source| StartAdminError::Listen { name, source })?;
        let _context = self.runtime.enter();
        let mut first = None;
        for listener in listeners {
            let watch = |source| StartAdminError::Watch { name, source };
            let bound = listener.local_addr().map_err(watch)?;
            let listener = TcpListener::from_std(listener).map_err(watch)?;
            let stopped = wait_for_stop(self.stop.subscribe());
            let serving =
                axum::serve(BoundedListener::new(listener, BOUNDS), listener::service(router.clone()))
                    .with_graceful_shutdown(stopped);
            self.servers.push(self.runtime.spawn(async move {
                if let Err(error) = serving.await {
                    tracing::error!(name, %error, "the port has stopped answering");
                }
            }));
            first.get_or_insert(bound);
        }
        Ok(first)
    }
}

async fn wait_for_stop(mut stop: watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        // Nobody can ask any more; the runtime's end closes the ports.
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests;
