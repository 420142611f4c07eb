//! A few seeds of the simulation; `make sim` runs a thousand.

use coppice_tests::sim;

#[test]
fn replicas_end_equal_and_as_they_should_be_on_a_few_seeds() {
    for seed in 0..40 {
        if let Err(failure) = sim::run(seed, false) {
            panic!("SIM_SEED={seed}: {}\n{}\n{}", failure.error, failure.plan, failure.trace);
        }
    }
}

#[test]
fn a_seed_makes_the_same_run_again() {
    for seed in [7, 8] {
        let [once, again] = [(); 2].map(|()| sim::run(seed, false).expect("the run passes"));
        assert_eq!(once, again, "nothing but the seed may decide");
    }
    let digest_of = |seed| sim::run(seed, false).expect("the run passes").digest;
    assert_ne!(digest_of(7), digest_of(8), "another seed makes another run");
}
