//! Prints the definition of the custom resource, for `make crds`.

use std::io::{self, Write as _};

fn main() -> io::Result<()> {
    io::stdout().write_all(coppice_api::v1alpha1::definition_yaml().as_bytes())
}
