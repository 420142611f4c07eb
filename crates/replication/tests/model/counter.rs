//! One counter on three replicas: increments, removals, and the dropping of
//! floors that are no longer needed.
//!
//! Every increment adds the power of two of its own dot, so that a sum says
//! which increments are in it, and "taken twice" or "came back" shows as a bit.

use stateright::{Model, Property};

/// A set of dots, one bit each; a version vector is a set without gaps.
type Dots = u16;

const REPLICAS: usize = 3;
const DOTS_PER_ACTOR: usize = 3;
const DOTS: usize = REPLICAS * DOTS_PER_ACTOR;

/// What is done differently from the right rule, if anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The right one.
    Sound,
    /// A removal drops the cells it saw and keeps no floor.
    RecordDropped,
    /// A floor is subtracted from its cell and forgotten.
    FloorFolded,
    /// A settled floor goes although its cell is alive.
    FloorDroppedAlive,
    /// A floor goes once the owner's vector covers the removal.
    WithoutOwnersWrites,
    /// A floor goes once all that the owner had issued is here.
    WithoutOwnersKnowledge,
    /// The owner goes on raising a cell of which all was removed.
    DeadCellRaised,
    /// A floor goes once the owner's vector covers what the cell died of first,
    /// though it lived again and died of another removal since.
    FirstDeathCounts,
}

/// By which dots a cell that one side of a state merge lacks is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judge {
    /// The dot that named the cell.
    Birth,
    /// The dot of its newest increment.
    Newest,
    /// Those of its newest increment and of its removals: the wrong one.
    NewestAndRemovals,
}

/// The bounds and the rule of one run.
#[derive(Clone, Debug)]
pub(crate) struct Counter {
    /// The rule under test.
    pub(crate) rule: Rule,
    /// How a state merge judges cells; without it there are deltas only.
    pub(crate) merges: Option<Judge>,
    /// Increments that each replica may make.
    pub(crate) increments: [u8; REPLICAS],
    /// Removals that each replica may make.
    pub(crate) removals: [u8; REPLICAS],
}

/// One write as it travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Unit {
    /// What the origin had seen before.
    base: Dots,
    /// An increment's cell and that cell's cumulative amount.
    raised: Option<(usize, u16)>,
    /// A removal's floors, by cell.
    floors: [u16; DOTS],
    /// The increments that the removal saw, noted when it was issued.
    saw: Dots,
}

/// What a replica keeps of one cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Cell {
    amount: u16,
    floor: u16,
    newest: Dots,
    removals: Dots,
    /// What it first died of here; noted for the rule that looks at nothing else.
    first_death: Dots,
}

/// One replica. Cells stand under the index of the dot of their birth.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Replica {
    context: Dots,
    cells: [Cell; DOTS],
    /// The vector that each replica last reported to this one.
    reports: [Dots; REPLICAS],
    increments: u8,
    removals: u8,
}

/// All replicas, and every unit ever issued.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    units: [Unit; DOTS],
    replicas: [Replica; REPLICAS],
}

/// One step of one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The counter is raised.
    Increment { at: usize },
    /// The counter is deleted.
    Remove { at: usize },
    /// One unit arrives, from whomever.
    Deliver { dot: usize, to: usize },
    /// The whole state is merged, as in a repair.
    Merge { from: usize, to: usize },
    /// A vector is told.
    Report { from: usize, to: usize },
    /// A record that is no longer needed is dropped.
    Drop { at: usize, cell: usize },
}

const fn own_dots(actor: usize) -> Dots {
    0b111 << (actor * DOTS_PER_ACTOR)
}

const fn covers(vector: Dots, other: Dots) -> bool {
    other & !vector == 0
}

const fn owner(cell: usize) -> usize {
    cell / DOTS_PER_ACTOR
}

impl Cell {
    fn is_here(self) -> bool {
        self != Self::default()
    }

    fn is_alive(self) -> bool {
        self.amount > self.floor
    }

    fn join(&mut self, other: Self) {
        if other.amount > self.amount {
            self.amount = other.amount;
            self.newest = other.newest;
        }
        self.floor = self.floor.max(other.floor);
        self.removals |= other.removals;
    }
}

impl Replica {
    fn value(&self) -> u16 {
        self.cells.iter().filter(|cell| cell.is_alive()).map(|cell| cell.amount - cell.floor).sum()
    }

    /// A cell that is absent though its birth is covered: dead for good.
    fn is_gone(&self, cell: usize) -> bool {
        self.context >> cell & 1 == 1 && !self.cells[cell].is_here()
    }

    fn apply(&mut self, rule: Rule, dot: usize, unit: &Unit) {
        let gone: Vec<usize> = (0..DOTS).filter(|cell| self.is_gone(*cell)).collect();
        self.context |= 1 << dot;
        if let Some((cell, amount)) = unit.raised {
            self.cells[cell].join(Cell { amount, newest: 1 << dot, ..Cell::default() });
        }
        for (cell, floor) in unit.floors.iter().enumerate().filter(|(_, floor)| **floor > 0) {
            if gone.contains(&cell) {
                continue;
            }
            let here = &mut self.cells[cell];
            here.join(Cell { floor: *floor, removals: 1 << dot, ..Cell::default() });
            if rule == Rule::FirstDeathCounts && !here.is_alive() && here.first_death == 0 {
                here.first_death = here.removals;
            }
            match rule {
                Rule::RecordDropped if here.is_alive() => here.floor = 0,
                Rule::RecordDropped => *here = Cell::default(),
                Rule::FloorFolded => {
                    here.amount = here.amount.saturating_sub(here.floor);
                    here.floor = 0;
                }
                _ => {}
            }
        }
    }

    fn merge(&mut self, judge: Judge, other: &Self) {
        for cell in 0..DOTS {
            let (here, there) = (self.cells[cell], other.cells[cell]);
            let dots = |record: &Cell| match judge {
                Judge::Birth => 1 << cell,
                Judge::Newest => record.newest,
                Judge::NewestAndRemovals => record.newest | record.removals,
            };
            match (here.is_here(), there.is_here()) {
                (true, false) if covers(other.context, dots(&here)) => {
                    self.cells[cell] = Cell::default();
                }
                (false, true) if covers(self.context, dots(&there)) => {}
                (_, _) => self.cells[cell].join(there),
            }
        }
        self.context |= other.context;
    }

    /// Whether the record of `cell` may be forgotten.
    fn is_settled(&self, rule: Rule, at: usize, cell: usize) -> bool {
        let record = &self.cells[cell];
        let owner = owner(cell);
        let report = if owner == at { self.context } else { self.reports[owner] };
        let owner_knows = covers(report, record.removals);
        let all_is_here = covers(self.context, report & own_dots(owner));
        let dead = record.removals != 0 && !record.is_alive();
        match rule {
            Rule::FloorDroppedAlive => record.removals != 0 && owner_knows && all_is_here,
            Rule::WithoutOwnersWrites => dead && owner_knows,
            Rule::FirstDeathCounts => dead && covers(report, record.first_death) && all_is_here,
            Rule::WithoutOwnersKnowledge => dead && report != 0 && all_is_here,
            _ => dead && owner_knows && all_is_here,
        }
    }
}

impl Counter {
    fn issue(&self, state: &mut State, at: usize, unit: Unit) -> Option<()> {
        let replica = &mut state.replicas[at];
        let free = own_dots(at) & !replica.context;
        let dot = usize::try_from(free.trailing_zeros()).ok().filter(|dot| *dot < DOTS)?;
        let unit = match unit.raised {
            // The cell that is raised, or a new one named by this dot.
            Some((_, _)) => {
                let open = |cell: &usize| {
                    let record = &replica.cells[*cell];
                    let dead_too = self.rule == Rule::DeadCellRaised && record.is_here();
                    owner(*cell) == at && (record.is_alive() || dead_too)
                };
                let cell = (0..DOTS).find(open).unwrap_or(dot);
                let amount = replica.cells[cell].amount + (1 << dot);
                Unit { raised: Some((cell, amount)), ..unit }
            }
            None => unit,
        };
        state.units[dot] = Unit { base: replica.context, ..unit };
        replica.apply(self.rule, dot, &state.units[dot]);
        Some(())
    }

    fn remove(&self, state: &mut State, at: usize) -> Option<()> {
        let replica = &mut state.replicas[at];
        replica.removals = replica.removals.checked_sub(1)?;
        let mut unit = Unit { saw: replica.context & increments(&state.units), ..Unit::default() };
        for (floor, cell) in unit.floors.iter_mut().zip(&replica.cells) {
            *floor = if cell.is_alive() { cell.amount } else { 0 };
        }
        if replica.value() == 0 {
            return None;
        }
        self.issue(state, at, unit)
    }

    fn deliver(&self, state: &mut State, dot: usize, to: usize) -> Option<()> {
        let unit = state.units[dot];
        let replica = &mut state.replicas[to];
        let new = unit != Unit::default() && replica.context >> dot & 1 == 0;
        (new && covers(replica.context, unit.base)).then(|| replica.apply(self.rule, dot, &unit))
    }

    fn settle(&self, state: &State) -> State {
        let mut state = state.clone();
        loop {
            let before = state.replicas.clone();
            for to in 0..REPLICAS {
                for dot in 0..DOTS {
                    let _ = self.deliver(&mut state, dot, to);
                }
            }
            for at in 0..REPLICAS {
                for from in 0..REPLICAS {
                    state.replicas[at].reports[from] = state.replicas[from].context;
                }
                for cell in 0..DOTS {
                    let _ = self.drop_record(&mut state, at, cell);
                }
            }
            if state.replicas == before {
                return state;
            }
        }
    }

    fn drop_record(&self, state: &mut State, at: usize, cell: usize) -> Option<()> {
        let replica = &mut state.replicas[at];
        if !replica.cells[cell].is_here() || !replica.is_settled(self.rule, at, cell) {
            return None;
        }
        let record = &mut replica.cells[cell];
        if record.is_alive() {
            (record.floor, record.removals) = (0, 0);
        } else {
            *record = Cell::default();
        }
        Some(())
    }

    /// By what was noted when each removal was issued.
    fn value_is_exact(state: &State) -> bool {
        let all = increments(&state.units);
        state.replicas.iter().all(|replica| {
            let known =
                state.units.iter().enumerate().filter(|(dot, _)| replica.context >> dot & 1 == 1);
            let removed = known.fold(0, |removed, (_, unit)| removed | unit.saw);
            replica.value() == replica.context & all & !removed
        })
    }

    fn live_cells_are_equal(state: &State) -> bool {
        let live = |replica: &Replica| {
            replica
                .cells
                .map(|cell| if cell.is_alive() { (cell.amount, cell.floor) } else { (0, 0) })
        };
        state.replicas.iter().all(|one| {
            state.replicas.iter().all(|two| one.context != two.context || live(one) == live(two))
        })
    }

    fn ends_clean(&self, state: &State) -> bool {
        let end = self.settle(state).replicas;
        let contexts_equal = end.iter().all(|replica| replica.context == end[0].context);
        let dead =
            |replica: &Replica| replica.cells.iter().any(|cell| cell.is_here() && !cell.is_alive());
        contexts_equal && !end.iter().any(dead)
    }
}

fn increments(units: &[Unit; DOTS]) -> Dots {
    let raising = units.iter().enumerate().filter(|(_, unit)| unit.raised.is_some());
    raising.fold(0, |all, (dot, _)| all | 1 << dot)
}

/// A value is the sum of the increments here that no removal here had seen.
pub(crate) const VALUE_IS_EXACT: &str = "the value is what no removal saw";
/// Replicas with equal vectors have equal live cells, floors included.
const LIVE_CELLS_EQUAL: &str = "equal vectors mean equal live cells";
/// When all is exchanged, nothing dead is kept.
const ENDS_CLEAN: &str = "a fair run ends without dead records";

impl Model for Counter {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let replicas = [0, 1, 2].map(|at| Replica {
            increments: self.increments[at],
            removals: self.removals[at],
            ..Replica::default()
        });
        vec![State { units: [Unit::default(); DOTS], replicas }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (at, replica) in state.replicas.iter().enumerate() {
            actions.extend((replica.increments > 0).then_some(Action::Increment { at }));
            actions.extend((replica.removals > 0).then_some(Action::Remove { at }));
            actions.extend((0..DOTS).map(|dot| Action::Deliver { dot, to: at }));
            actions.extend((0..DOTS).map(|cell| Action::Drop { at, cell }));
            for from in (0..REPLICAS).filter(|from| *from != at) {
                actions.extend(self.merges.map(|_| Action::Merge { from, to: at }));
                let is_owner = self.increments[from] > 0;
                actions.extend(is_owner.then_some(Action::Report { from, to: at }));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Increment { at } => {
                state.replicas[at].increments -= 1;
                let any_cell = Unit { raised: Some((0, 0)), ..Unit::default() };
                self.issue(&mut state, at, any_cell)?;
            }
            Action::Remove { at } => self.remove(&mut state, at)?,
            Action::Deliver { dot, to } => self.deliver(&mut state, dot, to)?,
            Action::Merge { from, to } => {
                let source = state.replicas[from].clone();
                state.replicas[to].merge(self.merges?, &source);
            }
            Action::Report { from, to } => {
                state.replicas[to].reports[from] = state.replicas[from].context;
            }
            Action::Drop { at, cell } => self.drop_record(&mut state, at, cell)?,
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(VALUE_IS_EXACT, |_, state| Self::value_is_exact(state)),
            Property::always(LIVE_CELLS_EQUAL, |_, state| Self::live_cells_are_equal(state)),
            Property::always(ENDS_CLEAN, Self::ends_clean),
            Property::sometimes("half removed", |_, state: &State| {
                state.replicas.iter().any(|replica| {
                    replica.cells.iter().any(|cell| cell.is_alive() && cell.floor > 0)
                })
            }),
            Property::sometimes("settled away from the owner", |_, state: &State| {
                let away = |cell: usize| (0..REPLICAS).filter(move |at| *at != owner(cell));
                let gone = |cell| away(cell).any(|at| state.replicas[at].is_gone(cell));
                (0..DOTS)
                    .any(|cell| state.replicas[owner(cell)].cells[cell].is_here() && gone(cell))
            }),
        ]
    }
}
