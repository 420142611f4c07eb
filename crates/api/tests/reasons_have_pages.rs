//! Every reason of a condition has a page, and every page a reason.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use coppice_api::v1alpha1::ConditionReason;

#[test]
fn every_reason_has_a_page_and_every_page_a_reason() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reasons");
    let read = |name: &str| {
        fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let index = read("README.md");
    let mut expected = BTreeSet::from(["README.md".to_owned()]);
    for reason in ConditionReason::ALL {
        let name = format!("{reason}.md");
        let page = read(&name);
        assert!(page.starts_with(&format!("# {reason}\n")), "{name} begins with its name");
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words(&page).contains(reason.meaning()), "{name} says: {}", reason.meaning());
        for part in ["## What it means", "## How to see it", "## How to mend it"] {
            assert!(page.contains(&format!("\n{part}\n")), "{name} lacks {part:?}");
        }
        assert!(index.contains(&format!("({name})")), "the index lacks {name}");
        expected.insert(name);
    }
    let there: BTreeSet<_> = fs::read_dir(&folder)
        .expect("the folder is there")
        .map(|file| file.expect("it is readable").file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(there, expected, "pages, and reasons");
}
