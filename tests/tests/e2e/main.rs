//! What a platform team and its apps see of Coppice on a real cluster.
//!
//! `make e2e` runs it against the cluster that `KUBECONFIG` names; see
//! `coppice_tests::cluster` for what else the environment may name. The tests run one
//! after the other: some take parts of the cluster away.

mod groups;
mod lives;
mod mistakes;
mod outages;
mod rights;
mod rotation;
mod scale;
mod workloads;
