//! What each program of Coppice is as a process: what it logs, when it stops, and how it
//! says how it ended.
//!
//! What it does until then is the program's own.

mod logs;
mod program;
mod signals;

pub use logs::{Libraries, LogsAlreadySetUp, init_logs};
pub use program::Program;
pub use signals::on_signal;
