//! Entry point: subcommands, wiring and exit codes only.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};
use futures::FutureExt as _;
use futures::future::{join_all, select_all};
use holdfast_operator::admin::{self, Readiness};
use holdfast_operator::api::schema::crd_files;
use holdfast_operator::api_deadline::{ANSWER_TIME_MAX, DeadlineLayer};
use holdfast_operator::bucket_client::S3BucketClient;
use holdfast_operator::config::{Config, RunArgs};
use holdfast_operator::context::Context;
use holdfast_operator::controller::controllers;
use holdfast_operator::events::Events;
use holdfast_operator::lease::Candidate;
use holdfast_operator::metrics::Metrics;
use holdfast_operator::restart_gate::RestartGate;
use holdfast_operator::server_client::HttpServerClient;
use holdfast_operator::telemetry;
use kube::client::ClientBuilder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

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
    let signalled = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
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
        () = signalled => {}
    }
    // What runs may come to its end; a second signal, or the kubelet's patience, ends it anyway: nothing is lost by that.
    let _ = stop_sender.send(true);
    work.await
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

    let ctx = Context {
        events: Events::new(client.clone(), Some(config.identity.clone())),
        client,
        servers: Arc::new(HttpServerClient::default()),
        buckets: Arc::new(S3BucketClient),
        defaults: config.defaults.clone(),
        metrics: metrics.clone(),
        restarts: RestartGate::new(config.max_concurrent_restarts),
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
    let mut running = select_all(controllers);
    let (ended, others) = tokio::select! {
        // Order matters: without the lease another operator may be at work, so this one must not go on at all.
        error = lost => return Err(anyhow::Error::from(error).context("leadership is lost")),
        (ended, _, others) = &mut running => (ended, others),
    };
    ended.context("a controller has failed")?;
    if !*stop.borrow() {
        bail!("a controller has ended by itself");
    }
    for ended in join_all(others).await {
        ended.context("a controller has failed")?;
    }
    if config.elects_leader {
        candidate.release().await;
    }
    tracing::info!("stopped");
    Ok(())
}
