//! Removals that take many steps: of more counter cells than one unit may take,
//! of some among very many entries, or half-way through a repair of the object.
//!
//! What is removed is what was there when the removal began: it is read, page
//! by page, from the store as it was then, and the last unit's large removal has
//! the context of then. Whatever is written meanwhile, here too, survives as it
//! would from a replica that had not heard of the removal. Cells beyond one
//! unit's go out before, in units of their own, in the order of their names;
//! until the last unit, readers see the first fields removed. The cells of one
//! field go together, for a part of them is a value that nobody ever wrote; only
//! a field of more cells than one unit may take is cut.
//!
//! A removal that is cut short (the store fails, the process ends) has removed
//! those first fields, and nobody was told that it is done.

use std::collections::BTreeMap;

use coppice_crdt::mutant::{self, Mutant};
use coppice_crdt::{
    Dot, Entries, EntryDelta, EntryKey, EntryRange, ObjectDelta, Operation, Outcome, Part,
    RangeRemoval, VersionVector, removal_extent, taking, with_existence,
};

use super::Replica;
use crate::record::LogItem;
use crate::unit::{Cover, ObjectKey, Unit};
use crate::working_set::{EntryPage, Missing, Read, behind};

/// The removal under way.
#[derive(Debug)]
pub(super) struct Removing {
    key: ObjectKey,
    operation: Operation,
    range: EntryRange,
    /// What had been seen when it began; `None`: it differed by place, and each
    /// entry is named.
    context: Option<VersionVector>,
    /// What was hidden then.
    hidden: Vec<RangeRemoval>,
    /// What is read next; `None`: all is read.
    next: Option<Box<[u8]>>,
    found: BTreeMap<EntryKey, EntryDelta>,
    /// Whether what is found goes out as it is found.
    in_parts: bool,
    /// Units made so far.
    units: u64,
}

impl Replica {
    pub(super) const fn is_removing(&self) -> bool {
        self.removing.is_some()
    }

    /// How many units the removal under way made so far; `None`: none is under way.
    #[must_use]
    pub fn removal_units(&self) -> Option<u64> {
        self.removing.as_ref().map(|removing| removing.units)
    }

    /// Begins a removal that was refused with [`coppice_crdt::Refusal::NeedsSteps`].
    ///
    /// To be called right after a commit, before [`Self::after_commit`]; the store as it is then has to be kept
    /// for [`Read::PageBefore`] until the removal is done. Returns whether it
    /// began: not while so much is hidden in the object that more has to be swept
    /// first, or another one is under way.
    ///
    /// # Errors
    ///
    /// [`Missing`]: supply it and call again; nothing was changed.
    pub fn begin_removal(
        &mut self,
        key: &ObjectKey,
        operation: &Operation,
    ) -> Result<bool, Missing> {
        // What is hidden here and what is stored have to be of one commit.
        let is_sealed = !self.is_unsealed() && self.extra_writes.is_empty();
        if !is_sealed || self.is_removing() || self.set.is_full_of_hidden(key)? {
            return Ok(false);
        }
        let object = self.set.object(key)?;
        let Some(extent) = removal_extent(operation, self.identity.crdt_type, &object)? else {
            return Ok(false);
        };
        let context = match &self.seen_of(key)[..] {
            [(_, context)] => Some(context.clone()),
            _ => None,
        };
        let hidden = self.set.hidden(key)?.to_vec();
        let must_look = context.is_none() || extent.cells > 0;
        let (range, watched) = (extent.range.clone(), context.clone().unwrap_or_default());
        self.set.watch(key, RangeRemoval { range, context: watched });
        self.removing = Some(Removing {
            key: key.clone(),
            operation: operation.clone(),
            next: must_look.then(|| extent.range.from.clone()),
            range: extent.range,
            in_parts: context.is_none() || extent.cells > self.set.pace.limits.cells,
            context,
            hidden,
            found: BTreeMap::new(),
            units: 0,
        });
        Ok(true)
    }

    /// One step of the removal under way: a page is read, or a unit made. Its
    /// outcome once it is done; may be told after the next commit.
    ///
    /// # Errors
    ///
    /// [`Missing`]: supply it and call again.
    pub fn go_on_removing(&mut self) -> Result<Option<Outcome>, Missing> {
        let Some(removing) = &self.removing else { return Ok(None) };
        let key = removing.key.clone();
        let per_part = self.set.pace.entries_per_part;
        // Where the next unit ends shows in what is behind it.
        let least = per_part + usize::from(removing.next.is_some());
        if removing.in_parts && removing.found.len() >= least {
            let part = removing.next_part(per_part);
            let named = removing.found.iter().take(part);
            let entries = named.map(|(name, change)| (name.clone(), change.clone())).collect();
            self.write_delta(&key, ObjectDelta { entries, removals: Vec::new() })?;
            if let Some(removing) = &mut self.removing {
                removing.units += 1;
                let rest = removing.found.keys().nth(part).cloned();
                removing.found = match rest {
                    Some(rest) => removing.found.split_off(&rest),
                    None => BTreeMap::new(),
                };
            }
            return Ok(None);
        }
        if let Some(from) = removing.next.clone() {
            let range = EntryRange { from, to: removing.range.to.clone() };
            let page = self.page_before(&key, range)?;
            if let Some(removing) = &mut self.removing {
                removing.take_page(page);
            }
            return Ok(None);
        }
        let outcome = self.finish_removing(&key)?;
        self.removing = None;
        self.set.unwatch();
        Ok(Some(outcome))
    }

    fn page_before(&mut self, key: &ObjectKey, range: EntryRange) -> Result<EntryPage, Missing> {
        self.page_of(key, range).map_err(|Missing(read)| match read {
            Read::Page(..) if mutant::is(Mutant::StepsTakeWhatCame) => Missing(read),
            Read::Page(key, range, limit) => Missing(Read::PageBefore(key, range, limit)),
            other => Missing(other),
        })
    }

    fn finish_removing(&mut self, key: &ObjectKey) -> Result<Outcome, Missing> {
        let Some(removing) = &self.removing else { return Ok(Outcome::Deleted) };
        let operation = removing.operation.clone();
        let context = removing.context.clone();
        let range = removing.range.clone();
        let removal = context.map(|context| RangeRemoval { range, context });
        let delta = ObjectDelta {
            entries: removing.found.clone(),
            removals: removal.into_iter().collect(),
        };
        let object = self.set.object(key)?;
        // Else others have removed the object meanwhile: nothing is left to do,
        // and nothing that is to go on existing.
        if object.header()?.is_some_and(|header| header.exists()) {
            let own = self.identity.opening;
            let dot = Dot::new(own, self.seen().get(&own) + 1);
            let delta = with_existence(delta, &operation, &object, dot)?;
            self.write_delta(key, delta)?;
        }
        self.outcome(key, &operation)
    }

    fn outcome(&mut self, key: &ObjectKey, operation: &Operation) -> Result<Outcome, Missing> {
        let object = self.set.object(key)?;
        let header = object.header()?;
        let entries = header.map_or(0, |header| header.summary.entries);
        let fields = header.map_or(0, |header| header.fields);
        Ok(match operation {
            Operation::Clear if self.identity.crdt_type.is_set() => {
                Outcome::Set { changed: true, size: entries }
            }
            Operation::Update { field, crdt_type, .. } => {
                let size = object.field(field)?.summary(*crdt_type).entries;
                let of = Some(Box::new(Outcome::Set { changed: true, size }));
                Outcome::Map { changed: true, size: fields, field: of }
            }
            Operation::Clear | Operation::RemoveField { .. } => {
                Outcome::Map { changed: true, size: fields, field: None }
            }
            _ => Outcome::Deleted,
        })
    }

    /// Writes a delta as a unit of its own, with the next dot.
    fn write_delta(&mut self, key: &ObjectKey, delta: ObjectDelta) -> Result<(), Missing> {
        if delta.is_empty() {
            return Ok(());
        }
        let own = self.identity.opening;
        let after = self.seen().get(&own);
        self.set.require(std::iter::once((key, delta.entries.keys())))?;
        let savepoint = self.set.savepoint();
        let seen = self.seen_of(key);
        if let Err(missing) = self.set.join_delta(key, &delta, &seen) {
            self.set.rollback(savepoint);
            return Err(missing);
        }
        self.head_due |= after == 0;
        let covers = vec![Cover { actor: own, after, upto: after + 1 }];
        let unit = Unit { covers, objects: BTreeMap::from([(key.clone(), delta)]) };
        self.raise_seen(&unit);
        self.pending.push(LogItem::Unit(unit));
        Ok(())
    }
}

impl Removing {
    fn take_page(&mut self, page: EntryPage) {
        let mut next = page.entries.last().filter(|_| page.more).map(|(name, _)| behind(name));
        if let Some((name, _)) = page.entries.last().filter(|_| self.context.is_some())
            && let Some(field) = name.field().filter(|field| !field.crdt_type.is_counter())
        {
            // Counters sort before the other types of a field's name: once past
            // them, the rest of that name holds no cell.
            let of_name = EntryRange::with_prefix(&EntryKey::field_name_prefix(&field.name));
            next = next.and(of_name.to);
        }
        self.next = next.filter(|next| self.range.to.as_ref().is_none_or(|to| next < to));
        for (name, entry) in page.entries {
            let left = self.hidden.iter().try_fold(entry, |left, of| of.survivors(&name, left));
            let Some(change) = left.as_ref().and_then(taking) else { continue };
            if self.is_named(&name) {
                self.found.insert(name, change);
            }
        }
    }

    /// How many of what was found go out next: up to `most`, which were found, and
    /// whole fields of them unless the first alone is more.
    fn next_part(&self, most: usize) -> usize {
        let fields = || self.found.keys().map(|name| name.field().map(|field| field.name));
        let behind = fields().skip(1).take(most);
        let mut borders =
            fields().zip(behind).enumerate().filter(|(_, (field, next))| field != next);
        borders.next_back().map_or(most, |(index, _)| index + 1)
    }

    /// Whether an entry has to be named: cells, and the existences of counters
    /// whose cells go out before the last unit; or every one.
    fn is_named(&self, name: &EntryKey) -> bool {
        let of_counter = || {
            let field = name.field();
            self.in_parts && field.is_some_and(|field| field.crdt_type.is_counter())
        };
        self.context.is_none() || matches!(name.part(), Part::Cell(_)) || of_counter()
    }
}
