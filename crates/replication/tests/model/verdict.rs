//! What a model must show: that the right rule has no counter-example in the
//! whole state space, and that a wrong rule has one.
//!
//! Breadth first on one thread, so that the counter-example printed is a
//! shortest one and the counts are the same in every run.

use std::fmt::Debug;
use std::hash::Hash;

use stateright::{Checker, Expectation, HasDiscoveries, Model};

/// Explores every state of `model`: each `always` must be true in all of them,
/// each `sometimes` in at least one, so that nothing holds for want of trying.
#[expect(clippy::print_stdout, reason = "the counts and the counter-example are the result")]
pub(crate) fn assert_holds<M>(rule: &str, model: M)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync + 'static,
{
    let checker = model.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    println!("holds in all {states} states (depth {depth}): {rule}");
    for property in checker.model().properties() {
        match (property.expectation, checker.discovery(property.name)) {
            (Expectation::Sometimes, None) => panic!("{rule}: never {}", property.name),
            (Expectation::Sometimes, Some(_)) | (_, None) => {}
            (_, Some(path)) => {
                let end = path.last_state().clone();
                let steps = path.into_actions();
                panic!("{rule}: not true that {}: {steps:?}\nends in {end:#?}", property.name);
            }
        }
    }
}

/// Fails unless some state of `model` breaks `property`; prints a shortest way.
///
/// Deepens step by step, because the checker keeps the last counter-example of
/// a block of states and not the first.
#[expect(clippy::print_stdout, reason = "the counts and the counter-example are the result")]
pub(crate) fn assert_refuted<M>(rule: &str, model: &M, property: &'static str)
where
    M: Model + Clone + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync + 'static,
{
    for depth in 1.. {
        let wanted = HasDiscoveries::AnyOf([property].into());
        let builder = model.clone().checker().finish_when(wanted);
        let checker = builder.target_max_depth(depth).spawn_bfs().join();
        let states = checker.unique_state_count();
        if let Some(path) = checker.discovery(property) {
            println!("refuted: {rule}: not true that {property}: {:?}", path.into_actions());
            return;
        }
        assert!(checker.max_depth() >= depth, "{rule}: found nothing in all {states} states");
    }
}
