//! One tenant's flows, found by platform, channel, user and words. Pure.
//!
//! A flow stands in one list for each way that it can match: under its platform or *any*,
//! each of its channels or *any*, each of its users or *any*, with patterns or without.
//! All flows of a list have the same score when they match, so the lists that a message
//! could match (24 at most) are gone through from the highest score down, and the walk
//! ends as soon as enough flows are found. Lists with patterns are not walked: one pass
//! of an automaton over the text names the flows whose words occur.

use std::collections::{BTreeMap, HashMap};

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, AhoCorasickKind};
use aof_shared::ids::PlatformName;

use crate::channel::Naming;
use crate::score::{CATCH_ALL, CompiledFlow, Filter, Request, hangs_on_name, score};
use crate::select::{Candidate, MAX_CANDIDATES, rank};

/// Place of a flow in its tenant's load order.
type Place = u32;

/// Flows of one platform, channel and user, in load order.
#[derive(Debug, Default)]
struct Lists {
    plain: Vec<Place>,
    patterned: Vec<Place>,
}

#[derive(Debug, Default)]
struct ByUser {
    any: Lists,
    users: HashMap<Box<str>, Lists>,
}

#[derive(Debug, Default)]
struct ByChannel {
    any: ByUser,
    channels: HashMap<Box<str>, ByUser>,
}

/// The texts that flows with patterns wait for.
#[derive(Debug, Default)]
struct Words {
    automaton: Option<AhoCorasick>,
    /// The flows that wait for each text of the automaton.
    flows: Vec<Box<[Place]>>,
    /// Flows with a pattern that no text stands for: always verified.
    always: Vec<Place>,
}

/// One tenant's flows.
#[derive(Debug, Default)]
pub(crate) struct TenantFlows {
    flows: Vec<CompiledFlow>,
    any_platform: ByChannel,
    platforms: HashMap<PlatformName, ByChannel>,
    words: Words,
    /// Flows with a channel filter that names a channel.
    named: Vec<Place>,
}

/// A list that could match, with the score that all its flows would have.
struct Group<'t> {
    score: u32,
    places: &'t [Place],
    patterned: bool,
}

impl TenantFlows {
    pub(crate) fn build(flows: Vec<CompiledFlow>) -> Self {
        let mut index = Self::default();
        for (place, flow) in (0..).zip(&flows) {
            let by_channel = match &flow.flow.trigger.platform {
                Some(platform) => index.platforms.entry(platform.clone()).or_default(),
                None => &mut index.any_platform,
            };
            by_channel.insert(place, flow);
            if flow.channels.iter().any(|e| e.is_name) {
                index.named.push(place);
            }
        }
        index.words = Words::build(&flows);
        index.flows = flows;
        index
    }

    pub(crate) fn flows(&self) -> &[CompiledFlow] {
        &self.flows
    }

    /// The same as [`crate::select::scan`], without looking at every flow.
    pub(crate) fn find(&self, request: &Request<'_>) -> Vec<Candidate<'_>> {
        let groups = self.groups(request);
        let hits = match groups.iter().any(|g| g.patterned) {
            true => self.words.occurring(request.text),
            false => Vec::new(),
        };
        let mut found: Vec<Candidate<'_>> = Vec::new();
        let mut level = u32::MAX;
        for group in groups {
            if group.score < level {
                found = rank(found);
                if found.len() >= MAX_CANDIDATES {
                    break;
                }
                level = group.score;
            }
            if group.patterned {
                self.collect(common(group.places, &hits), request, &mut found);
            } else {
                self.collect(group.places.iter().copied(), request, &mut found);
            }
        }
        rank(found)
    }

    /// True when a flow would match if only the channel had the right name.
    pub(crate) fn hangs_on_name(&self, request: &Request<'_>) -> bool {
        self.named.iter().any(|place| hangs_on_name(&self.flows[*place as usize], request))
    }

    /// True when the name of a channel can make a difference.
    pub(crate) fn uses_names(&self) -> bool {
        !self.named.is_empty()
    }

    /// Takes the first flows that match, as many as could be asked for.
    fn collect<'t>(
        &'t self,
        places: impl Iterator<Item = Place>,
        request: &Request<'_>,
        found: &mut Vec<Candidate<'t>>,
    ) {
        let candidates = places.filter_map(|place| {
            let order = place as usize;
            let flow = &self.flows[order];
            score(flow, request).map(|score| Candidate { flow, score, order })
        });
        found.extend(candidates.take(MAX_CANDIDATES));
    }

    /// Every list that could match, highest score first.
    fn groups(&self, request: &Request<'_>) -> Vec<Group<'_>> {
        let message = request.message;
        let mut groups = Vec::with_capacity(8);
        let on_platform = self.platforms.get(&message.platform);
        let platforms = on_platform
            .map(|p| (Filter::Platform.weight(), p))
            .into_iter()
            .chain([(0, &self.any_platform)]);
        for (platform_score, by_channel) in platforms {
            for (channel_score, by_user) in by_channel.matching(request) {
                let base = platform_score + channel_score;
                by_user.any.add_to(&mut groups, base);
                for lists in message.user.ids().filter_map(|id| by_user.users.get(id)) {
                    lists.add_to(&mut groups, base + Filter::User.weight());
                }
            }
        }
        groups.sort_unstable_by_key(|g| std::cmp::Reverse(g.score));
        groups
    }
}

impl ByChannel {
    fn insert(&mut self, place: Place, flow: &CompiledFlow) {
        if flow.channels.is_empty() {
            self.any.insert(place, flow);
        }
        for entry in &flow.channels {
            self.channels.entry(entry.text.clone()).or_default().insert(place, flow);
        }
    }

    fn matching(&self, request: &Request<'_>) -> impl Iterator<Item = (u32, &ByUser)> {
        let id = request.message.channel.id.as_str();
        let name = match request.naming {
            Naming::Named(name) if name != id => Some(name),
            _ => None,
        };
        let named = [Some(id), name].into_iter().flatten();
        let listed = named.filter_map(|text| self.channels.get(text));
        listed.map(|by_user| (Filter::Channel.weight(), by_user)).chain([(0, &self.any)])
    }
}

impl ByUser {
    fn insert(&mut self, place: Place, flow: &CompiledFlow) {
        let users = &flow.flow.trigger.users;
        if users.is_empty() {
            self.any.insert(place, flow);
        }
        for user in users {
            self.users.entry(user.as_str().into()).or_default().insert(place, flow);
        }
    }
}

impl Lists {
    fn insert(&mut self, place: Place, flow: &CompiledFlow) {
        let list = if flow.patterns.is_empty() { &mut self.plain } else { &mut self.patterned };
        // A flow that names one channel or user twice comes twice in a row.
        if list.last() != Some(&place) {
            list.push(place);
        }
    }

    fn add_to<'t>(&'t self, groups: &mut Vec<Group<'t>>, base: u32) {
        if !self.plain.is_empty() {
            let score = if base == 0 { CATCH_ALL } else { base };
            groups.push(Group { score, places: &self.plain, patterned: false });
        }
        if !self.patterned.is_empty() {
            let score = base + Filter::Pattern.weight();
            groups.push(Group { score, places: &self.patterned, patterned: true });
        }
    }
}

impl Words {
    fn build(flows: &[CompiledFlow]) -> Self {
        let mut texts: BTreeMap<String, Vec<Place>> = BTreeMap::new();
        let mut always = Vec::new();
        for (place, flow) in (0..).zip(flows) {
            let mut certain = true;
            for pattern in &flow.patterns {
                match pattern.required() {
                    None => certain = false,
                    Some(list) => {
                        for text in list {
                            texts.entry(text.to_ascii_lowercase()).or_default().push(place);
                        }
                    }
                }
            }
            if !certain {
                always.push(place);
            }
        }
        let automaton = (!texts.is_empty()).then(|| {
            // The compact form: a DFA for each of a thousand tenants would take 10 times more.
            AhoCorasickBuilder::new()
                .ascii_case_insensitive(true)
                .kind(Some(AhoCorasickKind::ContiguousNFA))
                .build(texts.keys())
                .ok()
        });
        let Some(Some(automaton)) = automaton else {
            let any = flows.iter().zip(0..).filter(|(f, _)| !f.patterns.is_empty());
            return Self { always: any.map(|(_, place)| place).collect(), ..Self::default() };
        };
        let flows = texts.into_values().map(Into::into).collect();
        Self { automaton: Some(automaton), flows, always }
    }

    /// Flows of which a pattern may match `text`, in load order.
    fn occurring(&self, text: &str) -> Vec<Place> {
        let mut places = self.always.clone();
        if let Some(automaton) = &self.automaton {
            for hit in automaton.find_overlapping_iter(text) {
                places.extend_from_slice(&self.flows[hit.pattern().as_usize()]);
            }
        }
        places.sort_unstable();
        places.dedup();
        places
    }
}

/// What two sorted lists have in common; cost follows the shorter one.
fn common<'a>(a: &'a [Place], b: &'a [Place]) -> impl Iterator<Item = Place> {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    short.iter().copied().filter(|place| long.binary_search(place).is_ok())
}
