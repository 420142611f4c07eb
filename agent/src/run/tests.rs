//! An agent over a store whose disk does not answer.

use std::sync::mpsc;

use coppice_api::Group;
use coppice_crdt::CrdtType;

use super::*;
use crate::store::failing::Failing;

/// How an agent that is stopped ends over this store.
async fn end_over(store: Failing) -> Result<(), RunError> {
    let any = "127.0.0.1:0".parse().unwrap();
    let mut config = AgentConfig::default();
    (config.listen.app, config.listen.peers, config.listen.operations) = (any, any, any);
    config.groups = vec![Group::new("hits", CrdtType::PNCounter)];
    let stop = CancellationToken::new();
    let mut store = Some(store);
    let running = run(
        (ConfigSource::default(), config),
        move |_| match store.take() {
            Some(store) => Ok(Opened { store, snapshots: None }),
            None => Err(StoreError::Closed),
        },
        stop.clone(),
    );
    let stopping = async {
        // It serves by now, or ends all the same.
        tokio::time::sleep(Duration::from_mins(1)).await;
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(running, stopping);
    ended
}

/// Time is skipped wherever nothing but time is waited for, so the limits cost none.
#[tokio::test(start_paused = true)]
async fn a_disk_that_does_not_answer_does_not_hold_up_the_end() {
    let (answer, hangs) = mpsc::sync_channel(0);
    let began = Instant::now();
    let ended = end_over(Failing::hanging(hangs)).await;
    let text = ended.unwrap_err().to_string();
    assert!(text.starts_with("dataDir: ./data: the store was not closed within 5 s"), "{text}");
    let most = Duration::from_mins(1) + HAND_OVER + STOP + CLOSE;
    assert!(began.elapsed() <= most, "{:?}", began.elapsed());
    drop(answer);
}
