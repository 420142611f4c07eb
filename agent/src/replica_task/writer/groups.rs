//! The groups served: beginning and ending that, and what others see of them.

use std::sync::Arc;

use coppice_replication::Now;
use tokio::sync::watch;

use super::links::Links;
use super::{Answer, GroupSpec, ServeAnswer, Served, Writer};
use crate::engine::Engine;
use crate::peer::CloseReason;
use crate::replica_task::former::former;
use crate::replica_task::{GroupStatus, MemberStatus};
use crate::store::Store;
use crate::store::keys::Slot;

impl<S: Store> Writer<S> {
    pub(super) fn serve_group(
        &mut self,
        engine: &mut Engine<S, Answer>,
        spec: GroupSpec,
    ) -> ServeAnswer {
        let now = self.now();
        let known = self.served.iter_mut().find(|(_, served)| served.spec.id == spec.id);
        if let Some((&slot, served)) = known {
            engine.set_settings(slot, spec.settings);
            served.spec = spec;
            return Ok((slot, served.status.subscribe()));
        }
        let slot = engine
            .add_group((&spec.name, spec.id, spec.crdt_type), spec.settings, now)
            .map_err(|error| error.with_mend())?;
        let status = status_of(engine, slot, &spec, &self.links, now)
            .ok_or_else(|| "the group vanished while it was opened".to_owned())?;
        let (status, watched) = watch::channel(Arc::new(status));
        self.served.insert(slot, Served { spec, status });
        Ok((slot, watched))
    }

    pub(super) fn publish(&self, engine: &Engine<S, Answer>, now: Now) {
        for (&slot, served) in &self.served {
            if let Some(status) = status_of(engine, slot, &served.spec, &self.links, now) {
                served.status.send_replace(Arc::new(status));
            }
            if let Some(figures) = engine.figures(slot, now) {
                self.metrics.publish((&served.spec.name, &self.name), &figures, now.steady_ms);
            }
        }
    }

    pub(super) fn drop_group(&mut self, engine: &mut Engine<S, Answer>, slot: Slot) {
        engine.remove_group(slot);
        if let Some(served) = self.served.remove(&slot) {
            self.metrics.forget(&served.spec.name);
        }
        let gone = self.links.extract_if(.., |_, link| link.slot == slot);
        gone.for_each(|(_, link)| link.outbound.close(CloseReason::Removed));
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
