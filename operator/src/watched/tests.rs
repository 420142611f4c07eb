//! Lists, events and sources against what readers see.

use super::*;

fn key(namespace: &str, name: &str) -> Key {
    (namespace.to_owned(), name.to_owned())
}

fn list(source: &Source<u32>, objects: &[(&str, u32)]) {
    source.take(Event::Init);
    for (name, object) in objects {
        source.take(Event::InitApply((key("a", name), Some(*object))));
    }
    source.take(Event::InitDone);
}

fn told(changes: &mut broadcast::Receiver<Change<u32>>) -> Vec<(String, Option<u32>, Option<u32>)> {
    std::iter::from_fn(|| changes.try_recv().ok())
        .map(|change| {
            (change.key.1, change.before.as_deref().copied(), change.after.as_deref().copied())
        })
        .collect()
}

#[test]
fn a_new_list_replaces_what_its_source_held_and_tells_the_difference() {
    let watched = Watched::new();
    let source = watched.source("one");
    let other = watched.source("two");
    list(&source, &[("x", 1), ("y", 2)]);
    list(&other, &[("z", 3)]);
    let mut changes = watched.changes();

    source.take(Event::Init);
    source.take(Event::InitApply((key("a", "x"), Some(1))));
    assert_eq!(watched.in_namespace("a").len(), 3, "an unfinished list takes nothing away");
    source.take(Event::InitApply((key("a", "w"), Some(4))));
    source.take(Event::InitDone);

    assert_eq!(
        told(&mut changes),
        [("w".to_owned(), None, Some(4)), ("y".to_owned(), Some(2), None)],
        "x is as it was, and z is of the other source"
    );
    assert!(watched.get("a", "z").is_some());
    assert!(watched.get("a", "y").is_none());
}

#[test]
fn an_event_that_changes_nothing_that_is_kept_wakes_nobody() {
    let watched = Watched::new();
    let source = watched.source("one");
    list(&source, &[("x", 1)]);
    let mut changes = watched.changes();
    source.take(Event::Apply((key("a", "x"), Some(1))));
    assert!(told(&mut changes).is_empty());
    source.take(Event::Apply((key("a", "x"), Some(2))));
    source.take(Event::Apply((key("a", "x"), None)));
    assert_eq!(
        told(&mut changes),
        [("x".to_owned(), Some(1), Some(2)), ("x".to_owned(), Some(2), None)],
        "what is not kept any more is gone"
    );
}

#[test]
fn an_object_that_moves_between_sources_is_seen_throughout() {
    let watched = Watched::new();
    let (from, to) = (watched.source("from"), watched.source("to"));
    list(&from, &[("x", 1)]);
    list(&to, &[]);
    to.take(Event::Apply((key("a", "x"), Some(2))));
    assert!(watched.get("a", "x").is_some());
    from.take(Event::Delete((key("a", "x"), Some(1))));
    assert_eq!(watched.in_namespace("a"), [Arc::new(2)]);
}

#[tokio::test]
async fn all_sources_must_have_their_list() {
    let watched = Watched::new();
    let (one, two) = (watched.source("one"), watched.source("two"));
    list(&one, &[]);
    let waiting = watched.clone();
    let waiting = tokio::time::timeout(std::time::Duration::from_millis(10), waiting.synced());
    assert!(waiting.await.is_err(), "two has none");
    list(&two, &[("x", 1)]);
    watched.synced().await;
    drop(two);
    assert!(watched.all().is_empty(), "what a source held ends with it");
}

#[test]
fn a_namespace_ends_where_the_next_begins() {
    let watched = Watched::new();
    let source = watched.source("one");
    source.take(Event::Init);
    for (namespace, name) in [("a", "x"), ("ab", "x"), ("b", "a")] {
        source.take(Event::InitApply((key(namespace, name), Some(7))));
    }
    source.take(Event::InitDone);
    assert_eq!(watched.in_namespace("a").len(), 1);
    assert_eq!(watched.in_namespace("").len(), 0);
}

#[test]
fn what_may_not_be_seen_is_empty_once_and_never_after_it_was_seen() {
    let refused = |code: u16| {
        let status = kube::core::Status::failure("no", "reason").with_code(code);
        watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status)))
    };
    let course = |is_optional| Course { is_optional, ..Course::default() };
    let mut named = course(true);
    named.goes_on(&Event::<u32>::Init);
    assert!(!named.is_empty(&refused(500)), "that says nothing");
    named.goes_on(&Event::<u32>::Init);
    assert!(named.is_empty(&refused(403)));
    assert!(!named.is_empty(&refused(403)), "that is known");
    assert!(!course(false).is_empty(&refused(403)), "all namespaces are never gone");

    let mut seen = course(true);
    seen.goes_on(&Event::<u32>::InitDone);
    assert!(!seen.is_empty(&refused(403)), "a right that is lost makes no pods disappear");
}

#[test]
fn a_list_that_fails_again_and_again_counts_as_an_outage() {
    let mut course = Course { failed_in_row: 1, ..Course::default() };
    course.goes_on(&Event::<u32>::Init);
    assert_eq!(course.failed_in_row, 1, "nothing was answered yet");
    course.goes_on(&Event::InitApply(1));
    assert_eq!(course.failed_in_row, 0);
}
