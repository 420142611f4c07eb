//! Libraries that stand between an agent and its disk, from `preload/*.c`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

/// Compiles `preload/<name>.c` into `folder`, with the system's C compiler.
///
/// # Errors
///
/// If there is none (`cc`, or what `CC` names), with what it said.
pub fn compile(name: &str, folder: &Path) -> io::Result<PathBuf> {
    let sources = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    let library = folder.join(format!("{name}.so"));
    let compiler = env::var_os("CC").unwrap_or_else(|| OsString::from("cc"));
    let compiled = Command::new(&compiler)
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&library)
        .arg(sources.join("preload").join(format!("{name}.c")))
        .args(["-ldl", "-lpthread"])
        .output()?;
    if compiled.status.success() {
        return Ok(library);
    }
    Err(io::Error::other(String::from_utf8_lossy(&compiled.stderr).into_owned()))
}

/// Whether all that the folder held when the process started is in `shadow`;
/// the names in the folder itself are the last thing to come.
#[must_use]
pub fn is_complete(shadow: &Path) -> bool {
    shadow.join("names/root").exists()
}

/// Makes `folder` what a power loss would have left of the folder that
/// `preload/power_loss.c` kept `shadow` of.
///
/// # Errors
///
/// If a folder cannot be read or written.
pub fn restore(shadow: &Path, folder: &Path) -> io::Result<()> {
    restore_folder(shadow, "root", folder)
}

fn restore_folder(shadow: &Path, listed: &str, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (name, (kind, file)) in names(&shadow.join("names").join(listed))? {
        let path = folder.join(name);
        if kind == "d" {
            restore_folder(shadow, &file, &path)?;
            continue;
        }
        let object = shadow.join("objects").join(file);
        if object.exists() {
            fs::copy(object, path)?;
        } else {
            // Its name was synced, its content never was.
            fs::File::create(path)?;
        }
    }
    Ok(())
}

/// Name to kind and identity; empty if the folder was never synced.
fn names(list: &Path) -> io::Result<BTreeMap<String, (String, String)>> {
    let text = match fs::read_to_string(list) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let entry = |line: &str| {
        let mut words = line.splitn(3, ' ').map(str::to_owned);
        let (kind, file, name) = (words.next()?, words.next()?, words.next()?);
        Some((name, (kind, file)))
    };
    Ok(text.lines().filter_map(entry).collect())
}
