//! The pages under `docs/operations`, run as they are written: what a reader would type, in the order of the page.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use holdfast_e2e::cluster::repository;
use holdfast_e2e::install::by_chart;
use holdfast_e2e::scenario::{Reach, Scenario, run};
use tokio::process::Command;
use tokio::time::timeout;

/// Longest time for all commands of some pages.
const PAGES_TIME_MAX: Duration = Duration::from_secs(600);

/// The blocks of a page that are for a shell, in their order. Those marked `console` only show something.
fn commands(page: &str) -> Result<String> {
    let path = repository().join("docs/operations").join(page);
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let mut blocks = String::new();
    let mut is_command = false;
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(language) => is_command = language == "sh",
            None if is_command => {
                blocks.push_str(line);
                blocks.push('\n');
            }
            None => {}
        }
    }
    ensure!(!blocks.is_empty(), "{page} has no commands");
    Ok(blocks)
}

/// Runs the commands of `pages` one after the other in one shell, in the namespace of the scenario.
async fn follow(s: &Scenario, pages: &[&str]) -> Result<()> {
    let script = pages.iter().map(|page| commands(page)).collect::<Result<Vec<_>>>()?.concat();
    let kubeconfig = std::env::temp_dir().join(format!("{}.kubeconfig", s.namespace));
    std::fs::write(
        &kubeconfig,
        s.cluster.tool("kubectl", &["config", "view", "--minify", "--flatten"]).await?,
    )?;
    let path = std::env::var("PATH").unwrap_or_default();
    let path = match &s.cluster.tools {
        Some(tools) => format!("{}:{path}", tools.display()),
        None => path,
    };
    let store = &s.cluster.object_store;
    // What it leaves running ends with it.
    let script = format!(
        "trap 'kill $(jobs -p) 2> /dev/null || true' EXIT\nkubectl config set-context --current --namespace={}\nset -x\n{script}",
        s.namespace
    );
    let shell = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script])
        .current_dir(repository())
        .env("PATH", path)
        .env("KUBECONFIG", &kubeconfig)
        .env("IMAGES", &s.cluster.images)
        .env("ENDPOINT", &store.endpoint)
        .env("BUCKET", &store.bucket)
        .env("REGION", &store.region)
        .env("PREFIX", &s.namespace)
        .env("ACCESS_KEY_ID", &store.access_key)
        .env("SECRET_ACCESS_KEY", &store.secret_key)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(PAGES_TIME_MAX, shell).await.context("the commands take too long")?;
    let _ = std::fs::remove_file(&kubeconfig);
    let output = output.context("run bash")?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        bail!("the commands of {pages:?} failed:\n{}", said.join("\n"));
    }
    Ok(())
}

#[tokio::test]
async fn the_pages_on_installing_and_upgrading_do_what_they_say() -> Result<()> {
    run("documented-install", Reach::WholeCluster, async |s| {
        let outcome = follow(s, &["install.md", "upgrade.md"]).await;
        // With the values of the other scenarios.
        by_chart(&s.cluster, &s.client).await?;
        outcome
    })
    .await
}

#[tokio::test]
async fn the_pages_on_restoring_and_lost_volumes_do_what_they_say() -> Result<()> {
    run("documented-restore", Reach::OwnNamespace, async |s| {
        follow(s, &["restore.md", "volume-lost.md"]).await
    })
    .await
}
