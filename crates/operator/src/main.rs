//! Entry point: subcommands, wiring and exit codes only.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use holdfast_operator::admin::{self, Readiness};
use holdfast_operator::api::schema::crd_files;
use holdfast_operator::api_deadline::{ANSWER_TIME_MAX, DeadlineLayer};
use holdfast_operator::backup::checks::BackupChecks;
use holdfast_operator::bucket_client::S3BucketClient;
use holdfast_operator::config::{Config, RunArgs};
use holdfast_operator::context::Context;
use holdfast_operator::controller::controllers;
use holdfast_operator::events::Events;
use holdfast_operator::lease::{Candidate, LeaseError};
use holdfast_operator::metrics::Metrics;
use holdfast_operator::restart_gate::RestartGate;
use holdfast_operator::server_client::HttpServerClient;
use holdfast_operator::slow_calls::SlowCalls;
use holdfast_operator::telemetry;
use kube::client::ClientBuilder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Threads that reconcile, on machines that have more: the operator waits for answers, and each thread keeps memory for itself.
const THREADS_MAX: usize = 4;
/// Between two questions whether the API is there, where no lease is renewed.
const API_CHECK_PERIOD: Duration = Duration::from_secs(5);

/// Returns what a burst of work has taken, and keeps few arenas, whatever the number of processors.
#[global_allocator]
static GLOBAL: holdfast_allocator::Jemalloc = holdfast_allocator::Jemalloc;

#[derive(Parser)]
#[command(name = "holdfast-operator", version, about = "Kubernetes operator of Holdfast stores")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Watch the cluster and reconcile, until SIGTERM or SIGINT.
    Run(Box<RunArgs>),
    /// Print the CustomResourceDefinitions, or write one file for each.
    Crd {
        /// Directory to write to; files that are there are replaced.
        #[arg(long)]
        output_dir: Option<PathBuf>,
    },
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Crd { output_dir } => write_crds(output_dir),
        Command::Run(args) => {
            telemetry::start(&args.log, args.log_format).context("parse the log filter")?;
            let config = Config::try_from(*args)?;
            let threads =
                std::thread::available_parallelism().map_or(1, |count| count.get().min(THREADS_MAX));
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(threads)
                .enable_all()
                .build()
                .context("start the runtime")?
                .block_on(run(config))
        }
    }
}

fn write_crds(output_dir: Option<PathBuf>) -> anyhow::Result<()> {
    for file in crd_files() {
        match &output_dir {
            Some(dir) => {
                let path = dir.join(&file.file_name);
                std::fs::create_dir_all(dir).with_context(|| format!("create directory {dir:?}"))?;
                std::fs::write(&path, &file.text).with_context(|| format!("write {path:?}"))?;
            }
            None => {
                write!(std::io::stdout(), "---\n{}", file.text).context("write to standard output")?;
            }
        }
    }
    Ok(())
}

async fn run(config: Config) -> anyhow::Result<()> {
    tracing::info!(?config, version = env!("CARGO_PKG_VERSION"), "starting");
    let (stop_sender, stop_receiver) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let mut signalled = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };

    let readiness = Readiness::default();
    let metrics = Metrics::default();
    let health = tokio::spawn(admin::serve(config.health_address, readiness.clone(), metrics.clone()));

    let work = work(config, readiness, metrics, stop_receiver);
    tokio::pin!(work);
    tokio::select! {
        result = &mut work => return result,
        result = health => {
            result.context("run the health port")?.context("serve the health port")?;
            bail!("the health port has ended");
        }
        () = signalled() => {}
    }
    tracing::info!("stopping");
    let _ = stop_sender.send(true);
    end(work, signalled()).await
}

/// What runs may come to its end; a second signal, or the kubelet's patience, ends it anyway: nothing is lost by that.
async fn end(
    work: impl Future<Output = anyhow::Result<()>>,
    second_signal: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    tokio::select! {
        result = work => result,
        () = second_signal => bail!("a second signal has ended what still ran"),
    }
}

/// Waits until all `controllers` have ended, which they do when `is_stopping`, while `lost` keeps the leadership.
/// # Errors
/// Leadership is lost, or a controller has failed or has ended by itself.
async fn run_all(
    controllers: Vec<JoinHandle<()>>,
    lost: impl Future<Output = LeaseError>,
    is_stopping: impl Fn() -> bool,
) -> anyhow::Result<()> {
    let all = async {
        let mut running: FuturesUnordered<_> = controllers.into_iter().collect();
        while let Some(ended) = running.next().await {
            ended.context("a controller has failed")?;
            if !is_stopping() {
                bail!("a controller has ended by itself");
            }
        }
        Ok(())
    };
    tokio::select! {
        // Order matters: without the lease another operator may be at work, so this one must not go on at all.
        biased;
        error = lost => Err(anyhow::Error::from(error).context("leadership is lost")),
        result = all => result,
    }
}

/// Without a lease to renew, asks the API now and then whether it is there. Never ends.
async fn watch_api<T>(ctx: &Context, readiness: &Readiness) -> T {
    loop {
        readiness.api_asked();
        match ctx.client.apiserver_version().await {
            Ok(_) => readiness.api_answered(),
            Err(error) => tracing::warn!(%error, "the Kubernetes API does not answer"),
        }
        tokio::time::sleep(API_CHECK_PERIOD).await;
    }
}

/// Reconciles until told to stop, or until leadership is lost.
async fn work(
    config: Config,
    readiness: Readiness,
    metrics: Metrics,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let stopped = {
        let mut stop = stop.clone();
        async move {
            // An error means that the sender is gone, and so is the reason to go on.
            let _ = stop.wait_for(|stop| *stop).await;
        }
        .boxed()
        .shared()
    };
    let client_config = kube::Config::infer().await.context("find the Kubernetes API")?;
    let default_namespace = client_config.default_namespace.clone();
    let client = ClientBuilder::try_from(client_config)
        .context("make a client of the Kubernetes API")?
        .with_layer(&DeadlineLayer(ANSWER_TIME_MAX))
        .build();
    let server_version = client.apiserver_version().await.context("reach the Kubernetes API")?;
    tracing::info!(version = server_version.git_version, "Kubernetes API answers");
    readiness.api_answered();

    let lease_namespace = config.lease_namespace.clone().unwrap_or(default_namespace);
    let candidate = Candidate::new(
        client.clone(),
        &lease_namespace,
        &config.lease_name,
        config.identity.clone(),
        readiness.clone(),
    );
    if config.elects_leader {
        tokio::select! {
            () = candidate.acquire() => {}
            () = stopped.clone() => return Ok(()),
        }
    }
    tracing::info!(identity = config.identity, "leading");
    metrics.set_leader(true);

    let slow = SlowCalls::for_workers(config.concurrency);
    let ctx = Context {
        events: Events::new(client.clone(), Some(config.identity.clone())),
        client,
        servers: Arc::new(HttpServerClient::new(slow.clone())),
        buckets: Arc::new(S3BucketClient::new(slow)),
        defaults: config.defaults.clone(),
        metrics: metrics.clone(),
        restarts: RestartGate::new(config.max_concurrent_restarts),
        checks: BackupChecks::default(),
        caches: None,
    };
    let namespaces: Vec<Option<&str>> = if config.watch_namespaces.is_empty() {
        vec![None]
    } else {
        config.watch_namespaces.iter().map(|namespace| Some(namespace.as_str())).collect()
    };
    let controllers: Vec<_> = namespaces
        .into_iter()
        .flat_map(|namespace| controllers(&ctx, namespace, config.concurrency, stopped.clone()))
        .map(tokio::spawn)
        .collect();

    let lost = async {
        if config.elects_leader { candidate.hold().await } else { watch_api(&ctx, &readiness).await }
    };
    run_all(controllers, lost, || *stop.borrow()).await?;
    if config.elects_leader {
        candidate.release().await;
    }
    tracing::info!("stopped");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::time::sleep;

    const TICK: Duration = Duration::from_millis(10);

    /// Controllers that end after so many ticks.
    fn ending_after(ticks: &[u32]) -> Vec<JoinHandle<()>> {
        ticks.iter().map(|ticks| tokio::spawn(sleep(TICK * *ticks))).collect()
    }

    fn endless() -> JoinHandle<()> {
        tokio::spawn(futures::future::pending())
    }

    #[tokio::test]
    async fn the_lease_is_renewed_until_the_last_controller_has_ended() {
        let renewed = AtomicU32::new(0);
        let hold = async {
            loop {
                sleep(TICK * 2).await;
                renewed.fetch_add(1, Ordering::Relaxed);
            }
        };
        run_all(ending_after(&[1, 40, 2]), hold, || true).await.expect("an end");
        let renewed = renewed.load(Ordering::Relaxed);
        assert!(renewed >= 5, "{renewed} times");
    }

    #[tokio::test]
    async fn a_lease_that_is_lost_ends_what_still_runs() {
        let lost = async {
            sleep(TICK * 5).await;
            LeaseError::TakenOver { lease: "a".into(), holder: "b".into() }
        };
        let mut controllers = ending_after(&[1]);
        controllers.push(endless());
        let error = run_all(controllers, lost, || true).await.expect_err("an error");
        assert!(format!("{error:#}").starts_with("leadership is lost: lease \"a\""), "{error:#}");
    }

    #[tokio::test]
    async fn a_controller_that_ends_by_itself_is_an_error() {
        let mut controllers = ending_after(&[1]);
        controllers.push(endless());
        let error = run_all(controllers, futures::future::pending(), || false).await.expect_err("an error");
        assert_eq!(error.to_string(), "a controller has ended by itself");
    }

    #[tokio::test]
    async fn a_second_signal_ends_what_still_runs() {
        assert!(end(futures::future::pending(), sleep(TICK)).await.is_err());
        let work = async { Ok(()) };
        assert!(end(work, futures::future::pending()).await.is_ok());
    }
}
