//! The vocabulary of a group's conditions.
//!
//! `True` is good for every type. A reason is one word that people search for: each
//! has one meaning, whatever condition it stands in.

use std::fmt;

/// An enum of words, each with a sentence that is both its documentation and its
/// [`meaning`](ConditionReason::meaning).
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($word:ident: $meaning:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $(#[doc = $meaning] $word,)+
        }

        impl $name {
            /// Every one of them.
            pub const ALL: &[Self] = &[$(Self::$word,)+];

            /// As it stands in the resource.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$word => stringify!($word),)+
                }
            }

            /// What it says, in one sentence.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$word => $meaning,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

words! {
    /// What a condition speaks about.
    ConditionType {
        Ready: "Every member serves the group as it is asked for.",
        Progressing: "What is asked for is in place, or on its way without an obstacle.",
        Injected: "Every opted-in pod that the selector matches has the sidecar.",
        Converged: "The members had seen the same writes when they were asked last.",
        CertificatesReady: "Every member has a certificate of this group that is valid.",
        StorageHealthy: "Every member can write to its volume.",
    }
}

words! {
    /// Why a condition is what it is.
    ConditionReason {
        // All is well.
        AllMembersReady: "Every injected pod's agent has started.",
        Applied: "Services, rights and settings are in place, and agents have been told.",
        AllInjected: "Every pod that the selector matches and that opted in has the sidecar.",
        MembersAgree: "The members that were asked had seen the same writes.",
        CertificatesIssued: "Every member holds a valid certificate of the group.",
        StorageWritable: "Every member that was asked can write.",

        // Not yet.
        OperatorStarting: "The operator does not know yet its own address or its authorities, so it tells agents nothing.",
        Applying: "Services, rights and settings are being written.",
        MembersStarting: "Some agents have not started yet.",
        CatchingUp: "Some members have not seen yet what others had seen a while ago.",
        CertificatesPending: "Some members wait for their first certificate.",
        Paused: "The group is paused by `spec.paused`: nothing of it is changed.",

        // What someone has to mend.
        InvalidSpec: "A value in the spec is not one that agents could be given.",
        NoPodsMatch: "No pod of the namespace carries all labels of the selector.",
        NotOptedIn: "Pods match the selector, and neither they nor their namespace opted in.",
        SidecarMissing: "Pods that opted in run without the sidecar: they were made while it could not be injected.",
        HostNetwork: "Pods that opted in use the node's network, where the sidecar's ports would clash.",
        AdmissionRejected: "The API server refuses the pods of a workload.",
        ImageUnavailable: "The agent's image cannot be pulled.",
        AgentFailing: "An agent's container keeps ending.",
        SelectorConflict: "An older group selects the same pods and asks for another volume.",
        VolumeNotFound: "The pods do not declare the volume that `volumeName` names, or cannot write to it.",
        VolumePending: "A pod waits for the volume that keeps its data.",
        VolumeShared: "Another agent holds the database on a member's volume.",
        VolumeFull: "A member refuses local writes because its volume is nearly full.",
        StorageFailed: "A member cannot write to its volume.",
        RestartRequired: "Running pods were injected with another volume, or another image of the agent, than the group asks for now.",
        OrphanedData: "Running pods hold data of a deleted group of this name, and do not serve this one.",
        PeersUnreachable: "Members cannot reach each other.",
        AgentsUnreachable: "None of the agents that were asked answered the operator.",
        NameTaken: "Something that is not Coppice's has the name of what it needs.",
        PortTaken: "Pods that opted in use one of the sidecar's ports themselves.",
        ApiRefused: "The API server refused what the operator writes for this group.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_words_that_a_condition_may_hold() {
        for reason in ConditionReason::ALL {
            // metav1.Condition: ^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$
            assert!(reason.name().chars().all(|c| c.is_ascii_alphanumeric()), "{reason}");
            assert!(reason.meaning().ends_with('.'), "{reason}: a sentence");
        }
    }
}
