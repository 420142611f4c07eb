//! What stands in `crds/` is what the types say.

use std::env;
use std::fs;
use std::path::PathBuf;

use coppice_api::v1alpha1::definition_yaml;

#[test]
fn the_committed_definition_is_that_of_the_types() {
    let member: PathBuf = env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs this").into();
    let path = member.join("../../crds/coppice.dev_replicationgroups.yaml");
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let current = definition_yaml();
    let differs = committed.lines().zip(current.lines()).position(|(old, new)| old != new);
    let at = differs.unwrap_or_else(|| committed.lines().count().min(current.lines().count())) + 1;
    assert!(committed == current, "{} differs from line {at}: run `make crds`", path.display());
}
