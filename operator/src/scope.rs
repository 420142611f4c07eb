//! Which namespaces this operator looks after.

use std::collections::BTreeSet;

use k8s_openapi::NamespaceResourceScope;
use kube::{Api, Client, Resource};

/// Namespaces that nothing is ever injected into, beside the operator's own.
const NEVER: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// All namespaces, or those that were named.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Empty: all.
    named: BTreeSet<String>,
    own: String,
}

impl Scope {
    /// All namespaces if `named` is empty; `own` is the operator's.
    #[must_use]
    pub fn new(named: BTreeSet<String>, own: &str) -> Self {
        Self { named, own: own.to_owned() }
    }

    /// Whether pods of `namespace` may be members.
    #[must_use]
    pub fn contains(&self, namespace: &str) -> bool {
        namespace != self.own
            && !NEVER.contains(&namespace)
            && (self.named.is_empty() || self.named.contains(namespace))
    }

    /// Where to watch, and how: the whole cluster, or each named namespace.
    #[must_use]
    pub fn apis<K>(&self, client: &Client) -> Vec<(String, Api<K>)>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        if self.named.is_empty() {
            return vec![("all namespaces".to_owned(), Api::all(client.clone()))];
        }
        let named = |name: &String| (name.clone(), Api::namespaced(client.clone(), name));
        self.named.iter().map(named).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_namespaces_are_never_looked_after() {
        let all = Scope::new(BTreeSet::new(), "coppice-system");
        assert!(all.contains("shop"));
        assert!(!all.contains("kube-system"));
        assert!(!all.contains("coppice-system"));
        let some = Scope::new([String::from("shop")].into(), "coppice-system");
        assert!(some.contains("shop"));
        assert!(!some.contains("bank"));
    }
}
