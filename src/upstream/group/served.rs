//! By which names a server can be asked: looked up when it is to stand in for another one.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use crate::mcp::uri_template::{STEPS, UriTemplate};
use crate::mcp::{List, Method, Offer, Parcel};

/// What one server offers, by its own names.
pub(in crate::upstream) struct Served {
    offer: Arc<Offer>,
    /// Made when somebody first asks: most servers stand in for nobody.
    names: OnceLock<Names>,
}

struct Names {
    /// By [`List::index`].
    listed: [HashSet<Box<str>>; 4],
    templates: Vec<UriTemplate>,
}

impl Served {
    pub(in crate::upstream) const fn new(offer: Arc<Offer>) -> Self {
        Self { offer, names: OnceLock::new() }
    }

    /// Whether it has what this call is for.
    pub(in crate::upstream) fn has(&self, call: &Parcel) -> bool {
        let names = self.names.get_or_init(|| Names::of(&self.offer));
        let has = |list: List| names.listed[list.index()].contains(&call.name);
        match call.method {
            Method::CallTool => has(List::Tools),
            Method::GetPrompt => has(List::Prompts),
            Method::ReadResource => {
                let mut steps = STEPS;
                has(List::Resources) || names.templates.iter().any(|it| it.matches(&call.name, &mut steps))
            }
            // Of a prompt, or of a template as it is written.
            Method::Complete => has(List::Prompts) || has(List::Templates),
        }
    }
}

impl Names {
    fn of(offer: &Offer) -> Self {
        let listed = List::ALL.map(|list| offer.lists[list.index()].iter().map(|entry| entry.key.clone()).collect());
        let templates = offer.lists[List::Templates.index()].iter();
        Self { listed, templates: templates.filter_map(|entry| UriTemplate::parse(&entry.key)).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::Revision;
    use crate::mcp::offer::Entry;

    #[test]
    fn a_server_has_what_it_lists_and_what_its_templates_fit() {
        let mut offer = Offer::default();
        let entry = |key: &str| Entry { key: key.into(), text: "{}".into() };
        offer.lists[List::Tools.index()].push(entry("a"));
        offer.lists[List::Prompts.index()].push(entry("p"));
        offer.lists[List::Resources.index()].push(entry("x://1"));
        offer.lists[List::Templates.index()].push(entry("y://{id}"));
        let served = Served::new(Arc::new(offer));
        let has = |method, name: &str| {
            let (params, meta) = (Box::default(), Box::default());
            let revision = Revision::NEWEST;
            served.has(&Parcel { method, name: name.into(), params, meta, progress: false, level: None, revision })
        };
        assert!(has(Method::CallTool, "a") && !has(Method::CallTool, "p"));
        assert!(has(Method::GetPrompt, "p") && !has(Method::GetPrompt, "a"));
        assert!(has(Method::ReadResource, "x://1") && has(Method::ReadResource, "y://7"));
        assert!(!has(Method::ReadResource, "x://2") && !has(Method::ReadResource, "y://7/8"));
        assert!(has(Method::Complete, "p") && has(Method::Complete, "y://{id}") && !has(Method::Complete, "a"));
    }
}
