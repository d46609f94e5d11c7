//! Health and control ports, on a small runtime in threads of their own.
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

pub mod bridge;
mod control;
mod health;
mod listener;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use self::bridge::ServerHandle;
use self::listener::BoundedListener;
use crate::backup::upload::{BackupSettings, Backups};
use crate::metrics::Metrics;

/// Threads of the runtime: one may wait for a slow credentials file while the other answers probes.
const THREADS: usize = 2;
/// Connections per port. Kubelet, Prometheus and one operator need a handful.
const CONNECTIONS_MAX: usize = 64;
/// Longest wait for requests that are being answered when the server stops.
const STOP_TIME_MAX: Duration = Duration::from_secs(10);

/// Where the ports listen.
#[derive(Debug, Clone)]
pub struct AdminOptions {
    /// Address of the health port; `None`: no such port.
    pub health: Option<SocketAddr>,
    /// Address of the control port; `None`: no such port.
    pub control: Option<SocketAddr>,
    /// File with the bearer token of the control port. Read for every request, so that a rotated token works at once.
    /// `None`, missing or empty: every request is refused.
    pub control_token_file: Option<PathBuf>,
}

/// Why the ports did not open.
#[derive(Debug, thiserror::Error)]
pub enum StartAdminError {
    /// An address cannot be listened on.
    #[error("failed to listen on {address} for the {port} port; is another process using it?")]
    Listen {
        /// `health` or `control`.
        port: &'static str,
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The threads cannot be started.
    #[error("failed to start the threads of the health and control ports")]
    Threads(#[source] io::Error),
}

/// The running ports. Dropping it stops them without waiting.
#[derive(Debug)]
pub struct Admin {
    runtime: Runtime,
    stop: watch::Sender<bool>,
    backups: Backups,
    health: Option<SocketAddr>,
    control: Option<SocketAddr>,
    servers: Vec<tokio::task::JoinHandle<()>>,
}

impl Admin {
    /// Opens the ports of `options`; they answer from now on.
    ///
    /// # Errors
    /// [`StartAdminError`] naming the address.
    pub fn start(
        options: &AdminOptions,
        handle: &ServerHandle,
        metrics: &Arc<Metrics>,
        backups: BackupSettings,
    ) -> Result<Self, StartAdminError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("admin")
            .enable_all()
            .build()
            .map_err(StartAdminError::Threads)?;
        let backups = Backups::new(Arc::new(handle.clone()), backups, Arc::clone(metrics));
        let mut admin = Self {
            runtime,
            stop: watch::Sender::new(false),
            backups: backups.clone(),
            health: None,
            control: None,
            servers: Vec::new(),
        };
        if let Some(address) = options.health {
            let router = health::router(handle.clone(), Arc::clone(metrics));
            admin.health = Some(admin.serve("health", address, router)?);
        }
        if let Some(address) = options.control {
            let router = control::router(handle.clone(), backups, options.control_token_file.clone());
            admin.control = Some(admin.serve("control", address, router)?);
        }
        Ok(admin)
    }

    /// Address of the health port, as bound.
    #[must_use]
    pub fn health_address(&self) -> Option<SocketAddr> {
        self.health
    }

    /// Address of the control port, as bound.
    #[must_use]
    pub fn control_address(&self) -> Option<SocketAddr> {
        self.control
    }

    /// Runs something of the same kind, such as a restore, on the threads of the ports, and waits for it.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Cancels running backups (aborting their uploads), answers what is being asked, closes the ports; bounded in time.
    /// Call it while the owner of the data still drains its inbox, or after it has dropped it.
    pub fn stop(self) {
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
        runtime.shutdown_timeout(Duration::from_secs(1));
    }

    fn serve(
        &mut self,
        port: &'static str,
        address: SocketAddr,
        router: Router,
    ) -> Result<SocketAddr, StartAdminError> {
        let listen = |source| StartAdminError::Listen { port, address, source };
        let listener = TcpListener::bind(address).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let bound = listener.local_addr().map_err(listen)?;
        let _context = self.runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener).map_err(listen)?;
        let mut stop = self.stop.subscribe();
        let stopped = async move {
            // A dropped sender stops as well.
            let _ = stop.wait_for(|stop| *stop).await;
        };
        let serving = axum::serve(BoundedListener::new(listener, CONNECTIONS_MAX), router)
            .with_graceful_shutdown(stopped);
        self.servers.push(tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(port, %error, "the port has stopped answering");
            }
        }));
        Ok(bound)
    }
}

#[cfg(test)]
mod tests;
