//! For tests: objects held whole, histories to run on them, and an oracle.
//!
//! [`Object`] is the plain form of everything here: one context, all entries in
//! one map. [`Oracle`] knows nothing of dots, deltas and contexts: it keeps which
//! operations each operation had seen, and works values out from that.
//! [`World`] runs a [`Step`] list over some replicas and checks both against each
//! other after every step; `histories` makes such lists for proptest.

mod history;
mod object;
mod oracle;
mod strategies;

pub use history::{Replica, Step, Unit, World};
pub use object::{OBJECT_KEY, Object, value_of};
pub use oracle::{Expected, Oracle, Value};
pub use strategies::{histories, operations};

/// Panics unless the three states of one object obey the laws of a join.
///
/// # Panics
///
/// If a law is broken, saying which.
pub fn check_laws(a: &Object, b: &Object, c: &Object) {
    let join = |x: &Object, y: &Object| {
        let mut joined = x.clone();
        joined.join(y);
        joined
    };
    assert_eq!(join(a, b), join(b, a), "a ⊔ b = b ⊔ a");
    assert_eq!(join(&join(a, b), c), join(a, &join(b, c)), "(a ⊔ b) ⊔ c = a ⊔ (b ⊔ c)");
    for state in [a, b, c] {
        assert_eq!(&join(state, state), state, "a ⊔ a = a");
    }
    let joined = join(a, b);
    for state in [a, b] {
        assert_eq!(join(state, &joined), joined, "a ≤ a ⊔ b");
        assert!(state.context().is_covered_by(joined.context()), "a context only grows");
    }
}
