//! What each program of Coppice is as a process: how its command line ends it, what it
//! logs, when it stops, and how it says how it ended.
//!
//! What it does until then is the program's own.

mod command_line;
mod logs;
mod program;
mod signals;

pub use command_line::{EX_USAGE, NothingToRun, log_format, log_level};
pub use logs::{Libraries, LogsAlreadySetUp, init_logs};
pub use program::Program;
pub use signals::on_signal;
