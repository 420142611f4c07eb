//! What the disk itself takes for one fdatasync.
//!
//! It runs between the turns of the servers, in their folder: a neighbour on the
//! disk slows all three, and shows here.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

/// What one probe appends: about what one write of a counter appends to a log.
const BYTES: [u8; 128] = [0x5a; 128];

/// A file that is appended to and synced.
#[derive(Debug)]
pub(crate) struct Probe {
    file: File,
    latencies_us: Vec<u32>,
}

// === impl Probe ===

impl Probe {
    /// One in `folder`.
    ///
    /// # Errors
    ///
    /// If the file cannot be made.
    pub(crate) fn new(folder: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(folder.join("fdatasync"))?;
        Ok(Self { file, latencies_us: Vec::new() })
    }

    /// Appends and syncs for a while.
    ///
    /// # Errors
    ///
    /// If the disk fails.
    pub(crate) fn run(&mut self, time: Duration) -> io::Result<()> {
        let end = Instant::now() + time;
        let mut before = Instant::now();
        while before < end {
            self.file.write_all(&BYTES)?;
            self.file.sync_data()?;
            let after = Instant::now();
            let took = after.duration_since(before).as_micros();
            self.latencies_us.push(u32::try_from(took).unwrap_or(u32::MAX));
            before = after;
        }
        Ok(())
    }

    /// What was measured since the last call, in microseconds, sorted.
    pub(crate) fn take(&mut self) -> Vec<u32> {
        self.latencies_us.sort_unstable();
        std::mem::take(&mut self.latencies_us)
    }
}
