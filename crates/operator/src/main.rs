//! Entry point: subcommands, wiring and exit codes only.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use holdfast_operator::api::schema::crd_files;

#[derive(Parser)]
#[command(name = "holdfast-operator", version, about = "Kubernetes operator of Holdfast stores")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
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
