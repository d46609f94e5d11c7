//! Flags and environment → one validated struct, printed at start. It holds no secrets.

use std::net::SocketAddr;

use clap::Args;
use holdfast_contract::ports;

use crate::reconcile::validate::{Defaults, PodUser};
use crate::telemetry::LogFormat;

/// Settings of `run`, as they are given.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Image of holdfast-server for Stores that name none.
    #[arg(long, env = "HOLDFAST_SERVER_IMAGE", default_value = concat!("localhost/holdfast-server:", env!("CARGO_PKG_VERSION")))]
    pub server_image: String,

    /// Pull policy of the server's image: Always, IfNotPresent or Never. Default: Kubernetes's own rule.
    #[arg(long, env = "HOLDFAST_IMAGE_PULL_POLICY", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub image_pull_policy: Option<String>,

    /// Namespaces to watch, separated by commas. Empty: all.
    #[arg(long, env = "HOLDFAST_WATCH_NAMESPACES", default_value = "")]
    pub watch_namespaces: String,

    /// Namespace of the Lease by which operators agree who works. Default: that of the kubeconfig or the pod.
    #[arg(long, env = "HOLDFAST_LEASE_NAMESPACE")]
    pub lease_namespace: Option<String>,

    /// Name of that Lease: operators that share it do the same work, one at a time. Give each release a name of its own.
    #[arg(long, env = "HOLDFAST_LEASE_NAME", default_value = "holdfast-operator")]
    pub lease_name: String,

    /// Whether to take part in leader election. `disabled` only where a second operator is impossible.
    #[arg(long, env = "HOLDFAST_LEADER_ELECTION", default_value = "enabled", value_parser = ["enabled", "disabled"])]
    pub leader_election: String,

    /// Name of this operator among all; the pod's name. Default: the host's name and a random part.
    #[arg(long, env = "HOLDFAST_IDENTITY")]
    pub identity: Option<String>,

    /// Address of /livez, /readyz and /metrics. Where there is no IPv6, [::] means 0.0.0.0.
    #[arg(long, env = "HOLDFAST_HEALTH_ADDRESS", default_value_t = SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), ports::OPERATOR_HEALTH))]
    pub health_address: SocketAddr,

    /// Objects of one kind that are reconciled side by side.
    #[arg(long, env = "HOLDFAST_CONCURRENCY", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,

    /// Stores that restart at a time, for whatever reason.
    #[arg(long, env = "HOLDFAST_MAX_CONCURRENT_RESTARTS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub max_concurrent_restarts: u16,

    /// Who chooses user and group of server pods: `fixed`, or `cluster` where each namespace has a range of its own
    /// (OpenShift).
    #[arg(long, env = "HOLDFAST_POD_USER", default_value = "fixed", value_parser = ["fixed", "cluster"])]
    pub pod_user: String,

    /// What to log, for example `info` or `info,holdfast_operator=debug`.
    #[arg(long, env = "HOLDFAST_LOG", default_value = "info")]
    pub log: String,

    /// Form of the log.
    #[arg(long, env = "HOLDFAST_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// The default image is empty.
    #[error("--server-image (HOLDFAST_SERVER_IMAGE) is empty; name the image of holdfast-server")]
    EmptyImage,
    /// The name of the Lease cannot be one.
    #[error(
        "--lease-name (HOLDFAST_LEASE_NAME) is {0:?}, which is not a name; use lower-case letters, digits, '-' and '.'"
    )]
    LeaseName(String),
    /// A name cannot be that of a namespace.
    #[error("--watch-namespaces (HOLDFAST_WATCH_NAMESPACES) names {0:?}, which is not a namespace's name")]
    Namespace(String),
}

/// Validated settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What a Store may leave out.
    pub defaults: Defaults,
    /// Namespaces to watch, each once; empty: all.
    pub watch_namespaces: Vec<String>,
    /// Namespace of the Lease; absent: the client's own.
    pub lease_namespace: Option<String>,
    /// Name of the Lease.
    pub lease_name: String,
    /// Whether to take part in leader election.
    pub elects_leader: bool,
    /// Name of this operator among all.
    pub identity: String,
    /// Address of the health port.
    pub health_address: SocketAddr,
    /// Objects of one kind that are reconciled side by side.
    pub concurrency: u16,
    /// Stores that restart at a time.
    pub max_concurrent_restarts: u16,
}

impl TryFrom<RunArgs> for Config {
    type Error = ConfigError;

    fn try_from(args: RunArgs) -> Result<Self, ConfigError> {
        let server_image = args.server_image.trim().to_owned();
        if server_image.is_empty() {
            return Err(ConfigError::EmptyImage);
        }
        let mut watch_namespaces: Vec<String> = args
            .watch_namespaces
            .split(',')
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .collect();
        if let Some(bad) = watch_namespaces.iter().find(|name| !is_namespace(name)) {
            return Err(ConfigError::Namespace(bad.clone()));
        }
        if !args.lease_name.split('.').all(|part| !part.is_empty() && is_namespace(part)) {
            return Err(ConfigError::LeaseName(args.lease_name));
        }
        watch_namespaces.sort();
        watch_namespaces.dedup();
        let identity = args.identity.filter(|identity| !identity.is_empty()).unwrap_or_else(|| {
            let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "operator".to_owned());
            format!("{host}-{}", uuid::Uuid::new_v4())
        });
        Ok(Config {
            defaults: Defaults {
                server_image,
                image_pull_policy: args.image_pull_policy,
                pod_user: if args.pod_user == "cluster" { PodUser::Cluster } else { PodUser::Fixed },
            },
            lease_name: args.lease_name,
            watch_namespaces,
            lease_namespace: args.lease_namespace.filter(|namespace| !namespace.is_empty()),
            elects_leader: args.leader_election == "enabled",
            identity,
            health_address: args.health_address,
            concurrency: args.concurrency,
            max_concurrent_restarts: args.max_concurrent_restarts,
        })
    }
}

/// Whether `name` is a DNS label, as names of namespaces are.
fn is_namespace(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.len() <= 63 && name.bytes().all(is_inner) && !name.starts_with('-') && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        run: RunArgs,
    }

    fn parse(arguments: &[&str]) -> Result<Config, ConfigError> {
        Cli::parse_from([&["operator"], arguments].concat()).run.try_into()
    }

    #[test]
    fn namespaces_are_a_list_and_each_is_checked() {
        let namespaces = |text: &str| {
            parse(&[&format!("--watch-namespaces={text}")]).map(|config| config.watch_namespaces)
        };
        assert_eq!(namespaces(""), Ok(vec![]));
        assert_eq!(namespaces("b, a,,b"), Ok(vec!["a".into(), "b".into()]));
        assert_eq!(namespaces("a,B"), Err(ConfigError::Namespace("B".into())));
        assert_eq!(namespaces("-a"), Err(ConfigError::Namespace("-a".into())));
    }

    #[test]
    fn releases_can_have_leases_of_their_own() {
        assert_eq!(parse(&[]).unwrap().lease_name, "holdfast-operator");
        assert_eq!(parse(&["--lease-name", "keeper"]).unwrap().lease_name, "keeper");
        assert_eq!(
            parse(&["--lease-name", "my.release-operator"]).unwrap().lease_name,
            "my.release-operator"
        );
        assert_eq!(parse(&["--lease-name", "a..b"]), Err(ConfigError::LeaseName("a..b".into())));
        assert_eq!(parse(&["--lease-name", "A b"]), Err(ConfigError::LeaseName("A b".into())));
        assert_eq!(parse(&["--lease-name", ""]), Err(ConfigError::LeaseName(String::new())));
    }

    #[test]
    fn the_user_of_the_pods_is_ours_unless_the_cluster_shall_choose() {
        assert_eq!(parse(&[]).unwrap().defaults.pod_user, PodUser::Fixed);
        assert_eq!(parse(&["--pod-user", "cluster"]).unwrap().defaults.pod_user, PodUser::Cluster);
        assert!(Cli::try_parse_from(["operator", "--pod-user", "root"]).is_err());
    }

    #[test]
    fn the_default_image_is_that_of_this_version() {
        let config = parse(&[]).unwrap();
        assert!(config.defaults.server_image.ends_with(env!("CARGO_PKG_VERSION")));
        assert!(config.elects_leader);
        assert_eq!(parse(&["--server-image", " "]), Err(ConfigError::EmptyImage));
    }
}
