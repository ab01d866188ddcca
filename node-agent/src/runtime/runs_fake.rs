//! Containers that run once, on the engine in memory: one writes a line, then what it reads, and ends
//! with 3.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use tokio_util::io::ReaderStream;

use super::disk::{Disk, DiskUse, Share};
use super::fake::{FakeRuntime, error};
use super::runs::{RunOrder, Runs};
use super::terminal::{Size, Terminal, Terminals};
use super::{Channel, ContainerId, ErrorKind, ExecRun, RuntimeError};

/// Bytes that it reads before somebody reads what it wrote.
const PIPE_BYTES: usize = 64;

#[derive(Debug, Clone, Default)]
pub struct FakeRun {
    pub id: String,
    pub env: Vec<String>,
    /// Paths of its secrets and configs.
    pub files: Vec<String>,
}

impl Runs for FakeRuntime {
    async fn create_run(&self, order: &RunOrder) -> Result<ContainerId, RuntimeError> {
        let mut state = self.check()?;
        if !state
            .images
            .contains(&order.launch.spec.image_ref().to_string())
        {
            return Err(error(ErrorKind::ImageAbsent));
        }
        state.next += 1;
        let container = format!("{:064x}", state.next);
        let run = FakeRun {
            id: order.id.clone(),
            env: order.body().env.unwrap_or_default(),
            files: Vec::new(),
        };
        state.runs.insert(container.clone(), run);
        Ok(container)
    }

    async fn attach(&self, id: &str, stdin: bool) -> Result<ExecRun, RuntimeError> {
        let known = self.check()?.runs.contains_key(id);
        if !known {
            return Err(error(ErrorKind::NotFound));
        }
        let (input, read) = tokio::io::duplex(PIPE_BYTES);
        let first = futures_util::stream::iter([Ok((Channel::Stdout, b"ready\n".to_vec()))]);
        let echo = ReaderStream::new(read)
            .map(|piece| Ok((Channel::Stdout, piece.unwrap_or_default().to_vec())));
        let output = match stdin {
            true => first.chain(echo).boxed(),
            false => first.boxed(),
        };
        Ok(ExecRun {
            id: id.to_owned(),
            output,
            input: Box::pin(input),
        })
    }

    async fn wait(&self, id: &str) -> Result<i64, RuntimeError> {
        let known = self.check()?.runs.contains_key(id);
        known.then_some(3).ok_or_else(|| error(ErrorKind::NotFound))
    }

    async fn list_runs(&self) -> Result<Vec<(ContainerId, String)>, RuntimeError> {
        let state = self.check()?;
        let runs = state.runs.iter();
        Ok(runs.map(|(id, run)| (id.clone(), run.id.clone())).collect())
    }
}

impl Terminals for FakeRuntime {
    async fn resize(&self, terminal: &Terminal, size: Size) -> Result<(), RuntimeError> {
        let mut state = self.check()?;
        if let Some(kind) = state.resize_errors.pop_front() {
            return Err(error(kind));
        }
        state.resizes.push((terminal.clone(), size));
        Ok(())
    }
}

impl Disk for FakeRuntime {
    async fn disk(&self, sizes: bool, _: &[String]) -> Result<DiskUse, RuntimeError> {
        let state = self.check()?;
        let images = Share {
            count: u32::try_from(state.images.len()).unwrap_or(u32::MAX),
            bytes: Some(7),
            ..Share::default()
        };
        Ok(DiskUse {
            images: sizes.then_some(images),
            named: state.volumes.clone(),
            ..DiskUse::default()
        })
    }

    async fn has_volume(&self, name: &str) -> Result<bool, RuntimeError> {
        let state = self.check()?;
        Ok(state.volumes.iter().any(|volume| volume.name == name))
    }

    async fn volumes(&self) -> Result<Option<BTreeMap<String, u64>>, RuntimeError> {
        let state = self.check()?;
        let names = state.volumes.iter().map(|volume| (volume.name.clone(), 0));
        Ok(Some(names.collect()))
    }

    async fn remove_volume(&self, name: &str, _: bool) -> Result<(), RuntimeError> {
        let mut state = self.check()?;
        let found = state.volumes.iter().position(|volume| volume.name == name);
        let at = found.ok_or_else(|| error(ErrorKind::NotFound))?;
        state.volumes.remove(at);
        Ok(())
    }
}
