//! The rules of CONTRIBUTING.md that a program can check.
//!
//! Each test reads the files that git lists (committed ones and new ones that
//! are not ignored) and names every offender at once.

use std::{
    collections::BTreeSet,
    env,
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

/// Lines of a source file at which to think about a second one, and at which
/// to stop.
const LINES_TO_WARN_AT: usize = 400;
const LINES_TO_FAIL_AT: usize = 800;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 7] = ["util", "utils", "helper", "helpers", "common", "misc", "mod"];

/// Crates with no clock, no randomness and no IO.
const PURE_CRATES: [&str; 2] = ["coppice-crdt", "coppice-replication"];

/// The libraries, and the crates of this workspace that each may use.
const LIBRARIES: [(&str, &[&str]); 5] = [
    ("coppice-crdt", &[]),
    ("coppice-replication", &["coppice-crdt"]),
    ("coppice-api", &["coppice-crdt"]),
    ("coppice-process", &["coppice-api", "coppice-crdt"]),
    ("coppice-tls", &[]),
];

/// Packages that bring a clock, randomness, threads or IO.
const IMPURE_PACKAGES: [&str; 24] = [
    "async-std",
    "axum",
    "chrono",
    "crossbeam-channel",
    "fastrand",
    "futures-timer",
    "getrandom",
    "h2",
    "hyper",
    "jiff",
    "libc",
    "librocksdb-sys",
    "mio",
    "nix",
    "parking_lot",
    "rand",
    "rand_core",
    "rayon",
    "rocksdb",
    "rustix",
    "rustls",
    "socket2",
    "time",
    "tokio",
];

/// The same, as the standard library offers it; the hashed collections are here
/// because their order differs from run to run.
const IMPURE_PATHS: [&str; 9] = [
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::thread",
    "Instant::now",
    "SystemTime",
    "HashMap",
    "HashSet",
];

/// A file of the repository.
struct SourceFile {
    /// Relative to the root, with forward slashes.
    path: String,
    text: String,
}

impl SourceFile {
    fn is_rust(&self) -> bool {
        self.extension() == "rs"
    }

    fn extension(&self) -> &str {
        Path::new(&self.path).extension().and_then(|ext| ext.to_str()).unwrap_or_default()
    }

    /// The text without what follows `//` on each line.
    fn code(&self) -> String {
        let code = self.text.lines().map(|line| line.split("//").next().unwrap_or_default());
        code.collect::<Vec<_>>().join("\n")
    }
}

/// What cargo tells a test that it runs. Not `env!`: with a target folder that two
/// clones share, that may be the other clone's.
fn told_by_cargo(variable: &str) -> PathBuf {
    env::var_os(variable).expect("cargo runs this test").into()
}

fn root() -> PathBuf {
    let member = told_by_cargo("CARGO_MANIFEST_DIR");
    member.parent().expect("a member has a parent").to_owned()
}

/// All text files of the repository; those that are not UTF-8 are left out.
fn source_files() -> Vec<SourceFile> {
    let listed = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "-z"])
        .args(["--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the files of the repository");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout).expect("paths here are UTF-8");

    let files: Vec<_> = listed
        .split_terminator('\0')
        .filter_map(|path| {
            let text = fs::read_to_string(root().join(path)).ok()?;
            Some(SourceFile { path: path.to_owned(), text })
        })
        .collect();
    assert!(files.iter().any(SourceFile::is_rust), "no Rust file found: is this a clone?");
    files
}

/// Where `text` has one of `words`, as `path:line: word`.
fn places(path: &str, text: &str, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let named = words.iter().filter(|word| line.contains(**word));
        found.extend(named.map(|word| format!("{path}:{}: {word}", index + 1)));
    }
    found
}

/// Fails with all offenders, one a line.
fn report(rule: &str, offenders: impl IntoIterator<Item = String>) {
    let lines: BTreeSet<_> = offenders.into_iter().collect();
    let listed = lines.iter().fold(String::new(), |mut text, line| {
        let _ = write!(text, "\n  {line}");
        text
    });
    assert!(lines.is_empty(), "{rule}:{listed}");
}

#[test]
fn files_stay_short() {
    let mut too_long = Vec::new();
    for file in source_files().iter().filter(|file| file.is_rust()) {
        let lines = file.text.lines().count();
        let offence = format!("{}: {lines} lines", file.path);
        if lines >= LINES_TO_FAIL_AT {
            too_long.push(offence);
        } else if lines >= LINES_TO_WARN_AT {
            // Not `eprintln!`, which a passing test swallows.
            let _ = writeln!(std::io::stderr(), "tidy: {offence}; is it two files?");
        }
    }
    report("a file this long is two files", too_long);
}

#[test]
fn files_say_what_they_are() {
    let silent = source_files()
        .into_iter()
        .filter(|file| file.is_rust() && !file.text.starts_with("//!"))
        .map(|file| file.path);
    report("a source file opens with `//!`: what it is, and why it has this shape", silent);
}

#[test]
fn names_say_what_is_inside() {
    let empty = source_files().into_iter().filter(SourceFile::is_rust).filter(|file| {
        let stem = file.path.trim_end_matches(".rs");
        stem.split('/').any(|part| EMPTY_NAMES.contains(&part))
    });
    report("name the thing; for a module with parts, `x.rs` and `x/`", empty.map(|file| file.path));
}

/// The packages that `package` is built of, itself among them.
fn packages_of(package: &str) -> Vec<String> {
    let tree = Command::new(told_by_cargo("CARGO"))
        .args(["tree", "--edges", "normal", "--prefix", "none"])
        .args(["--format", "{p}", "--package", package])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).expect("cargo prints UTF-8");
    tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn pure_crates_depend_on_nothing_impure() {
    for package in PURE_CRATES {
        let packages = packages_of(package).into_iter();
        let offenders = packages.filter(|name| IMPURE_PACKAGES.contains(&name.as_str()));
        report(&format!("{package} is pure and may not use"), offenders);
    }
}

#[test]
fn libraries_depend_on_those_below_them() {
    for (package, may_use) in LIBRARIES {
        let ours = packages_of(package)
            .into_iter()
            .filter(|name| name.starts_with("coppice-") && name != package);
        let offenders = ours.filter(|name| !may_use.contains(&name.as_str()));
        report(&format!("{package} may not use"), offenders);
    }
    let files = source_files();
    let paths = files.iter().map(|file| file.path.as_str());
    let crates = paths.filter(|path| path.starts_with("crates/") && path.ends_with("/Cargo.toml"));
    assert_eq!(crates.count(), LIBRARIES.len(), "a crate that LIBRARIES does not name");
}

#[test]
fn pure_crates_name_nothing_impure() {
    let files = source_files();
    let pure = files.iter().filter(|file| {
        let path = file.path.as_str();
        let in_pure_crate =
            path.starts_with("crates/crdt/src/") || path.starts_with("crates/replication/src/");
        let for_tests = path.ends_with("/testing.rs") || path.ends_with("/tests.rs");
        file.is_rust() && in_pure_crate && !for_tests
    });
    let offenders = pure.flat_map(|file| {
        let code = file.code();
        let shipped = code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        places(&file.path, shipped, &IMPURE_PATHS)
    });
    report("the pure crates take time, randomness and bytes as arguments", offenders);
}

#[test]
fn serde_yaml_is_named_where_it_reads_and_where_it_writes() {
    let may = ["agent/src/config/parse.rs", "crates/api/src/v1alpha1/yaml.rs"];
    let naming = rust_files_naming("serde_yaml").into_iter();
    // Tests may write their cases as users do.
    let offenders =
        naming.filter(|path| !may.contains(&path.as_str()) && !path.ends_with("/tests.rs"));
    report("two files know the YAML parser, so that it can be replaced", offenders);
}

#[test]
fn libraries_have_their_own_errors() {
    let offenders = rust_files_naming("anyhow").into_iter().filter(|path| {
        let is_main = path.ends_with("/main.rs");
        !is_main && !path.starts_with("tests/")
    });
    report("`anyhow` is for `main.rs` and tests; a library says what can go wrong", offenders);
}

/// Paths of the source files whose code contains `word`; this file apart.
fn rust_files_naming(word: &str) -> Vec<String> {
    let files = source_files().into_iter().filter(|file| {
        let elsewhere = !file.path.ends_with("/tidy.rs");
        file.is_rust() && elsewhere && file.code().contains(word)
    });
    files.map(|file| file.path).collect()
}

#[test]
fn nothing_is_tied_to_one_machine() {
    // In two halves each, or this file would be the first offender.
    let banned = [
        // A package client knows its registry; a user may have set up a mirror.
        concat!("index.", "crates.io"),
        concat!("static.", "crates.io"),
        concat!("py", "pi.org"),
        concat!("files.python", "hosted.org"),
        concat!("registry.", "npmjs.org"),
        concat!("proxy.", "golang.org"),
        concat!("deb.", "debian.org"),
        // Paths of whoever wrote it.
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/Us", "ers/"),
    ];
    let files = source_files();
    let offenders = files.iter().flat_map(|file| places(&file.path, &file.text, &banned));
    report("a path of one machine, or the host of a package registry", offenders);
}

#[test]
fn links_between_documents_lead_somewhere() {
    let files = source_files();
    let documents = files.iter().filter(|file| file.extension() == "md");
    let offenders = documents.flat_map(|file| {
        let folder = root().join(&file.path).parent().expect("a file is in a folder").to_owned();
        let targets = file.text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let broken = targets.filter(move |target| {
            let path = target.split('#').next().unwrap_or_default();
            let elsewhere = target.contains("://") || target.starts_with("mailto:");
            !elsewhere && !path.is_empty() && !folder.join(path).exists()
        });
        broken.map(move |target| format!("{}: {target}", file.path))
    });
    report("a link that leads nowhere", offenders);
}
