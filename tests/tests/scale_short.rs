//! A small run of `make scale`: what it checks is right, and fits in memory.

use std::time::Duration;

use coppice_tests::interrupt::Interrupt;
use coppice_tests::progress::say;
use coppice_tests::scale::{self, Plan};

#[test]
fn large_sets_and_groups_are_changed_paged_and_cleared_in_little_memory() {
    let plan = Plan { count: 20_000, load: Duration::from_secs(2) };
    let report = scale::run(plan, &Interrupt::default()).expect("every answer is right");
    say(&report.table());
    assert!(report.fits_memory(), "{} KiB", report.peak_kib());
}
