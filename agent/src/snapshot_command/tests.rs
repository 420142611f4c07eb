//! Which group and which snapshot a person means.

use coppice_api::Group;

use super::*;

fn args(words: &str) -> Args {
    Args::read(std::iter::once("coppice-agent").chain(words.split_whitespace())).unwrap()
}

#[test]
fn a_group_is_known_by_name_by_name_and_type_and_by_id() {
    let views = Group::new("page-views", coppice_crdt::CrdtType::PNCounter);
    let id = views.effective_id();
    let config = AgentConfig { groups: vec![views], ..AgentConfig::default() };
    let target = Target { data_dir: PathBuf::new(), config };
    for text in ["page-views", "page-views=PNCounter", &id.to_string()] {
        let found = target.group_id(text).unwrap();
        assert_eq!(found, (id, Some("page-views".to_owned())), "{text}");
    }
    for text in ["carts", "page-views=Counter", ""] {
        let error = target.group_id(text).unwrap_err().to_string();
        assert!(error.contains("write NAME=TYPE"), "{text}: {error}");
    }
}

#[test]
fn groups_are_called_by_their_names_where_they_are_known() {
    let views = Group::new("page-views", coppice_crdt::CrdtType::PNCounter);
    let stored = |id, slot| StoredGroup { id, slot, crdt_type: Some(coppice_crdt::CrdtType::GSet) };
    let groups = vec![stored(views.effective_id(), 1), stored(Uuid::from_u128(7), 2)];
    let config = AgentConfig { groups: vec![views], ..AgentConfig::default() };
    let target = Target { data_dir: PathBuf::new(), config };
    let (path, group) = (PathBuf::from("/there"), Uuid::from_u128(8));
    let error = target.named("carts", SnapshotError::NoSuchGroup { path, group, groups });
    let unknown = "00000000-0000-0000-0000-000000000007 (GSet)";
    assert_eq!(
        error.to_string(),
        format!(
            "the snapshot /there does not hold the group carts: it holds page-views, {unknown}"
        )
    );
    let error = target.named("carts", SnapshotError::GroupHolds(group)).to_string();
    assert!(error.contains("objects of the group carts: add --replace"), "{error}");
}

#[test]
fn a_command_without_a_folder_says_what_to_give() {
    let of = |words| {
        let args = args(words);
        let Some(crate::args::Command::Snapshot { action }) = &args.command else { panic!() };
        in_full(&run(action, &args).unwrap_err())
    };
    assert!(of("snapshot list").contains("Give --data-dir FOLDER or --config FILE"));
    let message = of("snapshot list --data-dir /nowhere/at/all");
    assert!(message.contains("no data folder /nowhere/at/all"), "{message}");
    let message = of("snapshot verify yesterday");
    assert!(message.contains("neither a snapshot's name"), "{message}");
    let message = of("snapshot verify 20261121T101530Z-42 --data-dir /nowhere");
    assert!(message.contains("there is no snapshot 20261121T101530Z-42"), "{message}");
}

#[test]
fn times_are_shown_for_people() {
    let taken_at = UNIX_EPOCH + Duration::from_secs(1_795_256_130);
    assert_eq!(shown(taken_at), "2026-11-21 10:15:30 UTC");
}
