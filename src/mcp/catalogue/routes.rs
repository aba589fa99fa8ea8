//! Which server reads a resource: the one that lists it, else the one whose template fits, else the only one that can.

use std::collections::HashMap;

use super::Part;
use super::shelf::Shelf;
use crate::mcp::method::Features;
use crate::mcp::uri_template::{STEPS, UriTemplate};

/// What is known of resources beyond their list.
#[derive(Debug, Default)]
pub(super) struct Routes {
    /// In the order of the catalogue: the first that fits wins.
    templates: Vec<(UriTemplate, usize)>,
    /// The parts that have resources at all.
    readers: Vec<usize>,
    /// The part that has all resources of a scheme and authority; `None` where several have some.
    places: HashMap<Box<str>, Option<usize>>,
}

impl Routes {
    pub(super) fn new(parts: &[Part<'_>], resources: &Shelf, templates: &Shelf) -> Self {
        let readers = parts.iter().enumerate().filter(|(_, part)| part.offer.features.has(Features::RESOURCES));
        let mut routes = Self { readers: readers.map(|(at, _)| at).collect(), ..Self::default() };
        for item in resources.items() {
            routes.settle(place(&item.own), item.part);
        }
        for item in templates.items() {
            if let Some(template) = UriTemplate::parse(&item.own) {
                // Without its end the authority may go on in the first expression.
                routes
                    .settle(place(template.prefix()).filter(|place| place.len() < template.prefix().len()), item.part);
                routes.templates.push((template, item.part));
            }
        }
        routes
    }

    fn settle(&mut self, place: Option<&str>, part: usize) {
        let Some(place) = place else { return };
        match self.places.get_mut(place) {
            Some(known) => *known = known.filter(|&known| known == part),
            None => {
                self.places.insert(place.into(), Some(part));
            }
        }
    }

    /// The part for a URI that is in no list. `present`: whether a part is there now.
    pub(super) fn find(&self, uri: &str, present: impl Fn(usize) -> bool) -> Option<usize> {
        let mut steps = STEPS;
        let fitting = self.templates.iter().find(|(template, _)| template.matches(uri, &mut steps));
        if let Some(&(_, part)) = fitting {
            return Some(part);
        }
        let mut there = self.readers.iter().copied().filter(|&part| present(part));
        if let (Some(only), None) = (there.next(), there.next()) {
            return Some(only);
        }
        *self.places.get(place(uri)?)?
    }
}

/// Scheme and authority of a URI (RFC 3986 section 3): `db://host` of `db://host/x?y`; `urn:` of `urn:x`.
fn place(uri: &str) -> Option<&str> {
    let colon = uri.find(':')?;
    let behind = colon + 1;
    let Some(authority) = uri[behind..].strip_prefix("//") else { return Some(&uri[..behind]) };
    let ends = authority.find(['/', '?', '#']).unwrap_or(authority.len());
    Some(&uri[..behind + 2 + ends])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_uri_is_its_scheme_and_authority() {
        for (uri, wanted) in [
            ("db://host/x?y", Some("db://host")),
            ("file:///a", Some("file://")),
            ("urn:x:y", Some("urn:")),
            ("a://b?c", Some("a://b")),
            ("none", None),
        ] {
            assert_eq!(place(uri), wanted, "{uri}");
        }
    }
}
