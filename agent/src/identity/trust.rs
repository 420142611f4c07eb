//! Which authorities peers are verified by: what the operator publishes, and what it
//! answered since.
//!
//! What is published reaches a pod a minute late, an answer at once. So an answer's
//! authorities count beside what was published when it came, until that changes: then
//! what is published is the newer, and drops what it leaves out. Pure: no IO.

/// The bundle in force, and what it was made from.
#[derive(Debug, Default)]
pub(super) struct Trust {
    /// On disk, as far as is known.
    current: Option<String>,
    /// An answer's, and what was published when it came.
    answered: Option<(String, Option<String>)>,
}

impl Trust {
    /// Goes on with what an earlier life of the container left.
    pub(super) fn begin(&mut self, written: Option<String>) {
        self.current = written;
    }

    /// What is in force.
    pub(super) fn current(&self) -> Option<&str> {
        self.current.as_deref()
    }

    /// What is to be in force, if that is something else; without anything known, what
    /// was there stays.
    pub(super) fn next(&mut self, published: Option<&str>) -> Option<String> {
        let is_outdated = |(_, over): &(String, Option<String>)| {
            published.is_some() && over.as_deref() != published
        };
        if self.answered.as_ref().is_some_and(is_outdated) {
            self.answered = None;
        }
        let answered = self.answered.as_ref().map(|(text, _)| text.as_str());
        let next = joined(published, answered)?;
        (self.current.as_ref() != Some(&next)).then_some(next)
    }

    /// What is to be in force with an answer.
    pub(super) fn with_answer(&mut self, published: Option<&str>, answer: &str) -> String {
        self.answered = Some((answer.to_owned(), published.map(str::to_owned)));
        joined(published, Some(answer)).unwrap_or_default()
    }

    pub(super) fn is_written(&mut self, bundle: String) {
        self.current = Some(bundle);
    }
}

fn joined(published: Option<&str>, answered: Option<&str>) -> Option<String> {
    match (published, answered) {
        (None, None) => None,
        (Some(one), None) | (None, Some(one)) => Some(one.to_owned()),
        (Some(one), Some(other)) if one == other => Some(one.to_owned()),
        (Some(one), Some(other)) => Some(format!("{}\n{other}", one.trim_end())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_in_force() {
        let mut trust = Trust::default();
        assert_eq!(trust.next(None), None, "nothing is known");
        assert_eq!(trust.next(Some("a")).as_deref(), Some("a"));
        trust.is_written("a".to_owned());
        assert_eq!(trust.next(Some("a")), None, "it is in force");
        assert_eq!(trust.next(None), None, "what was there stays");
        assert_eq!(trust.next(Some("a b")).as_deref(), Some("a b"));
    }

    #[test]
    fn an_answer_counts_until_what_is_published_changes() {
        let mut trust = Trust::default();
        let bundle = trust.with_answer(Some("old"), "old new");
        assert_eq!(bundle, "old\nold new");
        trust.is_written(bundle);
        assert_eq!(trust.next(Some("old")), None, "published before the answer");
        assert_eq!(trust.next(Some("new")).as_deref(), Some("new"), "it drops the old one");
    }

    #[test]
    fn a_restarted_container_goes_on_with_what_it_had() {
        let mut trust = Trust::default();
        trust.begin(Some("a".to_owned()));
        assert_eq!((trust.next(None), trust.current()), (None, Some("a")));
        assert_eq!(trust.next(Some("a")), None);
        assert_eq!(trust.next(Some("b")).as_deref(), Some("b"));
    }
}
