//! Copies of a snapshot that share nothing with the volume it lies on.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::{SnapshotError, SnapshotInfo, checksums, sync_directory};

/// Writes `snapshot` to the tar file `target`, as one directory of its name.
/// `target` appears when it is complete and on disk. Unpacked, it can be
/// [verified](super::verify) and [restored](super::restore()).
///
/// # Errors
///
/// [`SnapshotError::TargetExists`], [`SnapshotError::NoParent`], [`SnapshotError::Unfinished`];
/// [`SnapshotError::Store`] if reading or writing failed, with nothing left of the target. A snapshot that is pruned
/// meanwhile fails so too.
pub fn export_tar(snapshot: &SnapshotInfo, target: &Path) -> Result<(), SnapshotError> {
    into_place(target, |unfinished| {
        let mut archive = tar::Builder::new(io::BufWriter::new(File::create_new(unfinished)?));
        // Whoever unpacks it is its owner.
        archive.mode(tar::HeaderMode::Deterministic);
        archive.append_dir_all(snapshot.name.to_string(), &snapshot.path)?;
        archive.into_inner()?.into_inner()?.sync_all()
    })
}

/// Copies `snapshot` to the new directory `target`, which appears when it is
/// complete and on disk. The directory above it must be there.
///
/// # Errors
///
/// As [`export_tar`].
pub fn export_directory(snapshot: &SnapshotInfo, target: &Path) -> Result<(), SnapshotError> {
    into_place(target, |unfinished| {
        fs::create_dir(unfinished)?;
        fs::create_dir(unfinished.join("db"))?;
        for name in checksums::file_names(&snapshot.path)?.into_iter().chain(["CHECKSUMS".into()]) {
            fs::copy(snapshot.path.join(&name), unfinished.join(&name))?;
            File::open(unfinished.join(&name))?.sync_all()?;
        }
        sync_directory(&unfinished.join("db"))?;
        sync_directory(unfinished)
    })
}

/// Makes `target` under another name beside it, then renames.
fn into_place(
    target: &Path,
    make: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<(), SnapshotError> {
    if target.exists() {
        return Err(SnapshotError::TargetExists(target.to_owned()));
    }
    let unfinished = unfinished(target);
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(missing) = parent.filter(|parent| !parent.is_dir()) {
        // A mistyped path, more likely than one to be made; and nothing would put its
        // name on disk.
        return Err(SnapshotError::NoParent(missing.to_owned()));
    }
    let made = make(&unfinished)
        .and_then(|()| fs::rename(&unfinished, target))
        .and_then(|()| sync_directory(parent.unwrap_or(Path::new("."))));
    made.map_err(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            return SnapshotError::Unfinished(unfinished);
        }
        let _ = fs::remove_file(&unfinished).or_else(|_| fs::remove_dir_all(&unfinished));
        SnapshotError::io("export a snapshot", error)
    })
}

fn unfinished(target: &Path) -> PathBuf {
    let mut name = target.file_name().map_or_else(OsString::new, OsString::from);
    name.push(".unfinished");
    target.with_file_name(name)
}
