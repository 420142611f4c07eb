//! Points, ranges, pages and cursors.

use bytes::Bytes;

use super::{Factory, commit, holding, keys, put, text};
use crate::store::{Batch, Cursor, KeyRange, Limit, Read, Table};

/// Absence is `None`, an empty page, a cursor at its end.
pub fn absent_is_not_an_error<F: Factory>(factory: &F) {
    let mut store = factory.create();
    for table in Table::ALL {
        assert_eq!(store.get(table, b"k").unwrap(), None);
        assert_eq!(store.get_many(&[(table, b"k"), (table, b"")]).unwrap(), [None, None]);
        let page = store.scan(table, KeyRange::ALL, Limit::NONE).unwrap();
        assert!(page.items.is_empty() && page.next.is_none());
        assert_eq!(store.first_in(table, KeyRange::ALL).unwrap(), None);
        assert_eq!(store.last_in(table, KeyRange::ALL).unwrap(), None);
        let mut cursor = store.cursor(table, KeyRange::ALL).unwrap();
        assert_eq!(cursor.next().unwrap(), None);
        assert_eq!(cursor.next().unwrap(), None, "and stays there");
    }
    let mut batch = Batch::new();
    batch.delete(Table::Meta, b"k");
    batch.delete_range(Table::Meta, b"a", b"z");
    commit(&mut store, &batch);
}

/// A key or value of no bytes is not an absent one.
pub fn empty_keys_and_values_are_kept<F: Factory>(factory: &F) {
    let mut store = factory.create();
    put(&mut store, Table::Meta, b"", b"");
    assert_eq!(text(&store, Table::Meta, b"").as_deref(), Some(""));
    let first = store.first_in(Table::Meta, KeyRange::ALL).unwrap();
    assert_eq!(first, Some((Bytes::new(), Bytes::new())));
}

/// Values of megabytes and keys of kilobytes, over a restart.
pub fn large_values_are_kept<F: Factory>(factory: &F) {
    let mut store = factory.create();
    let (key, value) = (vec![7; 8 << 10], vec![9; 6 << 20]);
    put(&mut store, Table::Objects, &key, &value);
    put(&mut store, Table::Objects, b"small", b"v");
    let store = factory.restart(store);
    assert_eq!(store.get(Table::Objects, &key).unwrap().as_deref(), Some(&value[..]));
    assert_eq!(text(&store, Table::Objects, b"small").as_deref(), Some("v"));
}

/// One key, another value in each table.
pub fn tables_are_apart<F: Factory>(factory: &F) {
    let mut store = factory.create();
    for table in Table::ALL {
        put(&mut store, table, b"k", table.name().as_bytes());
    }
    for table in Table::ALL {
        assert_eq!(text(&store, table, b"k").as_deref(), Some(table.name()));
    }
    let mut batch = Batch::new();
    batch.delete_range(Table::Log, b"", b"\xff");
    commit(&mut store, &batch);
    for table in Table::ALL {
        assert_eq!(text(&store, table, b"k").is_some(), table != Table::Log);
    }
}

/// Whatever their order and table, and however often.
pub fn many_reads_come_in_the_order_asked<F: Factory>(factory: &F) {
    let mut store = holding(factory, "abc");
    put(&mut store, Table::Meta, b"m", b"meta");
    let asked: [(Table, &[u8]); 5] = [
        (Table::Entries, b"c"),
        (Table::Meta, b"m"),
        (Table::Entries, b"x"),
        (Table::Entries, b"a"),
        (Table::Meta, b"m"),
    ];
    let found = store.get_many(&asked).unwrap();
    let found: Vec<Option<&[u8]>> = found.iter().map(Option::as_deref).collect();
    assert_eq!(found, [Some(&b"v"[..]), Some(b"meta"), None, Some(b"v"), Some(b"meta")]);
    assert!(store.get_many(&[]).unwrap().is_empty());
}

/// By unsigned bytes, a prefix before what it starts; bounds as documented.
pub fn scans_are_in_the_order_of_bytes<F: Factory>(factory: &F) {
    let mut store = factory.create();
    let ordered: [&[u8]; 6] = [b"", b"\0", b"a", b"a\0", b"\x7f", b"\xff\xff"];
    for key in ordered.iter().rev() {
        put(&mut store, Table::Floors, key, b"v");
    }
    let all = store.scan(Table::Floors, KeyRange::ALL, Limit::NONE).unwrap();
    assert!(all.items.iter().map(|(key, _)| &key[..]).eq(ordered));
    assert_eq!(all.next, None);
    assert_eq!(keys(&store, Table::Floors, KeyRange::new(b"a", b"\x7f")), "aa\0");
    assert_eq!(keys(&store, Table::Floors, KeyRange::new(b"a\0", b"\xff")), "a\0\x7f");
}

/// Page after page from `next` shows each key exactly once.
pub fn pages_show_a_range_once<F: Factory>(factory: &F) {
    let store = holding(factory, "abcdefghij");
    let limits = [
        Limit::items(3),
        Limit::items(10),
        Limit { items: 100, bytes: 4 },
        Limit { items: 2, bytes: 1 << 20 },
    ];
    for limit in limits {
        let (mut shown, mut from) = (Vec::new(), Bytes::from_static(b"b"));
        loop {
            let range = KeyRange::new(&from, b"j");
            let page = store.scan(Table::Entries, range, limit).unwrap();
            assert!(page.items.len() <= limit.items);
            assert!(
                page.items.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>() <= limit.bytes
            );
            shown.extend(page.items.into_iter().map(|(key, _)| key));
            match page.next {
                Some(next) => from = next,
                None => break,
            }
        }
        assert_eq!(shown.concat(), b"bcdefghi", "{limit:?}");
    }
}

/// One item is returned even where it is over the limit.
pub fn a_page_gets_on_however_small_its_limit<F: Factory>(factory: &F) {
    let store = holding(factory, "ab");
    for limit in [Limit { items: 0, bytes: 0 }, Limit { items: 9, bytes: 1 }] {
        let page = store.scan(Table::Entries, KeyRange::ALL, limit).unwrap();
        assert_eq!((page.items.len(), page.next.as_deref()), (1, Some(&b"b"[..])));
    }
}

/// The ends of a range, whatever lies outside it.
pub fn a_range_has_a_first_and_a_last<F: Factory>(factory: &F) {
    let store = holding(factory, "bdf");
    let ends = |range| {
        let key = |item: Option<(Bytes, Bytes)>| item.map(|(key, _)| key[0] as char);
        let first = store.first_in(Table::Entries, range).unwrap();
        let last = store.last_in(Table::Entries, range).unwrap();
        (key(first), key(last))
    };
    assert_eq!(ends(KeyRange::ALL), (Some('b'), Some('f')));
    assert_eq!(ends(KeyRange::new(b"a", b"f")), (Some('b'), Some('d')));
    assert_eq!(ends(KeyRange::starting_at(b"c")), (Some('d'), Some('f')));
    assert_eq!(ends(KeyRange::new(b"b\0", b"d")), (None, None));
    assert_eq!(ends(KeyRange::starting_at(b"g")), (None, None));
    assert_eq!(ends(KeyRange::new(b"", b"b")), (None, None));
}

/// A range that ends where or before it starts.
pub fn a_reversed_range_is_empty<F: Factory>(factory: &F) {
    let store = holding(factory, "abc");
    for range in [KeyRange::new(b"c", b"a"), KeyRange::new(b"b", b"b"), KeyRange::new(b"z", b"")] {
        assert_eq!(keys(&store, Table::Entries, range), "");
        assert_eq!(store.first_in(Table::Entries, range).unwrap(), None);
        assert_eq!(store.last_in(Table::Entries, range).unwrap(), None);
        let mut cursor = store.cursor(Table::Entries, range).unwrap();
        assert_eq!(cursor.next().unwrap(), None);
        cursor.seek(b"a").unwrap();
        assert_eq!(cursor.next().unwrap(), None, "no seek leaves the range");
    }
}

/// Seeking moves to the next key of the range, and never out of it.
pub fn a_cursor_keeps_to_its_range<F: Factory>(factory: &F) {
    let store = holding(factory, "abcdefg");
    let mut cursor = store.cursor(Table::Entries, KeyRange::new(b"b", b"f")).unwrap();
    let mut next = |seek: Option<&str>| {
        if let Some(key) = seek {
            cursor.seek(key.as_bytes()).unwrap();
        }
        cursor.next().unwrap().map(|(key, _)| key[0] as char)
    };
    assert_eq!([next(None), next(None)], [Some('b'), Some('c')]);
    assert_eq!([next(Some("d!")), next(None)], [Some('e'), None]);
    assert_eq!(next(Some("a")), Some('b'), "before the range is its start");
    assert_eq!([next(Some("g")), next(None)], [None, None]);
    assert_eq!(next(Some("c")), Some('c'), "a cursor at its end can be moved");
}

/// A long walk, in order, with every value.
pub fn a_cursor_walks_a_hundred_thousand_keys<F: Factory>(factory: &F) {
    const KEYS: u32 = 100_000;
    let mut store = factory.create();
    let mut batch = Batch::new();
    // Not in order: 7919 is a prime, so every number comes once.
    for number in (0..KEYS).map(|i| i * 7919 % KEYS) {
        batch.put(Table::Entries, &number.to_be_bytes(), &number.to_le_bytes());
        if batch.len() == 1000 {
            commit(&mut store, &batch);
            batch.clear();
        }
    }
    let mut cursor = store.cursor(Table::Entries, KeyRange::ALL).unwrap();
    let mut expected = 0;
    while let Some((key, value)) = cursor.next().unwrap() {
        assert_eq!(key, u32::to_be_bytes(expected));
        assert_eq!(value, u32::to_le_bytes(expected));
        expected += 1;
    }
    assert_eq!(expected, KEYS);
}
