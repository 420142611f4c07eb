//! The values that the golden files hold.

use coppice_crdt::{
    ActorId, Amounts, Cell, CrdtType, Dot, Entry, EntryDelta, EntryKey, EntryRange, FieldHeader,
    Floor, Header, HybridTimestamp, ObjectDelta, Part, Raise, RangeRemoval, Summary, TypeSummary,
    Version, VersionVector,
};
use coppice_replication::{
    Ack, Base, Cover, Delta, Exchange, FieldRecord, HeadRecord, Hello, LogItem, LogRecord,
    MemberReport, Message, ObjectRecord, PROTOCOL_VERSION, Position, RANGES, RepairPart,
    RepairRecord, RepairRequest, Totals, Unit, Want,
};

const ANN: ActorId = ActorId::from_bytes(*b"ann's opening 01");
const BOB: ActorId = ActorId::from_bytes(*b"bob's opening 02");
const CYD: ActorId = ActorId::from_bytes(*b"cyd's opening 03");

type Named<T> = Vec<(&'static str, &'static str, T)>;

fn seen(pairs: &[(ActorId, u64)]) -> VersionVector {
    pairs.iter().copied().collect()
}

fn element(json: &str) -> EntryKey {
    EntryKey::of_object(Part::Element(json.as_bytes()))
}

fn version(dot: Dot, deadline_ms: Option<u64>, text: &str) -> Version {
    Version {
        dot,
        stamp: HybridTimestamp::new(1_790_000_000_000, 3),
        deadline_ms,
        content_type: "text/plain".into(),
        bytes: text.as_bytes().into(),
    }
}

/// Bob adds "x" and "y"; "x" replaces an add by Ann.
fn set_unit() -> Unit {
    let added = |n, removed: Vec<Dot>| EntryDelta::Dots { added: vec![Dot::new(BOB, n)], removed };
    let delta = ObjectDelta {
        entries: [
            (element("\"x\""), added(8, vec![Dot::new(ANN, 300)])),
            (element("\"y\""), added(9, vec![])),
        ]
        .into(),
        removals: vec![],
    };
    Unit {
        covers: vec![Cover { actor: BOB, after: 7, upto: 9 }],
        objects: [("tags".into(), delta)].into(),
    }
}

/// Units of two actors joined: a map's counter raised and floored, its register
/// written, another map emptied by a large removal.
fn map_unit() -> Unit {
    let likes = |part| EntryKey::of_field("likes", CrdtType::PNCounter, part);
    let raised = EntryDelta::Cells {
        raised: vec![Raise { birth: 4, last: 21, amounts: Amounts { up: 1000, down: 2 } }],
        floors: vec![Floor { birth: 2, amounts: Amounts { up: 5, down: 0 } }],
    };
    let written = EntryDelta::Versions {
        written: vec![version(Dot::new(BOB, 10), Some(1_790_000_030_000), "hello")],
        removed: vec![Dot::new(ANN, 19), Dot::new(CYD, 1)],
    };
    let changed = ObjectDelta {
        entries: [
            (likes(Part::Cell(ANN)), raised),
            (EntryKey::of_field("title", CrdtType::LWWRegister, Part::Value), written),
        ]
        .into(),
        removals: vec![],
    };
    let emptied = ObjectDelta {
        entries: [].into(),
        removals: vec![RangeRemoval {
            range: EntryRange::fields(),
            context: seen(&[(ANN, 20), (BOB, 9), (CYD, 70_000)]),
        }],
    };
    Unit {
        covers: vec![
            Cover { actor: ANN, after: 20, upto: 22 },
            Cover { actor: BOB, after: 9, upto: 10 },
        ],
        objects: [("page/1".into(), changed), ("page/2".into(), emptied)].into(),
    }
}

fn position(key: &str, entry: &EntryKey) -> Position {
    Position { key: key.into(), entry: entry.as_bytes().into() }
}

fn hello() -> Hello {
    Hello {
        protocol: PROTOCOL_VERSION,
        group_id: *b"a group's id 001",
        crdt_type: CrdtType::ORSet,
        store: *b"a store's id 001",
        opening: ANN,
        opening_number: 5,
        name: "web-0".into(),
        vector: seen(&[(ANN, 300), (BOB, 7)]),
        durable: seen(&[(ANN, 299), (BOB, 7)]),
        clock_ms: 1_790_000_000_000,
    }
}

fn ack() -> Ack {
    Ack {
        report: 45,
        frames: 12,
        seen: seen(&[(BOB, 9)]),
        durable: seen(&[(ANN, 300), (BOB, 8)]),
        digest: Some(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
        links: Some(vec![BOB, CYD]),
        clock_ms: 1_790_000_000_100,
    }
}

fn repair_part() -> RepairPart {
    let dead = Cell {
        birth: 1,
        last: 1,
        amounts: Amounts { up: 5, down: 0 },
        floor: Amounts { up: 5, down: 0 },
    };
    RepairPart {
        vector: seen(&[(ANN, 300), (BOB, 9)]),
        range: 63,
        from: Some(position("tags", &element("\"x\""))),
        to: None,
        objects: vec![
            (
                "tags".into(),
                vec![(element("\"x\""), Entry::Dots(vec![Dot::new(ANN, 2), Dot::new(BOB, 8)]))],
            ),
            (
                "views".into(),
                vec![(EntryKey::of_object(Part::Cell(ANN)), Entry::Cells(vec![dead]))],
            ),
        ],
    }
}

fn members() -> Vec<MemberReport> {
    let bob = MemberReport {
        opening: BOB,
        store: *b"a store's id 002",
        opening_number: 3,
        name: "web-1".into(),
        report: 45,
        age_ms: 1_200,
        issued: 9,
        durable: seen(&[(ANN, 300), (BOB, 8)]),
    };
    let cyd = MemberReport {
        opening: CYD,
        store: *b"a store's id 003",
        opening_number: 1,
        name: "web-2".into(),
        report: 0,
        age_ms: 0,
        issued: 70_000,
        durable: VersionVector::new(),
    };
    vec![bob, cyd]
}

/// One of each kind, two where the kind has variants.
pub(crate) fn frames() -> Named<Message> {
    let continued =
        Delta { epoch: 0, base: Base::Continued(seen(&[(ANN, 300)])), unit: set_unit() };
    let exact = Delta {
        epoch: 2,
        base: Base::Exact(seen(&[(ANN, 20), (BOB, 9), (CYD, 70_000)])),
        unit: map_unit(),
    };
    let quiet = Ack { clock_ms: 1, ..Ack::default() };
    let begin = RepairRequest { begin: true, range: 0, from: None };
    let from = Some(position("tags", &element("\"x\"")));
    let go_on = RepairRequest { begin: false, range: 63, from };
    vec![
        ("frame_hello", "frame kind 1, Hello", Message::Hello(hello())),
        (
            "frame_delta_continued",
            "frame kind 2, Delta: an ORSet, continued",
            Message::Delta(continued),
        ),
        ("frame_delta_exact", "frame kind 2, Delta: an ORMap, exact base", Message::Delta(exact)),
        ("frame_ack", "frame kind 3, Ack with news", Message::Ack(ack())),
        ("frame_ack_quiet", "frame kind 3, Ack without news", Message::Ack(quiet)),
        (
            "frame_want",
            "frame kind 4, Want",
            Message::Want(Want { epoch: 3, vector: seen(&[(ANN, 300), (BOB, 7)]) }),
        ),
        ("frame_too_old", "frame kind 5, TooOld", Message::TooOld),
        (
            "frame_repair_request_begin",
            "frame kind 6, RepairRequest: begin",
            Message::RepairRequest(begin),
        ),
        (
            "frame_repair_request",
            "frame kind 6, RepairRequest: go on",
            Message::RepairRequest(go_on),
        ),
        ("frame_repair_part", "frame kind 7, RepairPart", Message::RepairPart(repair_part())),
        ("frame_repair_refused", "frame kind 8, RepairRefused", Message::RepairRefused),
        (
            "frame_exchange",
            "frame kind 9, Exchange: asks",
            Message::Exchange(Exchange { number: 300, answers: false }),
        ),
        (
            "frame_exchange_answer",
            "frame kind 9, Exchange: answers",
            Message::Exchange(Exchange { number: 300, answers: true }),
        ),
        ("frame_members", "frame kind 10, Members: two", Message::Members(members())),
        ("frame_repair_end", "frame kind 11, RepairEnd", Message::RepairEnd),
    ]
}

pub(crate) fn object_records() -> Named<ObjectRecord> {
    let header = |crdt_type, entries, sum| Header {
        crdt_type,
        summary: Summary { existence: true, entries, sum },
        fields: 0,
        dead: 0,
        etag: 0xfedc_ba98_7654_3210_fedc_ba98_7654_3210,
    };
    let cell = Cell {
        birth: 1,
        last: 40,
        amounts: Amounts { up: 50, down: 8 },
        floor: Amounts { up: 4, down: 0 },
    };
    let inline = vec![
        (EntryKey::of_object(Part::Existence), Entry::Dots(vec![Dot::new(ANN, 1)])),
        (EntryKey::of_object(Part::Cell(ANN)), Entry::Cells(vec![cell])),
    ];
    let hidden = vec![RangeRemoval {
        range: EntryRange::elements(),
        context: seen(&[(ANN, 300), (BOB, 9)]),
    }];
    let whole = ObjectRecord {
        header: header(CrdtType::PNCounter, 1, 38),
        inline: Some(inline),
        hidden: vec![],
        generation: 0,
    };
    let header = header(CrdtType::ORSet, 1_000_000, 0);
    let apart = ObjectRecord { header, inline: None, hidden, generation: 1 };
    vec![
        ("record_object_inline", "an object's record: a PNCounter, entries inside", whole),
        ("record_object_apart", "an object's record: a large ORSet, a removal hidden", apart),
    ]
}

pub(crate) fn entries() -> Named<Entry> {
    let versions = vec![
        version(Dot::new(ANN, 19), None, "one"),
        version(Dot::new(CYD, 1), Some(1_790_000_030_000), "other"),
    ];
    let cell = |birth, amounts, floor| Cell { birth, last: birth + 3, amounts, floor };
    let cells = vec![
        cell(2, Amounts { up: 5, down: 1 }, Amounts { up: 5, down: 1 }),
        cell(9, Amounts { up: u64::MAX >> 1, down: 0 }, Amounts::default()),
    ];
    let dots = vec![Dot::new(ANN, 2), Dot::new(BOB, 8)];
    vec![
        ("record_entry_dots", "an entry's record: two dots", Entry::Dots(dots)),
        ("record_entry_versions", "an entry's record: two versions", Entry::Versions(versions)),
        ("record_entry_cells", "an entry's record: a dead and a live cell", Entry::Cells(cells)),
    ]
}

pub(crate) fn field() -> FieldRecord {
    let of = |crdt_type, (existence, entries, sum), etag| {
        let summary = Summary { existence, entries, sum };
        TypeSummary { crdt_type, summary, etag }
    };
    let types = vec![
        of(CrdtType::PNCounter, (true, 1, 7), 1 << 100),
        of(CrdtType::ORSet, (false, 2, 0), u128::MAX),
    ];
    FieldRecord { generation: 3, header: FieldHeader { types } }
}

pub(crate) fn log_record() -> LogRecord {
    LogRecord {
        time_ms: 1_790_000_000_000,
        items: vec![LogItem::Unit(map_unit()), LogItem::Repair(seen(&[(CYD, 70_001)]))],
        totals: Totals { objects: 2, entries: 17 },
        digests: vec![(0, 1), (63, u128::MAX)],
    }
}

pub(crate) fn head_record() -> HeadRecord {
    HeadRecord {
        crdt_type: CrdtType::ORSet,
        next_seq: 1_000,
        first_seq: 936,
        floor: seen(&[(ANN, 250)]),
        vector: seen(&[(ANN, 300), (BOB, 9)]),
        stamp_bound: HybridTimestamp::new(1_790_000_001_000, 0).bits(),
        totals: Totals { objects: 1, entries: 3 },
        digests: (0..RANGES as u128).collect(),
        former_actors: vec![CYD, ANN],
    }
}

pub(crate) fn repair_record() -> RepairRecord {
    let reached = Some(position("tags", &element("\"x\"")));
    RepairRecord {
        ranges: vec![
            (0, vec![(None, seen(&[(CYD, 70_001)]))]),
            (1, vec![(reached, seen(&[(CYD, 70_001)])), (None, VersionVector::new())]),
        ],
        merged: seen(&[(CYD, 70_001)]),
        target: seen(&[(ANN, 300), (CYD, 70_001)]),
    }
}
