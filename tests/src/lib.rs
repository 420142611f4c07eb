//! What tests and the demo need to run real agents, and to judge them.

pub mod agents;
pub mod bench;
pub mod client;
pub mod cluster;
pub mod command;
pub mod demo;
pub mod eventually;
pub mod increments;
pub mod interrupt;
pub mod ledger;
pub mod preload;
pub mod progress;
pub mod proxy;
mod rng;
pub mod rogue;
pub mod scale;
pub mod sim;
pub mod trio;
