//! Shapes of JSON for which serde has none.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

/// `T` out of an object. A derived one alone would also be filled from a list.
#[derive(Debug)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Whole<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Whole<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(Whole(PhantomData))
    }
}

/// The members of an object as they stand there, names that are there twice included, each made an `E` at
/// once.
#[derive(Debug)]
pub struct Entries<N, T, E = (N, T)> {
    /// In the order in which they stand there.
    pub entries: Vec<E>,
    of: PhantomData<(N, T)>,
}

impl<'de, N: Deserialize<'de>, T: Deserialize<'de>, E: From<(N, T)>> Deserialize<'de> for Entries<N, T, E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each<N, T, E>(PhantomData<(N, T, E)>);

        impl<'de, N: Deserialize<'de>, T: Deserialize<'de>, E: From<(N, T)>> Visitor<'de> for Each<N, T, E> {
            type Value = Entries<N, T, E>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry::<N, T>()? {
                    entries.push(entry.into());
                }
                Ok(Entries { entries, of: PhantomData })
            }
        }

        deserializer.deserialize_map(Each(PhantomData))
    }
}
