//! The groups served: beginning and ending that, and what others see of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use coppice_replication::{MemberView, Now};
use tokio::sync::watch;
use tracing::{info, warn};

use super::links::{Link, Links};
use super::{Answer, GroupSpec, ServeAnswer, Served, Writer};
use crate::engine::{Engine, GroupSettings, Named, Unserved};
use crate::peer::CloseReason;
use crate::replica_task::former::{former, shared_names};
use crate::replica_task::neighbours::{Neighbours, News};
use crate::replica_task::{GroupStatus, MemberStatus, ServeError};
use crate::store::Store;
use crate::store::keys::Slot;

impl<S: Store> Writer<S> {
    /// Serves these groups and no others; what is served under another name from
    /// now on begins new links under it.
    pub(super) fn serve_groups(
        &mut self,
        engine: &mut Engine<S, Answer>,
        specs: Vec<GroupSpec>,
    ) -> ServeAnswer {
        let now = self.now();
        let groups: Vec<_> = specs.iter().map(GroupSpec::to_add).collect();
        let slots = engine.add_groups(&groups, now)?;
        let gone: Vec<Slot> =
            self.served.keys().filter(|slot| !slots.contains(slot)).copied().collect();
        for slot in gone {
            engine.remove_group(slot);
            self.end_service(engine, slot);
        }
        let mut answers = Vec::with_capacity(slots.len());
        for (slot, spec) in slots.into_iter().zip(specs) {
            if self.served.get(&slot).is_some_and(|served| served.spec.name != spec.name) {
                self.end_service(engine, slot);
            }
            let served = if let Some(mut served) = self.served.remove(&slot) {
                served.spec = spec;
                served
            } else {
                let status = status_of(engine, slot, &spec, &self.links, now);
                let vanished = || ServeError::Store("a group vanished while it was opened".into());
                let status = watch::Sender::new(Arc::new(status.ok_or_else(vanished)?));
                Served {
                    spec,
                    status,
                    shared_names: BTreeSet::new(),
                    neighbours: Neighbours::default(),
                    since_ms: now.steady_ms,
                    has_waited: false,
                }
            };
            answers.push((slot, served.status.subscribe()));
            self.served.insert(slot, served);
        }
        if !std::mem::replace(&mut self.has_begun, true) {
            tell_unserved(engine);
        }
        Ok(answers)
    }

    pub(super) fn publish(&mut self, engine: &Engine<S, Answer>, now: Now) {
        for (&slot, served) in &mut self.served {
            if let Some(status) = status_of(engine, slot, &served.spec, &self.links, now) {
                served.status.send_replace(Arc::new(status));
            }
            if let Some(figures) = engine.figures(slot, now) {
                self.metrics.publish((&served.spec.name, &self.name), &figures, now.steady_ms);
                let opening = engine.opening();
                let own = (&*opening.name, opening.store.id);
                served.tell_shared_names(shared_names(&figures.members, own));
                served.tell_neighbours(&figures.members, &self.links, now);
            }
        }
        self.tell_alone(now);
    }

    /// Says which groups have waited for a first peer, and none came.
    fn tell_alone(&mut self, now: Now) {
        let mut alone = Vec::new();
        let mut waited_ms = 0;
        for served in self.served.values_mut().filter(|served| !served.has_waited) {
            let replica = &served.spec.settings.replica;
            let wait_ms = replica.startup_wait_ms;
            if now.steady_ms.saturating_sub(served.since_ms) < wait_ms {
                continue;
            }
            served.has_waited = true;
            // Who waits for nobody knows that it is alone.
            if replica.expects_peers && wait_ms > 0 && !served.neighbours.had_any {
                alone.push(served.spec.name.to_string());
                waited_ms = wait_ms;
            }
        }
        if !alone.is_empty() {
            let wait = Duration::from_millis(waited_ms);
            warn!("no peer reached in {wait:?}: serving group(s) {} alone", alone.join(", "));
        }
    }

    /// Ends what is served of a group under its name.
    fn end_service(&mut self, engine: &mut Engine<S, Answer>, slot: Slot) {
        if let Some(served) = self.served.remove(&slot) {
            self.metrics.forget(&served.spec.name);
        }
        let gone = self.links.extract_if(.., |_, link| link.slot == slot);
        for (link, Link { outbound, .. }) in gone {
            outbound.close(CloseReason::Removed);
            engine.link_down(link);
        }
    }
}

impl Served {
    /// Says which names stand for several agents, once.
    fn tell_shared_names(&mut self, names: BTreeSet<String>) {
        for name in names.difference(&self.shared_names) {
            warn!(group = %self.spec.name, name, "several connected agents have this name: \
                lags, members and logs cannot be told apart; give each its own `replica.name`");
        }
        self.shared_names = names;
    }
}

impl Served {
    /// Says who is connected now and was not, and who is not any more.
    fn tell_neighbours(&mut self, members: &[MemberView], links: &Links, now: Now) {
        let linked = members.iter().filter(|view| view.member.link.is_some());
        let names = linked.clone().map(|view| &*view.member.name);
        let group = &self.spec.name;
        for news in self.neighbours.note(names, now.steady_ms) {
            match news {
                News::Connected(name) => {
                    let of_name = |view: &&MemberView| *view.member.name == *name;
                    let link = linked.clone().find(of_name).and_then(|view| view.member.link);
                    let address = link.and_then(|link| links.get(&link)).map(|link| &*link.remote);
                    info!(%group, address, "connected to peer {name}");
                }
                News::Lost(name) => warn!(%group, "lost peer {name}: no link to it is left"),
            }
        }
    }
}

/// Says what the store holds and is served to nobody.
fn tell_unserved<S: Store>(engine: &Engine<S, Answer>) {
    match engine.unserved() {
        Ok(unserved) => {
            for Unserved { name, id, objects } in unserved {
                let (name, id) = (name.as_deref().unwrap_or("?"), uuid::Uuid::from_bytes(id));
                warn!(group = name, %id, objects, "the data folder holds a group that is not \
                    listed: it is not served, its data stays");
            }
        }
        Err(error) => warn!(%error, "what the data folder holds beside its groups is unknown"),
    }
}

impl GroupSpec {
    pub(super) fn to_add(&self) -> (&str, Named, GroupSettings) {
        (&self.name, Named { id: self.id, crdt_type: self.crdt_type }, self.settings)
    }
}

fn status_of<S: Store>(
    engine: &Engine<S, Answer>,
    slot: Slot,
    spec: &GroupSpec,
    links: &Links,
    now: Now,
) -> Option<GroupStatus> {
    let figures = engine.figures(slot, now)?;
    let former = former(&figures.members, &engine.opening().name);
    let members = figures.members.into_iter().map(|view| MemberStatus {
        name: view.member.name.to_string(),
        opening: view.opening.to_string(),
        address: view.member.link.and_then(|link| links.get(&link)).map(|link| link.remote.clone()),
        connected: view.member.link.is_some(),
        direct: view.member.said_hello,
        former: former.contains(&view.opening),
        lag_deltas: view.lag_deltas,
        heard_ms_ago: Some(view.member.silent_ms(now.steady_ms)),
        acknowledged: view.member.seen,
    });
    Some(GroupStatus {
        name: Arc::clone(&spec.name),
        crdt_type: spec.crdt_type,
        id: spec.id,
        members: members.collect(),
        vector: figures.vector,
        bootstrapping: figures.bootstrapping,
        started: figures.started,
        objects: figures.totals.objects,
        entries: figures.totals.entries,
        log_bytes: figures.log_bytes,
    })
}
