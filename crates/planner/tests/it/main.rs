//! What the planner promises, in one program: each further one costs seconds of linking.

// Helpers of tests fail a test by a panic, too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod aside;
mod bad_input;
mod certificates;
mod checks;
mod choosing;
mod clocks;
mod depends;
mod draining;
mod each_node;
mod endings;
mod facts;
mod filters;
mod flaps;
mod found;
mod homes;
mod hostile;
mod jobs;
mod laws;
mod placing;
mod reach;
mod rebalance;
mod records;
mod replay;
mod rig;
mod rollout_back;
mod rollout_gate;
mod rollout_proof;
mod rollout_room;
mod rollout_words;
mod rollouts;
mod scaling;
mod scaling_laws;
mod scaling_signals;
mod trials;
mod victims;
mod warm;
mod weights;
mod world;
