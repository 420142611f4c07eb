//! A control group with a bound on memory, for one process and its children.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where control groups are, by convention.
const ROOT: &str = "/sys/fs/cgroup";

/// Removed when dropped; what ran inside must have ended by then.
#[derive(Debug)]
pub(super) struct Cgroup {
    folder: PathBuf,
    version: u8,
}

// === impl Cgroup ===

impl Cgroup {
    /// One with at most `bytes` of memory, its pages of files included, and no
    /// swap.
    ///
    /// # Errors
    ///
    /// What the last place that was tried said: mostly that only root may.
    pub(super) fn with_memory(bytes: u64) -> io::Result<Self> {
        let name = format!("coppice-scale-{}", std::process::id());
        let mut last = io::Error::from(io::ErrorKind::Unsupported);
        for (parent, version) in parents() {
            match Self::make(&parent.join(&name), version, bytes) {
                Ok(made) => return Ok(made),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn make(folder: &Path, version: u8, bytes: u64) -> io::Result<Self> {
        fs::create_dir(folder)?;
        let made = Self { folder: folder.to_owned(), version };
        let limit = if version == 2 { "memory.max" } else { "memory.limit_in_bytes" };
        made.set(limit, &bytes.to_string())?;
        // Where swap is counted at all; without it nothing can be swapped out.
        let _ = match version {
            2 => made.set("memory.swap.max", "0"),
            _ => made.set("memory.memsw.limit_in_bytes", &bytes.to_string()),
        };
        Ok(made)
    }

    /// A process that writes its id here is inside, and so are its children.
    pub(super) fn entry(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    /// Which generation of control groups it is of.
    pub(super) fn version(&self) -> u8 {
        self.version
    }

    fn set(&self, file: &str, value: &str) -> io::Result<()> {
        // Not created: a file that is not there is a controller that is not on.
        let mut file = fs::OpenOptions::new().write(true).open(self.folder.join(file))?;
        io::Write::write_all(&mut file, value.as_bytes())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Folders in which a group may be made: below this process's own group, beside
/// it (in the second generation a group has processes or children), or on top.
fn parents() -> Vec<(PathBuf, u8)> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path_of = |wanted: &str| {
        own.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let is_wanted = controllers.split(',').any(|controller| controller == wanted);
            is_wanted.then(|| path.trim_start_matches('/').to_owned())
        })
    };
    let first = Path::new(ROOT).join("memory");
    let mut parents = vec![(first.join(path_of("memory").unwrap_or_default()), 1), (first, 1)];
    let second = Path::new(ROOT).join(path_of("").unwrap_or_default());
    parents.extend(second.parent().map(|beside| (beside.to_owned(), 2)));
    parents.push((PathBuf::from(ROOT), 2));
    parents
}
