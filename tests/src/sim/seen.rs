//! Sets of operations, by their number.

/// Which operations of one object somebody has seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen(Vec<u64>);

impl PartialEq for Seen {
    fn eq(&self, other: &Self) -> bool {
        self.is_within(other) && other.is_within(self)
    }
}

impl Seen {
    pub(super) fn insert(&mut self, number: usize) {
        let (word, bit) = (number / 64, number % 64);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << bit;
    }

    pub(super) fn contains(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    pub(super) fn join(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (word, theirs) in self.0.iter_mut().zip(&other.0) {
            *word |= theirs;
        }
    }

    pub(super) fn is_within(&self, other: &Self) -> bool {
        let theirs = |at: usize| other.0.get(at).copied().unwrap_or(0);
        self.0.iter().enumerate().all(|(at, word)| word & !theirs(at) == 0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(at, &word)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| at * 64 + bit)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Seen;

    fn of(numbers: &[usize]) -> Seen {
        let mut seen = Seen::default();
        for &number in numbers {
            seen.insert(number);
        }
        seen
    }

    #[test]
    fn it_holds_what_was_put_in_and_nothing_else() {
        let seen = of(&[0, 63, 64, 200]);
        assert_eq!(seen.iter().collect::<Vec<_>>(), [0, 63, 64, 200]);
        assert!(seen.contains(63) && seen.contains(64));
        assert!(!seen.contains(1) && !seen.contains(65) && !seen.contains(1_000));
    }

    #[test]
    fn sets_of_other_lengths_compare_by_what_is_in_them() {
        let mut long = of(&[3]);
        long.join(&of(&[3, 500]));
        assert_eq!(long, of(&[3, 500]));
        assert!(of(&[3]).is_within(&long) && !long.is_within(&of(&[3])));
        assert!(!of(&[4]).is_within(&long));
        assert_ne!(long, of(&[3]));
    }
}
