//! What the two counters share: one actor's cells, and how an increment raises them.
//!
//! A counter that can be removed and counted on at the same time needs more than
//! one number per actor. Each actor has *cells*, named by the dot of their first
//! increment; the amounts of a cell only grow, and only their owner raises them.
//! A removal records what it saw of each live cell as that cell's *floor*; what
//! stands above the floor counts. Once the owner sees a cell removed to the last,
//! its next increment opens a new one: raising the old one would make the floor
//! hide it from a replica that has both.
//!
//! So a counter at 5 which one replica deletes while another adds 3 is 3 on all:
//! the cell holds 8, its floor 5.

use crate::operation::{Applied, Outcome, Place, Step, Stop, Work};
use crate::{Amounts, Cell, Entries, Entry, EntryDelta, ObjectDelta, Part, Raise, Refusal};

/// The amounts of a cell stay below this, so that sums of two stay in a u64.
const AMOUNT_LIMIT: u64 = 1 << 63;

/// Adds `by` to the counter at `place`. Nothing added makes it exist.
pub(crate) fn raise<E: Entries + ?Sized>(
    place: Place<'_>,
    by: Amounts,
    work: &Work<'_, E>,
) -> Step<Applied, E> {
    let summary = work.summary(place)?;
    let mut delta = ObjectDelta::default();
    if by != Amounts::default() {
        let key = place.key(Part::Cell(work.dot().actor));
        let cells = match work.entry(&key)? {
            Some(Entry::Cells(cells)) => cells,
            _ => Vec::new(),
        };
        let open = cells.iter().rfind(|cell| Cell::is_live(cell));
        let n = work.dot().n;
        let (birth, before) =
            open.map_or((n, Amounts::default()), |cell| (cell.birth, cell.amounts));
        let amounts = sum(before, by).ok_or(Stop::Refused(Refusal::AmountLimit))?;
        let raised = vec![Raise { birth, last: n, amounts }];
        delta.entries.insert(key, EntryDelta::Cells { raised, floors: Vec::new() });
    }
    if !summary.existence {
        delta.put_existence(place, work.dot());
    }
    let value = summary.sum + i128::from(by.up) - i128::from(by.down);
    Ok(Applied { delta, outcome: Outcome::Counter(value) })
}

fn sum(before: Amounts, by: Amounts) -> Option<Amounts> {
    let up = before.up.checked_add(by.up)?;
    let down = before.down.checked_add(by.down)?;
    (up < AMOUNT_LIMIT && down < AMOUNT_LIMIT).then_some(Amounts { up, down })
}
