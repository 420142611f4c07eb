//! Peers from a list that someone wrote down; the list may be replaced while
//! the agent runs, when its configuration is edited.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Discovery, Listed, PeerAddress, Peers, Scope};

/// The addresses of `discovery.static.peers`.
#[derive(Debug)]
pub struct StaticPeers {
    current: watch::Sender<Peers>,
}

impl StaticPeers {
    /// Starts with these addresses; one listed twice counts once.
    pub fn new(addresses: impl IntoIterator<Item = PeerAddress>) -> Self {
        Self { current: watch::Sender::new(collect(addresses)) }
    }

    /// Puts another list in force. Links to addresses that are in both stay.
    pub fn replace(&self, addresses: impl IntoIterator<Item = PeerAddress>) {
        let next = collect(addresses);
        self.current.send_if_modified(|peers| {
            let is_changed = *peers != next;
            *peers = next;
            is_changed
        });
    }
}

impl Discovery for StaticPeers {
    fn peers(&self) -> watch::Receiver<Peers> {
        self.current.subscribe()
    }
}

fn collect(addresses: impl IntoIterator<Item = PeerAddress>) -> Peers {
    let addresses = addresses.into_iter().map(|address| (address, Scope::AllGroups)).collect();
    Arc::new(Listed { addresses, complete: Scope::AllGroups })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_list_reaches_those_who_watch() {
        let peers = StaticPeers::new(["127.0.0.1:1".parse().unwrap()]);
        let mut watched = peers.peers();

        peers.replace(["127.0.0.1:1".parse().unwrap()]);
        assert!(!watched.has_changed().unwrap(), "the same list is no change");

        peers.replace(["127.0.0.1:2".parse().unwrap()]);
        assert!(watched.has_changed().unwrap());
        assert!(
            watched.borrow_and_update().addresses.contains_key(&"127.0.0.1:2".parse().unwrap())
        );
    }
}
