//! Arbitrary frames and records, well-formed ones, for the codec's tests.

use coppice_crdt::{
    ActorId, Amounts, Cell, CrdtType, Dot, Entry, EntryDelta, EntryKey, EntryRange, FieldHeader,
    Floor, Header, HybridTimestamp, ObjectDelta, Part, Raise, RangeRemoval, Summary, TypeSummary,
    Version, VersionVector,
};
use coppice_replication::{
    Ack, Base, Cover, Delta, Exchange, FieldRecord, HeadRecord, Hello, Intervals, LogItem,
    LogRecord, MAX_INTERVALS, MemberReport, Message, ObjectKey, ObjectRecord, PROTOCOL_VERSION,
    Position, RepairPart, RepairRecord, RepairRequest, Totals, Unit, Want,
};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

/// A few actors that return, so that tables and orders matter, and any other.
pub(crate) fn actor() -> impl Strategy<Value = ActorId> {
    prop_oneof![
        3 => (0..6_u8).prop_map(|byte| ActorId::from_bytes([byte; 16])),
        1 => any::<[u8; 16]>().prop_map(ActorId::from_bytes),
    ]
}

/// Small numbers, and those around the ends of what varints hold.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..200_u64, any::<u64>(), Just(u64::MAX)]
}

fn positive() -> impl Strategy<Value = u64> {
    number().prop_map(|number| number.max(1))
}

pub(crate) fn vector() -> impl Strategy<Value = VersionVector> {
    vec((actor(), positive()), 0..5).prop_map(|pairs| pairs.into_iter().collect())
}

fn dots() -> impl Strategy<Value = Vec<Dot>> {
    btree_set((actor(), positive()), 0..5)
        .prop_map(|dots| dots.into_iter().map(|(actor, n)| Dot::new(actor, n)).collect())
}

fn amounts() -> impl Strategy<Value = Amounts> {
    (number(), number()).prop_map(|(up, down)| Amounts { up, down })
}

fn version(dot: Dot) -> impl Strategy<Value = Version> {
    (number(), option::of(positive()), "[a-z/]{0,12}", vec(any::<u8>(), 0..40)).prop_map(
        move |(stamp, deadline_ms, content_type, bytes)| Version {
            dot,
            stamp: HybridTimestamp::from_bits(stamp),
            deadline_ms,
            content_type: content_type.into(),
            bytes: bytes.into(),
        },
    )
}

fn versions() -> impl Strategy<Value = Vec<Version>> {
    dots().prop_flat_map(|dots| dots.into_iter().map(version).collect::<Vec<_>>())
}

fn cells() -> impl Strategy<Value = Vec<Cell>> {
    btree_map(number(), (number(), amounts(), amounts()), 0..4).prop_map(|cells| {
        let cell = |(birth, (last, amounts, floor))| Cell { birth, last, amounts, floor };
        cells.into_iter().map(cell).collect()
    })
}

pub(crate) fn entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        dots().prop_map(Entry::Dots),
        versions().prop_map(Entry::Versions),
        cells().prop_map(Entry::Cells),
    ]
}

fn change() -> impl Strategy<Value = EntryDelta> {
    let raises = btree_map(number(), (number(), amounts()), 0..4);
    let floors = btree_map(number(), amounts(), 0..4);
    let cells = (raises, floors).prop_map(|(raises, floors)| EntryDelta::Cells {
        raised: raises
            .into_iter()
            .map(|(birth, (last, amounts))| Raise { birth, last, amounts })
            .collect(),
        floors: floors.into_iter().map(|(birth, amounts)| Floor { birth, amounts }).collect(),
    });
    prop_oneof![
        (dots(), dots()).prop_map(|(added, removed)| EntryDelta::Dots { added, removed }),
        (versions(), dots())
            .prop_map(|(written, removed)| EntryDelta::Versions { written, removed }),
        cells,
    ]
}

pub(crate) fn crdt_type() -> impl Strategy<Value = CrdtType> {
    proptest::sample::select(&CrdtType::ALL[..])
}

pub(crate) fn entry_key() -> impl Strategy<Value = EntryKey> {
    let part = (0..5, actor(), "[a-z\"]{1,10}");
    (part, option::of(("[a-z\\x00é]{0,6}", crdt_type()))).prop_map(
        |((kind, actor, element), field)| {
            let part = match kind {
                0 => Part::Existence,
                1 => Part::Value,
                2 => Part::Enabled,
                3 => Part::Cell(actor),
                _ => Part::Element(element.as_bytes()),
            };
            match field {
                Some((name, crdt_type)) => EntryKey::of_field(&name, crdt_type, part),
                None => EntryKey::of_object(part),
            }
        },
    )
}

fn removal() -> impl Strategy<Value = RangeRemoval> {
    let bound = || vec(any::<u8>(), 0..12);
    (bound(), option::of(bound()), vector()).prop_map(|(from, to, context)| RangeRemoval {
        range: EntryRange { from: from.into(), to: to.map(Into::into) },
        context,
    })
}

fn object_delta() -> impl Strategy<Value = ObjectDelta> {
    (btree_map(entry_key(), change(), 0..4), vec(removal(), 0..3)).prop_map(
        |(entries, mut removals)| {
            removals.sort_by(|a, b| a.range.cmp(&b.range));
            ObjectDelta { entries, removals }
        },
    )
}

fn object_key() -> impl Strategy<Value = ObjectKey> {
    "\\PC{1,20}".prop_map(Into::into)
}

pub(crate) fn unit() -> impl Strategy<Value = Unit> {
    let runs = btree_map(actor(), (number(), number()), 0..4);
    (runs, btree_map(object_key(), object_delta(), 0..3)).prop_map(|(runs, objects)| Unit {
        covers: runs
            .into_iter()
            .map(|(actor, (after, upto))| Cover { actor, after, upto })
            .collect(),
        objects,
    })
}

fn position() -> impl Strategy<Value = Position> {
    (object_key(), vec(any::<u8>(), 0..12))
        .prop_map(|(key, entry)| Position { key, entry: entry.into() })
}

fn hello() -> impl Strategy<Value = Hello> {
    let ids = (any::<[u8; 16]>(), any::<[u8; 16]>(), actor());
    (ids, crdt_type(), number(), "\\PC{0,20}", vector(), vector(), number()).prop_map(
        |(
            (group_id, store, opening),
            crdt_type,
            opening_number,
            name,
            vector,
            durable,
            clock_ms,
        )| {
            Hello {
                protocol: PROTOCOL_VERSION,
                group_id,
                crdt_type,
                store,
                opening,
                opening_number,
                name: name.into(),
                vector,
                durable,
                clock_ms,
            }
        },
    )
}

fn delta() -> impl Strategy<Value = Delta> {
    (any::<u32>(), any::<bool>(), vector(), unit()).prop_map(|(epoch, exact, vector, unit)| {
        let base = if exact { Base::Exact(vector) } else { Base::Continued(vector) };
        Delta { epoch, base, unit }
    })
}

fn ack() -> impl Strategy<Value = Ack> {
    let told = (option::of(any::<u128>()), option::of(vec(actor(), 0..5)));
    ((number(), number()), vector(), vector(), told, number()).prop_map(
        |((report, frames), seen, durable, (digest, links), clock_ms)| Ack {
            report,
            frames,
            seen,
            durable,
            digest,
            links,
            clock_ms,
        },
    )
}

fn member_report() -> impl Strategy<Value = MemberReport> {
    let ids = (any::<[u8; 16]>(), actor(), number(), "\\PC{0,20}");
    (ids, number(), number(), number(), vector()).prop_map(
        |((store, opening, opening_number, name), report, age_ms, issued, durable)| MemberReport {
            opening,
            store,
            opening_number,
            name: name.into(),
            report,
            age_ms,
            issued,
            durable,
        },
    )
}

fn repair_part() -> impl Strategy<Value = RepairPart> {
    let objects = vec((object_key(), vec((entry_key(), entry()), 0..4)), 0..3);
    (vector(), 0..64_u8, option::of(position()), option::of(position()), objects).prop_map(
        |(vector, range, from, to, objects)| RepairPart { vector, range, from, to, objects },
    )
}

/// Any frame.
pub(crate) fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        1 => hello().prop_map(Message::Hello),
        4 => delta().prop_map(Message::Delta),
        1 => ack().prop_map(Message::Ack),
        1 => (any::<u32>(), vector())
            .prop_map(|(epoch, vector)| Message::Want(Want { epoch, vector })),
        1 => Just(Message::TooOld),
        1 => (any::<bool>(), 0..64_u8, option::of(position())).prop_map(|(begin, range, from)| {
            Message::RepairRequest(RepairRequest { begin, range, from })
        }),
        2 => repair_part().prop_map(Message::RepairPart),
        1 => Just(Message::RepairRefused),
        1 => (any::<u64>(), any::<bool>())
            .prop_map(|(number, answers)| Message::Exchange(Exchange { number, answers })),
        1 => vec(member_report(), 0..4).prop_map(Message::Members),
        1 => Just(Message::RepairEnd),
    ]
}

fn summary() -> impl Strategy<Value = Summary> {
    (any::<bool>(), number(), any::<i128>()).prop_map(|(existence, entries, sum)| Summary {
        existence,
        entries,
        sum,
    })
}

pub(crate) fn object_record() -> impl Strategy<Value = ObjectRecord> {
    let header = (crdt_type(), summary(), number(), number(), any::<u128>()).prop_map(
        |(crdt_type, summary, fields, dead, etag)| Header {
            crdt_type,
            summary,
            fields,
            dead,
            etag,
        },
    );
    let inline = option::of(vec((entry_key(), entry()), 0..4));
    let parts = (header, inline, vec(removal(), 0..3), number());
    parts.prop_map(|(header, inline, hidden, generation)| ObjectRecord {
        header,
        inline,
        hidden,
        generation,
    })
}

pub(crate) fn field() -> impl Strategy<Value = FieldRecord> {
    let of = (crdt_type(), summary(), any::<u128>())
        .prop_map(|(crdt_type, summary, etag)| TypeSummary { crdt_type, summary, etag });
    (number(), vec(of, 0..4)).prop_map(|(generation, types)| {
        let header = FieldHeader { types };
        FieldRecord { generation, header }
    })
}

fn totals() -> impl Strategy<Value = Totals> {
    (number(), number()).prop_map(|(objects, entries)| Totals { objects, entries })
}

pub(crate) fn log_record() -> impl Strategy<Value = LogRecord> {
    let item = prop_oneof![
        3 => unit().prop_map(LogItem::Unit),
        1 => vector().prop_map(LogItem::Repair),
    ];
    (number(), vec(item, 0..4), totals(), vec((0..64_u8, any::<u128>()), 0..4))
        .prop_map(|(time_ms, items, totals, digests)| LogRecord { time_ms, items, totals, digests })
}

pub(crate) fn head_record() -> impl Strategy<Value = HeadRecord> {
    let figures = (totals(), vec(any::<u128>(), 0..70), vec(actor(), 0..4));
    (crdt_type(), (number(), number(), number()), vector(), vector(), figures).prop_map(
        |(crdt_type, (next_seq, first_seq, stamp_bound), floor, vector, figures)| {
            let (totals, digests, former_actors) = figures;
            HeadRecord {
                crdt_type,
                next_seq,
                first_seq,
                floor,
                vector,
                stamp_bound,
                totals,
                digests,
                former_actors,
            }
        },
    )
}

pub(crate) fn repair_record() -> impl Strategy<Value = RepairRecord> {
    let ends = btree_map(position(), vector(), 0..MAX_INTERVALS);
    let intervals = (ends, vector()).prop_map(|(ends, last)| {
        let ends = ends.into_iter().map(|(end, context)| (Some(end), context));
        ends.chain([(None, last)]).collect::<Intervals>()
    });
    (btree_map(0..64_u8, intervals, 0..4), vector(), vector()).prop_map(
        |(ranges, merged, target)| {
            let ranges = ranges.into_iter().collect();
            RepairRecord { ranges, merged, target }
        },
    )
}
