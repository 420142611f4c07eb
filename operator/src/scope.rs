//! Which namespaces this operator looks after.

use std::collections::BTreeSet;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{ApiResource, DynamicObject};
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

    /// Whether it is some namespaces, by name.
    #[must_use]
    pub fn is_named(&self) -> bool {
        !self.named.is_empty()
    }

    /// Where to watch, and how: the whole cluster, or each named namespace.
    #[must_use]
    pub fn apis<K>(&self, client: &Client) -> Vec<(String, Api<K>)>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        let one = |place: Option<&str>| match place {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        self.places(one)
    }

    /// The same, for objects of `resource` that are read as they are.
    #[must_use]
    pub fn untyped_apis(
        &self,
        client: &Client,
        resource: &ApiResource,
    ) -> Vec<(String, Api<DynamicObject>)> {
        let one = |place: Option<&str>| match place {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
            None => Api::all_with(client.clone(), resource),
        };
        self.places(one)
    }

    fn places<A>(&self, one: impl Fn(Option<&str>) -> A) -> Vec<(String, A)> {
        if self.named.is_empty() {
            return vec![("all namespaces".to_owned(), one(None))];
        }
        self.named.iter().map(|name| (name.clone(), one(Some(name)))).collect()
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
