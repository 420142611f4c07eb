//! Refuses, in a file that people write, the fields that a type ignores elsewhere.
//!
//! A group's settings are read from three places: a file, where an unknown field is
//! a spelling mistake that would silently keep a default; the custom resource and
//! what the operator publishes, where it is a newer release's. So the types ignore
//! what they do not know, and the file's [`Group`](super::Group) reads them with
//! [`read`]. Errors are those of serde's `deny_unknown_fields`.

use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, Visitor,
};
use serde::forward_to_deserialize_any;

type Fields = &'static [&'static str];

/// Reads a struct; a field that it does not have is an error. Fields of its fields
/// are as their own types have it.
///
/// # Errors
///
/// The deserializer's, and `unknown field`.
pub(super) fn read<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(Strict(deserializer))
}

/// Passes a struct's fields on, and nothing else.
struct Strict<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Strict<D> {
    type Error = D::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: Fields,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_struct(name, fields, Known { visitor, fields })
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// What reads the struct, told only of fields that it has.
struct Known<V> {
    visitor: V,
    fields: Fields,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Known<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(KnownFields { map, fields: self.fields })
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_unit()
    }
}

struct KnownFields<A> {
    map: A,
    fields: Fields,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for KnownFields<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        self.map.next_key_seed(KnownKey { seed, fields: self.fields })
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

/// Reads a key; the error of an unknown one stands where the key does.
struct KnownKey<K> {
    seed: K,
    fields: Fields,
}

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for KnownKey<K> {
    type Value = K::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<K::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl<'de, K: DeserializeSeed<'de>> Visitor<'de> for KnownKey<K> {
    type Value = K::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("field identifier")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<K::Value, E> {
        if self.fields.contains(&key) {
            self.seed.deserialize(key.into_deserializer())
        } else {
            Err(E::unknown_field(key, self.fields))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::de::value::{Error, MapDeserializer};

    use super::super::Sync;
    use super::*;

    fn fields(
        names: &'static [&'static str],
    ) -> MapDeserializer<'static, impl Iterator<Item = (&'static str, bool)>, Error> {
        MapDeserializer::new(names.iter().map(|name| (*name, false)))
    }

    #[test]
    fn a_field_is_refused_where_it_is_read_strictly_and_ignored_elsewhere() {
        let known = read::<_, Sync>(fields(&["eager"])).unwrap();
        assert!(!known.eager);
        let error = read::<_, Sync>(fields(&["eager", "eagre"])).unwrap_err();
        assert_eq!(error.to_string(), "unknown field `eagre`, expected `interval` or `eager`");
        let lenient = Sync::deserialize(fields(&["eager", "eagre"])).unwrap();
        assert_eq!(lenient, known, "it is what a newer release may have written");
    }
}
