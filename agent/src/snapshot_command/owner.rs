//! Whose the files are that a command leaves in a data folder.
//!
//! Whoever looks after an agent is often root, and the agent is not. What root wrote
//! the agent can neither open nor link into its next snapshot, so it is given to whom
//! the folder belongs, or the one that a new folder was made in.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::Path;

/// To whom a data folder and all in it belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    uid: u32,
    gid: u32,
    /// Whether the folder is to be made.
    makes_folder: bool,
}

impl Owner {
    /// Looks before anything is written.
    ///
    /// # Errors
    ///
    /// If the folder, or the one that it is to be made in, cannot be looked at.
    pub(super) fn of(data_dir: &Path) -> io::Result<Self> {
        let absolute = std::path::absolute(data_dir)?;
        let there = absolute.ancestors().find(|path| path.exists()).unwrap_or(&absolute);
        let found = fs::metadata(there)?;
        Ok(Self { uid: found.uid(), gid: found.gid(), makes_folder: there != absolute })
    }

    /// Gives it what others have left there, and tells what there is to know or do.
    pub(super) fn take(self, data_dir: &Path) -> Option<String> {
        let folder = data_dir.display();
        match self.take_below(data_dir) {
            Ok(0) if self.makes_folder && self.uid == 0 => Some(format!(
                "the files in {folder} belong to root: if the agent runs as another user, give \
                 them to it (chown -R USER {folder})"
            )),
            Ok(0) => None,
            Ok(_) => Some(format!("the new files belong to user {}, as {folder} does", self.uid)),
            Err(error) => Some(format!(
                "not all files in {folder} belong to user {}, as the folder does ({error}): before \
                 the agent starts, let root do so (chown -R {}:{} {folder})",
                self.uid, self.uid, self.gid
            )),
        }
    }

    /// How many files and folders changed hands.
    fn take_below(self, path: &Path) -> io::Result<usize> {
        let found = fs::symlink_metadata(path)?;
        let mut taken = 0;
        if found.uid() != self.uid {
            lchown(path, Some(self.uid), Some(self.gid))?;
            taken += 1;
        }
        if found.is_dir() {
            for entry in fs::read_dir(path)? {
                taken += self.take_below(&entry?.path())?;
            }
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_leaves_belongs_to_whom_the_folder_belongs() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("data");
        let me = fs::metadata(parent.path()).unwrap().uid();
        // Only root can give files away; anybody else is told who can.
        let someone = if me == 0 { 4711 } else { me };
        lchown(parent.path(), Some(someone), None).unwrap();
        let owner = Owner::of(&folder).unwrap();
        assert!(owner.makes_folder);
        fs::create_dir_all(folder.join("db")).unwrap();
        fs::write(folder.join("db/CURRENT"), "").unwrap();

        let told = owner.take(&folder);

        assert_eq!(told.is_some(), me == 0, "{told:?}");
        for path in ["", "db", "db/CURRENT"] {
            assert_eq!(fs::metadata(folder.join(path)).unwrap().uid(), someone, "{path}");
        }
        assert_eq!(Owner::of(&folder).unwrap().take(&folder), None, "nothing is left to do");
    }
}
