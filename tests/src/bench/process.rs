//! What the system knows of a process: CPU time, memory, calls of `write`.

use std::fs;
use std::io;

/// Ticks a second of the times in `/proc/<pid>/stat`: fixed for programs on
/// Linux, whatever the kernel's own clock.
const TICKS_PER_SECOND: u32 = 100;

/// One process, this one or a child.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(u32);

/// How much memory a process has, in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Resident now.
    pub(crate) resident_kib: u64,
    /// The most that was resident since [`Process::forget_peak`].
    pub(crate) peak_kib: u64,
}

// === impl Process ===

impl Process {
    /// The process with this number.
    pub(crate) const fn new(pid: u32) -> Self {
        Self(pid)
    }

    /// This one.
    pub(crate) fn own() -> Self {
        Self(std::process::id())
    }

    /// User and system time of all its threads, in microseconds. Its step is
    /// 10 ms.
    ///
    /// # Errors
    ///
    /// If the process is gone.
    pub(crate) fn cpu_us(self) -> io::Result<f64> {
        let stat = self.read("stat")?;
        let ticks = ticks(&stat).ok_or(io::ErrorKind::InvalidData)?;
        Ok(ticks * 1e6 / f64::from(TICKS_PER_SECOND))
    }

    /// Its memory.
    ///
    /// # Errors
    ///
    /// If the process is gone.
    pub(crate) fn memory(self) -> io::Result<Memory> {
        let status = self.read("status")?;
        let field = |name| number_after(&status, name).unwrap_or(0);
        Ok(Memory { resident_kib: field("VmRSS:"), peak_kib: field("VmHWM:") })
    }

    /// Lets the peak of its memory begin again at what it has now, where the
    /// system allows it.
    pub(crate) fn forget_peak(self) {
        // 5 is the kernel's number for it. Without it the peak is the process's.
        let _ = fs::write(format!("/proc/{}/clear_refs", self.0), "5");
    }

    /// How often it called `write` and its kin; `None` if the system does not say.
    pub(crate) fn writes(self) -> Option<u64> {
        number_after(&self.read("io").ok()?, "syscw:")
    }

    fn read(self, file: &str) -> io::Result<String> {
        fs::read_to_string(format!("/proc/{}/{file}", self.0))
    }
}

/// User and system time, the 14th and 15th field. The second is the program's
/// name in parentheses and may hold anything.
fn ticks(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u32>().ok();
    Some(f64::from(next()?) + f64::from(next()?))
}

fn number_after(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stand_behind_a_name_that_may_hold_anything() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 12 30 0 0 20 0 1 0 5 6 7";
        assert_eq!(ticks(stat).map(f64::to_bits), Some(42f64.to_bits()));
    }

    #[test]
    fn the_own_process_has_memory() {
        let memory = Process::own().memory().unwrap();
        assert!(memory.resident_kib > 0 && memory.peak_kib >= memory.resident_kib);
    }
}
