//! Terminals of commands and of containers, and their size.

use bollard::Docker;
use bollard::exec::ResizeExecOptions;
use bollard::query_parameters::ResizeContainerTTYOptionsBuilder;
use longshore_proto::spec::v1 as pb;

use super::RuntimeError;
use super::docker::{DockerRuntime, LOOK_DEADLINE};

/// In characters, at least 1 each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Height.
    pub rows: u16,
    /// Width.
    pub columns: u16,
}

impl Size {
    /// None: it is no size, and changes nothing.
    #[must_use]
    pub fn from_pb(message: pb::TerminalSize) -> Option<Self> {
        let count = |count: u32| u16::try_from(count).ok().filter(|count| *count > 0);
        Some(Self {
            rows: count(message.rows)?,
            columns: count(message.columns)?,
        })
    }

    /// As engines from 23.0 on take it before the start; others do not look at it.
    pub(super) fn console(self) -> Vec<usize> {
        vec![self.rows.into(), self.columns.into()]
    }
}

/// Whose terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Terminal {
    /// Of a command in a container, by the engine's id of it.
    Exec(String),
    /// Of a container.
    Container(String),
}

/// Calls of the engine for terminals.
pub trait Terminals: Send + Sync + 'static {
    /// Changes the size of a terminal; refused where its command has not started yet. Deadline 5 s.
    fn resize(
        &self,
        terminal: &Terminal,
        size: Size,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send;
}

impl Terminals for DockerRuntime {
    async fn resize(&self, terminal: &Terminal, size: Size) -> Result<(), RuntimeError> {
        let resize = |docker: Docker| async move {
            match terminal {
                Terminal::Exec(id) => {
                    let options = ResizeExecOptions {
                        height: size.rows,
                        width: size.columns,
                    };
                    docker.resize_exec(id, options).await
                }
                Terminal::Container(id) => {
                    let options = ResizeContainerTTYOptionsBuilder::new()
                        .h(size.rows.into())
                        .w(size.columns.into())
                        .build();
                    docker.resize_container_tty(id, options).await
                }
            }
        };
        let attempted = "resizing the terminal";
        self.call(attempted, LOOK_DEADLINE, resize).await
    }
}
