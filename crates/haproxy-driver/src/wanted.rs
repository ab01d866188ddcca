//! The configuration file as it would be written now, whatever keeps HAProxy from being loaded with it.

use std::sync::Arc;

use crate::edge::Edge;
use crate::intent::Intent;
use crate::render::render;
use crate::seal::seal;
use crate::settings::Settings;
use crate::slots::SlotMap;

/// What the file would be made of.
#[derive(Debug, Clone)]
pub struct WantedConfig {
    intent: Intent,
    slots: SlotMap,
    settings: Arc<Settings>,
}

impl WantedConfig {
    /// The file as it would be on disk. Megabytes, where there are thousands of servers: for a thread
    /// that may block.
    #[must_use]
    pub fn text(&self) -> String {
        seal(render(&self.intent, &self.slots, &self.settings))
    }
}

impl Edge {
    /// For the routes of the last apply, without what breaks a rule; what HAProxy refuses, and what
    /// waits for a reload, is in it. None before the first apply.
    #[must_use]
    pub fn wanted_config(&self) -> Option<WantedConfig> {
        self.routes.as_ref()?;
        Some(WantedConfig {
            intent: self.wanted.clone(),
            slots: self.slots.clone(),
            settings: Arc::clone(&self.settings),
        })
    }
}
