//! What each program of Coppice is as a process: how it stops, and how it says how it
//! ended.
//!
//! What it does until then is the program's own.

mod program;
mod signals;

pub use program::Program;
pub use signals::on_signal;
